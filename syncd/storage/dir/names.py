"""Keys and paths of a `dir` store: maps each to the other. Pure.

An object lies at its natural path: ``camera/2024/a.jpg`` is a file of that name below the root, which users
and their tools can read. Five cases need more:

- **Object and directory of one name.** A store may hold ``a`` and ``a/b``; a file system may not. Then the
  object lies at ``a.~syncd-object~``.
- **Reserved names.** ``.syncd`` below the root is ours. A key that begins with that component, or has one
  that ends like our own additions, gets ``.~syncd-name~`` appended to it. No two keys share a path.
- **Long names.** A component that is longer than the file system's names is cut; all pieces but the last are
  directories that end in ``.~syncd-more~``. A key is longer than the file's own name where the name is not
  UTF-8.
- **Unfit characters.** What the file system refuses or changes is written as the hexadecimal digits of its
  UTF-8: where names may hold no question mark, ``What?.txt`` lies at ``What.~syncd-3f~.txt``.
- **No way out.** Empty, ``.`` and ``..`` components and NUL are refused.

If the file system takes two names for one (by case, by Unicode form), `tree` refuses the second.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from msgspec import Struct

from syncd.core.errors import RENAME, StoreRefused

PRIVATE = b".syncd"
DISPLACED = b".~syncd-object~"
ESCAPED = b".~syncd-name~"
CONTINUED = b".~syncd-more~"

SHORTEST_LIMIT = 60
"""A file system with shorter names cannot hold the names made here."""
_LONGEST_PIECE = 200
_ROOM = 24
"""Room in a piece for what is appended to it."""
_CODED = re.compile(r"\.~syncd-((?:[0-9a-f]{2})+)~")
_CODED_BYTES = re.compile(_CODED.pattern.encode())
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))]
)


class Traits(Struct, frozen=True):
    """What a file system does with names. The default is that of ext4, XFS and the like: nothing."""

    longest_name: int = 255
    """In bytes."""
    folds: bool = False
    """Different names may lead to the same file: by case, by Unicode form, or by short aliases."""
    unfit: frozenset[str] = frozenset()
    """Characters that it refuses or changes."""
    unfit_at_end: frozenset[str] = frozenset()
    """Characters that it refuses or drops at the end of a name."""
    form: Literal["", "NFC", "NFD"] = ""
    """The Unicode form to which it rewrites names; empty: none."""
    ascii_only: bool = False
    refuses_devices: bool = False
    """It refuses ``con``, ``aux.c`` and so on, as Windows does."""

    @property
    def codes(self) -> bool:
        """Return whether some names are written in another way."""
        return self != Traits(self.longest_name, self.folds)

    def remarks(self) -> list[str]:
        """Return the consequences for the operator."""
        found = []
        if self.folds:
            found.append("names that differ only in case or Unicode form are one: the second such file fails")
        if self.codes:
            found.append(f"some names do not fit: `What?.con` is written as `{_fitted('What?.con', self)}`")
        if self.longest_name < POSIX.longest_name:
            found.append(f"names of more than {self.longest_name} bytes are cut into pieces")
        return found


POSIX = Traits()
WINDOWS = Traits(
    folds=True,
    unfit=frozenset(map(chr, range(1, 32))) | frozenset('"*:<>?\\|'),
    unfit_at_end=frozenset(" ."),
    refuses_devices=True,
)
"""The strictest common traits: FAT, exFAT, and Windows servers."""


def names_of(key: str, traits: Traits = POSIX) -> tuple[bytes, ...]:
    """Return the path of an object below the root, by components. Raises StoreRefused if it can have none."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise StoreRefused("the key is not text", hint=RENAME) from error
    if "\0" in key:
        raise StoreRefused("the key contains a NUL character, which no file name can contain", hint=RENAME)
    names = key.split("/")
    for name in names:
        if name in ("", ".", ".."):
            raise StoreRefused(f"the key has {name!r} as a component, which is not a file name", hint=RENAME)
    path: list[bytes] = []
    for name in names:
        fitted = _fitted(name, traits).encode()
        path += _pieces(fitted + ESCAPED if _is_reserved(fitted, first=not path) else fitted, traits)
    return tuple(path)


def key_of(names: tuple[bytes, ...], traits: Traits = POSIX) -> str | None:
    """Return the key whose path has these components; None: there is none."""
    parts: list[bytes] = []
    begun = b""
    for piece in names:
        if piece.endswith(CONTINUED):
            begun += piece.removesuffix(CONTINUED)
            continue
        name, begun = begun + piece, b""
        base = name.removesuffix(ESCAPED)
        if _is_reserved(name, first=not parts):
            if base == name or not _is_reserved(base, first=not parts):
                return None
            name = base
        parts.append(name)
    try:
        key = _decoded(b"/".join(parts), traits)
        made_otherwise = traits.codes or any(piece.endswith(CONTINUED) for piece in names)
        return None if made_otherwise and names_of(key, traits) != names else key
    except (UnicodeDecodeError, StoreRefused):
        return None


def start_of(names: tuple[bytes, ...], traits: Traits = POSIX) -> str | None:
    """Return the start of all keys whose path leads through this directory; None: there are none."""
    whole = len(names)
    while whole and names[whole - 1].endswith(CONTINUED):
        whole -= 1
    above = key_of(names[:whole], traits) if whole else ""
    try:
        begun = _decoded(b"".join(piece.removesuffix(CONTINUED) for piece in names[whole:]), traits)
    except UnicodeDecodeError:
        return None
    if above is None:
        return None
    return f"{above}/{begun}" if whole else begun


def _is_reserved(name: bytes, *, first: bool) -> bool:
    return name.endswith((DISPLACED, ESCAPED, CONTINUED)) or (first and name == PRIVATE)


def _fitted(name: str, traits: Traits) -> str:
    """Return the name with unfit characters written in digits; `_decoded` is the inverse."""
    if not traits.codes:
        return name
    unfit = {match.start() for match in _CODED.finditer(name)}
    unfit |= {index for index, character in enumerate(name) if character in traits.unfit}
    if name[-1] in traits.unfit_at_end:
        unfit.add(len(name) - 1)
    rewritten = traits.form != "" and unicodedata.normalize(traits.form, name) != name
    if traits.ascii_only or rewritten:
        unfit |= {index for index, character in enumerate(name) if not character.isascii()}
    stem = name[: min({len(name), *unfit})].partition(".")[0]  # coded characters begin with a dot
    if traits.refuses_devices and stem.rstrip(" ").casefold() in _DEVICES:
        unfit.add(0)
    return "".join(
        f".~syncd-{character.encode().hex()}~" if index in unfit else character
        for index, character in enumerate(name)
    )


def _decoded(names: bytes, traits: Traits) -> str:
    """Raises UnicodeDecodeError."""
    text = names.decode()
    if not traits.codes:
        return text
    return _CODED.sub(lambda match: bytes.fromhex(match[1]).decode(), text)


def _pieces(name: bytes, traits: Traits) -> list[bytes]:
    """Split the name, if too long, into pieces of nearly equal length, each of whole characters."""
    if len(name) <= traits.longest_name:
        return [name]
    longest = min(_LONGEST_PIECE, traits.longest_name - _ROOM)
    pieces = []
    for left in range(-(-len(name) // longest), 1, -1):
        end = -(-len(name) // left)
        while name[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        for match in _CODED_BYTES.finditer(name) if traits.codes else ():
            if match.start() < end < match.end():
                end = match.start() or match.end()
                break
        pieces.append(name[:end] + CONTINUED)
        name = name[end:]
    return [*pieces, name]
