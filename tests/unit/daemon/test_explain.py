"""What is known about one file, from the disk, the state and the daemon."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core import words
from syncd.core.model import Checkpoint, Failure, FileRef, FileStat, Fingerprint, Part, Recorded, Source
from syncd.daemon import explain
from syncd.sources import entries
from syncd.state.state import State
from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home


def test_the_state_alone_tells_what_is_recorded_unfinished_and_failed(tmp_path: Path) -> None:
    """Each, or none; one failure is found among many."""
    ref, print_ = FileRef("s", "f1499"), Fingerprint(bytes(16), 100)
    stat = FileStat(1, 2, 100, 3, 4)
    (tmp_path / "w").mkdir()
    found = explain.Found(Source("s", str(tmp_path / "w"), "m"), ref.path)
    with closing(State.open(str(tmp_path / "state"), now_ns=lambda: 10**18)) as state:
        told = explain.report(found, state, None, 10**18)
        assert [told[name] for name in ("recorded", "unfinished", "failure", "disk")] == [None] * 4
        (tmp_path / "w" / ref.path).write_text("x")
        part = Part(1, 40, "e", bytes(16))
        state.checkpoints.begin(
            Checkpoint(0, ref, "store", "k", print_, stat, 40, "token", 10**18, parts={1: part})
        )
        for number in range(1500):
            state.failures.record(Failure(FileRef("s", f"f{number:04}"), "no", number, 0))
        told = explain.report(found, state, None, 10**18)
    assert (told["state"], told["reason"]) == ("failed", "no (1499 attempts, again when it changes)")
    assert told["unfinished"] == {"bytes_done": 40, "bytes_total": 100}
    assert told["failure"] == {"error": "no", "attempts": 1499}
    assert told["next"] == "nothing until it changes"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/w/a", ("s", "a")),
        ("/w/d/../a", ("s", "a")),
        ("/w", ("s", "")),
        ("/w/", ("s", "")),
        ("/given/d/a", ("s", "d/a")),
        ("/wa", None),
        ("/", None),
    ],
)
def test_a_path_is_in_a_source_or_in_none(path: str, found: tuple[str, str] | None) -> None:
    """By the root, also as it was configured; a directory whose name only begins like it is another one."""
    there = explain.find([Source("s", "/w", "m", given="/given")], path)
    assert (there and tuple(there.ref)) == found


def test_a_link_in_a_source_is_not_followed(tmp_path: Path) -> None:
    """A link above it is."""
    (tmp_path / "w" / "d").mkdir(parents=True)
    (tmp_path / "w" / "link").symlink_to(tmp_path / "w" / "d")
    (tmp_path / "above").symlink_to(tmp_path)
    source = Source("s", str(tmp_path / "w"), "m")
    for place, below in ((tmp_path / "w/link/a", "link/a"), (tmp_path / "above/w/a", "a")):
        found = explain.find([source], str(place))
        assert found is not None
        assert found.path == below


@pytest.mark.parametrize(
    ("asked", "there"),
    [("A.TXT", "a.txt"), ("d/u\u0308", "d/\u00fc"), ("a.tx", ""), ("no/a.txt", ""), ("p", "a fifo")],
)
def test_a_name_that_only_looks_the_same_is_named(tmp_path: Path, asked: str, there: str) -> None:
    """Where nothing has the name itself. What is there and is no file is said, too."""
    (tmp_path / "w/d").mkdir(parents=True)
    for name in ("a.txt", "d/\u00fc"):
        (tmp_path / "w" / name).touch()
    os.mkfifo(tmp_path / "w/p")
    found = explain.Found(Source("s", str(tmp_path / "w"), "m"), asked)
    with closing(State.open(str(tmp_path / "state"), now_ns=lambda: 10**18)) as state:
        told = explain.report(found, state, None, 10**18)
    disk = dict(words.details(told))["disk"]
    if there == "a fifo":
        assert disk == there
    else:
        near = f"; `{os.path.basename(there)}` is there, and only looks the same" if there else ""
        assert told["reason"] == f"there is no such file, and nothing is recorded{near}"
        assert disk == "nothing"


def test_an_empty_folder_has_a_word_where_it_is_carried(tmp_path: Path) -> None:
    """Also when it is gone; one that holds something is only a way to its files."""
    for name in ("empty", "filled", "left out"):
        (tmp_path / "w" / name).mkdir(parents=True)
    (tmp_path / "w/filled/a").touch()
    (tmp_path / "w/empty/a.tmp").touch()
    source = Source("s", str(tmp_path / "w"), "m", exclude=("*.tmp", "left out"), records_folders=True)
    with closing(State.open(str(tmp_path / "state"), now_ns=lambda: 10**18)) as state:

        def told(name: str, source: Source = source) -> tuple[str, str, str]:
            found = explain.find([source], str(tmp_path / "w" / name))
            assert found is not None
            said = explain.report(found, state, None, 10**18)
            return said["state"], said["path"], said["key"]

        assert told("empty/") == ("pending", "empty/", "empty/")
        assert told("filled") == ("skipped", "filled", "filled")
        assert told("left out")[0] == "excluded"
        assert told("empty", replace(source, records_folders=False)) == ("skipped", "empty", "empty")
        stat = entries.look(os.open(tmp_path / "w", os.O_PATH), "empty/")
        assert isinstance(stat, FileStat)
        row = Recorded(stat, Fingerprint(bytes(16), 0), "m", "empty/", "e", 1)
        state.commit(FileRef("s", "empty/"), row)
        assert told("empty") == ("stored", "empty/", "empty/")
        shutil.rmtree(tmp_path / "w/empty")
        assert told("empty") == ("gone", "empty/", "empty/")


def test_the_running_daemon_has_a_word_for_every_file(home: Home) -> None:
    """Stored, settling, skipped (also behind a link), gone, unknown; in no source is no word."""
    home.content["sources"][0]["settle"] = "1h"
    watched = home.root / "watched"
    (watched / "old").write_text("x")
    (watched / "link").symlink_to("/etc")
    made = home.start()

    def state(name: str) -> str:
        return str(home.ask(command="file", path=str(watched / name)).get("state"))

    assert state("old") == "settling"
    queue = made._pipeline.store_runners["mirror"].workers.queue

    def stored() -> bool:
        queue.hasten("docs")  # again and again: at first it is too young
        return state("old") == "stored"

    wait_until("it is stored", stored)
    (watched / "new").write_text("x")
    assert [state(name) for name in ("new", "link", "link/passwd", "nothing")] == [
        "settling",
        "skipped",
        "skipped",
        "unknown",
    ]
    (watched / "old").unlink()
    assert state("old") == "gone"
    assert home.ask(command="file", path="/etc/passwd") == {"in_no_source": True}
    assert "names no path" in home.ask(command="file")["error"]
