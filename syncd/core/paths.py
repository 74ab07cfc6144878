"""Maps local paths to object keys and back, and names files for people.

File names are bytes. In memory they are text decoded as UTF-8 with surrogate escapes. A key is text that
every store takes, so it has no surrogates. The mapping (rclone's scheme for bytes that are not UTF-8) keeps
every legal UTF-8 name as it is and is reversible for the others:

- a byte that is not UTF-8 becomes U+201B and two upper-case hex digits;
- a U+201B that is really in the name is doubled;
- a symbolic link gets ``.rclonelink`` after its name, and a file of such a name gets U+201B before that;
- an empty folder gets ``/`` after its name, in the path and in the key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from syncd.core.model import FileRef

QUOTE = "\u201b"
"""SINGLE HIGH-REVERSED-9 QUOTATION MARK: begins an escape in a key."""

LINK = ".rclonelink"
"""Ends the keys of symbolic links."""
LONGEST_TARGET_BYTES = 4095
"""The longest target of a symbolic link: PATH_MAX without the NUL at its end."""

FOLDER = "/"
"""Ends the paths and the keys of empty folders."""

_TO_ESCAPE = re.compile(f"[{QUOTE}\udc80-\udcff]")
_ESCAPED = re.compile(f"{QUOTE}({QUOTE}|[89A-F][0-9A-F])")


# ---- keys -----------------------------------------------------------------------------------------------


def key_for(prefix: str, path: str, *, is_link: bool = False) -> str:
    """Return the key of the file, folder or symbolic link at `path` (relative, surrogate-escaped).

    Distinct paths have distinct keys, and so do a file and a link.
    """
    key = prefix + _TO_ESCAPE.sub(_escape, path)
    if is_link:
        return key + LINK
    return key[: -len(LINK)] + QUOTE + LINK if key.endswith(LINK) else key


def is_link_key(key: str) -> bool:
    """Return whether `key_for` makes this key only for a link. A doubled quotation mark is part of a name."""
    stem = key.removesuffix(LINK)
    has_name = stem != key and stem.rpartition("/")[2] != ""
    return has_name and (len(stem) - len(stem.rstrip(QUOTE))) % 2 == 0


def is_folder(path: str) -> bool:
    """Return whether a path or a key is that of an empty folder."""
    return path.endswith(FOLDER)


def path_for(prefix: str, key: str) -> str | None:
    """Return the path that has this key; None: it is not under `prefix`, or syncd makes no such key."""
    if not key.startswith(prefix):
        return None
    below, is_link = key[len(prefix) :], is_link_key(key)
    if is_link:
        below = below.removesuffix(LINK)
    elif below.endswith(QUOTE + LINK):
        below = below.removesuffix(QUOTE + LINK) + LINK
    path = _ESCAPED.sub(_unescape, below)
    if not _is_relative_path(path) or key_for(prefix, path, is_link=is_link) != key:
        return None
    return path


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return QUOTE + (QUOTE if character == QUOTE else f"{ord(character) - 0xDC00:02X}")


def _unescape(match: re.Match[str]) -> str:
    escaped = match[1]
    return QUOTE if escaped == QUOTE else chr(0xDC00 + int(escaped, 16))


def _is_relative_path(path: str) -> bool:
    """Return whether a file system can have this path, decoded as usual. ``/`` ends a folder's."""
    segments = path.removesuffix(FOLDER).split("/")
    if "\0" in path or any(segment in ("", ".", "..") for segment in segments):
        return False
    try:
        # Escapes that together are valid UTF-8 stand for a character, which is never escaped.
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == path
    except UnicodeEncodeError:
        return False


def key_problem(key: str, max_key_bytes: int) -> str | None:
    """Return why a store cannot take this key; None: it can. `max_key_bytes` limits its UTF-8."""
    try:
        length = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "the key is not text"
    if length == 0:
        return "the key is empty"
    if length > max_key_bytes:
        return f"the key has {length} bytes, the store takes {max_key_bytes} at most"
    segments = key.split("/")
    if "." in segments or ".." in segments:
        return "the key has a segment '.' or '..', which HTTP clients and proxies rewrite"
    return None


def prefix_problem(prefix: str) -> str | None:
    """Return why keys cannot begin with this, for the author of the configuration; None: they can."""
    if not prefix:
        return None
    if prefix.startswith("/"):
        return "begins with '/'"
    if "//" in prefix:
        return "has an empty segment ('//')"
    if any(segment in (".", "..") for segment in prefix.split("/")):
        return "has a segment '.' or '..'"
    if any(not character.isprintable() for character in prefix):
        return "has a control character or one that cannot be shown"
    return None


# ---- for people -----------------------------------------------------------------------------------------


def printable(path: str) -> str:
    r"""Return the path on one line, with nothing that a terminal or a log interprets; reversible by eye.

    ``\xNN`` is a byte (a control character, or one that is not UTF-8), ``\uNNNN`` any other character that
    cannot be shown (separators, text direction), ``\\`` a backslash.
    """
    if path.isprintable() and "\\" not in path:
        return path
    return "".join(map(_shown, path))


def one_line(text: str) -> str:
    """Return foreign text, such as a store's message, with nothing that a terminal or a log interprets."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _shown(c) for c in text)


def _shown(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def name_of(ref: FileRef) -> str:
    """Return the name of a file for logs and reports."""
    return f"{ref.source}:{printable(ref.path)}"


def named(given: str, sources: Sequence[str], stores: Sequence[str]) -> tuple[str, str]:
    """Return ``source`` or ``store``, and its name. ``source:NAME`` and ``store:NAME`` name the kind.

    Raises ValueError for a name that is both, and for one that is neither.
    """
    kind, colon, name = given.partition(":")
    known = {"source": sources, "store": stores}
    if colon and kind in known:
        if name not in known[kind]:
            raise ValueError(f"there is no {kind} {name!r}; there are: {_listed(known[kind])}")
        return kind, name
    found = [kind for kind, names in known.items() if given in names]
    if len(found) > 1:
        raise ValueError(f"{given!r} is both a source and a store; say source:{given} or store:{given}")
    if not found:
        there = f"sources: {_listed(sources)}; stores: {_listed(stores)}"
        raise ValueError(f"there is no source or store {given!r}; there are {there}")
    return found[0], given


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"
