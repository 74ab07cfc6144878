"""Folder and state are put back together from a copy: the store has seen what both no longer know."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from syncd.core.model import OnDelete
from syncd.pipeline.context import real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.state.state import State
from syncd.storage.opening import open_store
from tests.scenarios.test_one_key import run
from tests.unit.pipeline.test_pipeline import Works


def reopen(works: Works) -> None:
    works.state = State.open(str(works.root / "state"), now_ns=time.time_ns)


def save(works: Works) -> Path:
    """A backup of state and folder, between two runs."""
    works.state._now_ns = lambda: time.time_ns() - 3600 * 10**9
    works.state.close()
    saved = works.root / "saved"
    for name in ("state", "a"):
        shutil.copytree(works.root / name, saved / name)
    reopen(works)
    return saved


def put_back(works: Works, saved: Path, *, in_place: bool = False) -> None:
    """As `rsync -a --delete` does it: the folder stays the same directory, its files get their old times."""
    works.state.close()
    if not in_place:
        shutil.rmtree(works.root / "state")
    shutil.copytree(saved / "state", works.root / "state", dirs_exist_ok=in_place)
    for path in (works.root / "a").iterdir():
        path.unlink()
    shutil.copytree(saved / "a", works.root / "a", dirs_exist_ok=True)
    reopen(works)


@pytest.mark.parametrize("in_place", [False, True])
def test_objects_are_compared_with_a_state_that_was_put_back(once: Works, in_place: bool) -> None:
    """Content and row agree, and the object is of a time that neither knows: it is asked, and sent again."""
    source = once.source("a")
    once.write("a", "changed", b"old")
    once.write("a", "removed", b"old too")
    once.write("a", "same", b"same")
    run(once, source)
    saved = save(once)
    once.write("a", "changed", b"newer")
    (once.root / "a/removed").unlink()
    run(once, once.source("a", on_delete=OnDelete.DELETE))
    assert once.stored() == {"a/changed", "a/same"}

    put_back(once, saved, in_place=in_place)
    assert once.state.put_back
    store = once.stores["/one"].reset_counters()
    run(once, source)

    assert {key: found.data for key, found in store.objects.items()} == {
        "a/changed": b"old",
        "a/removed": b"old too",
        "a/same": b"same",
    }
    assert store.calls["put_object"] == 2, "what is as it was is not sent again"


def test_an_object_of_the_time_that_was_lost_is_not_deleted(once: Works) -> None:
    """The file is gone since; the object is not what is recorded, whichever program wrote it."""
    source = once.source("a", on_delete=OnDelete.DELETE)
    once.write("a", "x", b"old")
    once.write("a", "stays", b"stays")
    run(once, source)
    saved = save(once)
    once.write("a", "x", b"newer")
    run(once, source)
    put_back(once, saved)
    (once.root / "a/x").unlink()

    run(once, source)

    assert once.stores["/one"].objects["a/x"].data == b"newer"


@pytest.mark.parametrize("clean", [True, False])
def test_a_state_that_stays_where_it_is_is_believed(tmp_path: Path, clean: bool) -> None:
    """From life to life, however they end: no row is in doubt for that."""
    for _ in range(3):
        state = State.open(str(tmp_path), now_ns=time.time_ns)
        assert not state.put_back
        state.close(clean=clean)


def test_inodes_that_a_file_system_makes_up_at_each_mount_prove_nothing(tmp_path: Path) -> None:
    """Another inode, but the file was not changed since the last life ended: it is the same file."""
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    state._write(lambda connection: connection.execute("UPDATE lives SET inode = 7"))
    state.close()
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    assert not state.put_back
    state._write(lambda connection: connection.execute("UPDATE lives SET inode = 7"))
    state.close(clean=False)
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    assert state.put_back, "after a death nothing says when the file was last written"
    state.close()


def test_a_copy_of_the_whole_directory_is_noticed_long_after(tmp_path: Path) -> None:
    """A clean end, an old copy: its change time is that of the copying."""
    state = State.open(str(tmp_path / "one"), now_ns=lambda: time.time_ns() - 3600 * 10**9)
    state.close()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert os.stat(tmp_path / "one/state.db").st_ino != os.stat(tmp_path / "two/state.db").st_ino
    state = State.open(str(tmp_path / "two"), now_ns=time.time_ns)
    assert state.put_back
    state.close()


@pytest.mark.parametrize("by", ["copy", "move"])
def test_a_directory_store_that_was_put_back_gets_what_it_lacks(once: Works, by: str) -> None:
    """It has its old marker. What it lost is sent again; one that was moved away and back lost nothing."""
    mirror, saved, away = (once.root / name for name in ("mirror", "backup", "away"))
    mirror.mkdir()
    source = once.source("a")

    def run_once() -> None:
        one = Pipeline(once.state, real_clock(), once=True, opener=open_store)
        once.apply(source, pipeline=one, one=str(mirror))
        one.start()
        assert one.wait_done(lambda: False, lambda: None)
        assert one.stop(30.0)

    once.write("a", "early", b"early")
    once.write("a", "changed", b"old")
    run_once()
    shutil.copytree(mirror, saved)
    once.write("a", "late", b"late")
    once.write("a", "changed", b"newer")
    run_once()
    mirror.rename(away)
    (saved if by == "copy" else away).rename(mirror)
    if by == "move":
        (mirror / "a/late").unlink()  # to see that nothing is compared
    once.write("a", "new", b"this one looks at the store")
    run_once()
    run_once()
    lost = set() if by == "copy" else {"late"}
    assert {path.name for path in (mirror / "a").iterdir()} == {"early", "changed", "late", "new"} - lost
    assert (mirror / "a/changed").read_bytes() == b"newer"
