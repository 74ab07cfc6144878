"""Builds, starts and stops everything for a set of sources and stores, and passes events between them.

`syncd sync` runs it once; `syncd run` keeps it running and puts a watcher in front of it.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf

from msgspec.structs import replace

from syncd.core.backoff import FREE_LINE, Rate, Timetable, clock_words, seconds_left
from syncd.core.errors import FileChanged, StateError, SyncdError, kind
from syncd.core.model import Destination, FileRef, Source, TransferPolicy
from syncd.core.paths import name_of
from syncd.core.plan import Outcome, Refresh
from syncd.core.words import done_words
from syncd.pipeline.context import Clock, Context, RunSummary
from syncd.pipeline.source_runner import SourceRunner
from syncd.pipeline.source_status import EventCoverage, WatchHandle
from syncd.pipeline.store_runner import Bounds, StoreRunner
from syncd.sources.places import Places
from syncd.state.history import Acted
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.opening import open_store
from syncd.storage.settings import StoreSettings
from syncd.transfer.in_doubt import heed_machine
from syncd.transfer.pace.heartbeat import Heartbeats
from syncd.transfer.pace.progress import Line

log = logging.getLogger("syncd.daemon")
file_log = logging.getLogger("syncd.transfer")

RETIRE_SECONDS = 20.0
"""How long a reload waits for the requests of a store runner that it replaces."""
_STEP_SECONDS = 0.1
_STOP_SILENT_SECONDS = 2.0
"""At the end, a thread that has waited so long for a folder or a store's directory is left behind."""
_LOOK_SECONDS = 5.0  # between two checks of a store's directory on which a thread waits
_PAUSE_SECONDS = 0.01
_PAST = {"Upload": "uploaded", "Copy": "copied", "Delete": "deleted", "Adopt": "adopted"}


class Pipeline:
    """All sources and stores that run. For any thread."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        *,
        once: bool = False,
        heartbeats: Heartbeats | None = None,
        on_turn: Callable[[], None] = lambda: None,
        opener: Callable[..., ObjectStore] = open_store,
        machine_id: str = "",
    ) -> None:
        self._opener = opener
        self._context = Context(state, clock, self, once, heartbeats or Heartbeats(), on_turn, machine_id)
        self.state = state
        self.tally = RunSummary()
        self.pace = Rate()
        """How many files are finished each second."""
        self.store_runners: dict[str, StoreRunner] = {}
        self.source_runners: dict[str, SourceRunner] = {}
        self.coverage: Callable[[str], EventCoverage] = lambda source: EventCoverage()
        self.rewatch: Callable[[str], None] = lambda source: None
        self.clock = clock
        self._lock = threading.Lock()
        self._retired: list[StoreRunner] = []
        self.line = Line(monotonic=clock.monotonic, now_ns=clock.now_ns)
        """The line that all requests share."""
        self._is_paused = False
        self._bounds: tuple[TransferPolicy, Bounds] | None = None
        self._started = False
        self._silent: frozenset[str] = frozenset()
        self._next_look = -inf

    # ---- building ---------------------------------------------------------------------------------------

    def apply(
        self,
        sources: Sequence[Source],
        stores: Mapping[str, StoreSettings],
        policy: TransferPolicy,
        *,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Build runners for what is new or changed in the settings; the others keep running.

        Call it once before `start`, and again for every reload; never in two threads at once. A store runner
        that is replaced ends first, so that no file is sent twice at once; `waiting` is called until then.
        A bandwidth limit takes effect at once and replaces no runner.
        Raises SyncdError when a store cannot be opened; then nothing has changed.
        """
        heed_machine(self.state, self._context.machine_id)
        timetable, policy = policy.bandwidth_limit.up, replace(policy, bandwidth_limit=FREE_LINE)
        wanted = {source.name: source for source in sources}
        used = {source.store: stores[source.store] for source in sources}
        kept = {
            name
            for name, store in self.store_runners.items()
            if (store.settings, store.policy) == (used.get(name), policy) and _keeps_sources(store, wanted)
        }
        fresh = self._open_stores({name: used[name] for name in sorted(used.keys() - kept)}, policy)
        for name in self.store_runners.keys() - kept:
            self._retire(name)
        self._await_retired(waiting)
        self.store_runners = {**self.store_runners, **fresh}
        if self._started:
            self._serve(wanted)
        self._place_sources(wanted)
        self.line.configure(timetable)
        self._heed_pauses()

    def _serve(self, sources: Mapping[str, Source]) -> None:
        """Tell the state which source owns which keys, before any file goes there."""
        self.state.serve(
            [
                Destination(source.name, self.store_runners[source.store].store.store_id, source.prefix)
                for source in sources.values()
            ]
        )

    def _open_stores(
        self, stores: Mapping[str, StoreSettings], policy: TransferPolicy
    ) -> dict[str, StoreRunner]:
        fresh: dict[str, StoreRunner] = {}
        if self._bounds is None or self._bounds[0] != policy:
            self._bounds = policy, Bounds(policy, self.line)
        bounds = self._bounds[1]
        try:
            for name, settings in stores.items():
                fresh[name] = StoreRunner(
                    name, settings, policy, self._context, bounds=bounds, opener=self._opener
                )
        except BaseException:
            for store in fresh.values():
                store.stop()
                store.join(0.0)
            raise
        return fresh

    def _retire(self, name: str) -> None:
        """Stop a store's runner and the runners of its sources; unfinished uploads stay in the state."""
        store = self.store_runners[name]
        self.store_runners = {other: each for other, each in self.store_runners.items() if other != name}
        for source in list(store.engine.sources):
            self._drop_runner(source)
        store.stop()
        self._retired.append(store)

    def _await_retired(self, waiting: Callable[[], None]) -> None:
        deadline = self.clock.monotonic() + RETIRE_SECONDS
        while self._retired and self.clock.monotonic() < deadline:
            self._give_up(_STOP_SILENT_SECONDS)
            self._look_at_stores(_STOP_SILENT_SECONDS)
            if all(store.is_silent for store in self._retired):
                break
            self._retired = [store for store in self._retired if not store.join(_STEP_SECONDS)]
            waiting()
        for store in self._retired:
            log.warning(
                "store %s: requests begun before the reload have not ended; continuing without them",
                store.name,
            )
            store.abandon()

    def _place_sources(self, wanted: Mapping[str, Source]) -> None:
        for name, runner in self.source_runners.items():
            if wanted.get(name) != runner.source:
                self._drop_runner(name)
        fresh = {
            name: self._source_runner(source)
            for name, source in wanted.items()
            if name not in self.source_runners
        }
        self.source_runners = {**self.source_runners, **fresh}

    def _drop_runner(self, name: str) -> None:
        runner = self.source_runners.get(name)
        if runner is not None:
            self.source_runners = {
                other: each for other, each in self.source_runners.items() if other != name
            }
            runner.stop()  # first, so that `discard` also removes its last marks
            runner.workers.discard(name)
            runner.account()

    def _source_runner(self, source: Source) -> SourceRunner:
        store = self.store_runners[source.store]
        watch = WatchHandle(lambda: self.coverage(source.name), lambda: self.rewatch(source.name))
        return SourceRunner(source, store.workers, self._context, store.heartbeat, watch)

    # ---- pausing ----------------------------------------------------------------------------------------

    def pause(self, kind: str, name: str, until_ns: int) -> None:
        """Send nothing more of a source (or store, or all) until then; 0: until `resume`. Raises StateError.

        An upload under way stops after the parts that are being sent. The pause outlasts a restart.
        """
        self.state.pause(kind, name, until_ns)
        self._heed_pauses()

    def resume(self, names: Sequence[tuple[str, str]]) -> None:
        """End these pauses, by kind and name. Raises StateError."""
        self.state.resume(names)
        self._heed_pauses()

    def _heed_pauses(self) -> None:
        """Tell the queues what is paused. The operator wants a single pass now: it obeys only the timetable,
        which says what the line is for."""
        now, now_ns = self.clock.monotonic(), self.clock.now_ns()
        pauses = {} if self._context.once else self.state.pauses()
        ends = {
            what: now + (until_ns - now_ns) / 1e9 if until_ns else inf for what, until_ns in pauses.items()
        }
        self._is_paused = self.line.holds().is_paused
        if self._is_paused:
            ends["all", ""] = inf
        paused = {name: until for (kind, name), until in ends.items() if kind == "source"}
        for name, store in list(self.store_runners.items()):
            held_until = max(ends.get(("all", ""), -inf), ends.get(("store", name), -inf))
            store.workers.queue.hold(held_until, paused)

    # ---- the bandwidth ----------------------------------------------------------------------------------

    def limit(self, timetable: Timetable | None, until: float) -> None:
        """Limit all stores together until that time (monotonic, perhaps infinite); None: as configured."""
        self.line.limit(timetable, until)
        self._heed_pauses()

    def paused_by_timetable(self) -> str:
        """Return that the timetable pauses everything now, in words; empty: it does not."""
        holds = self.line.holds()
        if not holds.is_paused:
            return ""
        return f"by `bandwidth_limit`, until {clock_words(holds.until or 0)}"

    def _heed_timetable(self) -> None:
        if self.line.holds().is_paused == self._is_paused:
            return
        self._heed_pauses()
        if self._is_paused:
            log.warning("sending is paused %s", self.paused_by_timetable())
        else:
            log.info("the pause of the timetable has ended")

    # ---- running ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the sources and workers that do not run yet. Raises StateError."""
        if not self._started:
            self._serve({name: runner.source for name, runner in self.source_runners.items()})
            self._started = True
        gc.freeze()  # the collector need not visit the present objects again
        for runner in self.source_runners.values():
            runner.start()
        for store in self.store_runners.values():
            store.start()

    def stop(self, seconds: float) -> bool:
        """End everything except threads that wait for a folder or a store that does not answer.

        Returns whether all ended apart from those that wait for a folder. The next start resumes uploads.
        """
        deadline = self.clock.monotonic() + seconds
        source_runners = list(self.source_runners.values())
        store_runners = [*self.store_runners.values(), *self._retired]
        left: list[SourceRunner | StoreRunner] = [*store_runners, *source_runners]
        for each in left:
            each.stop()
        while True:
            given_up = self._give_up(_STOP_SILENT_SECONDS) | self._look_at_stores(_STOP_SILENT_SECONDS)
            seconds = min(_STEP_SECONDS, max(0.0, deadline - self.clock.monotonic())) / (len(left) or 1)
            left = [each for each in left if not each.is_among(given_up) and not each.join(seconds)]
            if not left or self.clock.monotonic() >= deadline:
                break
        for runner in source_runners:
            with suppress(StateError):
                runner.account()
        self.flush_totals()
        return not left and not any(store.is_silent for store in store_runners)

    def waits_for_folders(self) -> bool:
        """Return whether a thread is left that waits for a silent folder: it blocks the exit."""
        given_up = self._context.heartbeats.give_up(self.clock.monotonic(), _STOP_SILENT_SECONDS)
        return any(runner.is_among(given_up) for runner in self.source_runners.values()) or any(
            store.workers.waits_for_folders() for store in [*self.store_runners.values(), *self._retired]
        )

    # ---- folders and stores that do not answer ----------------------------------------------------------

    def look_after(self) -> None:
        """Obey the timetable, and keep silent folders and stores from stopping the others. Call this every
        few seconds.

        The threads wait in the kernel. Others replace those of a folder, and none of its files is begun.
        """
        self._heed_timetable()
        self._give_up()
        self._look_at_stores()
        silent = frozenset(self._context.heartbeats.silent(self.clock.monotonic()))
        for name in sorted(silent - self._silent):
            log.warning("%s: %s", name, self.silence(name))
        for name in sorted(self._silent - silent):
            log.info("%s: the folder answers again", name)
        self._silent = silent
        for store in self.store_runners.values():
            store.workers.queue.leave_out(silent)
        if self._context.once:
            for name in silent & self.source_runners.keys():
                self.source_runners[name].leave_out(self.silence(name))

    def silence(self, source: str) -> str:
        """Return that the folder of this source does not answer, in words; empty: it does."""
        seconds = self._context.heartbeats.silent(self.clock.monotonic()).get(source)
        if seconds is None:
            return ""
        return f"the folder has not answered for {seconds:.0f} s; is the server of its file system down?"

    def _give_up(self, after_seconds: float | None = None) -> frozenset[int | str]:
        given_up = self._context.heartbeats.give_up(self.clock.monotonic(), after_seconds)
        if given_up:
            for store in [*self.store_runners.values(), *self._retired]:
                store.workers.replace(given_up)
        return given_up

    def _look_at_stores(self, after_seconds: float | None = None) -> frozenset[int | str]:
        """Check, for each thread that has waited so long for a store's directory, whether it answers others.

        Returns the threads that wait for one that does not.
        """
        heartbeats, now = self._context.heartbeats, self.clock.monotonic()
        after = heartbeats.silent_seconds if after_seconds is None else after_seconds
        slow = {name: seconds for name, seconds in heartbeats.waiting(now).items() if seconds >= after}
        stores = [*self.store_runners.values(), *self._retired]
        for store in stores:
            store.is_silent = store.is_silent and store.name in slow
        if slow and now >= self._next_look:
            places = Places()
            for store in stores:
                if store.name in slow:
                    store.look(slow[store.name], places)
            self._next_look = self.clock.monotonic() + _LOOK_SECONDS
        return heartbeats.give_up_stores({store.name for store in stores if store.is_silent})

    def wait_done(self, should_stop: Callable[[], bool], tick: Callable[[], None]) -> bool:
        """Wait, in a single pass, until every first scan is over and nothing is dirty.

        A store that gave up has nothing to wait for; an unusable state ends the pass. Returns False if
        `should_stop` ended the wait.
        """
        while not should_stop():
            tick()
            self.look_after()
            if self._is_over() or any(isinstance(error, StateError) for error in self.gave_up().values()):
                return True
            for runner in self.source_runners.values():
                runner.first_scan_done.wait(_STEP_SECONDS / len(self.source_runners))
            if all(store.workers.queue.wait_idle(_STEP_SECONDS) for store in self.store_runners.values()):
                time.sleep(_PAUSE_SECONDS)  # only a source runner is busy, and only briefly
        return False

    def _is_over(self) -> bool:
        """Return whether nothing is dirty and no source will mark anything. Exact: a mark between the two
        checks changes the number of marks.
        """
        marks = self._marks()
        over = self.idle() and all(
            runner.workers.health.gave_up is not None or runner.settled()
            for runner in self.source_runners.values()
        )
        return over and marks == self._marks()

    def _marks(self) -> int:
        return sum(store.workers.queue.marks for store in self.store_runners.values())

    def gave_up(self) -> dict[str, BaseException]:
        """Return the stores that could not be used in this pass, each with its error."""
        errors = {name: store.workers.health.gave_up for name, store in self.store_runners.items()}
        return {name: error for name, error in errors.items() if error is not None}

    def flush_totals(self) -> None:
        """Add the requests counted since the last call to the state's totals."""
        requests = sum(
            store.progress.take_requests() for store in [*self.store_runners.values(), *self._retired]
        )
        if requests:
            self.state.add_totals(requests=requests)

    def pending(self) -> dict[str, int]:
        """Return the number of dirty files of each source, those in progress included."""
        pending: dict[str, int] = {}
        for runner in self.store_runners.values():
            waiting, processing = runner.workers.queue.counts()
            for source, count in waiting.items():
                pending[source] = pending.get(source, 0) + count
            for ref in processing:
                pending[ref.source] = pending.get(ref.source, 0) + 1
        return pending

    def in_flight(self) -> list[tuple[FileRef, int, int]]:
        """Return the files under way, with the bytes done and the bytes in all."""
        return [item for runner in self.store_runners.values() for item in runner.progress.in_flight()]

    def outlook(self) -> tuple[float | None, float | None]:
        """Return the bytes per second of everything, and the seconds that the rest takes, by bytes and by
        files. None: unknown, as in the first seconds, or nothing is left. The time is unknown while anything
        is paused.
        """
        flying, pending = self.in_flight(), self.pending()
        files = sum(pending.values()) - len(flying)
        if not flying and files <= 0:
            return None, None
        rates = [runner.progress.rate() for runner in self.store_runners.values()]
        rate = sum(each for each in rates if each is not None)
        pace = self.pace.per_second(self.clock.monotonic())
        rest = (sum(total - done for _, done, total in flying), rate), (files, pace)
        queues = {
            name: runner.workers.queue for name, runner in self.source_runners.items() if pending.get(name)
        }
        rests = any(queue.is_shut or queue.is_held(name) for name, queue in queues.items())
        return rate or None, None if rests else seconds_left(rest)

    def idle(self) -> bool:
        """Return whether no file waits or is being processed, at any store."""
        return all(store.workers.queue.idle() for store in self.store_runners.values())

    # ---- from the watcher -------------------------------------------------------------------------------

    def changed(self, source: str, path: str) -> None:
        """Mark a path after an event."""
        runner = self.source_runners.get(source)
        if runner is None or not runner.rules.wants_file(path):  # the event is older than a reload
            return
        settle = runner.source.settle_seconds
        if not runner.workers.queue.heard(FileRef(source, path), quiet_seconds=settle):
            runner.ask("", "more events than could be kept")

    def rescan(self, source: str, subtree: str, reason: str) -> None:
        """Have a subtree scanned whose events were lost, or cannot arrive."""
        runner = self.source_runners.get(source)
        if runner is not None:
            runner.ask(subtree, reason)

    # ---- from the workers: the `Listener` of the context ------------------------------------------------

    def finished(self, ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        """Count, note and log one file that is done."""
        runner = self.source_runners.get(ref.source)
        if outcome.wants_delete:
            if runner is not None:
                runner.gone(ref)
            return
        action, kind, now_ns = outcome.action, type(outcome.action).__name__, self.clock.now_ns()
        with self._lock:
            self.tally.count(outcome)
            self.pace.add(1, self.clock.monotonic())
            if runner is not None:
                runner.news.count(outcome, delay_seconds, now_ns)
        if kind in _PAST:
            self.state.history.note(Acted(now_ns, ref, _PAST[kind], outcome.bytes_sent, action.reason))
            if file_log.isEnabledFor(logging.INFO):
                file_log.info("%s: %s", name_of(ref), done_words(outcome))
        elif isinstance(action, Refresh):
            file_log.debug("%s: %s", name_of(ref), action.reason)
        if runner is not None:
            runner.file_done(ref)  # last, because it may write to the state, whose disk may be full

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None:
        """Count and note one file that failed for now, or (in a single pass) was never quiet."""
        words = str(error) if isinstance(error, SyncdError) else repr(error)
        runner = self.source_runners.get(ref.source)
        is_settling = isinstance(error, FileChanged)
        with self._lock:
            self.tally.count_failure(ref, words, is_settling=is_settling)
            if runner is not None and not is_settling:
                runner.news.kinds_failed[kind(error)] += 1
        if attempts == 1 and not is_settling:  # further attempts are no news
            self.state.history.note(Acted(self.clock.now_ns(), ref, "failed", 0, words))

    def root_changed(self, source: str, reason: str) -> None:
        """Have a source scanned whose root a worker could not trust."""
        self.rescan(source, "", reason)


def _keeps_sources(store: StoreRunner, wanted: Mapping[str, Source]) -> bool:
    """Return whether no source leaves the store."""
    return all(name in wanted and wanted[name].store == store.name for name in store.engine.sources)
