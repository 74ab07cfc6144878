"""The daemon: it builds one pipeline and one watcher, then waits for signals.

It starts in this order: configuration, lock, state, watches, READY, first scan. To stop, it takes no new
work, aborts requests in flight within seconds (the next start resumes their uploads), and closes the state.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from syncd.config.load import LogSettings, Settings
from syncd.core.errors import ConfigError, StateError, SyncdError
from syncd.core.model import Source
from syncd.core.words import counted
from syncd.daemon import changes, control, flush, logs, process
from syncd.daemon.control import ControlServer
from syncd.daemon.live import Live
from syncd.daemon.systemd import Notifier
from syncd.daemon.verbs import Verbs
from syncd.pipeline.context import Clock, real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.sources.places import silence
from syncd.sources.watch.watcher import Watcher
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.transfer.pace.heartbeat import STUCK_SECONDS, Heartbeats

if TYPE_CHECKING:
    from syncd.daemon.http.server import HttpServer

log = logging.getLogger("syncd.daemon")

DRAIN_SECONDS = 20.0
EXIT_PARTLY = 3
"""The exit code when not everything is in the store; systemd's unit counts it as a success."""
_PATIENCE_SECONDS = 30.0  # how long the manager waits for the next progress of a stop
_IDLE_TICK_SECONDS = 60.0
_TURN_SECONDS = 1.0  # the status line changes at most this often
_BUSY_TICK_SECONDS = 5.0
_CANARY_SECONDS = 5.0
_REST_SECONDS = 90.0  # by then the second looks at the last uploads are over
_RELOAD_SECONDS = 300.0  # a caller waits at most so long for the outcome of a reload
_SLEPT_SECONDS = 10.0  # connections survive a shorter suspend


class Daemon:
    """One run of the daemon. `reload` returns the configuration, read again; it raises ConfigError."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings],
        set_up_logs: Callable[[LogSettings], None],
        environ: Mapping[str, str],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._set_up_logs = set_up_logs
        self._settings = settings
        self._reload = reload
        self._environ = environ
        self._clock = clock or real_clock()
        self._notifier = Notifier(environ)
        limit = self._notifier.watchdog_seconds or STUCK_SECONDS
        self._heartbeats = Heartbeats(limit, self._clock.monotonic)
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()  # reentrant, for signal handlers
        self._slept = process.suspended_seconds()
        self._answers: queue.SimpleQueue[queue.SimpleQueue[dict[str, Any]]] = queue.SimpleQueue()
        self._turn_waits = False
        self._ticks_slowly = True
        self._worked_at: float | None = self._clock.monotonic()
        self._must_leave = self._is_working = False
        self._http: HttpServer | None = None
        self._http_trouble = ""

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises StateError without a usable state.

        Kills the process if a thread is left that cannot end, because it waits in the kernel.
        """
        process.raise_descriptor_limit()
        process.share_one_heap()
        lock = StateLock.acquire(self._settings.state_dir)
        try:
            self._notifier.extend_timeout(60)
            state = State.open(self._settings.state_dir, now_ns=self._clock.now_ns)
            try:
                with self._signals():
                    code = self._serve(state)
            finally:
                state.close(clean=not self._is_working)
        finally:
            lock.release()
        if self._must_leave:
            logging.shutdown()
            os._exit(code)
        return code

    # ---- one life ---------------------------------------------------------------------------------------

    def _serve(self, state: State) -> int:
        self._pipeline = Pipeline(
            state,
            self._clock,
            heartbeats=self._heartbeats,
            on_turn=self._turned,
            machine_id=process.machine_id(),
        )
        self._live = Live(self._pipeline, lambda: self._watcher, self._clock.monotonic)
        self._pipeline.coverage = self._live.coverage
        self._pipeline.rewatch = self._rewatch
        self._apply(self._settings)
        self._watcher = self._watch(self._settings.sources)
        self._verbs = Verbs(self._pipeline, self._live, lambda: self._settings, self._ask_reload)
        servers = self._control()
        self._serve_http()
        try:
            self._notifier.ready(self._line())
            log.info("ready: %s", self._extent(self._settings))
            self._pipeline.start()
            self._loop()
            if self._settings.stop.drain:
                self._drain()
        finally:
            try:
                self._shut_down()
            finally:
                if self._http is not None:
                    self._http.stop()
                for server in servers:
                    server.stop()
                runtime = control.runtime_directory(self._environ)
                # Where the environment names it, it is the manager's.
                if "RUNTIME_DIRECTORY" not in self._environ and not silence(runtime or "/"):
                    with suppress(OSError):
                        os.rmdir(runtime)
        return self._what_stayed()

    def _control(self) -> list[ControlServer]:
        """Return the control sockets. On a file system without sockets the daemon runs without them."""
        servers = []
        runtime = control.runtime_directory(self._environ)
        for directory in filter(None, (self._settings.state_dir, runtime)):
            try:
                if directory == runtime:
                    if why := silence(directory):
                        raise OSError(why)
                    os.makedirs(directory, mode=0o700, exist_ok=True)
                    if control.is_taken(directory):
                        continue  # by a daemon with another state
                servers.append(ControlServer(directory, self._verbs.answer))
                if directory == runtime and "RUNTIME_DIRECTORY" in self._environ:
                    servers.append(ControlServer(directory, self._verbs.tell, control.READ_ONLY))
            except OSError as error:
                log.error("no control socket in %s: %s", directory, error)
        for server in servers:
            server.start()
        return servers

    def _serve_http(self) -> None:
        """Answer on the configured address, if any. If the address is not free, each tick tries again."""
        wanted = self._settings.http
        if self._http is not None and self._http.settings != wanted:
            self._http.stop()
            self._http = None
        if self._http is not None or not wanted.host:
            return
        from syncd.daemon.http import routes, server  # late: nothing of it is loaded when it is off

        try:
            self._http = server.HttpServer(wanted, routes.routes(self._verbs, self._live, self._lives))
        except OSError as error:
            trouble = f"nothing answers on {wanted.host} port {wanted.port}: {error.strerror or error}"
            if trouble != self._http_trouble:
                log.error("http: %s; syncd tries again", trouble)
            self._http_trouble = trouble
            return
        self._http_trouble = ""
        self._http.start()
        log.info("http: answering on %s port %d", wanted.host, wanted.port)

    def _lives(self) -> bool:
        """Return whether the pulse beats that feeds the manager's watchdog."""
        return self._notifier.was_fed(self._heartbeats.limit_seconds)

    def _apply(self, settings: Settings) -> None:
        self._pipeline.apply(
            settings.sources, settings.stores, settings.transfer, waiting=self._notifier.watchdog
        )

    def _watch(self, sources: tuple[Source, ...]) -> Watcher:
        rules = {name: runner.rules for name, runner in self._pipeline.source_runners.items()}
        watcher = Watcher(sources, rules, self._pipeline)
        self._notifier.extend_timeout(300)
        watcher.start()
        return watcher

    def _loop(self) -> None:
        while True:
            self._turn_waits = False
            self._tick()
            if not self._wait(self._tick_seconds()):
                return

    def _wait(self, seconds: float) -> bool:
        """Wait until the next tick is due, which is soon after work began or ended; return False to stop."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            try:
                asked = self._asked.get(timeout=left)
            except queue.Empty:
                break
            if asked == "stop":
                return False
            if asked == "reload":
                answer = self._apply_reload()
                while not self._answers.empty():
                    self._answers.get().put(answer)
                break
            until = min(until, self._clock.monotonic() + _TURN_SECONDS)
        return True

    def _turned(self) -> None:
        """Have the status line updated and the ticks resumed, because work began or ended."""
        if (self._notifier.listens or self._ticks_slowly) and not self._turn_waits:
            self._turn_waits = True
            self._asked.put("turn")

    def _tick_seconds(self) -> float:
        busy = self._heartbeats.are_expected() or any(
            store.workers.queue.counts()[1] for store in self._pipeline.store_runners.values()
        )
        self._ticks_slowly = not busy
        seconds = _BUSY_TICK_SECONDS if busy else _IDLE_TICK_SECONDS
        if self._pipeline.line.holds().until is not None:  # a timetable, whose entries begin with a minute
            seconds = min(seconds, 60.0 - self._clock.now_ns() / 1e9 % 60.0)
        watchdog = self._notifier.watchdog_seconds
        return min(seconds, watchdog / 3) if watchdog else seconds

    def _tick(self) -> None:
        """Check that every part works, and only then ping the manager's watchdog.

        A restart does not cure a state that cannot be written: transfers stop, and the status says why. It
        does cure a lost state: this raises StateError, and the manager restarts the daemon.
        """
        self._pipeline.look_after()
        now = self._clock.monotonic()
        trouble = ", ".join(f"{part} is stuck" for part in self._heartbeats.late(now))
        if not trouble and not self._watcher.is_alive(_CANARY_SECONDS):
            log.error("the watcher misses events of its own test file; it is restarted")
            self._watcher.restart()
            if not self._watcher.is_alive(_CANARY_SECONDS):
                trouble = "the watcher sees no events"
        if not trouble:
            self._notifier.watchdog()
            trouble = self._look_at_state()
        self._look_for_sleep()
        self._look_for_rest()
        self._serve_http()
        logs.report_suppressed()
        if trouble and trouble != self._live.health:
            log.error("not healthy: %s", trouble)
        elif self._live.health and not trouble:
            log.info("healthy again")
        self._live.health = trouble
        self._notifier.status(trouble or self._line())

    def _look_at_state(self) -> str:
        try:
            self._pipeline.flush_totals()
            self._pipeline.state.flush()
        except StateError as error:
            trouble = str(error)
        else:
            trouble = ""
        lost = self._pipeline.state.lost()
        if lost is not None:
            raise StateError(lost)
        return trouble

    def _look_for_sleep(self) -> None:
        """After a suspend, try paused stores again and scan: connections are dead, and events may be lost."""
        slept = process.suspended_seconds()
        if slept - self._slept > _SLEPT_SECONDS:
            log.info("the machine was suspended for %.0f s: all sources are scanned", slept - self._slept)
            for store in self._pipeline.store_runners.values():
                store.workers.queue.reopen()
            for source in self._settings.sources:
                self._pipeline.rescan(source.name, "", "the machine was suspended")
        self._slept = slept

    def _look_for_rest(self) -> None:
        """Give back free memory once, some time after work ends: work leaves much of it behind."""
        now = self._clock.monotonic()
        if not self._ticks_slowly:
            self._worked_at = now
        elif self._worked_at is not None and now - self._worked_at >= _REST_SECONDS:
            self._worked_at = None
            with suppress(StateError):  # `health` says what is wrong with it
                self._pipeline.state.give_back_memory()
            process.give_back_memory()

    def _ask_reload(self, asks: control.Asks) -> dict[str, Any]:
        """Reload, and return the outcome, for another thread; give up when the caller no longer `asks`."""
        answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._answers.put(answer)
        self._asked.put("reload")
        until = self._clock.monotonic() + _RELOAD_SECONDS
        while self._clock.monotonic() < until and asks():
            with suppress(queue.Empty):
                return answer.get(timeout=_TURN_SECONDS)
            if self._live.stops_at is not None:
                raise StateError("the daemon is stopping; its next start reads the configuration")
        raise StateError(f"the reload did not end within {_RELOAD_SECONDS:.0f} s; its log says why")

    def _apply_reload(self) -> dict[str, Any]:
        """Read and apply the new configuration; return what changed, or every mistake.

        After an error the old configuration stays in use.
        """
        self._notifier.reloading()
        try:
            settings = self._reload()
        except ConfigError as error:
            for problem in error.problems:
                log.error("reload: %s", problem)
            return self._refuse_reload(*map(str, error.problems))
        if settings.state_dir != self._settings.state_dir:
            return self._refuse_reload("state_dir can only change with a restart")
        try:
            self._apply(settings)
        except SyncdError as error:
            return self._refuse_reload(str(error))
        changed = changes.between(self._settings, settings)
        self._set_up_logs(settings.log)
        if settings.sources != self._settings.sources:
            # Watch before the scan, so that no change falls between them.
            old, self._watcher = self._watcher, self._watch(settings.sources)
            old.stop()
        self._settings = settings
        self._serve_http()
        self._pipeline.start()
        log.info("reloaded: %s", self._extent(settings))
        self._notifier.ready(self._line())
        if "bandwidth_limit" in str(changed) and self._pipeline.line.operators_until is not None:
            changed.append("the limit of `syncd limit` still applies; to end it: syncd limit config")
        return {"changes": changed}

    def _refuse_reload(self, *why: str) -> dict[str, Any]:
        log.error("reload failed: %s; the old configuration stays in force", why[0])
        self._notifier.ready(f"reload failed, the old configuration stays in force: {why[0]}")
        return {"problems": why}

    def _drain(self) -> None:
        """Send known changes before the end, as long as the configuration allows or until a second signal.

        The manager waits while there is progress.
        """
        seconds, seen = self._settings.stop.timeout_seconds, -1
        self._live.stops_at = self._clock.monotonic() + seconds
        self._notifier.stopping()
        self._notifier.status(self._line())
        log.info("stopping: syncd first sends known changes, for at most %.0f s", seconds)

        def goes_on() -> bool:
            nonlocal seen
            flying = sum(done for _, done, _ in self._live.in_flight())
            moved = self._pipeline.tally.actions.total() + self._pipeline.tally.bytes_finished + flying
            if moved != seen:
                seen = moved
                self._notifier.extend_timeout(_PATIENCE_SECONDS + DRAIN_SECONDS)
            self._notifier.watchdog()
            return "stop" not in iter(self._asked_at_once, "")

        try:
            flush.flush(self._pipeline, list(self._pipeline.source_runners), seconds, goes_on=goes_on)
        except StateError as error:
            log.error("stopping: known changes could not be sent: %s", error)

    def _what_stayed(self) -> int:
        """Log what is known and not in the store at the end; return the exit code."""
        try:
            files, kept_back = flush.stayed(self._pipeline)
        except StateError as error:
            log.error("stopped; syncd cannot tell what was not sent: %s", error)
            return EXIT_PARTLY
        level = logging.WARNING if self._settings.stop.drain else logging.INFO
        for source, why in kept_back.items():
            log.log(level, "stopped; not everything of %s is in the store: %s", source, why)
        if files:
            what = counted(files, "file", "was")
            log.log(level, "stopped; %s not sent; the next start continues with that", what)
        return EXIT_PARTLY if files or kept_back else 0

    def _asked_at_once(self) -> str:
        """Return the next word in the queue without waiting; empty: none."""
        try:
            return self._asked.get_nowait()
        except queue.Empty:
            return ""

    def _shut_down(self) -> None:
        self._notifier.stopping()
        self._notifier.extend_timeout(DRAIN_SECONDS + 10)
        log.info("stopping; unfinished uploads are kept for the next start")
        try:
            self._watcher.stop()
        finally:
            ended = self._pipeline.stop(DRAIN_SECONDS)
        if not ended:
            log.warning("some requests did not end in time; the process ends without them")
        self._is_working = not ended
        self._must_leave = not ended or self._pipeline.waits_for_folders()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        asked = {signal.SIGTERM: "stop", signal.SIGINT: "stop", signal.SIGHUP: "reload"}
        before = {
            number: signal.signal(number, lambda _, __, word=word: self._asked.put(word))  # type: ignore[misc]
            for number, word in asked.items()
        }
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # blocked since the process began
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _extent(self, settings: Settings) -> str:
        """Return how much there is to carry, for the log."""
        stores = counted(len(self._pipeline.store_runners), "store")
        return f"{counted(len(settings.sources), 'source')}, {stores}"

    def _line(self) -> str:
        try:
            return self._live.status(self._settings.sources).line()
        except StateError as error:
            return str(error)

    def _rewatch(self, source: str) -> None:
        self._watcher.rewatch(source)  # a reload replaces the watcher, so look it up each time
