"""`syncd restore`: what is meant by its arguments, what it prints, and its exit codes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from syncd.cli import common
from syncd.cli.restore import Selection, _code, _outermost, _selected
from syncd.core.errors import AccessRefused, FileUnwritable, StateError, StoreUnavailable
from syncd.transfer.restore.restore import Report
from tests.unit.cli.home import Home


def fill(home: Home) -> None:
    for name in ("a.txt", "sub/b.txt", "sub/deep/c.txt"):
        (home.watched / name).parent.mkdir(parents=True, exist_ok=True)
        (home.watched / name).write_text(name)
    assert home.run("sync").exit_code == 0


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(one: Path, other: Path) -> bool:
    done = subprocess.run(["diff", "-r", one, other], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout == ""


def test_everything_comes_back_into_the_folder(home: Home) -> None:
    """From the records; the second time everything is there."""
    fill(home)
    to = home.root / "to"
    done = home.run("restore", "--to", str(to))
    assert done.exit_code == 0, done.output
    assert done.stdout == "3 files restored (28 bytes), 0 already there, 0 kept, 0 failed\n"
    assert same(home.watched, to)
    assert home.run("restore", "docs", "--to", str(to)).stdout == (
        "0 files restored (0 bytes), 3 already there, 0 kept, 0 failed\n"
    )


def test_everything_comes_back_on_a_new_machine(home: Home) -> None:
    """With a configuration that has no source, and without any state."""
    fill(home)
    del home.content["sources"]
    home.content["state_dir"] = "./no-state"
    done = home.run("restore", "--store", "mirror", "--to", str(home.root / "to"))
    assert (done.exit_code, "3 files restored" in done.stdout) == (0, True), done.output
    assert same(home.watched, home.root / "to")
    assert not (home.root / "no-state").exists()
    (home.root / "no-state").mkdir(mode=0o700)
    (home.root / "no-state" / "state.db").write_text("damaged: it is not read")
    assert home.run("restore", "--store", "mirror", "--to", str(home.root / "to")).exit_code == 0
    done = home.run("restore", "--to", str(home.root / "other"))
    assert (done.exit_code, "name a store" in done.output) == (2, True)


def test_without_records_the_store_is_asked(home: Home) -> None:
    """The state was lost; the command says so."""
    fill(home)
    home.content["state_dir"] = "./new-state"
    done = home.run("restore", "docs", "--to", str(home.root / "to"))
    assert (done.exit_code, "no records" in done.stderr) == (0, True), done.output
    assert same(home.watched, home.root / "to")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("sub", ["sub/b.txt", "sub/deep/c.txt"]),
        ("sub/deep/c.txt", ["sub/deep/c.txt"]),
        ("sub/.", ["sub/b.txt", "sub/deep/c.txt"]),
    ],
)
def test_a_file_or_a_folder_comes_back_that_is_gone(home: Home, path: str, expected: list[str]) -> None:
    """By its path in the watched folder; it lies in the target where it lay there."""
    fill(home)
    for name in ("a.txt", "sub/b.txt", "sub/deep/c.txt"):
        (home.watched / name).unlink()
    done = home.run("restore", f"{home.watched}/{path}", "--to", str(home.root / "to"))
    assert done.exit_code == 0, done.output
    assert tree(home.root / "to") == expected


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("sub/", ["b.txt", "deep/c.txt"]),
        ("sub", ["sub/b.txt", "sub/deep/c.txt"]),
        ("sub/b.txt", ["b.txt"]),
        ("a.txt", ["a.txt"]),
    ],
)
def test_a_prefix_is_a_folder_or_an_object(home: Home, prefix: str, expected: list[str]) -> None:
    """With a slash at its end its content is meant, as with rsync."""
    fill(home)
    done = home.run("restore", "--store", "mirror", "--prefix", prefix, "--to", str(home.root / "to"))
    assert done.exit_code == 0, done.output
    assert tree(home.root / "to") == expected


def test_several_sources_have_a_folder_each(home: Home) -> None:
    """One comes directly into the target, also if others are configured."""
    fill(home)
    (home.root / "more").mkdir()
    (home.root / "more" / "a.txt").write_text("another")
    home.content["sources"][0]["prefix"] = "docs/"
    home.content["sources"].append({"name": "more", "path": "./more", "store": "mirror", "prefix": "more/"})
    assert home.run("sync").exit_code == 0
    assert home.run("restore", "--to", str(home.root / "all")).exit_code == 0
    assert tree(home.root / "all") == ["docs/a.txt", "docs/sub/b.txt", "docs/sub/deep/c.txt", "more/a.txt"]
    assert home.run("restore", "more", "--to", str(home.root / "one")).exit_code == 0
    assert tree(home.root / "one") == ["a.txt"]
    paths = [str(home.watched / "sub"), str(home.root / "more" / "a.txt")]
    assert home.run("restore", *paths, "--to", str(home.root / "two")).exit_code == 0
    assert tree(home.root / "two") == ["docs/sub/b.txt", "docs/sub/deep/c.txt", "more/a.txt"]


def test_what_is_inside_something_else_is_restored_once(home: Home) -> None:
    """However often it is named."""
    assert _outermost({"a", "a/b", "ab", "c/d", "c"}) == ["a", "ab", "c"]
    assert _outermost({"", "a"}) == [""]
    settings = home.settings
    given = ["docs", str(home.watched / "a"), "docs"]
    assert _selected(settings, given) == [Selection("mirror", "", "", settings.sources[0])]


@pytest.mark.parametrize("target", ["watched", "watched/sub", ".", "mirror/x", "state"])
def test_nothing_is_restored_where_syncd_works(home: Home, target: str) -> None:
    """A watched folder, what is above it, the directory of a store, the state."""
    fill(home)
    done = home.run("restore", "--to", str(home.root / target))
    assert (done.exit_code, "nothing is restored to" in done.output) == (2, True), done.output
    assert not (home.watched / "sub" / "a.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere\x1b[2J\n"], r"nowhere\x1b[2J\x0a is neither a source nor a path in one"),
        (["/nowhere/file"], "neither a source nor a path in one"),
        (["--store", "other"], "no such store"),
        (["--prefix", "a/"], "--prefix needs --store"),
        (["docs", "--store", "mirror"], "leave out docs"),
        (["--overwrite", "maybe"], "never"),
        (["--to", ""], "--to is empty"),
    ],
)
def test_a_mistake_in_the_arguments_is_two(home: Home, arguments: list[str], says: str) -> None:
    """Before anything is asked or written."""
    done = home.run("restore", "--to", str(home.root / "to"), *arguments)
    assert (done.exit_code, says in done.output) == (2, True), done.output
    assert not (home.root / "to").exists()


def test_what_cannot_come_back_is_named_and_the_exit_code_is_three(home: Home) -> None:
    """The rest comes back; programs get all of it as JSON."""
    fill(home)
    to = home.root / "to"
    to.mkdir()
    (to / "sub").symlink_to(home.root)
    (to / "a.txt").write_text("mine")
    done = home.run("restore", "--to", str(to))
    assert done.exit_code == 3
    assert done.stdout == "0 files restored (0 bytes), 0 already there, 1 kept, 2 failed\n"
    assert "kept: a.txt: a file that differs is there" in done.stderr
    assert "failed: sub/b.txt: a file or a symbolic link is in the way" in done.stderr
    found = json.loads(home.run("restore", "--to", str(to), "--json").stdout)
    assert found["files"] == {
        "restored": 0, "already_there": 0, "kept": 1, "failed": 2, "folders": 0, "unchecked": 0,
    }  # fmt: skip
    assert [row["path"] for row in found["kept"]] == ["a.txt"]
    assert sorted(row["path"] for row in found["failures"]) == ["sub/b.txt", "sub/deep/c.txt"]
    assert (found["stopped"], found["dry_run"]) == (None, False)
    assert (
        home.run("restore", str(home.watched / "a.txt"), "--to", str(to), "--overwrite", "always").exit_code
        == 0
    )
    assert (to / "a.txt").read_text() == "a.txt"


def test_nothing_of_it_is_a_failure(home: Home) -> None:
    """A name with a mistake in it must not look like a success."""
    fill(home)
    done = home.run("restore", str(home.watched / "b.txt"), "--to", str(home.root / "to"))
    assert (done.exit_code, "failed: docs:b.txt: the store has no object of it" in done.stderr) == (3, True)
    done = home.run("restore", "--store", "mirror", "--prefix", "x/", "--to", str(home.root / "to"))
    assert (done.exit_code, "failed: mirror:x/: the store has no object" in done.stderr) == (3, True)


def test_a_dry_run_only_tells(home: Home) -> None:
    """One line for each file."""
    fill(home)
    done = home.run("restore", "docs", "--to", str(home.root / "to"), "-n")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("3 files would be restored (28 bytes)")
    assert "restore sub/b.txt (9 bytes): nothing is there" in done.stdout
    assert not (home.root / "to").exists()
    found = json.loads(home.run("restore", "docs", "--to", str(home.root / "to"), "-n", "--json").stdout)
    assert [row["path"] for row in found["planned"]] == ["a.txt", "sub/b.txt", "sub/deep/c.txt"]


def test_a_restore_keeps_to_the_limit_on_downloads(home: Home) -> None:
    """Of the configuration or its own; in a pause it says so and waits, and can be ended."""
    (home.watched / "a").write_bytes(bytes(50 << 10))
    assert home.run("sync").exit_code == 0
    to, hour = home.root / "to", (time.localtime().tm_hour + 12) % 24
    home.content["transfer"]["bandwidth_limit"] = f"{hour:02}:00,off:1M {hour:02}:01,off:pause"
    process = home.start("restore", "--to", str(to))
    assert process.stderr is not None
    assert "--bandwidth-limit off restores now" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == common.EXIT_INTERRUPTED
    assert tree(to) == []
    began = time.monotonic()
    done = home.run("restore", "--to", str(to), "--bandwidth-limit", "100K")
    assert (done.exit_code, tree(to)) == (0, ["a"])
    assert time.monotonic() - began >= 0.5  # never sooner; how much later is the machine's
    done = home.run("restore", "--to", str(to), "--bandwidth-limit", "fast")
    assert (done.exit_code, "a timetable" in done.stderr) == (common.EXIT_USAGE, True)


def test_a_store_that_cannot_be_used_holds_up_no_other(home: Home) -> None:
    """The sources of the others come back; the store is named, and the exit code is its."""
    for name in ("away", "gone"):
        home.content["stores"][name] = {"type": "dir", "path": f"./{name}-store"}
        source = {"name": name, "path": f"./{name}", "store": name, "settle": "100ms"}
        home.content["sources"].insert(0, source)
        for folder in (name, f"{name}-store"):
            (home.root / folder).mkdir()
        (home.root / name / "file").write_text(name)
    (home.watched / "a").write_text("x")
    assert home.run("sync").exit_code == 0
    for path in ("away-store", "gone-store", "state"):
        shutil.rmtree(home.root / path)
    done = home.run("restore", "--to", str(home.root / "out"))
    assert done.exit_code == 69
    assert (home.root / "out/docs/a").read_text() == "x"
    assert [name for name in ("away", "gone") if f"store {name}: " in done.stderr] == ["away", "gone"]


def test_a_store_that_is_not_there_is_sixty_nine_and_is_not_made(home: Home) -> None:
    """A restore never begins a new store."""
    fill(home)
    home.mirror.rename(home.root / "away")
    home.content["stores"]["mirror"]["create"] = True
    done = home.run("restore", "docs", "--to", str(home.root / "to"))
    assert done.exit_code == 69, done.output
    assert not home.mirror.exists()


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report(), 0),
        (Report(interrupted=True), 130),
        (Report(gave_up=AccessRefused("keys")), 77),
        (Report(gave_up=StoreUnavailable("away")), 69),
        (Report(gave_up=FileUnwritable("full", every_file=True)), 3),
        (Report(gave_up=StateError("damaged")), 1),
    ],
)
def test_the_exit_code_says_how_it_ended(report: Report, code: int) -> None:
    """As those of the other commands."""
    assert _code(report) == code
    report.counts["failed"] += 1
    assert _code(report) == (code or 3)


def test_a_bug_of_ours_is_no_exit_code() -> None:
    """It ends the command with its traceback."""
    with pytest.raises(ZeroDivisionError):
        _code(Report(gave_up=ZeroDivisionError()))
