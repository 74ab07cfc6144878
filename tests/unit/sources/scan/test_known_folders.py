"""A folder that is known as a whole is scanned as if each of its rows were read."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core import paths
from syncd.core.model import Destination, FileRef, FileStat, LinkStat, OnDelete, Recorded
from syncd.sources import directories, entries, files
from syncd.sources.scan import compare
from syncd.state.state import State
from tests.unit.sources.scan.test_compare import CONTENT, PREFIX, STORE, Told, Tree

SEEDS = int(os.environ.get("SYNCD_FOLDERS_SEEDS", "12"))
FOLDERS = ("", "a/", "a/b/", "a-/", "b/c/", "b/d/e/", "c/")
NAMES = [
    *(f"{folder}{name}" for folder in FOLDERS for name in ("x", "y", "Y")),
    *("b/c/\udcff", "a-/z.tmp", "b/d/e/.leave", "a/b/q\u201b"),
]


@pytest.fixture(autouse=True)
def _small_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.state.queries.FEWEST_FILES", 1)


@contextmanager
def _row_by_row(tree: Tree) -> Iterator[None]:
    tree.state._has_folders = False
    try:
        yield
    finally:
        tree.state._has_folders = True


def _both(tree: Tree, **how: object) -> Told:
    """What a scan says, which is what one says that reads every row."""
    with _row_by_row(tree):
        whole = tree.scan(**how)  # type: ignore[arg-type]
    told = tree.scan(**how)  # type: ignore[arg-type]
    for part in ("found", "absent", "skipped", "unreadable", "hidden", "report"):
        assert getattr(told, part) == getattr(whole, part), part
    return told


def _pages(tree: Tree, monkeypatch: pytest.MonkeyPatch, **how: object) -> int:
    """How often a scan reads rows."""
    pages = []
    with monkeypatch.context() as patch:
        read = tree.state.outline_page
        patch.setattr(tree.state, "outline_page", lambda *a, **b: pages.append(a) or read(*a, **b))
        tree.scan(**how)  # type: ignore[arg-type]
    return len(pages)


def _upload(tree: Tree, *names: str, prefix: str = PREFIX) -> None:
    """Record what is there as an upload does."""
    root_fd = directories.open_root(str(tree.root))
    for name in names:
        stat = entries.look(root_fd, name, links=tree.source.records_links)
        if isinstance(stat, FileStat):
            key = paths.key_for(prefix, name, is_link=isinstance(stat, LinkStat))
            row = Recorded(stat, CONTENT, STORE, key, "etag", 1)
            tree.state.commit(FileRef("s", name), row, durable=False)
    os.close(root_fd)


class _History:
    """What happens to the files, the rows and the settings of a source."""

    def __init__(self, tree: Tree, chance: random.Random, directory: Path) -> None:
        self.tree, self.chance, self._directory = tree, chance, directory
        self._prefix = PREFIX
        often = [self._at_file, self._at_row] * 3
        self._how = [*often, self._at_folder, self._at_folder, self.set, self.set, self._begin_again]

    def scan(self, **how: Any) -> Told:
        return _both(self.tree, prefix=self._prefix, exclude=self.tree.source.exclude, **how)

    def keep(self, **how: Any) -> Told:
        exclude = self.tree.source.exclude
        return self.tree.scan(prefix=self._prefix, exclude=exclude, keeps_folders=True, **how)

    def record(self, *names: str) -> None:
        _upload(self.tree, *names, prefix=self._prefix)

    def change(self) -> None:
        """One of all this, mostly where a folder is known as a whole."""
        known = [os.fsdecode(row[0]) for row in self.tree.state._all("SELECT path FROM folders")]
        name = self.chance.choice(NAMES)
        if known and self.chance.random() < 0.7:
            name = self.chance.choice(known) + self.chance.choice("xyY")
        with suppress(OSError):  # what it needs is not there, or something else is
            self.chance.choice(self._how)(name, self.tree.root / name)

    def _at_file(self, name: str, path: Path) -> None:
        match self.chance.randrange(9):
            case 0:
                path.unlink()
            case 1:
                path.replace(path.with_name("x"))
            case 2:
                os.utime(path, ns=(1, self.chance.randrange(9)))
            case 3:  # other content of the same size, and its old time
                before = path.stat()
                path.write_bytes(b"54321")
                os.utime(path, ns=(1, before.st_mtime_ns))
            case 4:
                path.symlink_to("x")
            case 5:
                path.with_name("y").hardlink_to(path)
            case 6:  # one that came and went
                self.tree.write(name)
                self.record(name)
                path.unlink()
            case _:
                self.tree.write(name)

    def _at_row(self, name: str, path: Path) -> None:
        state, ref = self.tree.state, FileRef("s", name)
        row = state.recorded(ref)
        match self.chance.randrange(9):
            case 0:
                state.forget(ref, durable=False)
            case 1 if row:
                state.doubt(ref, row)
            case 2 if row:
                state.keep(ref, row)
            case 3 if row:
                state.commit(ref, replace(row, stat=row.stat._replace(inode=7)), durable=False)
            case 4:
                device = os.stat(self.tree.root).st_dev
                state.renumber_device("s", device, device + self.chance.randrange(2))
            case 5:
                own, other = Destination("s", STORE, self._prefix), Destination("t", STORE, f"{PREFIX}a/")
                state.serve([own, other][: self.chance.randrange(1, 3)])
            case _:
                self.record(name)

    def _begin_again(self, _name: str, _path: Path) -> None:
        """The process ends, or dies and leaves what is on the disk."""
        kept = self._directory / "state"
        if self.chance.random() < 0.5:
            shutil.copytree(kept, self._directory / "left")
            self.tree.state.close(clean=False)
            shutil.rmtree(kept)
            (self._directory / "left").rename(kept)
        else:
            self.tree.state.close()
        self.tree.state = State.open(str(kept), now_ns=time.time_ns)

    def _at_folder(self, name: str, path: Path) -> None:
        above, other = path.parent, self.tree.root / self.chance.choice(FOLDERS)
        match self.chance.randrange(6):
            case 0:
                shutil.rmtree(self.tree.root / name.partition("/")[0])
            case 1:
                above.rename(other)
            case 2:  # away, and back as it was; in between there was an empty one
                above.rename(self.tree.root / "away")
                above.mkdir()
                self.record(f"{name.rpartition('/')[0]}/")
                above.rmdir()
                (self.tree.root / "away").rename(above)
            case 3:  # a file became a folder
                path.unlink()
                self.tree.write(f"{name}/x")
            case _:  # a scan that is ended, and finds other rows than there are when it is
                left = self.chance.randrange(12)
                calls = iter(range(left))

                def is_over() -> bool:
                    self._at_row(self.chance.choice(NAMES), path) if self.chance.random() < 0.2 else None
                    return next(calls, None) is None

                self.keep(should_stop=is_over, subtree=self.chance.choice(FOLDERS).removesuffix("/"))

    def set(self, *_: object) -> None:
        """Another setting."""
        source = self.tree.source
        match self.chance.randrange(9):
            case 0:
                source = replace(source, on_delete=self.chance.choice(list(OnDelete)))
            case 1:
                folders = self.chance.randrange(3)
                source = replace(source, records_folders=folders > 0, records_full_folders=folders > 1)
            case 2:
                source = replace(source, records_links=not source.records_links)
            case 3:
                source = replace(source, max_size=self.chance.choice((0, 3)))
            case 4:
                source = replace(source, exclude_if_present=self.chance.choice(((), (".leave",))))
            case 5:
                source = replace(source, exclude_temporary=not source.exclude_temporary)
            case 6:  # folders may stand for themselves by now
                patterns = self.chance.choice(((), ("x", "y", "Y"), ("b/",)))
                source = replace(source, exclude=patterns, records_folders=True)
            case _:
                self._prefix = self.chance.choice((PREFIX, f"{PREFIX}a/", ""))
        self.tree.source = source


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_scan_says_what_the_rows_say(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever happened to files, rows and settings. ``SYNCD_FOLDERS_SEEDS`` plays more histories."""
    chance = random.Random(seed)
    monkeypatch.setattr(compare, "PAGE", chance.choice((1, 3, 4096)))
    history = _History(tree, chance, tmp_path)
    for _ in range(seed % 9):
        history.set()
    tree.write("there", *NAMES)
    for _ in range(12):
        told = history.scan()
        history.record(*(name for name in told.found if chance.random() < 0.7))
        for name in told.absent:
            tree.state.forget(FileRef("s", name), durable=False)
        history.keep()
        for _ in range(chance.randrange(5)):
            history.change()
        history.scan()
        history.scan(subtree=chance.choice(FOLDERS).removesuffix("/"))


def test_no_row_is_read_of_what_is_known(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"d{number}/{name}" for number in range(9) for name in "abc"]
    tree.write(*names)
    tree.record_all()
    assert tree.state.folder("s", b"d0/") is None
    assert tree.scan(keeps_folders=True).report.files == len(names)
    assert _pages(tree, monkeypatch) <= 2, "one for the root, and one behind the last"
    assert tree.scan().report.files == len(names)
    assert _pages(tree, monkeypatch, prefix="other/") > 2
    (tree.root / "d4/a").write_bytes(b"other")
    assert list(_both(tree).found) == ["d4/a"]
    shutil.rmtree(tree.root / "d7")
    assert list(_both(tree).absent) == ["d7/a", "d7/b", "d7/c"]


def test_which_folders_are_known_as_a_whole(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.state.queries.FEWEST_FILES", 2)
    monkeypatch.setattr("syncd.state.queries.MOST_FILES", 3)
    tree.write("c/a", "d/a", "d/b", "d/c", "e/a", "e/b", "e/c", "e/d")
    tree.record_all()
    tree.scan(keeps_folders=True)
    first = tree.state.folder("s", b"")
    assert first is not None
    assert first.path == b"d/"
    assert tree.state.folder("s", b"e/") is None


def test_a_look_at_a_known_folder_can_be_ended(tree: Tree) -> None:
    tree.write("a/x", "b/x")
    tree.record_all()
    tree.scan(keeps_folders=True)
    asked: list[int] = []
    whole = tree.scan(should_stop=lambda: bool(asked.append(1)))
    assert whole.report.complete
    for last in range(len(asked)):
        left = iter(range(last))
        told = tree.scan(should_stop=lambda left=left: next(left, None) is None)  # type: ignore[misc]
        assert not told.report.complete
        assert not told.absent


@pytest.mark.parametrize("odd", ["\udcff", "\u201b", "link", "old"])
def test_what_cannot_be_known_as_a_whole_is_not_tried_again(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """A name that is escaped in its key, a link, a time that is not kept: they are as recorded, but no digest
    says so."""
    tree.write("a/x", "b/x")
    match odd:
        case "link":
            tree.source = replace(tree.source, records_links=True)
            (tree.root / "a/link").symlink_to("x")
        case "old":
            os.utime(tree.root / "a/x", (0, 0))
            monkeypatch.setattr(files, "OLDEST_NS", 1)
        case _:
            tree.write(f"a/{odd}")
    _upload(tree, *tree.scan().found)
    tried: list[bytes] = []
    monkeypatch.setattr(
        tree.state, "keep_folders", lambda _source, prefixes, *_, **__: tried.extend(prefixes)
    )
    assert not tree.scan(keeps_folders=True).found
    assert tried == [b"b/"]


def test_a_folder_is_tried_when_its_lost_files_are_forgotten(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion may wait for long. A row of another folder is no reason to wait."""
    tree.write("a/x", "b/a", "b/x", "b/z", "c/x")
    tree.record_all()
    for name in ("a/x", "b/a", "b/z"):
        (tree.root / name).unlink()
    tried: list[bytes] = []
    monkeypatch.setattr(
        tree.state, "keep_folders", lambda _source, prefixes, *_, **__: tried.extend(prefixes)
    )
    for forgotten, expected in (("a/x", [b"c/"]), ("b/a", [b"c/"]), ("b/z", [b"b/", b"c/"])):
        tree.state.forget(FileRef("s", forgotten))
        tried.clear()
        tree.scan(keeps_folders=True)
        assert tried == expected


def test_a_folder_that_stands_for_itself_is_told_until_it_is_recorded(tree: Tree) -> None:
    """Its files are as recorded, and no longer carried: so it is empty for the store."""
    tree.source = replace(tree.source, records_folders=True)
    tree.write("a/x", "a/y", "b")
    tree.record_all()
    for _ in range(3):
        assert list(tree.scan(exclude=("x", "y"), keeps_folders=True).found) == ["a/"]
    _upload(tree, "a/")
    assert not tree.scan(exclude=("x", "y"), keeps_folders=True).found
    assert list(tree.scan(keeps_folders=True).absent) == ["a/"]


@pytest.mark.parametrize("year", [1960, 2300])
def test_numbers_beyond_63_bits_are_known_as_a_whole(tree: Tree, year: int) -> None:
    tree.write("a/x")
    os.utime(tree.root / "a/x", (0, (year - 1970) * 31556952))
    tree.record_all()
    tree.scan(keeps_folders=True)
    assert tree.state.folder("s", b"a/") is not None
    (tree.root / "a/x").write_bytes(b"other")
    assert list(_both(tree).found) == ["a/x"]
