"""Turns a document into entries: each unknown, missing or wrong key is a problem, with the nearest key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Struct, field

from syncd.config import sources as source_rules
from syncd.config import values as kinds
from syncd.config.document import Document, Path, quoted
from syncd.config.http import HttpAddressEntry
from syncd.config.objects import ObjectEntry
from syncd.config.sources import SourceEntry
from syncd.config.stores import STORE_TYPES, StoreEntry
from syncd.config.units import Refused
from syncd.config.values import MIB, Entry
from syncd.core.backoff import FREE_LINE
from syncd.sources.places import Places


class TransferEntry(Entry, frozen=True):
    """Limits of all transfers; the keys are the fields of `TransferPolicy`."""

    concurrency: Annotated[int, kinds.whole_number(1, 256)] = 32
    part_size: Annotated[int, kinds.size(MIB, 5 << 30)] = 8 * MIB
    bandwidth_limit: kinds.BandwidthLimit = FREE_LINE
    max_attempts: Annotated[int, kinds.whole_number(0, 1_000_000, note=" (0: no limit)")] = 0
    memory_limit: Annotated[int, kinds.size(MIB, 1 << 40)] = 48 * MIB


class LogEntry(Entry, frozen=True):
    """The log; the keys are the fields of `LogSettings`."""

    level: Annotated[kinds.Text, kinds.one_of("debug", "info", "warning", "error")] = "info"
    format: Annotated[kinds.Text, kinds.one_of("auto", "text", "json")] = "auto"


class TopEntry(Entry, frozen=True):
    """The whole file; its sections are read one by one."""

    required = ("stores",)
    state_dir: kinds.FilePath = ""
    stores: Annotated[dict[str, Any], "a mapping with at least one store"] = field(default_factory=dict)
    sources: Annotated[list[Any], "a list with at least one source"] = field(default_factory=list)
    transfer: Any = UNSET
    log: Any = UNSET
    http: Any = UNSET
    stop: Annotated[kinds.Text, kinds.one_of("now", "drain")] = "now"
    stop_timeout: Annotated[float, kinds.duration(1, 86_400)] = 80.0
    audit_interval: Annotated[float, kinds.duration(60, 3650 * 86_400, or_zero=True)] = 0.0
    max_repair: kinds.Bound = (1000, 0.25)


SECTIONS: Mapping[str, type[Entry]] = {
    "the top level": TopEntry,
    "a source": SourceEntry,
    "`objects`": ObjectEntry,
    **{f"a store of type `{name}`": entry for name, entry in STORE_TYPES.items()},
    "`transfer`": TransferEntry,
    "`log`": LogEntry,
    "`http`": HttpAddressEntry,
}


class Entries(Struct):
    """The readable entries; complete only if the document has no problems."""

    top: TopEntry
    stores: dict[str, StoreEntry | None] = field(default_factory=dict)
    """All stores of the file; None: it is unreadable."""
    sources: dict[int, SourceEntry] = field(default_factory=dict)
    """By position in the list."""
    transfer: TransferEntry = field(default_factory=TransferEntry)
    log: LogEntry = field(default_factory=LogEntry)
    http: HttpAddressEntry = field(default_factory=HttpAddressEntry)

    def audit(self) -> dict[str, Any]:
        """Return the fields of each `Source` that are not in its entry."""
        files, fraction = self.top.max_repair
        return {
            "audit_seconds": self.top.audit_interval,
            "max_repair_files": files,
            "max_repair_fraction": fraction,
        }


def read(document: Document, place: kinds.Place, *, with_sources: bool = True) -> Entries:
    """Return the readable entries in `document`; add every mistake to its problems.

    With `with_sources` False there need not be a source.
    """
    value = document.value
    if isinstance(value, dict):  # `x-...` holds anchors
        value = {key: item for key, item in value.items() if not key.startswith("x-")}
    top = _entry(TopEntry, value, (), document, place) or TopEntry()
    entries = Entries(top)
    given = value if isinstance(value, dict) else {"sources": None}
    if with_sources and "sources" not in given:
        document.report(("sources",), found="nothing", expected=_description(TopEntry, "sources"))
    for key in ("stores", "sources") if with_sources else ("stores",):
        if given.get(key) == getattr(TopEntry(), key):
            document.report((key,), found=f"no {key}", expected=_description(TopEntry, key))
    for name, item in top.stores.items():
        entries.stores[name] = _store(name, item, document, place)
    for index, item in enumerate(top.sources):
        if source := _entry(SourceEntry, item, ("sources", index), document, place):
            path = ("sources", index, "objects")
            rules = [
                _entry(ObjectEntry, each, (*path, at), document, place)
                for at, each in enumerate(source.objects)
            ]
            entries.sources[index] = source.with_rules([rule for rule in rules if rule])
    for key, model in (("transfer", TransferEntry), ("log", LogEntry), ("http", HttpAddressEntry)):
        item = getattr(top, key)
        if item is not UNSET and (entry := _entry(model, item, (key,), document, place)):
            setattr(entries, key, entry)
    return entries


def check(
    entries: Entries, document: Document, state_dir: str, places: Places, *, with_secrets: bool
) -> None:
    """Add problems and warnings within and between entries to `document`.

    `state_dir` is absolute; empty: it is not known. Without `with_secrets`, files of keys are left alone: a
    command that only looks may not be allowed to read them.
    """
    readable = {name: entry for name, entry in entries.stores.items() if entry}
    for name, entry in readable.items():
        entry.check(("stores", name), document, with_secrets=with_secrets)
    source_rules.check(entries.sources, entries.stores, state_dir, document, places)
    entries.http.check(document)
    path, part_size = ("transfer", "part_size"), entries.transfer.part_size
    if part_size % MIB:
        document.report(path, expected="whole MiB, because BOS takes no other parts")
    elif any(part_size < entry.smallest_part for entry in readable.values()):
        document.report(path, expected="at least `5MiB`, because S3 and BOS refuse smaller parts")


_EntryType = TypeVar("_EntryType", bound=Entry)


def _store(name: str, value: object, document: Document, place: kinds.Place) -> StoreEntry | None:
    path: Path = ("stores", name)
    if not kinds.is_name(name):
        document.report(path, found=f"the name {quoted(name)}", expected=kinds.NAME_EXPECTED)
    if not isinstance(value, dict):
        document.report(path, found=document.kind(path), expected="a mapping with `type` and other keys")
        return None
    kind = value.get("type")
    if isinstance(kind, str) and kind in STORE_TYPES:
        return _entry(STORE_TYPES[kind], value, path, document, place)
    if not document.is_spoiled((*path, "type")):
        document.report((*path, "type"), expected=kinds.choice(str(kind), STORE_TYPES))
    return None


def _entry(
    model: type[_EntryType], value: object, path: Path, document: Document, place: kinds.Place
) -> _EntryType | None:
    """Return the entry at `path`, with defaults for wrong values; None: it is no mapping."""
    if not isinstance(value, dict):
        expected = f"a mapping with the keys {_keys(model)}"
        document.report(path, found=document.kind(path), expected=expected)
        return None
    for key in model.required:
        if key not in value:
            document.report((*path, key), found="nothing", expected=_description(model, key))
    # The sections are read one by one: a spoiled value in one does not spoil the section.
    spoiled = document.spoiled.__contains__ if model is TopEntry else document.is_spoiled
    known, found = kinds.keys(model), {}
    for key, item in value.items():
        at = (*path, key)
        if spoiled(at):
            continue
        if key not in known:
            document.report(at, found="an unknown key", expected=_known_key(key, model))
        elif (taken := _value(known[key], item, at, document, place)) is not UNSET:
            found[key] = taken
    return model(**found).looked_up(place)


def _value(kind: Any, given: object, path: Path, document: Document, place: kinds.Place) -> Any:
    """Return the value at `path`; UNSET, with its problems, if it is not of this kind."""
    try:
        value = kinds.taken(kind, given, place)
    except Refused as refused:
        is_scalar = document.kind(path) in ("a number", "a truth value", "a date")
        is_bare = str(refused) == kinds.TEXT and is_scalar
        document.report(path, expected="text: put it in quotes" if is_bare else str(refused))
        return UNSET
    if isinstance(value, list):
        of = kinds.items(kind)
        value = [_value(of, item, (*path, at), document, place) for at, item in enumerate(value)]
        return UNSET if UNSET in value else value
    return value


_OTHERS_WORDS = {
    "access_key": "access_key_id", "ak": "access_key_id", "secret_key": "secret_access_key",
    "sk": "secret_access_key", "token": "session_token", "security_token": "session_token",
    "sts_token": "session_token", "host": "endpoint", "url": "endpoint", "insecure": "ca_bundle",
    "no_verify_ssl": "ca_bundle", "verify_ssl": "ca_bundle", "force_path_style": "path_style",
    "ignore": "exclude", "filter": "include", "delay": "settle", "debounce": "settle", "remove": "on_delete",
    "mirror": "on_delete", "dest": "store", "destination": "store", "target": "store", "source": "path",
    "dir": "path", "directory": "path", "folder": "path", "bwlimit": "bandwidth_limit",
    "transfers": "concurrency", "threads": "concurrency", "workers": "concurrency",
    "chunk_size": "part_size", "retries": "max_attempts",
}  # fmt: skip
"""Names in Baidu's console, mc, aws, rclone and lsyncd whose nearest known key is another thing."""


def _known_key(wrong: str, model: type[Entry]) -> str:
    """Return what an unknown key of `model` may be meant as."""
    homes = [name for name, section in SECTIONS.items() if wrong in kinds.keys(section)]
    if homes:
        return f"it in {' or '.join(homes)}"
    word = wrong.lower().replace("-", "_")
    if (ours := _OTHERS_WORDS.get(word)) in kinds.keys(model):
        return f"`{ours}`, which is the word for it here"
    near = kinds.nearest(word, kinds.keys(model))
    return f"`{near}`, the nearest known key" if near else f"one of {_keys(model)}"


def _keys(model: type[Entry]) -> str:
    return ", ".join(f"`{key}`" for key in kinds.keys(model))


def _description(model: type[Entry], key: str) -> str:
    return kinds.described(kinds.keys(model)[key])
