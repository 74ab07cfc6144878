"""What a reload changes, in words. Names keys, and never a value: values may be secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from syncd.config.load import Settings

_APART = frozenset({"path", "state_dir", "stores", "sources", "warnings"})


def between(old: Settings, new: Settings) -> list[str]:
    """A line for each source and store, and for each group of keys, that differs."""
    sources = [{source.name: source for source in settings.sources} for settings in (old, new)]
    lines = _named("source", *sources)
    lines += _named("store", old.stores, new.stores)
    for name in (each.name for each in fields(new) if each.name not in _APART):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            lines.append(f"{name}: {', '.join(_keys(before, after))}" if isinstance(after, Struct) else name)
    return lines


def _named(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"{kind} {name}: removed" for name in old if name not in new]
    lines += [f"{kind} {name}: added" for name in new if name not in old]
    for name in new:
        if name in old and old[name] != new[name]:
            lines.append(f"{kind} {name}: changed: {', '.join(_keys(old[name], new[name]))}")
    return lines


def _keys(before: Any, after: Any) -> list[str]:
    if type(before) is not type(after):
        return ["type"]
    return [each.name for each in fields(before) if getattr(before, each.name) != getattr(after, each.name)]
