"""Describes what a reload changes. It names keys and never values, because values may be secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from syncd.config.load import Settings

_APART = frozenset({"path", "state_dir", "stores", "sources", "warnings"})
_AT_TOP = {"audit_seconds": "audit_interval"}
_KEYS: Mapping[str, Mapping[str, str]] = {
    "StopSettings": {"drain": "stop", "timeout_seconds": "stop_timeout"},
    "AddressSettings": {"host": "address", "port": "address", "token": "token_file"},
    "Source": {
        "root": "path",
        "given": "path",
        "min_age_seconds": "min_age",
        "keeps_attributes": "attributes",
        "copies_attributes": "attribute_changes",
        "append_to_line": "boundary",
        "append_seconds": "append_interval",
        "records_links": "symlinks",
        "records_folders": "empty_directories",
        "records_full_folders": "empty_directories",
        "settle_seconds": "settle",
        "rescan_seconds": "rescan_interval",
        "max_delete_files": "max_delete",
        "max_delete_fraction": "max_delete",
        # of the whole configuration
        "audit_seconds": "",
        "max_repair_files": "",
        "max_repair_fraction": "",
    },
    "HttpSettings": {
        "connect_seconds": "connect_timeout",
        "read_seconds": "read_timeout",
        "progress_seconds": "progress_timeout",
    },
    "S3Settings": {"lock_mode": "object_lock", "lock_seconds": "object_lock"},
}
"""Settings whose key in the configuration has another name; empty: it is in another section."""


def between(old: Settings, new: Settings) -> list[str]:
    """Return a line for each source and store, and for each group of keys, that differs."""
    sources = [{source.name: source for source in settings.sources} for settings in (old, new)]
    lines = _named("source", *sources)
    lines += _named("store", old.stores, new.stores)
    for name in (each.name for each in fields(new) if each.name not in _APART):
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        keys = _differing(before, after) if isinstance(after, Struct) else [_AT_TOP.get(name, name)]
        is_section = isinstance(after, Struct) and name != "stop"
        lines += [f"{name}: {', '.join(keys)}"] if is_section else keys
    return lines


def _named(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"{kind} {name}: removed" for name in old if name not in new]
    lines += [f"{kind} {name}: added" for name in new if name not in old]
    for name in new:
        if name in old and (keys := _differing(old[name], new[name])):
            lines.append(f"{kind} {name}: changed: {', '.join(keys)}")
    return lines


def _differing(before: Any, after: Any) -> list[str]:
    """Yield the keys whose values differ, each once."""
    return list(dict.fromkeys(_keys(before, after)))


def _keys(before: Any, after: Any) -> Iterator[str]:
    if type(before) is not type(after):
        yield "type"
        return
    names = _KEYS.get(type(before).__name__, {})
    for name in (each.name for each in fields(before)):
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if name in ("http", "keys"):  # the keys of a store
            yield from _keys(old, new)
        elif key := names.get(name, name):
            yield key
