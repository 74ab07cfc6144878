"""A walk meets every file in few descriptors, and a second look outvotes a listing."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest

from syncd.core.model import FileRef, FileStat, Recorded
from syncd.sources import directories
from syncd.sources.scan import compare, walk
from tests.support.waiting import running
from tests.unit.sources.scan.test_compare import Sink, Tree, _path_of


@pytest.mark.parametrize("at", ["second open", "second listing", "second stat"])
def test_an_error_at_the_second_look_is_no_absence(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A missing file whose directory cannot be read again is not gone, as far as we know."""
    tree.write("a/1", "a/2", "b/1")
    tree.record_all()
    for name in ("a/1", "a/2", "b/1"):
        (tree.root / name).unlink()
    target = str(tree.root / "a")
    really_list, really_stat, really_open = walk.names_in, os.stat, directories.open_listing
    listings: list[str] = []
    broken = OSError(errno.ESTALE, "Stale file handle")

    def listing(descriptor: int) -> Iterator[str]:
        listings.append(_path_of(descriptor))
        if listings[-1] == target and listings.count(target) == 2:
            raise broken
        return really_list(descriptor)

    def stat(path: str | bytes | int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> object:
        if dir_fd is not None and _path_of(dir_fd) == target:
            raise broken
        return really_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def opening(root_fd: int, path: bytes) -> int:
        if path == b"a":
            raise broken
        return really_open(root_fd, path)

    if at == "second open":
        monkeypatch.setattr(walk, "open_listing", opening)
    elif at == "second listing":
        monkeypatch.setattr(walk, "names_in", listing)
    else:
        monkeypatch.setattr(os, "stat", stat)
    told = tree.scan()
    monkeypatch.undo()

    assert list(told.absent) == ["b/1"]
    assert told.unreadable == [("a", errno.ESTALE)]


def test_a_listing_that_has_a_name_outvotes_a_look(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that a look does not find but a later listing has is in motion, not gone."""
    tree.write("a/1", "a/2")
    tree.record_all()
    (tree.root / "a" / "1").unlink()
    really = walk.names_in
    listings: list[str] = []

    def listing(descriptor: int) -> Iterator[str]:
        listings.append(_path_of(descriptor))
        return chain(really(descriptor), ["1"] if listings.count(listings[-1]) == 2 else [])

    monkeypatch.setattr(walk, "names_in", listing)

    told = tree.scan()
    monkeypatch.undo()

    assert told.absent == {}
    assert told.unreadable == [("a", errno.EAGAIN)]


RENAME = """
import os, random, sys
os.chdir(sys.argv[1])
print("renaming", flush=True)
while True:
    number = random.randrange(6000)
    os.rename(f"moving/{number:05}", f"moving/x{number:05}")
    os.rename(f"moving/x{number:05}", f"moving/{number:05}")
"""


def test_no_false_absence_while_others_rename(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process renames files in a large directory there and back, files that are never touched
    are never absent, and one that is really gone always is; though the listings do miss files."""
    steady = [f"moving/steady {number:05}" for number in range(500)]
    tree.write(*(f"moving/{number:05}" for number in range(6000)), *steady, "moving/gone", "other/1")
    tree.record_all()
    (tree.root / "moving" / "gone").unlink()
    verdicts: list[object] = []
    really = compare.second_look

    def counting(*arguments: Any, **options: Any) -> Iterator[Any]:
        for verdict in really(*arguments, **options):
            verdicts.append(verdict)
            yield verdict

    monkeypatch.setattr(compare, "second_look", counting)
    with running(RENAME, tree.root):
        for number in range(400):
            if number >= 4 and any(isinstance(verdict, walk.Present) for verdict in verdicts):
                break  # a listing has missed files that are there, which is the point
            told = tree.scan()
            assert "moving/gone" in told.absent
            assert not set(told.absent) & {*steady, "other/1"}
            assert not set(told.found) & {*steady, "other/1"}
            for name, recorded in told.absent.items():  # the renamer's own may really be gone for an instant
                assert name == "moving/gone" or name.startswith("moving/0"), recorded

    assert [verdict for verdict in verdicts if isinstance(verdict, walk.Present)]
    last = set(tree.scan().absent)
    assert "moving/gone" in last
    assert len(last) <= 2  # the renamer was killed between two renames


def test_what_a_listing_missed_is_looked_for(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that the first listing leaves out although they are there: unchanged ones are not told at all,
    changed ones are found."""
    tree.write("a/1", "a/2", "b/1", "c")
    tree.record_all()
    (tree.root / "a" / "2").write_bytes(b"changed")
    really = walk.names_in
    listings: list[str] = []

    def listing(descriptor: int) -> Iterator[str]:
        listings.append(_path_of(descriptor))
        missed = ("1", "2", "b/") if listings.count(listings[-1]) == 1 else ()
        return (name for name in really(descriptor) if name not in missed)

    monkeypatch.setattr(walk, "names_in", listing)

    told = tree.scan()
    monkeypatch.undo()

    assert (list(told.found), told.absent) == (["a/2"], {})


def test_a_listing_that_changes_meanwhile_is_repeated(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """If names of a directory change while it is listed it is listed again, and both count."""
    tree.write("a/1", "a/2")
    really = os.scandir
    listings: list[str] = []

    def scandir(descriptor: int) -> Iterator[os.DirEntry[str]]:
        listings.append(_path_of(descriptor))
        if len(listings) == 2:  # after the root: in the middle of the first look into "a"
            tree.write("a/3")
        return really(descriptor)

    root_fd = os.open(tree.root, os.O_RDONLY)
    try:
        assert [*walk.Names(walk.names_in(root_fd))] == [b"a/"]
        monkeypatch.setattr(os, "scandir", scandir)
        listings.append("")
        inside = directories.open_listing(root_fd, b"a")
        assert [*walk.Names(walk.names_in(inside))] == [b"1", b"2", b"3"]
        os.close(inside)
    finally:
        monkeypatch.undo()
        os.close(root_fd)
    assert len(listings) == 3


def names_of_a_large_directory(count: int) -> Iterator[str]:
    """In no order, some twice, some with bytes that are no text."""
    for number in range(count):
        yield f"IMG_{number * 7919 % count:07}.jp\udcff"
        if number % 10 == 0:
            yield f"IMG_{number:07}.jp\udcff"


def test_the_names_of_a_directory_come_once_and_in_order() -> None:
    """Of one with many runs, also a second time, and they take a small part of the memory of their texts."""
    tracemalloc.start()
    try:
        names = walk.Names(names_of_a_large_directory(100_000))
        whole = sum(1 for _ in names)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (whole, peak < 6 << 20) == (100_000, True), peak
    for name, number in zip(names, range(100_000), strict=True):
        assert name == b"IMG_%07d.jp\xff" % number


def test_a_name_becomes_a_directory_where_directories_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place may lie beyond the names in hand."""
    monkeypatch.setattr(walk, "_IN_HAND", 2)
    names = ["a", "a-", "a.1", "a.2", "a.3", "a0", "b/", "c"]
    monkeypatch.setattr(walk, "names_in", lambda descriptor: iter(names))
    frame = walk.Frame(-1, b"")
    frame.read()
    met = []
    while frame.index < len(frame.entries) or frame.turn():
        name = frame.entries[frame.index]
        frame.index += 1
        met.append(name)
        if name in (b"a", b"c"):
            frame.turned_into_directory(name)
    assert met == [b"a", b"a-", b"a.1", b"a.2", b"a.3", b"a/", b"a0", b"b/", b"c", b"c/"]


@pytest.mark.parametrize("room", [0, 150, 10_000])
def test_no_room_for_what_is_missing(tree: Tree, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """What is missing goes to an unnamed file when it is much; if there is no room for that, some waits for
    the next scan, and this one is not complete."""
    names = [f"{number:05}" for number in range(300)]
    tree.write("stays", *names)
    tree.record_all()
    for name in names:
        (tree.root / name).unlink()
    monkeypatch.setattr(walk, "IN_MEMORY", 100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        told = tree.scan()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    kept = min(room // 6, 300)  # five digits and a separator each
    assert list(told.absent) == names[:kept]
    assert told.report.complete == (kept == 300)


def test_a_tree_deeper_than_descriptors_and_paths_go(tree: Tree) -> None:
    """A chain of directories three times as deep as descriptors are kept, with a path too long for the
    kernel, and work left at every level: each file is met once, in few descriptors."""
    levels = 3 * walk.MOST_OPEN
    parent = os.open(tree.root, os.O_PATH)
    try:
        for _ in range(levels):
            for name in ("a", "z"):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=parent))
            os.mkdir("m" * 50, dir_fd=parent)
            below = os.open("m" * 50, os.O_PATH, dir_fd=parent)
            os.close(parent)
            parent = below
    finally:
        os.close(parent)
    before = len(os.listdir("/proc/self/fd"))
    most = 0

    class Counter(Sink):
        def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
            nonlocal most
            super().found(ref, stat, recorded)
            most = max(most, len(os.listdir("/proc/self/fd")))

    told = tree.scan(sink=Counter())
    subprocess.run(["rm", "-rf", tree.root / ("m" * 50)], check=True, timeout=60)

    assert len(told.found) == 2 * levels
    assert told.report.directories == levels + 1
    assert told.report.complete
    assert walk.MOST_OPEN <= most - before <= walk.MOST_OPEN + 5


def deep(tree: Tree, strike: Callable[[], None]) -> Sink:
    """Scan a chain deeper than descriptors are kept, two recorded files at its top; strike at its bottom."""
    chain = "/".join(["m"] * (walk.MOST_OPEN + 5))
    tree.write("m/z", "m/y", f"{chain}/bottom")
    tree.record("m/z", "m/y")

    class Striker(Sink):
        def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
            super().found(ref, stat, recorded)
            if ref.path.endswith("bottom"):
                strike()

    told = tree.scan(sink=Striker())
    assert told.unreadable == []
    assert f"{chain}/bottom" in told.found
    return told


def test_a_deep_directory_that_moves_away_meanwhile_is_read_to_its_end(tree: Tree) -> None:
    """As a shallow one is, whose descriptor was never closed: nothing in it counts as gone."""
    told = deep(tree, lambda: os.rename(tree.root / "m", tree.root / "moved"))
    assert len(told.found) == 1
    assert list(told.absent) == []


def test_where_the_way_up_leads_elsewhere_the_path_leads_back(tree: Tree) -> None:
    """The chain was moved into another directory: that one is not taken for the one above."""

    def strike() -> None:
        tree.write("other/z", "m/y")
        os.rename(tree.root / "m/m", tree.root / "other/m")

    told = deep(tree, strike)
    assert sorted(told.found)[-1] == "m/y"
    assert list(told.absent) == []
