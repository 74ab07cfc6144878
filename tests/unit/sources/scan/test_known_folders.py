"""A folder that is known as a whole is scanned as if each of its rows were read."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from syncd.core.model import FileRef, OnDelete
from tests.unit.sources.scan.test_compare import Told, Tree

FOLDERS = ("", "a/", "a/b/", "a-/", "a0/", "b/c/", "c/", "d/", "e/f/", "e/g/")
NAMES = [*(f"{folder}{name}" for folder in FOLDERS for name in "xyz"), "c/\udcff", "b/c/z.tmp"]


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


def _change(tree: Tree, chance: random.Random) -> None:
    """Something that happens to a file, a folder, or a row."""
    name = chance.choice(NAMES)
    path = tree.root / name
    ref = FileRef("s", name)
    match chance.randrange(9):
        case 0:
            path.unlink(missing_ok=True)
        case 1:
            shutil.rmtree(tree.root / name.partition("/")[0], ignore_errors=True)
        case 2 if path.exists():
            path.replace(path.with_name("x"))
        case 3 if path.exists():
            os.utime(path, ns=(1, chance.randrange(9)))
        case 4 if path.parent.exists() and not path.exists():
            path.symlink_to("x")
        case 5:
            tree.state.forget(ref, durable=False)
        case 6 if row := tree.state.recorded(ref):
            tree.state.doubt(ref, row)
        case 7 if row := tree.state.recorded(ref):
            tree.state.keep(ref, row)
        case _ if not path.is_symlink():
            tree.write(name)


@pytest.mark.parametrize("seed", range(8))
def test_a_scan_says_what_the_rows_say(tree: Tree, seed: int) -> None:
    chance = random.Random(seed)
    tree.source = replace(
        tree.source,
        on_delete=chance.choice(list(OnDelete)),
        records_folders=seed % 3 == 1,
        records_full_folders=seed % 6 == 1,
        exclude_temporary=seed % 2 == 1,
    )
    tree.write(*NAMES)
    for _ in range(12):
        tree.record(*_both(tree).found)
        tree.scan(keeps_folders=True)
        for _ in range(chance.randrange(3)):
            _change(tree, chance)
        _both(tree)
        _both(tree, subtree=chance.choice(FOLDERS).removesuffix("/"))


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
