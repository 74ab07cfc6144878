"""How the metadata of an object holds the attributes of its file: as rclone writes them.

``mode`` is octal with the bits of the type, ``uid`` and ``gid`` are decimal, and an extended attribute
``user.NAME`` is ``NAME``. So ``rclone copy --metadata`` restores ours, and we read what it wrote. rclone has
no keys for the names of user and group: ours are ``syncd-user`` and ``syncd-group``. Extended attributes that
some header would change are in ``syncd-xattrs``, ``syncd-xattrs-1`` and so on.

Pure. Lenient when it reads: any program may have written the object.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import stat as modes
from collections.abc import Mapping
from itertools import count, takewhile
from urllib.parse import quote, unquote

from msgspec.structs import replace

from syncd.core.model import Attributes

_USER, _GROUP, _PACKED = "syncd-user", "syncd-group", "syncd-xattrs"
_WORDS = frozenset(
    {"mode", "uid", "gid", "rdev", "mtime", "atime", "btime", "ctime", "md5chksum", "s3cmd-attrs"}
)
"""What rclone, s3fs and s3cmd write that is no extended attribute."""
_SILENT = frozenset(
    {"mtime", "syncd-xxh128", "syncd-upload", "syncd-instance", "syncd-properties", "syncd-others"}
)
"""What syncd writes that is no attribute of a file."""
_NAME = re.compile(r"user\.([a-z0-9][a-z0-9.-]*)")
"""A proxy may drop or change a header with an underscore, and a store ignores case."""
_VALUE = re.compile(r"(?!=\?)[!-~]+( [!-~]+)*")
"""A value that arrives unchanged: signing folds blanks, and ``=?`` begins an encoded word."""
LINK_MODE = f"{modes.S_IFLNK | 0o777:o}"
_LONGEST_NAME = 64
_LONGEST_VALUE = 250
"""Swift takes 256 bytes."""
_HEADER_BYTES = len("x-amz-meta-")
_NO_ID = 2**32 - 1


def to_texts(attributes: Attributes, *, is_folder: bool = False) -> dict[str, str]:
    """Return attributes as keys and values of an object's metadata."""
    texts = {}
    if attributes.mode is not None:
        texts["mode"] = f"{(modes.S_IFDIR if is_folder else modes.S_IFREG) | attributes.mode:o}"
    for key, number in (("uid", attributes.uid), ("gid", attributes.gid)):
        if number is not None:
            texts[key] = str(number)
    for key, name in ((_USER, attributes.user), (_GROUP, attributes.group)):
        if name and len(text := quote(name, safe="", errors="surrogateescape")) <= _LONGEST_NAME:
            texts[key] = text
    packed = []
    for name, value in attributes.xattrs:
        if _is_plain(name, value):
            texts[name.removeprefix("user.")] = value.decode()
        else:
            packed.append(_pack(name, value))
    whole = "&".join(packed)
    for number, start in enumerate(range(0, len(whole), _LONGEST_VALUE)):
        texts[_packed_key(number)] = whole[start : start + _LONGEST_VALUE]
    return texts


def from_texts(texts: Mapping[str, str]) -> Attributes | None:
    """Return the attributes in the metadata of an object; None: there are none."""
    if texts.keys() <= _SILENT:  # as nearly always
        return None
    xattrs = {}
    for key, text in texts.items():
        if key not in _WORDS and not key.startswith("syncd-") and _NAME.fullmatch(f"user.{key}"):
            xattrs[f"user.{key}"] = text.encode(errors="surrogateescape")
    whole = "".join(takewhile(bool, (texts.get(_packed_key(number), "") for number in count())))
    for entry in whole.split("&"):
        name, _, value = entry.partition("=")
        if name:
            with contextlib.suppress(binascii.Error, ValueError):
                content = base64.b64decode(value, b"-_", validate=True)
                xattrs[unquote(name, errors="surrogateescape")] = content
    found = Attributes(
        _mode(texts.get("mode", "")),
        _id(texts.get("uid", "")),
        _id(texts.get("gid", "")),
        unquote(texts.get(_USER, ""), errors="surrogateescape"),
        unquote(texts.get(_GROUP, ""), errors="surrogateescape"),
        tuple(sorted(xattrs.items())),
    )
    return None if found == Attributes() else found


def fitting(attributes: Attributes, room: int) -> tuple[Attributes, list[str]]:
    """Return the attributes as they will be read again, and the names of the extended ones left out because
    they take more than `room` bytes.
    """
    kept, left_out = [], []
    for name, value in attributes.xattrs:
        size = _size(name, value)
        if size <= room:
            kept.append((name, value))
            room -= size
        else:
            left_out.append(name)
    fit = replace(attributes, xattrs=tuple(kept))
    return from_texts(to_texts(fit)) or fit, left_out


def _size(name: str, value: bytes) -> int:
    if _is_plain(name, value):
        return _HEADER_BYTES + len(name) - len("user.") + len(value)
    size = len(_pack(name, value)) + 1
    return size + (_HEADER_BYTES + len(_packed_key(10))) * (1 + size // _LONGEST_VALUE)


def _is_plain(name: str, value: bytes) -> bool:
    found = _NAME.fullmatch(name)
    is_word = found is None or found[1] in _WORDS or found[1].startswith("syncd-")
    is_text = len(value) <= _LONGEST_VALUE and _VALUE.fullmatch(value.decode("latin-1")) is not None
    return is_text and not is_word


def _packed_key(number: int) -> str:
    return f"{_PACKED}-{number}" if number else _PACKED


def _pack(name: str, value: bytes) -> str:
    return f"{quote(name, safe='', errors='surrogateescape')}={base64.urlsafe_b64encode(value).decode()}"


def is_ours(key: str) -> bool:
    """Return whether syncd may have written the key, as its own or for an attribute."""
    is_xattr = key not in _WORDS and _NAME.fullmatch(f"user.{key}") is not None
    return is_xattr or key in ("mtime", "mode", "uid", "gid")


def says_link(texts: Mapping[str, str]) -> bool:
    """Return whether the mode in the metadata of an object is that of a symbolic link."""
    text = texts.get("mode")
    return bool(text and re.fullmatch(r"[0-7]{1,7}", text, re.ASCII) and modes.S_ISLNK(int(text, 8)))


def _mode(text: str) -> int | None:
    """Return the mode. s3fs writes it in decimal; read as octal, that has other type bits."""
    if not re.fullmatch(r"[0-7]{1,7}", text, re.ASCII):
        return None
    mode = int(text, 8)
    return modes.S_IMODE(mode) if modes.S_IFMT(mode) in (0, modes.S_IFREG, modes.S_IFDIR) else None


def _id(text: str) -> int | None:
    number = int(text) if re.fullmatch(r"\d{1,10}", text, re.ASCII) else _NO_ID
    return number if number < _NO_ID else None
