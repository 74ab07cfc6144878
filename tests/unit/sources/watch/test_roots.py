"""Roots that vanish, come back, are swapped, mounted and unmounted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.mounts import MountTable
from syncd.sources.watch.inotify import Inotify
from syncd.sources.watch.reports import WatchReports
from syncd.sources.watch.roots import WatchedRoots
from syncd.sources.watch.tree import WatchTree
from tests.unit.sources.watch.watch_rig import NAME, Listener, apart, eventually, exchange, watching


def test_one_root_for_two_sources_is_watched_for_the_first(root: Path) -> None:
    """Two sources cannot share a directory (a bind mount); the second one is polled, and says why."""
    sources = [Source(name=name, root=str(root), store="s") for name in ("one", "two")]
    rules = {source.name: Rules((), ()) for source in sources}
    kernel, mounts, reports = Inotify(), MountTable(), WatchReports(sources, rules, Listener())
    tree = WatchTree(kernel, mounts, sources, rules, reports)
    WatchedRoots(kernel, mounts, sources, tree, reports).place_all()
    statuses = reports.status({"one": 1, "two": 0})
    kernel.close()
    mounts.close()

    assert (statuses["one"].mode, statuses["two"].mode) == ("events", "polling")
    assert statuses["two"].reason == "the same directory is watched for source one"


# ---- W6, W7: the root -------------------------------------------------------------------------------------


def test_root_that_is_missing_at_the_start(root: Path) -> None:
    """A missing root is not an error: the status says so, and the source is watched once it is there."""
    root.rmdir()
    with watching(root) as watch:
        assert (watch.status().mode, watch.status().reason) == ("polling", "the root is missing")
        assert watch.listener.doubts == []
        root.mkdir()
        (root / "file").touch()

        assert watch.has_heard_everything()
        assert watch.listener.doubts_of("")
        assert watch.status().mode == "events"
        (root / "later").touch()
        assert watch.listener.hears("later")


def test_root_deleted_and_made_again(root: Path) -> None:
    """W6: a root that is gone is in doubt at once; the new one is watched at the next tick, and in doubt."""
    (root / "a").mkdir()
    with watching(root) as watch:
        shutil.rmtree(root)
        assert watch.listener.doubts_of("")
        assert eventually(lambda: watch.status().reason == "the root is missing")
        watch.listener.forget()

        (root / "b").mkdir(parents=True)
        assert watch.has_heard_everything()
        assert watch.listener.doubts_of("")
        (root / "b/file").touch()
        assert watch.listener.hears("b/file")
        assert (watch.status().mode, watch.status().watches) == ("events", 2)


def test_root_renamed_away_and_another_in_its_place(root: Path, outside: Path) -> None:
    """W6: events of the tree that moved away are not reported; those of the new root are."""
    (root / "a").mkdir()
    with watching(root) as watch:
        root.rename(outside / "moved")
        (root / "a").mkdir(parents=True)

        assert watch.has_heard_everything()
        assert watch.listener.doubts_of("")
        assert watch.watches_exactly(str(root))
        watch.listener.forget()
        (outside / "moved/a/phantom").touch()
        (root / "a/file").touch()
        assert watch.listener.hears("a/file")
        assert watch.has_heard_everything()
        assert set(watch.listener.paths()) == {"a/file"}


def test_root_exchanged_for_another(root: Path, outside: Path) -> None:
    """W6: a root that is swapped without ever being missing is noticed by what it is, not by its name."""
    with watching(root) as watch:
        exchange(root, outside)

        assert watch.listener.doubts_of("")
        assert watch.has_heard_everything()
        (root / "file").touch()
        assert watch.listener.hears("file")


def test_parent_of_the_root_renamed_and_back(tmp_path: Path) -> None:
    """W6: a root whose parent was renamed is noticed at the next tick, and so is its return."""
    root = tmp_path / "above/root"
    root.mkdir(parents=True)
    with watching(root) as watch:
        (tmp_path / "above").rename(tmp_path / "elsewhere")
        assert watch.has_heard_everything()
        assert watch.status().reason == "the root is missing"

        (tmp_path / "elsewhere").rename(tmp_path / "above")
        assert watch.has_heard_everything()
        (root / "file").touch()
        assert watch.listener.hears("file")


def test_root_replaced_by_a_symbolic_link(root: Path, outside: Path) -> None:
    """W6, W7: a root that became a symbolic link is not followed; the status says so."""
    with watching(root) as watch:
        root.rmdir()
        root.symlink_to(outside)

        assert watch.listener.doubts_of("")
        assert watch.has_heard_everything()
        assert (watch.status().mode, watch.status().reason) == ("polling", "the root lies behind a link")
        (outside / "file").touch()
        assert watch.has_heard_everything()
        assert watch.listener.paths() == []


def test_root_given_by_its_real_path_behind_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    """W7: with the link resolved, as the configuration does, the top level and what is below it are heard."""
    (root / "sub").mkdir()
    (tmp_path / "link").symlink_to(root)
    with watching(os.path.realpath(tmp_path / "link")) as watch:
        (tmp_path / "link/top").touch()
        (tmp_path / "link/sub/below").touch()

        assert watch.listener.hears("top", "sub/below")


def test_rewatch_places_the_watches_before_it_returns(root: Path) -> None:
    """`rewatch` drops all watches and places them again; what happens after it has returned is heard."""
    (root / "a/b").mkdir(parents=True)
    with watching(root) as watch:
        watch.watcher.rewatch(NAME)
        (root / "a/b/file").touch()

        assert watch.listener.hears("a/b/file")
        assert (watch.status().watches, watch.listener.doubts) == (3, [])


# ---- W8: mounts -------------------------------------------------------------------------------------------


def test_unmounted_and_remounted_root(tmp_path: Path) -> None:
    """W8: an unmounted root is in doubt at once; what is mounted there later is watched, without a tick."""
    told = apart("mounted_root", tmp_path)

    assert told == {"doubt_after_unmount": True, "doubt_after_mount": True, "heard": True, "phantom": False}


def test_mounts_inside_a_source(tmp_path: Path) -> None:
    """W8: a directory that is mounted over, or unmounted, is in doubt, and what one sees is watched."""
    told = apart("mounted_below", tmp_path)

    assert told == {
        "doubt_after_mount": True, "heard_in_mount": True, "hidden_is_silent": True,
        "doubt_after_unmount": True, "heard_below": True, "watches": 3,
    }  # fmt: skip


def test_bind_mount_of_a_directory_of_the_same_source(tmp_path: Path) -> None:
    """W8: the second place of one directory is a named gap; the first one goes on being watched."""
    told = apart("bind_mount", tmp_path)

    assert told == {"unwatched": ["second"], "heard": True, "unwatched_after_unmount": [], "watches": 3}


def test_network_file_systems_are_polled_and_never_touched(tmp_path: Path) -> None:
    """What is on a file system that others change is polled; a server that is gone blocks no other source."""
    told = apart("dead_network_mounts", tmp_path)

    assert told["root"] == ["polling", [""]]
    assert told["below"] == ["events", ["share"]]
    assert told["reasons_name_the_type"] == [True, True]
    assert told["alive"] is True
    assert told["heard_beside"] is True
