"""`syncd sync`: one pass, or the plan of one: what it does, says and leaves alone, and its exit code."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from syncd.cli import answers, sync
from syncd.cli.group import cli
from syncd.cli.sync import Overrides, Pass, plan_all, run_once
from syncd.config.load import Settings
from syncd.core.errors import AccessRefused, StateError, StoreUnavailable
from syncd.core.model import FileRef, ObjectMeta, OnDelete, Source, TransferPolicy
from syncd.core.plan import Action, Delete, Nothing, Upload
from syncd.daemon.control import Asks, ControlServer
from syncd.pipeline.context import real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.sources import root
from syncd.sources.fingerprint import of_bytes
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support.bos_server import BosServer
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import wait_until
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


class Place:
    """A folder, a fake store, a state."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "folder"
        self.folder.mkdir()
        self.state_dir = str(root / "state")
        self.store = FakeStore(SMALL_LIMITS)
        self.state = State.open(self.state_dir, now_ns=time.time_ns)
        self.source = Source("docs", str(self.folder), "one", prefix="p/", settle_seconds=0.0)
        self.ticks = 0
        self.stopping = threading.Event()
        self.at_tick: Any = None

    def settings(self, path: str = "/x", **changes: Any) -> Settings:
        return Settings(
            path="",
            state_dir=self.state_dir,
            stores={"one": DirSettings(path)},
            sources=(replace(self.source, **changes),),
            transfer=TransferPolicy(concurrency=3, part_size=8),
        )

    def run(self, overrides: Overrides | None = None, **changes: Any) -> Pass:
        return run_once(
            self.settings(**changes),
            self.state,
            real_clock(),
            should_stop=self.stopping.is_set,
            tick=self._tick,
            overrides=overrides,
            opener=lambda settings, context: self._opened(),
        )

    def _opened(self) -> FakeStore:
        self.store.closed = False
        return self.store

    def _tick(self, pipeline: Pipeline) -> None:
        self.ticks += 1
        if self.at_tick is not None:
            self.at_tick(pipeline)

    def write(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name[:8])

    def plan(self, **changes: Any) -> dict[str, Action | str]:
        told: dict[str, Action | str] = {}

        def tell(ref: FileRef, action: Action | str, size: int) -> None:
            told[ref.path] = action

        plan_all(
            self.settings(str(self.folder.parent / "mirror"), **changes),
            self.state,
            real_clock(),
            tell,
        )
        return told


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.state.close()


def test_a_pass_does_everything_and_ends_everything(place: Place) -> None:
    """It is over, was not interrupted, and no thread is left."""
    place.write("a", "d/b")
    done = place.run()
    assert set(place.store.objects) == {"p/a", "p/d/b"}
    assert (done.interrupted, done.gave_up, done.ended) == (False, {}, True)
    assert place.store.closed
    assert place.ticks > 0


def test_a_second_pass_asks_nothing_of_the_store(place: Place) -> None:
    """Nothing changed, nothing is requested; not even the list of what is there."""
    place.write(*(f"f{number}" for number in range(20)))
    place.run()
    for number in range(20):
        os.utime(place.folder / f"f{number}", (1, 1))
    place.run()
    place.store.reset_counters()
    done = place.run()
    assert place.store.calls.total() == 0
    assert done.pipeline.tally.bytes_sent == 0


def test_an_interrupted_pass_keeps_what_it_has(place: Place) -> None:
    """Mid-part: what is acknowledged is recorded, the rest of the upload goes on in the next pass."""
    (place.folder / "big").write_bytes(bytes(range(100)))
    release = threading.Event()

    def hold(call: Any) -> None:
        if call.nth > 4:
            place.stopping.set()
            release.wait(0.5)

    place.store.before("upload_part", hold)
    done = place.run()
    assert done.interrupted
    assert done.ended
    assert done.pipeline.tally.failed == 0
    (checkpoint,) = place.state.checkpoints.all()
    kept = len(checkpoint.parts)
    assert kept >= 4
    place.store.heal()
    place.store.reset_counters()
    place.stopping.clear()
    assert place.run().interrupted is False
    assert place.store.objects["p/big"].data == bytes(range(100))
    assert place.store.calls["upload_part"] <= 13 - kept


def test_a_stop_at_the_very_end_is_no_interruption(place: Place) -> None:
    """Everything was done when it came."""
    place.write("a")

    def at_end(pipeline: Pipeline) -> None:
        if pipeline._is_over():
            place.stopping.set()

    place.at_tick = at_end
    assert place.run().interrupted is False


def test_a_thread_that_does_not_end_is_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit must not wait for it."""
    monkeypatch.setattr(sync, "STOP_SECONDS", 0.1)
    release = threading.Event()
    place.store.before("put_object", lambda call: (place.stopping.set(), release.wait(30)))
    place.write("a")
    done = place.run()
    assert (done.interrupted, done.ended) == (True, False)
    release.set()
    assert done.pipeline.stop(30.0)


def test_a_store_that_is_down_ends_the_pass_with_its_error(place: Place) -> None:
    """Nothing is recorded that is not there."""
    place.store.fail("*", StoreUnavailable("connection refused"), times=None)
    place.write(*(f"f{number}" for number in range(20)))
    assert [str(error) for error in place.run().gave_up.values()] == ["connection refused"]
    assert place.state.recorded_totals("docs")[0] == 0


def test_a_store_that_refuses_us_ends_the_pass_at_once(place: Place) -> None:
    """One request each for those in flight, not one for every file."""
    place.store.fail("*", AccessRefused("bad key"), times=None)
    place.write(*(f"f{number}" for number in range(20)))
    done = place.run()
    assert [type(error) for error in done.gave_up.values()] == [AccessRefused]
    assert place.store.calls["put_object"] <= 3


def test_a_store_that_cannot_be_opened_is_an_error(place: Place) -> None:
    """Before anything is done."""
    with pytest.raises(AccessRefused):
        run_once(
            place.settings(),
            place.state,
            real_clock(),
            should_stop=lambda: False,
            tick=lambda pipeline: None,
            opener=lambda settings, context: (_ for _ in ()).throw(AccessRefused("no address")),
        )


def test_a_plan_tells_each_action_and_does_none(place: Place) -> None:
    """New, changed, unchanged, gone: by name and reason; store and state stay as they are."""
    place.write("same", "changed", "gone")
    mirror = place.folder.parent / "mirror"
    mirror.mkdir()
    settings = place.settings(str(mirror))
    for _ in range(2):
        for path in place.folder.iterdir():
            os.utime(path, (1, 1))
        run_once(settings, place.state, real_clock(), should_stop=lambda: False, tick=lambda pipeline: None)
    stamp = sorted(os.listdir(mirror / "p"))
    (place.folder / "changed").write_text("other")
    (place.folder / "gone").unlink()
    place.write("new")
    told = place.plan(on_delete=OnDelete.DELETE)
    assert told["new"] == Upload("new")
    assert told["changed"] == Upload("content changed")
    assert told["gone"] == Delete("deleted locally")
    assert place.plan()["gone"] == Nothing("deletes are kept")
    assert sorted(os.listdir(mirror / "p")) == stamp
    assert place.state.recorded(FileRef("docs", "new")) is None


def test_a_plan_says_what_it_could_not_see(place: Place) -> None:
    """A root that is away, or not to be believed."""
    place.write("a")
    place.run()
    (place.folder / "a").unlink()
    assert place.plan() == {"": root.EMPTY}
    place.folder.rmdir()
    assert place.plan() == {"": "the root is missing"}


def test_a_plan_names_what_is_skipped(place: Place) -> None:
    """With the reason, and it is no failure."""
    os.mkfifo(place.folder / "pipe")
    assert place.plan() == {"pipe": Nothing("skipped: fifo")}


# ---- the command ------------------------------------------------------------------------------------------


def test_sync_is_zero_when_all_is_there(home: Home) -> None:
    """With a summary, and again with nothing to do."""
    (home.watched / "a").write_text("x")
    done = home.run("sync")
    assert (done.exit_code, done.stdout) == (0, "1 uploaded; 1 byte sent, 0 saved; 0 failed\n")
    assert (home.mirror / "a").read_text() == "x"
    assert home.run("sync").exit_code == 0


@pytest.mark.parametrize("others", [1, 0])
def test_sync_is_three_when_some_files_failed(home: Home, others: int) -> None:
    """Each failure is named. Also when it was the only file: the store answered, so it can be reached."""
    (home.watched / "sub").mkdir()
    (home.watched / "sub" / "bad").write_text("y")
    (home.mirror / "sub").symlink_to("/nowhere")
    for _ in range(others):
        (home.watched / "good").write_text("x")
    done = home.run("sync")
    assert done.exit_code == 3
    assert "failed: docs:sub/bad" in done.stderr
    assert (home.mirror / "good").exists() == bool(others)


def test_sync_is_three_when_a_source_could_not_be_seen(home: Home) -> None:
    """A root that is away is no success."""
    home.watched.rmdir()
    done = home.run("sync")
    assert done.exit_code == 3
    assert "not scanned: docs: the root is missing" in done.stderr


@pytest.mark.parametrize("files", [1, 30])
def test_sync_is_69_when_nothing_got_through(home: Home, files: int) -> None:
    """A store that is down, whether one file met it or many."""
    for number in range(files):
        (home.watched / f"f{number}").write_text(str(number))
    home.mirror.rmdir()
    done = home.run("sync")
    assert done.exit_code == 69
    assert "is missing" in done.stderr


@pytest.mark.parametrize("command", ["adopt", "restamp"])
def test_what_looks_at_many_files_is_69_when_the_store_is_gone(home: Home, command: str) -> None:
    """And not 3, as if only some files had failed."""
    (home.watched / "a").write_text("x")
    assert home.run("sync").exit_code == 0
    (home.watched / "b").write_text("y")
    shutil.rmtree(home.mirror)
    done = home.run(command)
    assert done.exit_code == 69, done.output
    assert "is missing" in done.output


def bos(home: Home, server: BosServer, secret: str) -> None:
    account = next(iter(server.accounts.values()))
    home.content["stores"]["mirror"] = {
        "type": "bos",
        "endpoint": server.url,
        "bucket": "cli",
        "path_style": True,
        "access_key_id": account.access_key_id,
        "secret_access_key": secret,
    }


def test_every_command_is_77_when_the_keys_are_refused(home: Home, bos_server: BosServer) -> None:
    """Said once, and the secret is nowhere in what is said."""
    bos_server.disk.create("cli")
    secret = "not-the-secret-of-this-account"
    bos(home, bos_server, secret)
    for number in range(10):
        (home.watched / f"f{number}").write_text(str(number))
    for command in ("sync", "check", "adopt", "restamp", "verify", "uploads"):
        done = home.run(command)
        assert done.exit_code == 77, command
        assert secret not in done.output


def test_a_disk_that_is_full_at_the_end_is_no_success(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last records are written when the state is closed: exit code 1, and why."""
    (home.watched / "a").write_text("x")
    real = State.close

    def full(state: State, *, clean: bool = True) -> None:
        real(state, clean=clean)
        raise StateError("no room on the disk")

    monkeypatch.setattr(State, "close", full)
    done = home.run("sync")
    assert (done.exit_code, "no room on the disk" in done.stderr) == (1, True)


def test_a_daemon_holds_the_state(home: Home) -> None:
    """Exit code 1, with its pid."""
    home.write()
    lock = StateLock.acquire(str(home.root / "state"))
    done = home.run("sync")
    lock.release()
    assert done.exit_code == 1
    assert str(os.getpid()) in done.stderr


def test_a_dry_run_prints_the_plan_and_does_nothing(home: Home) -> None:
    """One line a file, exit code 0; 3 when something could not be seen."""
    (home.watched / "a").write_text("xyz")
    for option in ("-n", "--dry-run"):
        done = home.run("sync", option)
        assert (done.exit_code, done.stdout) == (0, "upload   docs:a (3 bytes): new\n")
    assert os.listdir(home.mirror) == []
    assert not (home.root / "state").exists()
    (home.watched / "a").unlink()
    (home.watched / "link").symlink_to("a")
    assert home.run("sync", "-n").stdout == "docs: skipped: 1 symbolic link\nnothing to do\n"
    (home.watched / "link").unlink()
    home.watched.rmdir()
    assert home.run("sync", "-n").exit_code == 3


def test_a_word_about_an_unknown_source_is_wrong_usage(home: Home) -> None:
    """With its name."""
    for option in ("--allow-deletes", "--accept-root", "--take-over"):
        done = home.run("sync", option, "dosc")
        assert done.exit_code == 2
        assert "dosc" in done.stderr


def test_many_deletions_wait_for_the_operator(home: Home) -> None:
    """The command that allows them is named; it deletes in the same pass."""
    home.content["sources"][0]["on_delete"] = "delete"
    names = {f"f{number}" for number in range(60)}
    for name in names:
        (home.watched / name).write_text(name)
    home.run("sync")
    for name in sorted(names)[:50]:
        (home.watched / name).unlink()
    done = home.run("sync")
    assert "docs: 50 deletions wait" in done.stderr
    assert "syncd sync --allow-deletes docs" in done.stderr
    assert "nothing to do" not in done.stdout
    assert home.stored() == names
    planned = home.run("sync", "-n")
    assert "docs: 50 deletions would wait: 50 deletions are more than" in planned.stderr
    assert done.exit_code == planned.exit_code == 3  # as beside a daemon
    done = home.run("sync", "--allow-deletes", "docs")
    assert (done.exit_code, "50 deleted" in done.stdout) == (0, True)
    assert home.stored() == set(sorted(names)[50:])


def test_what_is_renamed_is_copied_before_its_old_object_goes(home: Home) -> None:
    """In one pass, however long the chain: logs that are rotated, the oldest compressed."""
    home.content["sources"][0] |= {"on_delete": "delete", "max_delete": 5}
    for name in ("log", "log.1", "log.2", "log.3"):
        (home.watched / name).write_text(name * 1000)
    home.run("sync")
    for number in (3, 2):
        (home.watched / f"log.{number}").rename(home.watched / f"log.{number + 1}")
    (home.watched / "log.1").rename(home.watched / "log.2")
    (home.watched / "log").rename(home.watched / "log.1")
    (home.watched / "log.2").rename(home.watched / "moved")
    done = home.run("sync")
    assert "4 copied, 2 deleted; 0 bytes sent" in done.stdout
    assert home.stored() == {"log.1", "log.3", "log.4", "moved"}


def test_a_rotation_sends_the_new_log_alone(home: Home) -> None:
    """Each name is taken again at once, so that all wait for the end of the chain; one pass does it all."""
    names = ("log", *(f"log.{number}" for number in range(1, 6)))
    for name in names:
        (home.watched / name).write_text(name * 100)
    home.run("sync")
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        (home.watched / newer).rename(home.watched / older)
    (home.watched / "log").write_text("new")
    done = home.run("sync")
    assert (done.exit_code, done.stdout.partition(",")[0]) == (0, "1 uploaded")
    assert "5 copied; 3 bytes sent" in done.stdout


def test_pass_after_pass_deletes_no_more_than_one_may(home: Home) -> None:
    """`max_delete` holds for a `rescan_interval`, however many passes there are in it. What the store refused
    has not gone.
    """
    home.content["sources"][0] |= {"on_delete": "delete", "max_delete": 2}
    for name in "abcdef":
        (home.watched / name).write_text(name)
    home.run("sync")
    (home.watched / "a").unlink()
    assert "1 deleted" in home.run("sync").stdout
    (home.watched / "b").unlink()
    away = home.mirror.rename(home.mirror.with_name("away"))
    home.run("sync")
    away.rename(home.mirror)
    assert "1 deleted" in home.run("sync").stdout
    (home.watched / "c").unlink()
    assert "delete   docs:c" in home.run("sync", "--dry-run").stdout
    done = home.run("sync")
    assert "3 deletions are more than the 2 allowed without confirmation" in done.stderr
    assert home.stored() == set("cdef")


def test_what_is_in_the_way_goes_first(home: Home) -> None:
    """A folder took the place of a file, and a file that of a folder; stores may hold only one of the two."""
    home.content["sources"][0] |= {"on_delete": "delete", "max_delete": 5}
    (home.watched / "a").write_text("a")
    (home.watched / "b").mkdir()
    (home.watched / "b" / "c").write_text("c")
    home.run("sync")
    (home.watched / "a").rename(home.watched / "b" / "d")
    (home.watched / "b").rename(home.watched / "a")
    (home.watched / "a" / "c").rename(home.watched / "b")
    done = home.run("sync")
    assert (done.exit_code, home.stored()) == (0, {"a", "b"})
    assert os.listdir(home.mirror / "a") == ["d"]
    assert (home.mirror / "b").read_text() == "c"


def test_a_replaced_root_waits_for_the_operator(home: Home) -> None:
    """Then new files go; what is gone is deleted only with --allow-deletes."""
    home.content["sources"][0]["on_delete"] = "delete"
    for name in ("a", "b"):
        (home.watched / name).write_text(name)
    home.run("sync")
    home.watched.rename(home.root / "old")
    home.watched.mkdir()
    (home.watched / "c").write_text("c")
    done = home.run("sync")
    assert done.exit_code == 3
    assert "syncd sync --accept-root docs" in done.stderr
    assert home.stored() == {"a", "b"}
    done = home.run("sync", "--accept-root", "docs")
    assert (done.exit_code, "2 deletions wait" in done.stderr) == (3, True)
    assert home.stored() == {"a", "b", "c"}
    for command in ("explain", "status"):
        told = home.run(command, str(home.watched / "a")).stdout
        assert "the deletion of its object a waits for your confirmation: the root was replaced" in told
    assert "2 deletions would wait: the root was replaced" in home.run("sync", "-n").stderr
    home.run("sync", "--allow-deletes", "docs", "--accept-root", "docs")
    assert home.stored() == {"c"}


def test_what_another_machine_wrote_waits_for_the_operator(home: Home) -> None:
    """The file with its reason, the source with the word that ends it, and exit code 3."""
    (home.watched / "a").write_text("ours")
    meta = ObjectMeta(of_bytes(b"theirs"), 0, instance="another machine's")
    DirStore(DirSettings(str(home.mirror))).put_object("a", b"theirs", meta)
    done = home.run("sync")
    assert done.exit_code == 3
    assert "failed: docs:a: another machine wrote a" in done.stderr
    assert "docs: another machine wrote a, and not what is recorded here" in done.stderr
    assert "syncd sync --take-over docs" in done.stderr
    assert done.stdout.startswith("nothing done; ")
    assert (home.mirror / "a").read_text() == "theirs"
    done = home.run("sync", "--take-over", "docs")
    assert (done.exit_code, "another machine" in done.stderr) == (0, False)
    assert (home.mirror / "a").read_text() == "ours"


def test_words_go_to_the_daemon_where_one_runs(home: Home) -> None:
    """Each kind with its answer; what it refuses is an error."""
    (home.root / "state").mkdir()
    heard: list[dict[str, Any]] = []

    def answer(request: dict[str, Any], asks: Asks) -> dict[str, Any]:
        heard.append(request)
        return {"allowed": 7, "taken_over": len(heard) == 3} if len(heard) < 5 else {"error": "why not"}

    server = ControlServer(str(home.root / "state"), answer)
    server.start()
    done = home.run("sync", "--allow-deletes", "docs", "--accept-root", "docs", "--take-over", "docs")
    assert done.exit_code == 0
    assert "7 objects" in done.stdout
    assert "docs: the daemon takes over" in done.stdout
    assert [request["command"] for request in heard] == ["allow-deletes", "accept-root", "take-over"]
    assert "has found no object of another machine" in home.run("sync", "--take-over", "docs").stdout
    refused = home.run("sync", "--accept-root", "docs")
    assert (refused.exit_code, "why not" in refused.stderr) == (1, True)
    server.stop()


def test_where_a_daemon_runs_it_makes_the_pass(home: Home) -> None:
    """It scans first; the summary and the exit code are those of its answer."""
    answer = {"left": 0, "failed": 1, "kept_back": {}, "unreadable": 0, "bytes_sent": 9, "bytes_saved": 0}
    answer["actions"] = {"Upload": 2, "Copy": 0, "Refresh": 0, "Delete": 0}
    with answering(home, answer) as heard:
        done = home.run("sync")
    assert heard[0] | {"command": "flush", "scan": True} == heard[0]
    assert (done.exit_code, done.stdout) == (3, "2 uploaded; 9 bytes sent, 0 saved; 1 failed; 0 left\n")


def test_a_daemon_that_does_not_answer_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no traceback."""

    def silent(directory: str, request: dict[str, Any], seconds: float) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(answers.control, "ask", silent)
    done = home.run("sync", "--allow-deletes", "docs")
    assert (done.exit_code, "it does not answer" in done.stderr) == (1, True)
    assert "Traceback" not in done.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sync_is_130_within_seconds_and_goes_on_later(home: Home, number: int) -> None:
    """Mid-part: what is there stays, and is not sent again."""
    home.content["transfer"] |= {"part_size": "1MiB", "bandwidth_limit": "1MiB"}
    content = os.urandom(1 << 20) * 40
    (home.watched / "big").write_bytes(content)
    process = home.start("sync")

    def moves() -> bool:
        done = home.run("status", "--json")
        return any(item["bytes_done"] > 1 << 20 for item in json.loads(done.stdout)["in_flight"])

    wait_until("it moves", moves, 60.0)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)  # without the stop it would take longer, held back as it is
    assert (process.returncode, "Traceback" in errors) == (130, False)
    kept = json.loads(home.run("status", "--json").stdout)["in_flight"][0]["bytes_done"]
    assert kept > 0
    home.content["transfer"]["bandwidth_limit"] = 0
    done = home.run("sync")
    assert done.exit_code == 0
    assert (home.mirror / "big").read_bytes() == content
    sent = re.search(r"(\d+) bytes sent", done.stdout)
    assert sent is not None
    assert int(sent[1]) <= len(content) - kept


def test_a_thread_that_is_stuck_does_not_hold_up_the_exit(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process leaves with the right code, and what was joined is on the disk."""
    left: list[int] = []

    class Left(BaseException):
        pass

    def leave(code: int) -> None:
        left.append(code)
        raise Left

    real = sync.run_once

    def stuck(*args: Any, **named: Any) -> Any:
        return replace(real(*args, **named), ended=False, interrupted=True)

    monkeypatch.setattr(sync, "run_once", stuck)
    monkeypatch.setattr(sync.os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    with pytest.raises(Left):
        CliRunner().invoke(cli, ["sync", "-c", home.write()], catch_exceptions=False)
    assert left == [130]
