"""The threads that send files to one store: they call the engine for each file, and handle its result.

Each store has its own workers, so that an unreachable store does not delay the files of another.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Collection
from math import inf
from typing import TypeVarTuple

from msgspec.structs import replace

from syncd.core.errors import (
    FileError,
    FilePaused,
    FileWaits,
    NoRoom,
    PutsWait,
    Reaction,
    RootChanged,
    StateError,
    Stopped,
    StoreError,
    TooYoung,
    cause_of,
    is_unclear,
    react,
    words_of,
)
from syncd.core.model import Failure, FileRef, FileStat, Source
from syncd.core.paths import name_of
from syncd.core.plan import Adopt, Copy, Delete, Outcome, Upload
from syncd.core.settle import Taken
from syncd.pipeline.context import Context
from syncd.pipeline.donors import Donors
from syncd.pipeline.health import Health
from syncd.pipeline.queue import MAX_DEFERRED, WorkQueue
from syncd.storage.settings import DirSettings, StoreSettings
from syncd.transfer.engine import Engine
from syncd.transfer.local import roots_kept
from syncd.transfer.pace import affinity
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.pace.large import LargeFiles
from syncd.transfer.pace.refusals import Refusals

Values = TypeVarTuple("Values")

log = logging.getLogger("syncd.transfer")

SECOND_LOOK_SECONDS = 60.0
"""The delay of the second look at a file that was uploaded after an event, or that may be open for writing. A
write through a memory map raises no event and moves no timestamp until the kernel writes the page back, after
half a minute."""
HASTY_SECONDS = 1.0
"""How long a file has to be quiet when the operator does not want to wait for it to settle."""
_DOUBT_SECONDS = 5.0  # before the next attempt of a file whose root was not the expected one
_COSTLY_SECONDS = 1.0
"""A file that was read in vain for so long is left alone for a multiple of that time."""
_MOST_PAUSE_SECONDS = 600.0
_BUG_SECONDS = 60.0  # before the next attempt of a file whose failure could not be recorded
_APPEND_SHARE = 4.0
"""A growing file is left alone for so many times as long as it took to carry."""
VAIN_ATTEMPTS = 10
"""A file that failed so often in a row does not keep an object from being deleted."""
_ONCE_ATTEMPTS = 3  # `sync` gives up a file that keeps changing after so many attempts


class Workers:
    """The workers on one `queue`, as many as requests may be in flight."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        context: Context,
        heartbeat: Heartbeat,
        settings: StoreSettings | None = None,
    ) -> None:
        self._heartbeat = heartbeat
        self._on_turn = context.on_turn
        self.name = name
        self.engine = engine
        self.queue = WorkQueue(context.clock.monotonic, context.clock.chance)
        clock, recorded = context.clock.monotonic, engine.state.recorded
        self.donors = Donors(self.queue, engine.sources, heartbeat, clock, self._is_vain, recorded)
        engine.gate, engine.heirs.siblings = self._gate, self.donors.heirs
        self.donors.is_hasty, engine.spare = context.once, self.donors.spare
        self.queue.longest = self.longest
        self.health = Health(
            name,
            self.queue,
            engine.trouble,
            context.clock,
            once=context.once,
            is_disk=isinstance(settings, DirSettings),
            concurrency=engine.policy.concurrency,
        )
        self._listener = context.listener
        self._clock = context.clock
        self._once = context.once
        self.refusals = Refusals(settings, self._source)
        most_large = engine.policy.concurrency - engine.policy.concurrency // 4
        self.large = LargeFiles(most_large, self.queue.call, self.queue.is_left_out)
        """A quarter of the workers is reserved for files that fit one request."""
        self._vain_reads: dict[FileRef, int] = {}
        """How often in a row a file changed or became unreadable after much of it was read."""
        self._took: dict[FileRef, float] = {}
        """How many seconds it took to carry a growing file."""
        self._lock = threading.Lock()
        self._started = self._stopping = False
        self._replaced: set[int | None] = set()
        self._numbers = itertools.count()
        self._threads = [self._thread() for _ in range(engine.policy.concurrency)]

    # ---- what others ask --------------------------------------------------------------------------------

    def remember_failure(self, failure: Failure) -> None:
        """Retry a file that an earlier process failed to send. Its attempts keep counting, and what the store
        refused twice waits. The operator wants a single pass now, so it does not wait.
        """
        if self._once:
            failure = Failure(failure.ref, failure.error, 0, 0)
        self.refusals.remember(failure, self._clock.monotonic(), self._clock.now_ns())
        self.queue.mark(failure.ref, quiet_seconds=0.0, event=True)

    def take_up(self, source: str, wanted: Callable[[str], bool]) -> None:
        """Mark the unfinished uploads of earlier processes: they go on, or end if a pattern now excludes
        them. Mark the failures that `wanted` includes, and forget the others. Raises StateError.
        """
        state = self.engine.state
        # First, because from then on refused files wait.
        for failure in state.failures.page(source, MAX_DEFERRED):
            if wanted(failure.ref.path):
                self.remember_failure(failure)
            else:
                state.failures.drop(failure.ref)
        for checkpoint in state.checkpoints.all():
            if checkpoint.ref.source == source:
                self.queue.mark(checkpoint.ref, quiet_seconds=0.0, event=True)
        for leftover in state.checkpoints.leftovers(self.engine.store.store_id):
            if leftover.ref.source == source and wanted(leftover.ref.path):
                self.queue.mark(leftover.ref, quiet_seconds=0.0, event=False)

    def retry(self, source: str, wanted: Callable[[str], bool]) -> int:
        """Retry the failed files of a source now, if `wanted` includes their paths. Raises StateError.

        It includes those that have used up their attempts. Returns how many there are.
        """
        known = self.engine.state.failures.page(source, MAX_DEFERRED)
        failed = [each.ref for each in known if wanted(each.ref.path)]
        for ref in failed:
            self.refusals.pardon(ref)
            self.engine.state.checkpoints.pardon(ref)
            if self.queue.about(ref) is None:
                self.queue.mark(ref, quiet_seconds=0.0, event=True)
        hastened = self.queue.retry(lambda ref: ref.source == source and wanted(ref.path))
        return max(hastened, len(failed))

    def _pause(self, ref: FileRef, took_seconds: float) -> float:
        """Return how long to leave a file alone that was read in vain: ever longer, by its cost. In the end
        reading takes a fifth of the time, however large the file is.
        """
        if took_seconds < _COSTLY_SECONDS:
            return 0.0
        with self._lock:
            self._vain_reads[ref] = times = self._vain_reads.get(ref, 0) + 1
        longest = max(_MOST_PAUSE_SECONDS, took_seconds * (min(times, 5) - 1))
        return min(longest, took_seconds * 2.0 ** min(times, 20))

    def discard(self, source: str) -> None:
        """Forget the waiting files of a source whose root cannot be trusted, or that was removed."""
        self.refusals.discard(source)
        with self._lock:
            self._took = {ref: seconds for ref, seconds in self._took.items() if ref.source != source}
            self._vain_reads = {ref: times for ref, times in self._vain_reads.items() if ref.source != source}
        self.queue.discard(source)

    def start(self) -> None:
        """Start the threads, once."""
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _thread(self) -> threading.Thread:
        name = f"worker-{next(self._numbers)}-{self.name}"
        return threading.Thread(target=self._run, name=name, daemon=True)

    def replace(self, given_up: Collection[int | str]) -> None:
        """Start a thread for each of these (by identifier) that is a worker; it ends with its present file.

        It waits in the kernel for a folder that does not answer, and the end does not wait for it.
        """
        with self._lock:
            for thread in [thread for thread in self._threads if thread.ident in given_up]:
                self._replaced.add(thread.ident)
                self._threads.remove(thread)
                if not self._stopping:
                    self._threads.append(self._thread())
                    self._threads[-1].start()

    def waits_for_folders(self) -> bool:
        """Return whether a thread is left that waits for a folder that does not answer."""
        return bool(self._replaced)

    def stop(self) -> None:
        """Ask the workers to end, without waiting."""
        self._stopping = True
        self.queue.close()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the workers; return whether all ended that were not replaced."""
        deadline = self._clock.monotonic() + seconds
        for thread in list(self._threads):
            if thread.is_alive():
                thread.join(max(0.0, deadline - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    # ---- the loop ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        affinity.narrow()
        with roots_kept() as give_back:
            while (taken := self.queue.take(give_back)) is not None:
                if not self._turn(taken) or self._is_replaced():
                    return

    def _is_replaced(self) -> bool:
        if not self._replaced:
            return False
        with self._lock:
            found = threading.get_ident() in self._replaced
            self._replaced.discard(threading.get_ident())
        return found

    def step(self) -> bool:
        """Process one file that is due, in the calling thread; return False if none was."""
        taken = self.queue.take_due()
        return taken is not None and self._turn(taken)

    def _turn(self, taken: Taken) -> bool:
        """Process one file; return False after a request to stop."""
        self._heartbeat.step()
        self._on_turn()
        try:
            self._process(taken)
        except Stopped:
            return False  # its checkpoint stays; the next start finds the file again
        except BaseException as error:  # noqa: BLE001  no error ends a worker
            self._rescue(taken.ref, error)
        finally:
            self.large.ended(taken.ref)
            self._heartbeat.rest()
            self._on_turn()
        return True

    def _process(self, taken: Taken) -> None:
        if self.health.is_in_trouble and not self.health.ask_again(taken.ref):
            waited_seconds = self._clock.monotonic() - taken.first_marked
            # so that it keeps its place among the others
            self.queue.defer(taken.ref, -waited_seconds, hold=True, delete_allowed=taken.delete_allowed)
            return
        began = self._clock.monotonic()
        try:
            outcome = self.engine.sync(
                taken.ref,
                event=taken.event,
                settle_seconds=min(self._settle_seconds(taken.ref), HASTY_SECONDS if taken.hasty else inf),
                delete_allowed=taken.delete_allowed,
                failed_before=self.refusals.attempts(taken.ref) > 0,
                overdue=self._is_overdue(taken, began),
            )
        except Stopped:
            raise
        except BaseException as error:  # noqa: BLE001  one bad file never stops the others
            self._failed(
                taken.ref, error, self._clock.monotonic() - began, delete_allowed=taken.delete_allowed
            )
        else:
            self._finished(taken, outcome, began)

    def _gate(self, ref: FileRef, seen: FileStat) -> None:
        """Raise PutsWait unless content of this file may be read and sent now."""
        now = self._clock.monotonic()
        if seconds := self.refusals.seconds(ref, seen, now):
            raise PutsWait("the store refused this version of the file", seconds)
        if seen.size > self.engine.policy.part_size and not self._once:
            self.large.enter(ref)
        self.health.may_put(now)
        if seen.size >= affinity.LARGE_BYTES:
            self.queue.has_large()

    def _is_vain(self, ref: FileRef) -> bool:
        """Return whether no success of the file is to be expected soon."""
        fails = self.refusals.is_refused(ref) or self.refusals.attempts(ref) >= VAIN_ATTEMPTS
        return fails or bool(self.health.quota)  # a deletion makes room

    def longest(self, ref: FileRef) -> float:
        """Return how many seconds a growing file may go on before it is carried; infinite for any other file.

        One that takes long to read and send is carried more rarely.
        """
        known = self.engine.sources.get(ref.source)
        if known is None or not known.appends(ref.path):
            return inf
        return max(known.source.append_seconds, _APPEND_SHARE * self._took.get(ref, 0.0))

    def _is_overdue(self, taken: Taken, now: float) -> bool:
        if self._once:
            return self.refusals.attempts(taken.ref) >= _ONCE_ATTEMPTS - 1
        longest = 2 * HASTY_SECONDS if taken.hasty else inf
        return now - taken.first_marked >= min(longest, self.longest(taken.ref))

    def _source(self, name: str) -> Source | None:
        known = self.engine.sources.get(name)
        return None if known is None else known.source

    def _settle_seconds(self, ref: FileRef) -> float:
        return self.engine.sources[ref.source].source.settle_seconds

    def _rescue(self, ref: FileRef, error: BaseException) -> None:
        log.error("%s: unexpected error after the transfer", name_of(ref), exc_info=error)
        if self.queue.is_processing(ref):
            self.queue.defer(ref, _BUG_SECONDS, hold=True)

    # ---- afterwards -------------------------------------------------------------------------------------

    def _finished(self, taken: Taken, outcome: Outcome, began: float) -> None:
        ref, now = taken.ref, self._clock.monotonic()
        is_there = isinstance(outcome.action, (Upload, Copy, Adopt))
        failed_before = self.refusals.forget(ref)
        with self._lock:
            self._vain_reads.pop(ref, None)
            self._took.pop(ref, None)
            if is_there and self.longest(ref) < inf:
                self._took[ref] = now - began
        if failed_before:  # an outcome without a commit leaves the failure in the state
            self._keep_in_state(self.engine.state.failures.drop, ref)
        self._tell(self._listener.finished, ref, outcome, now - taken.first_marked)
        if is_there or (isinstance(outcome.action, Delete) and not outcome.wants_delete):
            self.health.answered(began)
            if outcome.bytes_sent:
                self._took_content(ref, began)
        else:
            self.queue.probe()
        if outcome.look_again_seconds is not None and not self._once:
            self.queue.mark(ref, quiet_seconds=outcome.look_again_seconds, event=False, sent=True)
        for link in outcome.links:
            self.queue.mark(link, quiet_seconds=0.0, event=True)
        if is_there and (taken.event or outcome.second_look) and not self._once:
            self.queue.look_again(ref, SECOND_LOOK_SECONDS)
        if outcome.doubt_seconds is not None and not self._once:
            self.queue.look_into_doubt(ref, outcome.doubt_seconds)
        self._keep_in_state(self._clear_up, ref)
        if self.queue.done(ref):  # no further transaction would write the last records
            self._keep_in_state(self.engine.state.flush)

    def _took_content(self, ref: FileRef, began: float) -> None:
        """Let refused files be tried again, because the store took content."""
        if freed := self.refusals.acquit(ref):
            self.queue.retry(freed.__contains__)
        self.health.took_content(began)

    def _clear_up(self, ref: FileRef) -> None:
        """Abort uploads that could not be aborted before, after this file, because nothing waits for it."""
        seconds = self.engine.clear_up()
        if seconds is not None and not self._once:
            self.queue.look_again(ref, seconds)  # so that it is called again even if nothing happens

    def _failed(
        self, ref: FileRef, error: BaseException, took_seconds: float, *, delete_allowed: bool
    ) -> None:
        if isinstance(error, RootChanged):
            self._tell(self._listener.root_changed, ref.source, str(error))
            self.queue.probe()
            # If the root is missing, the source runner discards the file.
            self.queue.defer(ref, _DOUBT_SECONDS, hold=True, delete_allowed=delete_allowed)
            return
        if isinstance(error, PutsWait) and (not self._once or self.refusals.is_refused(ref)):
            self._wait(ref, error, delete_allowed=delete_allowed)
            return
        if isinstance(error, FileWaits):
            self.queue.probe()
            self.queue.again(ref, error.quiet_seconds)  # it did not change: a single pass waits for its turn
            return
        if isinstance(error, TooYoung):
            self.queue.done(ref)  # the scan has counted it, and a later pass finds it
            return
        trouble = self.health.ask(error)
        answers = is_unclear(error) and trouble is None
        attempts, refusals = self.refusals.attempt(ref, error, self._clock.monotonic())
        reaction = react(
            error if answers or trouble is None else trouble,
            attempts,
            self._clock.chance(),
            refusals=refusals,
            store_answers=answers,
        )
        reaction = self._at_its_cost(ref, error, reaction, took_seconds)
        if reaction.refused:
            refusals = max(refusals + 1, error.sends if isinstance(error, StoreError) else 0)
        given_up = self._once and (not reaction.again or attempts >= _ONCE_ATTEMPTS)
        if reaction.record or self._once:
            self.refusals.count(ref, attempts, refusals)
        parked = self._record(ref, error, attempts, refusals, reaction)
        if given_up or not reaction.again:
            self._tell(self._listener.failed, ref, error, attempts)
        self.health.judge_quota(ref, error)
        self.health.judge(ref, trouble or error, reaction, answers=answers, asked=trouble is not None)
        if given_up or parked:
            self.queue.done(ref)
        else:
            self._put_off(ref, error, reaction, took_seconds, delete_allowed=delete_allowed)

    def _wait(self, ref: FileRef, error: PutsWait, *, delete_allowed: bool) -> None:
        """Put off a file that did not fail, but cannot be sent now."""
        self.queue.probe()
        if error.seconds < inf and not self._once:
            self.queue.defer(ref, error.seconds, hold=False, delete_allowed=delete_allowed)
        else:
            self.queue.done(ref)  # a single pass has reported why it failed
        if isinstance(error, NoRoom):
            self.large.wait(ref)

    def _at_its_cost(
        self, ref: FileRef, error: BaseException, reaction: Reaction, took_seconds: float
    ) -> Reaction:
        """Let an unreadable file wait longer if reading took long: disks try bad sectors for minutes."""
        is_unreadable = isinstance(error, FileError) and reaction.record
        pause = self._pause(ref, took_seconds) if is_unreadable else 0.0
        if not pause:
            return reaction
        return replace(reaction, defer_seconds=max(reaction.defer_seconds, pause), hold=True)

    def _put_off(
        self,
        ref: FileRef,
        error: BaseException,
        reaction: Reaction,
        took_seconds: float,
        *,
        delete_allowed: bool,
    ) -> None:
        """Defer the file. The permission to delete holds until the object or the reason for it is gone."""
        if reaction.again:
            seconds = reaction.defer_seconds or self._settle_seconds(ref)
            # A pause says nothing about the file: when it ends, the upload goes on at once.
            pause = 0.0 if isinstance(error, FilePaused) else self._pause(ref, took_seconds)
            self.queue.again(ref, max(seconds, pause), hold=pause > 0)
            return
        if not self.queue.defer(
            ref, reaction.defer_seconds, hold=reaction.hold, delete_allowed=delete_allowed
        ):
            self.refusals.forget(ref)

    def _record(
        self, ref: FileRef, error: BaseException, attempts: int, refusals: int, reaction: Reaction
    ) -> bool:
        """Record the failure for `status`; return True if the file has used up its attempts."""
        if reaction.bug:
            log.error(
                "%s: unexpected error", name_of(ref), exc_info=error, extra={"cause": repr(type(error))}
            )
        if not reaction.record:
            return False
        limit = self.engine.policy.max_attempts
        parked = bool(limit) and attempts >= limit
        next_ns = 0 if parked else self._clock.now_ns() + int(reaction.defer_seconds * 1e9)
        until = inf if parked else self._clock.monotonic() + reaction.defer_seconds
        refused = self.refusals.refuse(ref, error, until) if reaction.refused else b""
        failure = Failure(ref, words_of(error), attempts, next_ns, refusals, refused)
        self._keep_in_state(self.engine.state.failures.record, failure)
        if attempts == 1 or parked:
            log.warning("%s: %s", name_of(ref), error, extra={"cause": f"file failed: {cause_of(error)}"})
        return parked

    def _keep_in_state(self, write: Callable[[*Values], None], *values: *Values) -> None:
        """Write to the state. If that fails, sending pauses; the files stay dirty and are retried soon."""
        try:
            write(*values)
        except StateError as error:
            self.health.judge(None, error, react(error, 1, 0.0))

    def _tell(self, hear: Callable[[*Values], None], *values: *Values) -> None:
        try:
            self._keep_in_state(hear, *values)
        except Exception as error:
            log.error("unexpected error while reporting the result of a file", exc_info=error)
