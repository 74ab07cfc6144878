"""The daemon inside one process: order at start and end, health, reload, and what it tells."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest

from syncd.core.errors import AccessRefused, StateError
from syncd.core.model import FileRef
from syncd.daemon import control, daemon, flush, process
from syncd.daemon.daemon import Daemon
from syncd.pipeline import pipeline
from syncd.state.lock import StateLock
from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home

# ---- start and end ----------------------------------------------------------------------------------------


def test_it_carries_what_is_there_and_what_comes(home: Home) -> None:
    """From the start to a clean end: exit code 0, and nothing is left but the state."""
    (home.root / "watched" / "before").write_text("x")
    home.start()
    home.arrives("before")
    (home.root / "watched" / "later").write_text("y")
    home.arrives("later")
    assert home.stop() == 0
    assert os.listdir(home.root / "run") == []
    assert "control.sock" not in os.listdir(home.root / "state")
    assert home.manager.count("STOPPING=1") == 1
    assert control.ask(str(home.root / "state"), {"command": "status"}) is None


def test_the_directory_that_it_made_for_its_socket_goes_with_it(home: Home) -> None:
    """That of the session is in memory, and outlives the daemon."""
    home.environ["XDG_RUNTIME_DIR"] = home.environ.pop("RUNTIME_DIRECTORY")
    home.start()
    assert (home.root / "run/syncd/control.sock").exists()
    home.stop()
    assert os.listdir(home.root / "run") == []


def test_it_is_ready_before_the_first_scan(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches are in place by then, so nothing that happens from now on is missed; a scan may take hours."""
    order: list[str] = []
    ready, start, watch = daemon.Notifier.ready, pipeline.Pipeline.start, daemon.Watcher.start
    monkeypatch.setattr(
        daemon.Notifier, "ready", lambda self, text: (order.append("ready"), ready(self, text))[1]
    )
    monkeypatch.setattr(pipeline.Pipeline, "start", lambda self: (order.append("scan"), start(self))[1])
    monkeypatch.setattr(daemon.Watcher, "start", lambda self: (order.append("watch"), watch(self))[1])
    home.start()
    wait_until("it has begun", lambda: len(order) >= 3)
    assert order[:3] == ["watch", "ready", "scan"]


def test_the_lock_is_held_while_it_runs(home: Home) -> None:
    """A second one is refused with the pid of the first, and takes nothing from it."""
    home.start()
    second = home.make()
    with pytest.raises(StateError, match=str(os.getpid())):
        second.run()
    assert home.ask(command="status")["daemon"]["running"] is True
    home.stop()
    StateLock.acquire(str(home.root / "state")).release()


def test_a_store_that_cannot_be_opened_starts_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes up, the lock and the threads are given back."""

    def refuse(*args: object, **named: object) -> None:
        raise AccessRefused("the endpoint is not an address", credentials=False)

    monkeypatch.setattr("syncd.pipeline.pipeline.StoreRunner", refuse)
    threads = threading.active_count()
    with pytest.raises(AccessRefused):
        home.make().run()
    assert threading.active_count() == threads
    StateLock.acquire(str(home.root / "state")).release()


def test_without_a_control_socket_it_runs_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A state directory on a file system that knows no sockets costs only `status`."""

    def refuse(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(daemon, "ControlServer", refuse)
    home.start()
    (home.root / "watched" / "a").write_text("x")
    home.arrives("a")
    assert "no control socket" in caplog.text
    assert home.stop() == 0


def test_a_stuck_thread_does_not_hold_up_the_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time to drain the process leaves; the next start goes on."""
    left: list[int] = []
    release = threading.Event()
    monkeypatch.setattr(daemon, "DRAIN_SECONDS", 0.2)
    monkeypatch.setattr(daemon.os, "_exit", left.append)
    made = home.start()
    wait_until("it runs", lambda: made._pipeline.store_runners)
    (line,) = made._pipeline.store_runners.values()
    monkeypatch.setattr(line.engine, "sync", lambda ref, **_: release.wait(30))
    (home.root / "watched" / "a").write_text("x")
    wait_until("a worker is stuck", lambda: line.workers.queue.counts()[1])
    home.stop()
    assert left == [3]
    release.set()
    assert made._pipeline.stop(30.0)


def test_a_watcher_that_fails_to_end_does_not_keep_the_rest_from_ending(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes up, and every transfer has ended in order."""
    made = home.start()
    wait_until("it runs", lambda: made._pipeline.store_runners)
    watcher = made._watcher
    stop = watcher.stop

    def fail() -> None:
        stop()
        raise RuntimeError("a bug")

    monkeypatch.setattr(watcher, "stop", fail)
    with pytest.raises(RuntimeError):
        home.stop()
    assert all(line.workers.join(0.0) for line in made._pipeline.store_runners.values())


def test_signals_are_put_into_words_and_put_back(home: Home) -> None:
    """SIGTERM and SIGINT stop, SIGHUP reloads; afterwards the process has its own handlers again."""
    made = Daemon(home.load(), home.load, home.log_settings.append, home.environ)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with made._signals():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert [made._asked.get(timeout=30) for _ in range(3)] == ["stop", "stop", "reload"]
    assert {number: signal.getsignal(number) for number in before} == before


# ---- health -----------------------------------------------------------------------------------------------


def watched_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """One whose manager waits for pings, every look at its health called by the test."""
    home.environ |= {"WATCHDOG_USEC": str(60_000_000)}
    made = home.start()
    wait_until("it pings", lambda: home.manager.count("WATCHDOG=1") >= 1)
    wait_until("it rests", lambda: made._pipeline.idle() and made._heartbeats.late(1e18) == ())
    between = threading.Event()
    look = made._tick
    monkeypatch.setattr(made, "_tick", between.set)
    home.say("no-such-verb")
    assert between.wait(30)  # the last look of its own is over, and there will be no other
    monkeypatch.setattr(made, "_tick", lambda: None)
    monkeypatch.setattr(made, "look", look, raising=False)
    return made


def test_the_watchdog_is_fed_while_everything_moves(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look, one ping; three of them in the time that the manager allows."""
    made = watched_home(home, monkeypatch)
    pings = home.manager.count("WATCHDOG=1")
    made.look()
    assert home.manager.count("WATCHDOG=1") == pings + 1
    assert made._tick_seconds() <= 20.0
    assert made._live.daemon().health == "ok"


def test_the_watchdog_is_not_fed_while_a_part_is_stuck(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """And status says which; when it moves again, all is well."""
    made = watched_home(home, monkeypatch)
    pings = home.manager.count("WATCHDOG=1")
    made._heartbeats.limit_seconds = -1.0
    made._heartbeats.step("worker-7-mirror")
    made.look()
    assert home.manager.count("WATCHDOG=1") == pings
    assert home.ask(command="status")["daemon"]["health"] == "worker-7-mirror is stuck"
    made._heartbeats.rest("worker-7-mirror")
    made.look()
    assert home.manager.count("WATCHDOG=1") == pings + 1
    assert home.ask(command="status")["daemon"]["health"] == "ok"


def test_a_blind_watcher_is_built_anew_and_if_that_does_not_help_the_process_is(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canary tells; a second failure stops the pings."""
    made = watched_home(home, monkeypatch)
    pings = home.manager.count("WATCHDOG=1")
    answers = [False, True]
    restarts: list[int] = []
    monkeypatch.setattr(made._watcher, "is_alive", lambda seconds: answers.pop(0) if answers else False)
    monkeypatch.setattr(made._watcher, "restart", lambda: restarts.append(1))
    made.look()
    assert (len(restarts), home.manager.count("WATCHDOG=1")) == (1, pings + 1)
    made.look()
    assert (len(restarts), home.manager.count("WATCHDOG=1")) == (2, pings + 1)
    assert made._live.daemon().health == "the watcher sees no events"


def test_a_state_that_cannot_be_written_is_said_and_kills_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is not cured by another start: transfers wait, status tells, the pings go on."""
    made = watched_home(home, monkeypatch)
    caplog.set_level(logging.INFO)
    pings = home.manager.count("WATCHDOG=1")

    def full() -> None:
        raise StateError("no room on the disk")

    monkeypatch.setattr(made._pipeline.state, "flush", full)
    monkeypatch.setattr(made._pipeline.state._writing(), "flush_if_due", full)
    made.look()
    made.look()
    assert home.manager.count("WATCHDOG=1") == pings + 2
    (line,) = made._pipeline.store_runners.values()
    line.progress.requested()
    assert home.ask(command="status")["daemon"]["health"] == "no room on the disk"
    assert home.manager.count("STATUS=no room on the disk") == 1
    assert caplog.text.count("not healthy") == 1
    look = made.look
    monkeypatch.undo()
    look()
    assert home.ask(command="status")["daemon"]["health"] == "ok"
    assert caplog.messages.count("healthy again") == 1


def test_an_idle_daemon_looks_once_a_minute(home: Home) -> None:
    """Files that wait for their next try are no reason to look more often; files that move are."""
    made = home.start()
    wait_until("it rests", lambda: made._pipeline.store_runners and made._pipeline.idle())
    (line,) = made._pipeline.store_runners.values()
    wait_until("nothing moves", lambda: made._tick_seconds() == 60.0)
    line.workers.queue.mark(FileRef("docs", "x"), quiet_seconds=3600.0, event=True)
    assert made._tick_seconds() == 60.0
    line.workers.queue.discard("docs")
    line.workers.stop()
    assert line.workers.join(30.0)


def test_after_work_memory_goes_back_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it has rested for a while, and not again before there was more work."""
    given: list[float] = []
    monkeypatch.setattr(process, "give_back_memory", lambda: given.append(made._clock.monotonic()))
    made = home.start()
    wait_until("it rests", lambda: made._pipeline.idle() and made._tick_seconds() == 60.0)
    monkeypatch.setattr(daemon, "_REST_SECONDS", 0.0)
    for rests, times in ((True, 1), (True, 1), (False, 1), (True, 2), (True, 2)):
        made._ticks_slowly = rests
        made._look_for_rest()
        assert len(given) == times
    assert made._pipeline.state.recorded(FileRef("docs", "nothing")) is None  # the state works on


def test_after_a_sleep_everything_is_tried_and_looked_at_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are dead, events may be lost, and a paused store may be there again."""
    made = home.start()
    wait_until("it is scanned", lambda: made._pipeline.source_runners["docs"].first_scan_done.is_set())
    (line,) = made._pipeline.store_runners.values()
    line.workers.queue.pause(3600.0)
    monkeypatch.setattr(process, "suspended_seconds", lambda: made._slept + 5.0)
    made._look_for_sleep()
    until = line.workers.queue._breaker.until
    monkeypatch.setattr(process, "suspended_seconds", lambda: 1e6)
    scans = made._pipeline.source_runners["docs"].news.scans
    made._look_for_sleep()
    assert line.workers.queue._breaker.until < until - 3000  # the next file may try it at once
    wait_until("it is scanned again", lambda: made._pipeline.source_runners["docs"].news.scans > scans)


# ---- reload -----------------------------------------------------------------------------------------------


def test_a_reload_takes_what_is_new(home: Home) -> None:
    """A new source, another log level; what did not change goes on."""
    made = home.start()
    wait_until("it runs", lambda: made._pipeline.store_runners)
    line, watcher = made._pipeline.store_runners["mirror"], made._watcher
    (home.root / "second").mkdir()
    home.content["sources"] = [
        home.source("docs", "watched", prefix="one/"),
        home.source("second", "second", prefix="two/"),
    ]
    home.content["log"] = {"level": "debug"}
    home.reload()
    assert made._pipeline.store_runners["mirror"] is line
    assert made._watcher is not watcher
    assert home.log_settings[-1].level == "debug"
    (home.root / "second" / "a").write_text("x")
    home.arrives("two/a")
    (home.root / "watched" / "b").write_text("y")
    home.arrives("one/b")
    assert home.manager.count("RELOADING=1") == 1


def test_a_reload_that_changes_nothing_disturbs_nothing(home: Home) -> None:
    """Watches stay, scans are not repeated."""
    made = home.start()
    wait_until("it is scanned", lambda: made._pipeline.source_runners["docs"].first_scan_done.is_set())
    before = (
        made._watcher,
        made._pipeline.store_runners["mirror"],
        made._pipeline.source_runners["docs"].news.scans,
    )
    home.reload()
    assert (
        made._watcher,
        made._pipeline.store_runners["mirror"],
        made._pipeline.source_runners["docs"].news.scans,
    ) == before


@pytest.mark.parametrize("mistake", ["configuration", "state_dir", "store"])
def test_a_reload_that_cannot_be_leaves_the_old_configuration(
    home: Home, mistake: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said why, the manager hears the end of the reload, and everything still works."""
    made = home.start()
    wait_until("it runs", lambda: made._pipeline.store_runners)
    if mistake == "configuration":
        home.content["sources"] = [{"name": "docs"}]
    if mistake == "state_dir":
        home.content["state_dir"] = "./elsewhere"
    if mistake == "store":
        home.content["transfer"] = {"concurrency": 3}

        def refuse(*args: object, **named: object) -> None:
            raise AccessRefused("the endpoint is not an address", credentials=False)

        monkeypatch.setattr("syncd.pipeline.pipeline.StoreRunner", refuse)
    home.reload()
    assert "the old configuration stays in force" in caplog.text
    (home.root / "watched" / "a").write_text("x")
    home.arrives("a")


def test_a_reload_in_the_middle_of_work_loses_nothing(home: Home) -> None:
    """Files that were waiting, moving or just written are all there in the end, whatever is reloaded."""
    home.start()
    for number in range(120):
        (home.root / "watched" / f"f{number}").write_text(str(number))
        if number % 30 == 29:
            home.content["transfer"]["concurrency"] = 1 + number % 4
            home.reload()
    for number in range(120):
        home.arrives(f"f{number}")
    for number in range(120):
        assert (home.root / "mirror" / f"f{number}").read_text() == str(number)


# ---- what it tells ----------------------------------------------------------------------------------------


def test_the_line_for_the_manager_never_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the state is like."""
    made = home.start()
    wait_until("it rests", lambda: made._pipeline.store_runners and made._pipeline.idle())
    assert made._line() == "idle: 0 files recorded"

    def broken(*, exact: bool) -> None:
        raise StateError("the disk failed")

    monkeypatch.setattr(made._pipeline.state, "summaries", broken)
    assert made._line() == "the disk failed"
    monkeypatch.undo()


def test_a_state_that_was_begun_anew_is_said(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing that the store has is sent again."""
    caplog.set_level(logging.INFO)
    (home.root / "watched" / "a").write_text("x")
    home.start()
    home.arrives("a")
    wait_until("it is recorded", lambda: home.ask(command="status")["sources"][0]["files"]["recorded"] == 1)
    home.stop()
    stamp = (home.root / "mirror" / "a").stat().st_ctime_ns
    (database,) = [path for path in (home.root / "state").iterdir() if path.suffix in (".db", ".sqlite")]
    database.write_bytes(b"not a database" * 1000)
    home.manager.listen().clear()
    home.start()
    wait_until("it is recorded", lambda: home.ask(command="status")["sources"][0]["files"]["recorded"] == 1)
    assert "the state starts empty" in caplog.text
    assert home.ask(command="status")["daemon"]["state_rebuilt"]
    assert (home.root / "mirror" / "a").stat().st_ctime_ns == stamp


def test_a_drain_sends_what_is_known_before_the_end(home: Home) -> None:
    """Files that settle are not waited for; the manager is asked for time while it goes on."""
    home.content |= {"stop": "drain", "stop_timeout": "60s"}
    home.content["sources"][0]["settle"] = "1h"
    made = home.start()
    for name in ("a", "b"):
        (home.root / "watched" / name).write_text(name)
    workers = made._pipeline.store_runners["mirror"].workers
    wait_until("both are known", lambda: len(workers.queue.dirty()) == 2)
    assert home.stop() == 0
    home.arrives("a")
    home.arrives("b")
    heard = home.manager.listen()
    assert f"EXTEND_TIMEOUT_USEC={50 * 10**6}" in heard[heard.index("STOPPING=1") :]


@pytest.mark.parametrize("end", ["time", "a second signal", "a pause", "now"])
def test_an_end_that_leaves_something_says_so_with_its_exit_code(home: Home, end: str) -> None:
    """The time of a drain is over, the operator does not want to wait, or nothing may be sent."""
    home.content |= {"stop": "now" if end == "now" else "drain"}
    home.content |= {"stop_timeout": "1s" if end == "time" else "1h"}
    made = home.start()
    if end == "a pause":
        home.ask(command="pause")
    else:
        (home.root / "mirror").rename(home.root / "away")
    (home.root / "watched" / "a").write_text("a")
    workers = made._pipeline.store_runners["mirror"].workers
    wait_until("it is known", lambda: len(workers.queue.dirty()) == 1)
    assert home.running is not None
    home.say("stop")
    if end == "a second signal":
        wait_until("it says so", lambda: home.ask(command="status")["daemon"]["stopping_seconds"])
        assert "stopping: syncd first sends known changes" in str(
            home.ask(command="status", table=True)["lines"]
        )
        assert "the daemon is stopping" in home.ask(command="reload")["error"]
        home.say("stop")
    assert home.running.result() == 3


def test_an_end_before_the_first_scan_is_over_counts_as_one_that_leaves_something(
    home: Home,
) -> None:
    """What is there is unknown."""
    made = home.start()
    runner = made._pipeline.source_runners["docs"]
    wait_until("it is scanned", runner.first_scan_done.is_set)
    runner.first_scan_done.clear()
    assert flush.stayed(made._pipeline) == (0, {"docs": "its first scan was not over"})
    assert home.stop() == 3
