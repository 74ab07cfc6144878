"""The shape of a configuration: which keys there are, what each holds, and its default.

Every key that is a default here can be left out; those in ``required`` cannot, whatever their default (it
stands in for a missing value while the rest is checked, so that one run finds every mistake).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from syncd.config import values as types
from syncd.config.document import Document, Path, quoted
from syncd.config.values import MIB, FilePath, Flag, Name, Text

SECRET_KEYS = frozenset({"access_key_id", "secret_access_key", "session_token", "proxy"})
"""Their values are never shown (a proxy's address may hold a password)."""

CREDENTIAL_KEYS = frozenset(
    {
        "access_key_id", "secret_access_key", "session_token",
        "access_key_file", "secret_key_file", "session_token_file",
    }
)  # fmt: skip
"""What only those need who open a store."""


class Entry(BaseModel):
    """A mapping in the file."""

    # Nothing is built before it is needed: the schema of a store type that nobody uses costs nothing.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=True, hide_input_in_errors=True
    )
    required: ClassVar[tuple[str, ...]] = ()


_Secret = Annotated[Text, Field(repr=False)]
_TimeLimit = Annotated[
    float, types.duration(0.1, 3600, "0 would give up at once, and a stuck request must end some day")
]


class DirEntry(Entry):
    """A store that is a directory."""

    required = ("path",)
    type: str = "dir"
    path: FilePath = Field(default="", description="the directory that the objects go to")
    create: Flag = False


class HttpEntry(Entry):
    """What all stores behind HTTP have in common."""

    required = ("bucket",)
    endpoint: types.Endpoint = ""
    path_style: Flag | None = None
    access_key_id: _Secret = ""
    secret_access_key: _Secret = ""
    session_token: _Secret = ""
    access_key_file: FilePath = ""
    secret_key_file: FilePath = ""
    session_token_file: FilePath = ""
    proxy: Annotated[types.Proxy, Field(repr=False)] = ""
    ca_bundle: FilePath = ""
    trust_environment: Flag = False
    connect_timeout: _TimeLimit = 30.0
    read_timeout: _TimeLimit = 60.0
    progress_timeout: _TimeLimit = 120.0


class S3Entry(HttpEntry):
    """A bucket behind an S3-compatible endpoint."""

    type: str = "s3"
    bucket: types.S3Bucket = Field(default="", description="the name of the bucket")
    region: types.Region = "us-east-1"
    storage_class: types.S3StorageClass = ""
    integrity: types.Integrity = "auto"


class BosEntry(HttpEntry):
    """A Baidu BOS bucket."""

    type: str = "bos"
    bucket: types.BosBucket = Field(default="", description="the name of the bucket")
    region: types.BosRegion = ""
    storage_class: types.BosStorageClass = ""
    traffic_limit: Annotated[
        int, types.size(100 << 10, 100 * MIB, "BOS takes no other limits for one request", or_zero=True)
    ] = 0


StoreEntry = DirEntry | S3Entry | BosEntry
STORE_TYPES: Mapping[str, type[StoreEntry]] = {"bos": BosEntry, "s3": S3Entry, "dir": DirEntry}


class SourceEntry(Entry):
    """A watched directory."""

    required = ("name", "path", "store")
    name: Name = Field(default="", description="a name for logs and `status`, unique among the sources")
    path: FilePath = Field(default="", description="the directory to watch")
    store: Text = Field(default="", description="the name of a store")
    prefix: str = ""
    include: list[str] = []  # copied for each entry; a factory's signature would be looked into
    exclude: list[str] = []
    settle: Annotated[
        float, types.duration(0, 86_400, "a file that has to rest longer is not carried in useful time")
    ] = 2.0
    rescan_interval: Annotated[
        float, types.duration(1, 30 * 86_400, "scans find what events did not tell, and cost some time")
    ] = 3600.0
    on_delete: types.OnDeleteWord = "keep"
    max_delete: types.MaxDelete = (1000, 0.25)


class TransferEntry(Entry):
    """Bounds of all transfers."""

    concurrency: Annotated[
        int, types.whole_number(1, 256, "each request in flight has a thread and a connection")
    ] = 32
    part_size: Annotated[
        int, types.size(MIB, 5 << 30, "smaller parts cost too many requests, no store takes larger ones")
    ] = 8 * MIB
    bandwidth_limit: Annotated[
        int, types.size(16 << 10, 1 << 50, "with less, requests run into their time limits", or_zero=True)
    ] = 0
    max_attempts: Annotated[int, types.whole_number(0, 1_000_000, "0 is for ever")] = 0
    memory_limit: Annotated[int, types.size(MIB, 1 << 40, "the parts in flight are held in memory")] = (
        48 * MIB
    )


class LogEntry(Entry):
    """What is logged, and how."""

    level: types.Level = "info"
    format: types.LogFormat = "auto"


class TopEntry(Entry):
    """The whole file; what is inside its sections is read one by one."""

    required = ("stores", "sources")
    state_dir: FilePath = ""
    stores: dict[str, Any] = Field(default={}, description="a mapping with at least one store")
    sources: list[Any] = Field(default=[], description="a list with at least one source")
    transfer: Any = None
    log: Any = None


SECTIONS: Mapping[str, type[Entry]] = {
    "the top level": TopEntry,
    "a source": SourceEntry,
    "a store of type `bos`": BosEntry,
    "a store of type `s3`": S3Entry,
    "a store of type `dir`": DirEntry,
    "`transfer`": TransferEntry,
    "`log`": LogEntry,
}


@dataclass(slots=True)
class Draft:
    """What could be read; complete only if the document has no problems."""

    state_dir: str = ""
    """Empty: the default."""
    store_names: tuple[str, ...] = ()
    """Of all stores that the file mentions, readable or not."""
    stores: dict[str, StoreEntry] = field(default_factory=dict)
    sources: dict[int, SourceEntry] = field(default_factory=dict)
    """By position in the list."""
    transfer: TransferEntry = field(default_factory=TransferEntry)
    log: LogEntry = field(default_factory=LogEntry)


# ---- reading --------------------------------------------------------------------------------------------

_EntryType = TypeVar("_EntryType", bound=Entry)

_EXPECTED = {
    "bool_type": "`true` or `false`",
    "list_type": 'a list, such as `["*.tmp", ".git/"]`',
    "dict_type": "a mapping",
    "string_too_short": "text that is not empty",
    "string_unicode": "text in UTF-8",
}


def read(document: Document, place: types.Place) -> Draft:
    """The settings in `document`, as far as they can be read; adds every mistake to its problems."""
    value = document.value
    if isinstance(value, dict):  # `x-...` is a place for anchors
        value = {key: item for key, item in value.items() if not key.startswith("x-")}
    top = _entry(TopEntry, value, (), document, place) or TopEntry()
    draft = Draft(top.state_dir, tuple(top.stores))
    for key in top.model_fields_set & {"stores", "sources"}:
        if not getattr(top, key):
            document.report((key,), found=f"no {key}", expected=TopEntry.model_fields[key].description or "")
    for name, item in top.stores.items():
        if store := _store(name, item, document, place):
            draft.stores[name] = store
    for index, item in enumerate(top.sources):
        if source := _entry(SourceEntry, item, ("sources", index), document, place):
            draft.sources[index] = source
    if "transfer" in top.model_fields_set:
        draft.transfer = _entry(TransferEntry, top.transfer, ("transfer",), document, place) or draft.transfer
    if "log" in top.model_fields_set:
        draft.log = _entry(LogEntry, top.log, ("log",), document, place) or draft.log
    return draft


def _store(name: str, value: object, document: Document, place: types.Place) -> StoreEntry | None:
    path: Path = ("stores", name)
    if not types.is_name(name):
        document.report(path, found=f"the name {quoted(name)}", expected=types.NAME_EXPECTED)
    if not isinstance(value, dict):
        document.report(path, found=document.kind(path), expected="a mapping with `type` and more")
        return None
    kind = value.get("type")
    if isinstance(kind, str) and kind in STORE_TYPES:
        return _entry(STORE_TYPES[kind], value, path, document, place)
    if not document.is_spoiled((*path, "type")):
        document.report((*path, "type"), expected=types.choice(str(kind), STORE_TYPES))
    return None


def _entry(
    model: type[_EntryType], value: object, path: Path, document: Document, place: types.Place
) -> _EntryType | None:
    """The entry at `path`, with defaults in the place of what is wrong; None if it is no mapping."""
    if not isinstance(value, dict):
        keys = ", ".join(f"`{key}`" for key in model.model_fields)
        document.report(path, found=document.kind(path), expected=f"a mapping with the keys {keys}")
        return None
    for key in model.required:
        if key not in value:
            expected = model.model_fields[key].description or ""
            document.report((*path, key), found="nothing", expected=expected)
    # What is inside the sections of the file is read one by one: a spoiled value there spoils no section.
    spoiled = document.spoiled.__contains__ if model is TopEntry else document.is_spoiled
    usable = {key: item for key, item in value.items() if not spoiled((*path, key))}
    try:
        return model.model_validate(usable, context=place)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    for fault in faults:
        _report(fault, model, path, document)
    wrong = {fault["loc"][0] for fault in faults}
    return model.model_validate(
        {key: item for key, item in usable.items() if key not in wrong}, context=place
    )


def _report(fault: ErrorDetails, model: type[Entry], path: Path, document: Document) -> None:
    """Say what is wrong in the words of the configuration's author."""
    kind, where = fault["type"], (*path, *fault["loc"])
    if kind == "extra_forbidden":
        document.report(where, found="an unknown key", expected=_known_key(str(fault["loc"][0]), model))
    elif kind == types.REFUSED:
        document.report(where, expected=fault["ctx"]["expected"])
    elif kind == "string_type":
        is_scalar = document.kind(where) in ("a number", "a truth value", "a date")
        document.report(where, expected="text: put it in quotes" if is_scalar else "text")
    elif model is TopEntry:
        document.report(where, expected=TopEntry.model_fields[str(fault["loc"][0])].description or "")
    else:
        document.report(where, expected=_EXPECTED.get(kind, "a value of another kind"))


def _known_key(wrong: str, model: type[Entry]) -> str:
    """What may have been meant by a key that `model` does not have."""
    homes = [name for name, section in SECTIONS.items() if wrong in section.model_fields]
    if homes:
        return f"no `{wrong}` here: it belongs to {' or '.join(homes)}"
    near = types.nearest(wrong.lower().replace("-", "_"), model.model_fields)
    if near:
        return f"`{near}`, the nearest known key"
    return "one of " + ", ".join(f"`{key}`" for key in model.model_fields)
