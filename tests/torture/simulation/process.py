"""syncd itself, on a tree and a store of ours: its pipeline as it is, with steps instead of threads.

What the daemon's threads would do is done when `step` is called, in an order that a seed decides. While a
request or a system call of one step is under way, another worker or the keeper may get its turn: they are
nested, so that what happens between two calls of one is what others do, as with threads.
"""

from __future__ import annotations

import concurrent.futures
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from math import inf
from typing import Any
from unittest import mock

from msgspec.structs import replace

from syncd.core.model import FileRef, Source, TransferPolicy
from syncd.core.plan import Outcome
from syncd.pipeline import donors
from syncd.pipeline.context import Clock
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.source_runner import SourceRunner
from syncd.pipeline.store_runner import StoreRunner
from syncd.sources import directories, entries, files, mounts, root, selection
from syncd.sources.scan import compare, walk
from syncd.state import queries
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.opening import StoreContext
from syncd.storage.retry import RetryingStore
from syncd.storage.settings import DirSettings
from syncd.transfer import audit, local, reuse
from syncd.transfer.pace.slots import Slots
from syncd.transfer.upload import ahead
from syncd.transfer.upload import part_sender as partsender
from tests.torture.simulation.syscalls import Syscalls

READERS = (audit, compare, directories, donors, entries, files, local, root, selection, walk)
"""The modules that read sources."""


class Death(BaseException):
    """The process is gone: nothing may catch this and go on."""


class Later(Executor):
    """A pool without threads: what is submitted is done when a caller waits for it, in a seeded order."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._waiting: dict[Future[Any], Callable[[], Any]] = {}

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting[future] = lambda: task(*args, **kwargs)
        return future

    def wait(self, futures: Mapping[Future[Any], Any], return_when: str) -> tuple[set[Future[Any]], set[Any]]:
        """Takes the place of `concurrent.futures.wait`."""
        left = [future for future in futures if future in self._waiting]
        while left:
            future = left.pop(self._chance.randrange(len(left)))
            self._do(future)
            if return_when == concurrent.futures.FIRST_COMPLETED:
                break
        ended = {future for future in futures if future.done()}
        return ended, set(futures) - ended

    def make_room(self, slots: Slots, size: int) -> None:
        """Takes the place of waiting for a slot: the threads that have one run until there is room.

        Where the others are steps that this one is nested in, they cannot end first: it goes on beside them.
        """
        while not slots._enter_at_once(size):
            if not self._waiting:
                slots._take(size)
                return
            future = [*self._waiting][self._chance.randrange(len(self._waiting))]
            self._do(future)
            if not future.cancelled() and isinstance(future.exception(), Death):
                future.result()

    def _do(self, future: Future[Any]) -> None:
        task = self._waiting.pop(future)
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(task())
        except BaseException as error:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._waiting.clear()


@contextmanager
def reading(calls: Syscalls, senders: Later) -> Iterator[None]:
    """The modules that read sources, and the one that waits for parts, use ours."""
    with ExitStack() as stack:
        for module in READERS:
            stack.enter_context(mock.patch.object(module, "os", calls))
        for module in (directories, files):
            stack.enter_context(mock.patch.object(module, "fcntl", calls))
        stack.enter_context(mock.patch.object(reuse, "SECOND_LOOK_PARTS", 3))
        stack.enter_context(mock.patch.object(ahead, "LEAST_PARTS", 3))
        stack.enter_context(mock.patch.object(local, "_KEPT_SECONDS", inf))  # of another clock
        stack.enter_context(mock.patch.object(mounts, "type_of", return_value="ext4"))
        stack.enter_context(mock.patch.object(reuse, "MANY", 1))  # so that a few deletions are many
        stack.enter_context(mock.patch.object(queries, "FEWEST_FILES", 1))  # its folders are small
        stack.enter_context(mock.patch.object(partsender, "wait", senders.wait))
        stack.enter_context(mock.patch.object(Slots, "_wait", lambda *needed: senders.make_room(*needed)))
        yield


class Process:
    """One life of syncd. `effect` is called before and after every transaction; it may raise."""

    def __init__(
        self,
        state_dir: str,
        source: Source,
        store: ObjectStore,
        clock: Clock,
        *,
        sleep: Callable[[float], None],
        chance: random.Random,
        senders: Later,
        effect: Callable[[str, bool], None],
        told: Callable[[str], None],
        in_a_row: int = 1,
    ) -> None:
        self._in_a_row = in_a_row
        self._clock = clock
        self._sleep = sleep
        self._effect = effect
        self._told = told
        self.disk_full = False
        """The state cannot be written."""
        self.steps = 0
        self._notes: list[AbstractContextManager[None]] = []
        """Those of requests under way at the death."""
        self._store = store
        self._senders = senders
        self._busy_keeper = False
        self.state = State.open(state_dir, now_ns=clock.now_ns, monotonic=clock.monotonic)
        self._mortal_state()
        self.pipeline = Pipeline(self.state, clock, opener=self._opened, machine_id="simulated")
        self._finished = self.pipeline.finished
        self.pipeline.finished = self._outcome  # type: ignore[method-assign]
        policy = TransferPolicy(concurrency=6, part_size=8)
        self.pipeline.apply([source], {"store": DirSettings("/nowhere")}, policy)
        uploader = self.line.uploader
        uploader._parts._senders = senders
        uploader._new_token = lambda: f"{chance.randrange(1 << 64):016x}"
        self.runner.begin()

    @property
    def line(self) -> StoreRunner:
        return self.pipeline.store_runners["store"]

    @property
    def runner(self) -> SourceRunner:
        return self.pipeline.source_runners["docs"]

    # ---- steps ------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When there is something to do, if nothing happens before."""
        runner, queue = self.runner.due(), self.line.workers.queue.due()
        due = queue if runner is None else min(runner, queue)
        return None if due == inf else due

    def step(self, keeper_first: bool) -> bool:
        """One step of a worker or of the keeper; whether there was one to do."""
        turns = (self._keeper_turn, self._worker_turn)
        done = any(turn() for turn in (turns if keeper_first else turns[::-1]))
        self.steps += done
        return done

    def nested(self, keeper_first: bool) -> bool:
        """A step in the middle of another one, unless it would wait for that one without end."""
        if self.state.locks._copies:
            return False
        return self.step(keeper_first)

    def _worker_turn(self) -> bool:
        """Some files in a row, as far as they are due: only a worker that waits gives its root back."""
        with local.roots_kept():
            return sum(self.line.workers.step() for _ in range(self._in_a_row)) > 0

    def _keeper_turn(self) -> bool:
        if self._busy_keeper:
            return False
        self._busy_keeper = True
        try:
            return self.runner.step()
        finally:
            self._busy_keeper = False

    # ---- ends -------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """As SIGTERM does it."""
        self.pipeline.stop(0.0)
        self.state.close()

    def die(self) -> None:
        """As SIGKILL does it: what was joined and not written is lost."""
        writer = self.state._writer
        assert writer is not None
        writer._queue.clear()
        noted = self.state.under_way
        assert noted is not None
        with suppress(OSError):  # it died in the middle of its good order
            os.close(noted._fd)
        noted._fd = -1
        self._notes.clear()
        self.state._reader.close()
        writer._connection.close()

    # ---- inside -----------------------------------------------------------------------------------------

    def _opened(self, settings: object, context: StoreContext) -> ObjectStore:
        """As `open_store` wraps what it opens."""
        clock = replace(context.clock, sleep=self._sleep)
        noted, store = self.state.under_way, self._store
        assert noted is not None
        return RetryingStore(
            self._store,
            clock,
            context.breaker,
            retries=context.retries,
            unsettled=context.unsettled,
            under_way=lambda key, creates: self._noted(noted.note(store.store_id, key, creates=creates)),
        )

    @contextmanager
    def _noted(self, note: AbstractContextManager[None]) -> Iterator[None]:
        """A death takes no note back; that is not to happen when the note is collected either."""
        note.__enter__()
        try:
            yield
        except Death:
            self._notes.append(note)
            raise
        except BaseException:
            note.__exit__(None, None, None)
            raise
        note.__exit__(None, None, None)

    def _outcome(self, ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        self._finished(ref, outcome, delay_seconds)
        if outcome.wants_delete:
            return
        self._told(f"{ref.path}: {type(outcome.action).__name__}, {outcome.action.reason}")

    def _mortal_state(self) -> None:
        """Every transaction is an effect, before and after which the process may die; or a disk is full."""
        writer = self.state._writer
        assert writer is not None
        attempt, check = writer._attempt, writer._check_file

        def mortal(tickets: list[Any]) -> Any:
            self._effect("state", False)
            result = attempt(tickets)
            self._effect("state", True)
            return result

        def checked() -> None:
            check()
            if self.disk_full:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error

        writer._attempt = mortal  # type: ignore[method-assign]
        writer._check_file = checked  # type: ignore[method-assign]
