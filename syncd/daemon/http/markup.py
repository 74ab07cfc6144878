"""HTML in which every text is escaped, because only `element` makes it. Pure."""

from __future__ import annotations

from typing import TypeAlias

# The module `html` would load its table of 2,231 names.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
_VOID = frozenset({"input", "link", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content: TypeAlias = str | None
"""HTML as it is, any other text escaped; None is left out."""


def element(tag: str, /, *contents: Content, **attributes: str | int | bool | None) -> Html:
    """Make one: ``class_`` is ``class``, ``data_key`` is ``data-key``; None and False are omitted."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{"" if value is True else str(value).translate(_ESCAPES)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Html(f"<{tag}{told}>")
    return Html(f"<{tag}{told}>{joined(*contents)}</{tag}>")


def joined(*contents: Content) -> Html:
    """Return the contents one after the other."""
    return Html(
        "".join(
            each if isinstance(each, Html) else each.translate(_ESCAPES)
            for each in contents
            if each is not None
        )
    )
