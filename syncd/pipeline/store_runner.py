"""Everything that sends files to one store: the store, its slots, its engine and its workers.

Stores share the state and the bounds of the machine. One that hangs, fails or is reconfigured does not affect
the others.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress

from syncd.core.errors import StateError, Stopped, StoreUnavailable, SyncdError
from syncd.core.model import TransferPolicy
from syncd.pipeline.context import Context
from syncd.pipeline.workers import Workers
from syncd.sources.places import Places, silence
from syncd.state.state import State
from syncd.storage.base import DIGESTS, VERSION_KEYS, Breaker, Clock, Heartbeat, Memory, Meter, ObjectStore
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.settings import DirSettings, StoreSettings
from syncd.transfer.carrier import MOST_READERS
from syncd.transfer.engine import Engine
from syncd.transfer.pace import heartbeat
from syncd.transfer.pace.crew import Crew
from syncd.transfer.pace.progress import Line, Progress
from syncd.transfer.pace.slots import Bound, Slots
from syncd.transfer.upload.uploader import Uploader

log = logging.getLogger("syncd.store")

INSTANCE = "instance"
"""The state keeps the identity of a directory store under this name."""


class Bounds:
    """What all stores of the machine share under one policy: its line, requests, memory and readers."""

    def __init__(self, policy: TransferPolicy, line: Line) -> None:
        self.line = line
        self.requests = Bound(policy.concurrency, policy.memory_limit, self.line)
        self.readers = Bound(min(policy.concurrency, MOST_READERS), 0)


class StoreRunner:
    """One store, and all the threads that work for it."""

    def __init__(
        self,
        name: str,
        settings: StoreSettings,
        policy: TransferPolicy,
        context: Context,
        *,
        bounds: Bounds | None = None,
        opener: Callable[..., ObjectStore] = open_store,
    ) -> None:
        self.name = name
        self.settings = settings
        self.policy = policy
        self._state, self._listener = context.state, context.listener
        self.is_silent = False
        """The store's directory does not answer."""
        self._stopping = threading.Event()
        self._clock = clock = context.clock
        self.heartbeat = heartbeat.Heartbeat(context.heartbeats)
        bounds = bounds or Bounds(policy, Line(policy.bandwidth_limit.up, clock.monotonic, clock.now_ns))
        self.progress = Progress(
            bounds.line,
            sleep=self.sleep,
            heartbeat=self.heartbeat,
            is_held=lambda ref: self.workers.queue.is_held(ref.source),
            asks=lambda: self.workers.queue.asks(self.heartbeat.can_go_on),
        )
        self._slots = Slots(policy.concurrency, policy.memory_limit, self.heartbeat, bounds.requests)
        self.store = opener(settings, self._store_context(context.state))
        senders = min(policy.concurrency, policy.memory_limit // policy.part_size + 1)  # what fits, and one
        self._senders = ThreadPoolExecutor(senders, thread_name_prefix=f"sender-{name}")
        self.uploader = Uploader(
            self.store,
            context.state,
            self._senders,
            self._slots,
            self.progress,
            now_ns=clock.now_ns,
            new_token=lambda: secrets.token_hex(16),
        )
        self.engine = Engine(
            {},
            self.uploader,
            policy,
            now_ns=clock.now_ns,
            should_stop=self._should_stop,
            readers=bounds.readers,
        )
        self.workers = Workers(name, self.engine, context, self.heartbeat, settings)
        self.workers.queue.crew = Crew(policy.concurrency)

    def sleep(self, seconds: float) -> None:
        """Sleep; raise Stopped as soon as a shutdown begins."""
        if self._stopping.wait(seconds):
            raise Stopped

    def start(self) -> None:
        """Start the workers, and abort uploads that are no longer of use."""
        self.workers.start()
        if self.uploader.leftovers.look():
            self._senders.submit(self._clear_up)

    def _clear_up(self) -> None:
        try:
            self.engine.clear_up()
        except SyncdError as error:
            log.warning("%s: unfinished uploads stay in the store for now: %s", self.name, error)

    def stop(self) -> None:
        """Ask all threads to end, without waiting; they abandon requests in flight within seconds."""
        self._stopping.set()
        self._slots.stop()
        self.engine.readers.stop()
        self.workers.stop()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the workers; return whether all ended, and what they used is released."""
        ended = self.workers.join(seconds)
        if ended:
            self._senders.shutdown()
            self.store.close()
        return ended

    def abandon(self) -> None:
        """Go on without the requests that have not ended: their outcome counts as unknown."""
        for _, key in self._state.locks.abandon(self.uploader):
            self._unsettled(key, creates=True)

    def is_among(self, given_up: Collection[int | str]) -> bool:
        """Only if its directory does not answer: other workers are replaced when they are given up."""
        return self.is_silent

    def look(self, waits_seconds: float, places: Places) -> None:
        """Check whether the directory on which a thread has waited so long is slow or does not answer.

        If it does not, nothing is sent there. Call this every few seconds until the thread moves.
        """
        self.is_silent = isinstance(self.settings, DirSettings) and places.look(self.settings.path) is None
        if self.is_silent:
            words = f"the directory has not answered for {waits_seconds:.0f} s"
            self.workers.health.hangs(StoreUnavailable(words, hint="is the server of its file system down?"))

    def _should_stop(self) -> bool:
        """Say whether to stop. Called between blocks and while a peer is silent: the thread is alive."""
        self.heartbeat.step()
        return self._stopping.is_set()

    def _unsettled(self, key: str, creates: bool) -> None:
        with suppress(StateError):  # this process remembers it
            self._state.unsettled.add(self.store.store_id, key, creates=creates)

    def _under_way(self, key: str, creates: bool) -> AbstractContextManager[object]:
        noted = self._state.under_way
        if noted is None or isinstance(self.settings, DirSettings):
            return nullcontext()  # a system call does not outlive its process
        return noted.note(self.store.store_id, key, creates=creates)

    def _copied(self, store_id: str) -> None:
        why = "the store's directory is a copy of the one that was used, from a backup for example"
        for source in [each.source for each in self._state.destinations if each.store_id == store_id]:
            log.warning("%s: %s: every object is compared once", source, why)
            self._state.overtake(source)
            self._listener.root_changed(source, why)

    def _store_context(self, state: State) -> StoreContext:
        clock, slots = self._clock, self._slots

        def memory(name: str) -> Memory:
            return Memory(
                lambda store_id: state.learned(store_id, name) or "",
                lambda store_id, text: state.learn(store_id, name, text),
            )

        return StoreContext(
            Clock(lambda: clock.now_ns() / 1e9, self.sleep, clock.chance),
            self._should_stop,
            Heartbeat(lambda: self.heartbeat.enters(self.name), lambda: self.heartbeat.enters("")),
            Meter(self.progress.requested, self.progress.moved, answered=self.progress.answered),
            Breaker(lambda: self.workers.queue.is_shut, slots.throttled, slots.answered),
            memory(INSTANCE),
            unsettled=self._unsettled,
            digests=memory(DIGESTS),
            under_way=self._under_way,
            copied=self._copied,
            silence=silence,
            awaited=self.heartbeat.awaited,
            version_keys=memory(VERSION_KEYS),
        )
