"""What a file system does with names is asked once, and is what it does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from syncd.core.errors import StoreRefused
from syncd.storage.dir import file_system
from syncd.storage.dir.names import POSIX, WINDOWS, Traits
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support import mounting
from tests.support.odd_file_system import SHARE, Oddities, odd
from tests.unit.storage.dir.dir_rig import put, read, staged, visible

_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _ask(at: Path) -> tuple[Traits, bool]:
    (at / ".syncd").mkdir(exist_ok=True)
    root = os.open(at, os.O_RDONLY)
    private = os.open(at / ".syncd", os.O_RDONLY)
    try:
        return file_system.ask(root, private, b"tmp")
    finally:
        os.close(root)
        os.close(private)


@pytest.mark.parametrize(
    ("oddities", "traits"),
    [
        (Oddities(), POSIX),
        (Oddities(case=True), Traits(folds=True)),
        (Oddities(normal=True), Traits(folds=True)),
        (Oddities(form="NFD"), Traits(folds=True, form="NFD")),
        (Oddities(form="NFC"), Traits(folds=True, form="NFC")),
        (Oddities(upper_lost=True), Traits(folds=True, unfit=_CAPITALS)),
        (Oddities(strips="."), Traits(unfit_at_end=frozenset("."))),
        (Oddities(refuses=":?"), Traits(unfit=frozenset(":?"))),
        (Oddities(refuses="\u4e2d"), Traits(ascii_only=True)),
        (Oddities(devices=True), Traits(refuses_devices=True)),
        (Oddities(longest=143), Traits(143)),
        (SHARE, WINDOWS),
    ],
)
def test_the_answer_is_what_the_file_system_does(tmp_path: Path, oddities: Oddities, traits: Traits) -> None:
    """And nothing is left behind by the questions."""
    with odd(tmp_path / "mnt", oddities) as at:
        assert _ask(at) == (traits, True)
        assert os.listdir(at / ".syncd" / "tmp") == []


def test_it_is_asked_once(root: Path, store: DirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all verbs of a process."""
    asked = []
    ask = file_system.ask

    def noted(*where: object) -> tuple[Traits, bool]:
        asked.append(where)
        return ask(*where)  # type: ignore[arg-type]

    monkeypatch.setattr(file_system, "ask", noted)
    for key in ("a", "b"):
        put(store, key, b"x")
        store.head_object(key)
    assert len(asked) == 1
    assert staged(root) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_where_it_cannot_be_asked_the_store_still_answers(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A full or read-only store can be read; it is asked again by the next verb."""
    put(DirStore(DirSettings(str(root))), "What?", b"x")
    store = DirStore(DirSettings(str(root)))
    made = file_system.make_directory

    def refuse(*where: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(file_system, "make_directory", refuse)
    assert read(store, "What?") == b"x"
    assert _ask(root) == (POSIX, False)
    monkeypatch.setattr(file_system, "make_directory", made)
    assert read(store, "What?") == b"x"
    assert _ask(root) == (POSIX, True)


def test_a_share_that_cannot_be_written_is_taken_for_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there under digits is found."""
    with odd(tmp_path / "mnt", SHARE) as at:
        put(DirStore(DirSettings(str(at))), "What?", b"x")

        def refuse(*where: object) -> None:
            raise OSError(errno.EROFS, "")

        monkeypatch.setattr(file_system, "make_directory", refuse)
        store = DirStore(DirSettings(str(at)))
        assert read(store, "What?") == b"x"
        assert [info.key for info in store.list_objects("")] == ["What?"]


def test_a_full_disk_is_no_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is about the name itself says that a name does not fit."""
    opened = os.open
    made = []

    def fill_up(path: bytes, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT and len(made) > 2:
            raise OSError(errno.ENOSPC, "")
        if flags & os.O_CREAT:
            made.append(path)
        return opened(path, flags, *more, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fill_up)
        assert _ask(root) == (POSIX, False)
    assert len(made) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "mount"),
    [
        (("mkntfs", "-F", "-Q"), ("lowntfs-3g", "-o", "ignore_case")),
        (("mkntfs", "-F", "-Q"), ("ntfs-3g", "-o", "windows_names")),
        (("mkfs.vfat",), ("mount", "-t", "vfat", "-o", "utf8=1")),
        (("mkfs.exfat",), ("mount.exfat-fuse",)),
    ],
)
def test_real_file_systems_keep_every_name_apart_or_refuse_it(
    tmp_path: Path, make: tuple[str, ...], mount: tuple[str, ...]
) -> None:
    """What was stored is there under its own name only; what was refused changed nothing."""
    keys = ["README", "readme", "What?", "a.", "a", "a ", "con", "e\u0301", "\u00e9", "A/x", "n" * 255,
            "LONGNA~1.TXT", "longname-of-a-file.txt", "\u4e2d" * 85, "tab\there"]  # fmt: skip
    image = tmp_path / "disk"
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    with mounting.formatted(image, tmp_path / "mnt", make, mount) as at:
        store = DirStore(DirSettings(str(at)))
        kept = set()
        for key in keys:
            try:
                put(store, key, key.encode())
                kept.add(key)
            except StoreRefused as refused:
                assert "which is already there" in str(refused)  # noqa: PT017
        assert {key: read(store, key) for key in keys} == {
            key: key.encode() if key in kept else None for key in keys
        }
        assert {info.key for info in store.list_objects("")} == kept
        for key in keys:
            store.delete_object(key)
        assert visible(at) == []
