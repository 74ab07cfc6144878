"""Small files are made durable together, and none has its name before that."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import FileUnwritable
from syncd.core.restoring import DRAFT
from syncd.sources import mounts
from syncd.transfer.restore import folder as folders
from syncd.transfer.restore.disks import Disks
from syncd.transfer.restore.draft import Draft
from syncd.transfer.restore.wanted import Wanted, listed
from tests.support.store import FakeStore
from tests.support.waiting import wait_until
from tests.unit.transfer.restore.restoring import PART, content, put, reasons, restore, tree

FILES = 2 * folders._AT_ONCE + 1


class Disk:
    """Notes what is durable, and fails where it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch, refuses: Callable[[Draft | None], bool]) -> None:
        self.calls: Counter[str] = Counter()
        self.early: list[str] = []
        """Files that got a name before they were durable."""
        written: set[Draft] = set()
        finish, sync, sync_all, place = Draft.finish, Draft.sync, Disks.sync, Draft.place

        def finishing(draft: Draft, *arguments: Any, **more: Any) -> list[str]:
            written.add(draft)
            return finish(draft, *arguments, **more)

        def syncing(draft: Draft) -> None:
            self.calls["file"] += 1
            if refuses(draft):
                raise OSError(errno.EIO, "bad disk")
            sync(draft)
            written.discard(draft)

        def syncing_all(disks: Disks, devices: set[int]) -> None:
            self.calls["all"] += 1
            if refuses(None):
                raise OSError(errno.EIO, "bad disk")
            sync_all(disks, devices)
            written.clear()

        def placing(draft: Draft, name: str, *arguments: Any) -> None:
            if draft in written:
                self.early.append(name)
            place(draft, name, *arguments)

        for where, name, call in (
            (Draft, "finish", finishing),
            (Draft, "sync", syncing),
            (Disks, "sync", syncing_all),
            (Draft, "place", placing),
        ):
            patch.setattr(where, name, call)


def filled(count: int) -> tuple[FakeStore, dict[str, bytes]]:
    store = FakeStore()
    objects = {f"{number:04}": content(50, number) for number in range(count)}
    objects["large"] = content(3 * PART)
    for key, body in objects.items():
        put(store, key, body)
    return store, objects


def test_many_small_files_are_made_durable_together(to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, lambda draft: False)
    store, objects = filled(FILES)
    report = restore(store, to, concurrency=1)
    assert (tree(to), report.counts["restored"], disk.early) == (objects, len(objects), [])
    assert disk.calls["all"] <= FILES // 10
    assert disk.calls["file"] <= folders._WORTH_ALL


def test_while_files_get_their_names_as_many_others_are_written(
    to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those are made durable together, too, however many threads find that they are enough."""
    disk = Disk(monkeypatch, lambda draft: False)
    sync = Disks.sync

    def syncing(disks: Disks, devices: set[int]) -> None:
        if not disk.calls["all"]:
            drafts = 2 * folders._AT_ONCE
            wait_until("the others are written", lambda: len(list(to.glob(f"{DRAFT}*"))) >= drafts)
        sync(disks, devices)

    monkeypatch.setattr(Disks, "sync", syncing)
    monkeypatch.setattr(folders, "_AT_ONCE_SECONDS", 1000.0)
    store, objects = filled(FILES)
    restore(store, to, concurrency=8)
    assert tree(to) == objects
    assert disk.calls["all"] <= 4
    assert disk.calls["file"] <= folders._WORTH_ALL


@pytest.mark.parametrize("case", ["few files", "a network", "an old kernel"])
def test_each_file_is_made_durable_where_that_is_surer_or_cheaper(
    to: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Others may have written much to the same disk; and not every file system heeds a call for all of it."""
    if case == "a network":
        monkeypatch.setattr(mounts, "type_of", lambda device: "nfs4")
    if case == "an old kernel":
        old = os.uname_result(("Linux", "host", "4.19.0-27-amd64", "", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda: old)
    disk = Disk(monkeypatch, lambda draft: False)
    store, objects = filled(3 if case == "few files" else FILES)
    restore(store, to)
    assert (tree(to), disk.early) == (objects, [])
    assert disk.calls["file"] == len(objects)


def test_a_file_that_cannot_be_made_durable_gets_no_name(to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others that were to be made durable with it do."""
    broken: list[Draft] = []
    disk = Disk(monkeypatch, lambda draft: draft is None or draft is broken[0])
    first = Draft.write

    def writing(draft: Draft, body: bytes) -> None:
        broken.append(draft)
        first(draft, body)

    monkeypatch.setattr(Draft, "write", writing)
    store, objects = filled(20)
    report = restore(store, to, concurrency=1)
    assert isinstance(report.gave_up, FileUnwritable)
    (failed,) = reasons(report)
    assert "bad disk" in reasons(report)[failed]
    assert disk.early == []
    left = tree(to)
    assert failed not in left
    assert left == {name: objects[name] for name in left}
    assert len(left) >= 19


def test_a_key_that_is_listed_twice_is_one_file(to: Path) -> None:
    store = FakeStore()
    put(store, "a", b"a")
    report = restore(store, to, [*listed(store, "", "", ""), *listed(store, "", "", "")], concurrency=1)
    assert (report.counts["restored"], report.counts["already_there"], report.failures) == (1, 1, [])


def test_of_two_keys_that_become_one_name_while_they_wait_one_is_reported(
    to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were looked for before either was there."""
    store = FakeStore()
    for key in ("a", "b"):
        put(store, key, key.encode())
    first, second = listed(store, "", "", "")
    monkeypatch.setattr(folders.Folder, "look", lambda folder, path: None)
    report = restore(store, to, [first, Wanted(second.info, first.place)], concurrency=1)
    assert "appeared during the restore" in reasons(report)["a"]
    assert tree(to) == {"a": b"a"}


@pytest.mark.parametrize(
    ("kind", "direct"), [("ext4", True), ("xfs", True), ("btrfs", False), ("nfs4", False)]
)
def test_large_files_go_past_the_cache_where_that_is_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, direct: bool
) -> None:
    """Elsewhere the kernel copies nevertheless, or gives something up for it."""
    monkeypatch.setattr(mounts, "type_of", lambda device: kind)
    disks, fd = Disks(), os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        device = os.fstat(fd).st_dev
        assert not disks.takes_direct(device)
        disks.of(fd, os.fstat(fd).st_dev)
        assert disks.takes_direct(device) == direct
        assert not disks.takes_direct(None)
    finally:
        disks.close()
        os.close(fd)
