"""Large trees of real files, made from what the machine has, and odd names."""

from __future__ import annotations

import os
import random
import struct
import sysconfig
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path

MIB = 1 << 20
_NOBODY = 0xFFFFFFFF
LARGEST = 20 * MIB  # of the machine's own files

ODD_NAMES = (
    b"a space", b" leading and trailing ", b"a+b", b"100%", b"%41", b"#1", b"what?", b"a&b=c;d", b"it's",
    b'"q"', b"new\nline", b"carriage\rreturn", b"tab\there", b"back\\slash", b"-rf", b"~", b"..a", b"a:b",
    b"*", b"[x]", b"a,b@c$d", b"<x>", b"{y}|`z`^", b"\x01\x7f", "ü漢字🙂".encode(), "e\u0301".encode(),
    "\u201bFF".encode(), b"\xff\xfe", b"caf\xe9 au lait", b"l" * 200, "\u6f22".encode() * 66,
)  # fmt: skip
"""Legal names on Linux, each of which has broken some program."""


def numbered_block(size: int, number: int) -> bytes:
    """Bytes that no other number has, cheaply made."""
    return number.to_bytes(8, "little") + _noise(size - 8)


def write_big(path: Path, size: int) -> None:
    """A file of `size` bytes (whole MiB) without two equal blocks."""
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(numbered_block(MIB, number))


def write_odd(folder: Path) -> int:
    """A file and a directory with a file for every odd name; returns how many files."""
    top = os.fsencode(folder)
    for number, name in enumerate(ODD_NAMES):
        _write(os.path.join(top, name), b"file %d" % number)
        below = os.path.join(top, b"in", name)
        os.makedirs(below)
        _write(os.path.join(below, name), b"deeper %d" % number)
    return 2 * len(ODD_NAMES)


MODES = (0o600, 0o644, 0o755, 0o400, 0o664, 0o111, 0o4755, 0o2750)
TEXT_XATTRS = {"user.colour": b"red", "user.xdg.origin.url": b"https://example.org/?a=%20b"}
XATTRS = {
    **TEXT_XATTRS, "user.empty": b"", "user.mime_type": b"text/plain", "user.Zo\u00e9": bytes(range(256)),
    "user.mtime": b"2", "user.spaces": b"  two  ",
}  # fmt: skip


def write_attributes(folder: Path, xattrs: Mapping[str, bytes]) -> None:
    """A file for every mode, and one each with extended attributes, a list of rights and another owner."""
    for mode in MODES:
        _write(os.fsencode(folder / f"mode {mode:o}"), b"%o" % mode)
    _write(os.fsencode(folder / "xattrs"), b"#!")
    for name, value in xattrs.items():
        os.setxattr(folder / "xattrs", name, value)
    _write(os.fsencode(folder / "listed"), b"for some")
    entries = ((1, 6, _NOBODY), (2, 5, 12345), (4, 4, _NOBODY), (16, 7, _NOBODY), (32, 0, _NOBODY))
    rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(folder / "listed", "system.posix_acl_access", rights)
    _write(os.fsencode(folder / "owned"), b"by another")
    if os.geteuid() == 0:
        os.chown(folder / "owned", 4242, 4243)
    for mode in MODES:  # last: a change of owner or of the list takes bits away
        (folder / f"mode {mode:o}").chmod(mode)


def write_links(folder: Path) -> None:
    """Links of every kind, none of which may be followed, and a file that has the name of one."""
    (folder / "links").mkdir()
    for number, target in enumerate((b"..", b"/etc/passwd", b"nothing", b"\xff/\n", b"to 4", b"x" * 4000)):
        os.symlink(target, os.path.join(os.fsencode(folder), b"links/to %d" % number))
        os.utime(folder / "links" / f"to {number}", ns=(1, 10**18 + number), follow_symlinks=False)
    os.symlink("odd", os.path.join(os.fsencode(folder), b"links/\xff \xe2\x80\x9b"))
    _write(os.fsencode(folder / "links" / "no link.rclonelink"), b"to 1")
    if os.geteuid() == 0:
        os.chown(folder / "links" / "to 0", 4242, 4243, follow_symlinks=False)


def write_folders(folder: Path) -> None:
    """Empty folders and such with files, with odd names, rights and times."""
    names = [os.fsdecode(name) for name in (*ODD_NAMES[:4], b"\xff", b"of \xc3\xbc")]
    folders = [folder / kind / name for kind in ("empty", "full") for name in names]
    for number, each in enumerate(folders):
        each.mkdir(parents=True)
        if each.parent.name == "full":
            _write(os.fsencode(each / "file"), b"content")
        os.setxattr(each, "user.colour", b"blue")
        if os.geteuid() == 0:
            os.chown(each, 4242, 4243)
        each.chmod((0o700, 0o2770, 0o1777, 0o555, 0o755, 0o711)[number % len(names)])
        os.utime(each, ns=(1, 10**18 + number))


def write_many(folder: Path, count: int) -> int:
    """`count` files of the machine's own, under several roofs; returns their bytes in all.

    Of each three one is as it is, so that later roofs hold its twins; two begin with a line of their own.
    """
    written = 0
    for number, original in enumerate(islice(_with_roof(_originals()), count)):
        path = folder / original[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        content = Path(original[1]).read_bytes()
        if number % 3:
            content = b"# copy %d\n" % number + content
        path.write_bytes(content)
        written += len(content)
    return written


def _originals() -> list[tuple[str, str]]:
    """Name and path of regular files, in a fixed order that mixes small and large ones."""
    paths = sysconfig.get_paths()
    tops = {
        "stdlib": paths["stdlib"],
        "packages": paths["purelib"],
        "doc": "/usr/share/doc",
        "etc": "/usr/lib",
    }
    found: dict[str, str] = {}
    for name, top in tops.items():
        for directory, folders, files in os.walk(top):
            folders[:] = sorted(folder for folder in folders if folder != "__pycache__")
            for file in sorted(files):
                path = os.path.join(directory, file)
                if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) <= LARGEST:
                    found[f"{name}/{os.path.relpath(path, top)}"] = path
        if len(found) >= _VARIETY:
            break
    return random.Random(1).sample(sorted(found.items()), min(len(found), _VARIETY))


def _with_roof(originals: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for number, (name, path) in enumerate(cycle(originals)):
        yield f"roof {number // len(originals)}/{name}", path


def _noise(size: int) -> bytes:
    if len(_NOISE) < size:
        _NOISE.extend(random.Random(size).randbytes(size))
    return bytes(memoryview(_NOISE)[:size])


_NOISE = bytearray()
_VARIETY = 12_000  # a multiple of three, so that the unchanged ones of one roof are so under the next


def _write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
