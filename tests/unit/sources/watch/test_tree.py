"""The map stays right while directories are moved about.

Every test moves first, and only then lets the reader read. So each record is about something that has long
become something else: the hardest case, every time.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.patterns import Rules
from syncd.sources.directories import OPEN_DIRECTORY
from tests.support import mounting
from tests.unit.sources.watch.watch_rig import Meddler, Stepper, exchange


@pytest.fixture
def stepped(root: Path, tmp_path: Path) -> Iterator[Callable[..., Stepper]]:
    steppers = []

    def begin(**options: Any) -> Stepper:
        stepper = Stepper(root, **options)
        steppers.append(stepper)
        return stepper

    yield begin
    for stepper in steppers:
        stepper.close()


Begin = Callable[..., Stepper]


def directories(root: Path) -> int:
    return sum(1 for _ in os.walk(root))


def check(stepper: Stepper, root: Path) -> None:
    """No directory is blind, none is watched twice or for nothing, and what is there stays said."""
    stepper.catch_up()
    assert stepper.blind() == []
    assert (stepper.watches, stepper.kernel_watches) == (directories(root), directories(root))


def test_initial_tree_is_watched_and_not_reported(root: Path, stepped: Begin) -> None:
    """What is there at the start has watches in place; its files are left to the scan."""
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").touch()
    stepper = stepped()

    assert (stepper.watches, stepper.listener.paths()) == (3, [])
    check(stepper, root)


def test_folders_that_may_be_empty_now_or_no_longer_are_reported(root: Path, stepped: Begin) -> None:
    """Whatever came into them or left them, was made or removed; writing into a file tells nothing."""
    for name in ("emptied", "filled", "gone/below", "left/moved", "written"):
        (root / name).mkdir(parents=True)
    for name in ("emptied/a", "written/a"):
        (root / name).touch()
    stepper = stepped(rules=Rules((), (), folders=True))
    (root / "emptied/a").unlink()
    (root / "filled/a").touch()
    shutil.rmtree(root / "gone")
    (root / "left/moved").rename(root / "filled/moved")
    (root / "new/below").mkdir(parents=True)
    (root / "written/a").write_bytes(b"more")
    stepper.catch_up()
    said = {path for path in stepper.listener.paths() if path.endswith("/")}
    expected = {"emptied/", "filled/", "filled/moved/", "gone/", "left/", "left/moved/", "new/", "new/below/"}
    assert said - {"gone/below/"} == expected
    check(stepper, root)


def test_new_tree_is_watched_and_its_files_are_reported(root: Path, stepped: Begin) -> None:
    """Of a tree that appears at once every directory is watched and every file is reported."""
    stepper = stepped()
    (root / "a/b/c").mkdir(parents=True)
    for path in ("a/1", "a/b/2", "a/b/c/3"):
        (root / path).touch()
    stepper.catch_up()

    assert set(stepper.listener.paths()) == {"a/1", "a/b/2", "a/b/c/3"}
    check(stepper, root)


def test_move_within(root: Path, stepped: Begin) -> None:
    """A moved directory is watched under its new path; old and new path are in doubt."""
    (root / "a/b/c").mkdir(parents=True)
    (root / "x").mkdir()
    stepper = stepped()
    (root / "a/b").rename(root / "x/y")
    stepper.catch_up()

    assert sorted(stepper.listener.subtrees()) == ["a/b", "x/y"]
    check(stepper, root)


def test_move_out_ends_the_watches(root: Path, outside: Path, stepped: Begin) -> None:
    """What moved out of sight makes no event any more under its old path, and its place is in doubt."""
    (root / "a/b").mkdir(parents=True)
    stepper = stepped()
    (root / "a").rename(outside / "a")
    stepper.catch_up()
    doubts = stepper.listener.subtrees()
    stepper.listener.forget()
    (outside / "a/b/phantom").touch()
    stepper.catch_up()

    assert (doubts, stepper.listener.paths(), stepper.watches) == (["a"], [], 1)


def test_move_in_reports_what_came(root: Path, outside: Path, stepped: Begin) -> None:
    """Of a tree that moves in every file is reported and every directory watched."""
    (outside / "a/b").mkdir(parents=True)
    (outside / "a/b/file").touch()
    stepper = stepped()
    (outside / "a").rename(root / "a")
    stepper.catch_up()

    assert stepper.listener.paths() == ["a/b/file"]
    check(stepper, root)


def test_out_and_another_of_the_same_name(root: Path, outside: Path, stepped: Begin) -> None:
    """A directory that takes the name of one that moved out is told apart from it."""
    (root / "a/b").mkdir(parents=True)
    stepper = stepped()
    (root / "a").rename(outside / "a")
    (root / "a/b").mkdir(parents=True)
    stepper.catch_up()
    check(stepper, root)
    (outside / "a/b/phantom").touch()
    stepper.catch_up()

    assert "a/b/phantom" not in stepper.listener.paths()


def test_out_and_in_again(root: Path, outside: Path, stepped: Begin) -> None:
    """A directory that left and came back before anybody looked is as good as never gone; it is in doubt."""
    (root / "a/b").mkdir(parents=True)
    stepper = stepped()
    (root / "a").rename(outside / "a")
    (outside / "a/b/new").mkdir()
    (root / "other").mkdir()
    (outside / "a").rename(root / "other/a")
    stepper.catch_up()

    assert "other/a" in stepper.listener.subtrees()
    check(stepper, root)


SURGERY = {
    "two directories change places": ("mkdir a/in-a; mkdir b/in-b", "swap a b"),
    "one changes places with one outside": ("mkdir a/old; mkdir ../outside/b/new", "swap a ../outside/b"),
    "a directory and a grandchild of another": ("mkdir a/b/c/d; mkdir x/y", "swap x a/b/c"),
    "a child becomes its parent's parent": ("mkdir a/b/c", "mv a/b b; mv a b/a; mv b/c c; mv b c/b"),
    "names are passed on": (
        "mkdir a/in-a; mkdir b/in-b; mkdir c/in-c; mkdir d/in-d; mkdir e/in-e",
        "mv e spare; mv d e; mv c d; mv b c; mv a b; mv spare a",
    ),
    "made in a directory that moved on": ("mkdir a", "mkdir a/new; mv a b"),
    "made in a directory whose place another took": ("mkdir a", "mkdir a/new; mv a b; mkdir a/new/second"),
    # The three that end the reader of watchdog itself:
    "trash, make again, delete, empty the trash": (
        "mkdir a", "mv a ../outside/a; mkdir a/sub; rm a; rm ../outside/a",
    ),
    "trash, make again, rename, empty the trash": (
        "mkdir a", "mv a ../outside/a; mkdir a/sub; mv a b; rm ../outside/a",
    ),
    "two change places and are deleted": ("mkdir a/x; mkdir b/y", "swap a b; rm a; rm b"),
}  # fmt: skip


def operate(root: Path, steps: str) -> None:
    """Each step is a verb and paths relative to the root."""
    verbs = {"mkdir": os.makedirs, "mv": os.rename, "swap": exchange, "rm": shutil.rmtree}
    for step in steps.split("; "):
        verb, *paths = step.split()
        verbs[verb](*(root / path for path in paths))


@pytest.mark.parametrize("surgery", SURGERY)
def test_surgery_between_two_turns(root: Path, outside: Path, stepped: Begin, surgery: str) -> None:
    """Whatever was moved, exchanged and made before the records are read, no directory is blind."""
    before, then = SURGERY[surgery]
    operate(root, before)
    stepper = stepped()
    operate(root, then)
    check(stepper, root)


def test_created_renamed_and_filled_at_once(root: Path, stepped: Begin) -> None:
    """A directory renamed before its creation was read is watched under its new name; its file is known."""
    stepper = stepped()
    (root / "a").mkdir()
    (root / "a").rename(root / "b")
    (root / "b/c").mkdir()
    (root / "b/c/file").touch()
    stepper.catch_up()

    assert "b/c/file" in stepper.listener.paths()
    check(stepper, root)


def test_deleted_and_made_again(root: Path, stepped: Begin) -> None:
    """A directory that was deleted and made again, several times, is watched; its file is known."""
    stepper = stepped()
    for _ in range(5):
        (root / "a/b").mkdir(parents=True)
        shutil.rmtree(root / "a")
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").touch()
    stepper.catch_up()

    assert "a/b/file" in stepper.listener.paths()
    check(stepper, root)


def test_deleted_directory_with_files_reports_each_of_them(root: Path, stepped: Begin) -> None:
    """Every file of a deleted tree is reported, under the path that it had."""
    (root / "a/b").mkdir(parents=True)
    (root / "a/1").touch()
    (root / "a/b/2").touch()
    stepper = stepped()
    shutil.rmtree(root / "a")
    stepper.catch_up()

    assert set(stepper.listener.paths()) == {"a/1", "a/b/2"}
    assert (stepper.watches, stepper.listener.subtrees()) == (1, [])


def test_directory_becomes_a_file_and_back(root: Path, stepped: Begin) -> None:
    """A name that changes between directory and file is treated as what it is now."""
    (root / "a").mkdir()
    stepper = stepped()
    (root / "a").rmdir()
    (root / "a").touch()
    stepper.catch_up()
    assert (stepper.listener.paths(), stepper.watches) == (["a"], 1)

    (root / "a").unlink()
    (root / "a").mkdir()
    check(stepper, root)


def test_directory_becomes_a_symbolic_link(root: Path, outside: Path, stepped: Begin) -> None:
    """A symbolic link to a directory is reported like a file and never followed."""
    (root / "a").mkdir()
    (outside / "target").mkdir()
    stepper = stepped()
    (root / "a").rmdir()
    (root / "a").symlink_to(outside / "target")
    stepper.catch_up()
    assert stepper.listener.paths() == ["a"]

    (outside / "target/file").touch()
    stepper.catch_up()
    assert (stepper.listener.paths(), stepper.watches) == (["a"], 1)


def test_long_chain_of_directories(root: Path, stepped: Begin) -> None:
    """A chain deeper than a path may be long is watched as far as paths reach; the rest is a named gap."""
    stepper = stepped()
    name = "d" * 200
    here = os.open(root, OPEN_DIRECTORY)
    for _ in range(30):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, OPEN_DIRECTORY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    stepper.catch_up()

    status = stepper.status
    assert (status.mode, len(status.unwatched)) == ("events", 1)
    assert "too long" in status.reason
    shutil.rmtree(root / name)
    stepper.catch_up()
    assert (stepper.watches, stepper.status.unwatched) == (1, ())


def test_excluded_directories_are_not_watched(root: Path, stepped: Begin) -> None:
    """Directories that the rules leave out have no watch, whether they were there or come later."""
    (root / "keep/.git/objects").mkdir(parents=True)
    stepper = stepped(exclude=[".git/"])
    (root / "new/.git/objects").mkdir(parents=True)
    stepper.catch_up()
    (root / "new/.git/file").touch()
    (root / "keep/.git/objects/file").touch()
    stepper.catch_up()

    assert (stepper.watches, stepper.listener.paths()) == (3, [])


def test_rules_are_read_anew_where_a_directory_moves(root: Path, stepped: Begin) -> None:
    """A rule about a place is kept by what moves into it, and lifted from what moves out."""
    (root / "a/tmp/in").mkdir(parents=True)
    (root / "b/tmp/in").mkdir(parents=True)
    stepper = stepped(exclude=["/a/tmp/"])
    assert stepper.watches == 5  # the root, a, b, b/tmp, b/tmp/in

    (root / "a").rename(root / "c")
    (root / "b").rename(root / "a")
    stepper.catch_up()
    stepper.listener.forget()
    (root / "a/tmp/in/hidden").touch()
    (root / "c/tmp/in/seen").touch()
    stepper.catch_up()

    assert (stepper.watches, stepper.listener.paths()) == (5, ["c/tmp/in/seen"])


def test_files_that_the_rules_leave_out_are_not_reported(root: Path, stepped: Begin) -> None:
    """Neither an event nor a listing reports a file that is not wanted."""
    stepper = stepped(exclude=["*.tmp"])
    (root / "a").mkdir()
    for name in ("one.tmp", "a/two.tmp", "a/three"):
        (root / name).touch()
    stepper.catch_up()
    (root / "a/two.tmp").write_text("more")
    stepper.catch_up()

    assert set(stepper.listener.paths()) == {"a/three"}


def test_many_events_of_one_file_are_one_report(root: Path, stepped: Begin) -> None:
    """However often a file was written since the last look, it is reported once."""
    stepper = stepped()
    with open(root / "log", "w", buffering=1) as log:
        for number in range(500):
            log.write(f"{number}\n")
            (root / "other").write_text(str(number))
    stepper.catch_up()

    assert sorted(stepper.listener.paths()) == ["log", "other"]


def test_change_before_a_move_is_reported_where_the_file_is(root: Path, stepped: Begin) -> None:
    """A write that was followed by a rename of the directory is reported under the new path."""
    (root / "a").mkdir()
    stepper = stepped()
    (root / "a/file").write_text("x")
    (root / "a").rename(root / "b")
    stepper.catch_up()

    assert "b/file" in stepper.listener.paths()


# ---- while the reader looks -------------------------------------------------------------------------------


def test_directory_that_is_away_for_a_moment_while_it_is_looked_at(root: Path, stepped: Begin) -> None:
    """What was made in a directory that could not be entered just then is found when it can be."""
    for name in "amn":
        (root / name).mkdir()
    stepper = stepped(
        rules=Meddler(
            {
                "m/first": lambda: (root / "a").rename(root / "b"),
                "n/last": lambda: (root / "b").rename(root / "a"),
            }
        )
    )
    (root / "m/first").mkdir()
    (root / "a/new").mkdir()
    (root / "n/last").mkdir()
    check(stepper, root)


def test_another_directory_is_in_its_place_for_a_moment(root: Path, outside: Path, stepped: Begin) -> None:
    """What has a directory's path but is not that directory is not taken for it."""
    for name in "amn":
        (root / name).mkdir()

    def swap() -> None:
        (root / "a").rename(root / "b")
        (root / "a").mkdir()

    def back() -> None:
        (root / "a").rename(outside / "a")
        (root / "b").rename(root / "a")

    stepper = stepped(rules=Meddler({"m/first": swap, "n/last": back}))
    (root / "m/first").mkdir()
    (root / "a/new").mkdir()
    (root / "n/last").mkdir()
    check(stepper, root)


def test_parent_moves_into_its_child_while_the_child_is_looked_at(root: Path, stepped: Begin) -> None:
    """A directory is never put below itself, even if it seems to be there."""
    (root / "a/b").mkdir(parents=True)

    def turn_over() -> None:
        (root / "a/b").rename(root / "b")
        (root / "b/x").rmdir()
        (root / "a").rename(root / "b/x")

    stepper = stepped(rules=Meddler({"a/b/x": turn_over}))
    (root / "a/b/x").mkdir()
    check(stepper, root)


def test_directory_vanishes_between_two_looks_at_it(root: Path, outside: Path, stepped: Begin) -> None:
    """A directory that leaves after its parent was opened and before itself is, is simply not there."""
    (root / "a").mkdir()
    stepper = stepped(rules=Meddler({"a/x": lambda: (root / "a/x").rename(outside / "x")}))
    (root / "a/x/y").mkdir(parents=True)
    check(stepper, root)


# ---- what a scan may have seen ----------------------------------------------------------------------------


def in_doubt(stepper: Stepper, path: str) -> bool:
    return any(
        path == each or path.startswith(f"{each}/") or not each for each in stepper.listener.subtrees()
    )


def test_place_that_a_directory_only_passed_is_in_doubt(root: Path, stepped: Begin) -> None:
    """A scan may have seen the directory there, in between; so that place has to be scanned again."""
    (root / "a").mkdir()
    stepper = stepped()
    (root / "a").rename(root / "between")
    (root / "between").rename(root / "b")
    stepper.catch_up()

    assert [in_doubt(stepper, path) for path in ("a", "between", "b")] == [True] * 3


def test_place_in_a_directory_that_was_deleted_afterwards_is_in_doubt(root: Path, stepped: Begin) -> None:
    """That the directory above is deleted does not make the departure forgotten."""
    (root / "a/y").mkdir(parents=True)
    (root / "a/y/file").touch()
    (root / "b").mkdir()
    stepper = stepped()
    (root / "a/y").rename(root / "b/g")
    shutil.rmtree(root / "a")
    stepper.catch_up()

    assert in_doubt(stepper, "a/y/file")


def test_place_that_changed_hands_is_in_doubt(root: Path, outside: Path, stepped: Begin) -> None:
    """A directory that is back in its place says nothing about the one that was there in between."""
    (root / "a").mkdir()
    (root / "b").mkdir()
    stepper = stepped()
    (root / "a").rename(outside / "a")
    (root / "b").rename(root / "a")
    (root / "a").rename(root / "b")
    (outside / "a").rename(root / "a")
    stepper.catch_up()

    assert in_doubt(stepper, "a/of-b")
    check(stepper, root)


def test_plain_deletion_is_no_doubt(root: Path, stepped: Begin) -> None:
    """A tree that was deleted before our eyes was reported file by file, and needs no scan."""
    (root / "a/b/c").mkdir(parents=True)
    (root / "a/b/c/file").touch()
    stepper = stepped()
    shutil.rmtree(root / "a")
    stepper.catch_up()

    assert (stepper.listener.subtrees(), stepper.listener.paths()) == ([], ["a/b/c/file"])


# ---- everything at random ---------------------------------------------------------------------------------

OPERATIONS = 60


def surgery(chance: random.Random, root: Path, outside: Path) -> None:
    """One random change of the tree; what is not possible at the moment is not done."""
    inside = [Path(each) for each, _, _ in os.walk(root)]
    away = [Path(each) for each, _, _ in os.walk(outside)]
    where, target = chance.choice(inside), chance.choice(inside)
    name = chance.choice("abcdefgh")
    try:
        match chance.randrange(9):
            case 0 | 1:
                (where / name / chance.choice("xyz")).mkdir(parents=True)
            case 2 | 3 if where != root:
                where.rename(target / name)
            case 4 if where != root:
                where.rename(chance.choice(away) / f"out{chance.randrange(1000)}")
            case 5 if len(away) > 1:
                chance.choice(away[1:]).rename(target / name)
            case 6 if root not in (where, target):
                exchange(where, target)
            case 7 if where != root:
                shutil.rmtree(where)
            case _:
                (where / f"file-{name}").write_text(str(chance.random()))
    except OSError:
        pass


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("at_once", [1, 3, OPERATIONS])
def test_random_surgery_leaves_no_directory_blind(
    root: Path, outside: Path, stepped: Begin, seed: int, at_once: int
) -> None:
    """Whatever happened between two readings, afterwards each directory is watched under its path."""
    chance = random.Random(seed)
    for name in "abcd":
        (root / name / name).mkdir(parents=True)
    stepper = stepped()
    for number in range(OPERATIONS):
        surgery(chance, root, outside)
        if number % at_once == 0:
            stepper.step()
    check(stepper, root)


def test_nothing_below_a_marker_is_watched_until_it_goes(root: Path, stepped: Begin) -> None:
    """Its own directory is; when the marker comes or goes, that is scanned, whatever the patterns say."""
    (root / "cache/a/b").mkdir(parents=True)
    (root / "cache/.nobackup").touch()
    stepper = stepped(exclude=(".nobackup",), exclude_if_present=(".nobackup",))
    assert stepper.watches == 2

    (root / "cache/.nobackup").unlink()
    stepper.catch_up()
    assert (stepper.watches, stepper.listener.subtrees()) == (4, ["cache"])
    assert "cache/.nobackup" not in stepper.listener.paths()
    (root / "cache/a/b/file").touch()
    stepper.catch_up()
    assert "cache/a/b/file" in stepper.listener.paths()

    stepper.listener.forget()
    (root / "cache/.nobackup").touch()
    (root / "cache/a/b/file").unlink()
    stepper.catch_up()
    stepper.catch_up()
    assert stepper.watches == 2
    assert "cache" in stepper.listener.subtrees()


@pytest.mark.parametrize("kind", ["tmpfs", "proc"])
def test_another_file_system_is_not_watched_where_that_is_wished(
    kind: str, root: Path, stepped: Begin
) -> None:
    """Nor counted as a gap: it is meant. What the kernel makes up is never watched."""
    with mounting.mounted("-t", kind, kind, at=root / "disk"):
        (root / "disk/d").mkdir() if kind == "tmpfs" else None
        stepper = stepped(one_file_system=kind == "tmpfs")
        assert (stepper.watches, stepper.status.unwatched) == (1, ())
        stepper.close()
