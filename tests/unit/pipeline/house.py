"""Workers and one source's runner on a rig, wired as the pipeline does it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from syncd.core.model import FileRef
from syncd.core.plan import Outcome
from syncd.pipeline.context import Clock, Context
from syncd.pipeline.source_runner import SourceRunner
from syncd.pipeline.source_status import EventCoverage, WatchHandle
from syncd.pipeline.workers import Workers
from syncd.storage.base import ObjectStore
from syncd.transfer.pace.heartbeat import Heartbeat, Heartbeats
from tests.support.rig import Rig
from tests.support.waiting import wait_until


class House:
    """A rig with workers and one keeper, wired as the pipeline does it."""

    def __init__(
        self, root: Path, *, once: bool = False, store: ObjectStore | None = None, **source: Any
    ) -> None:
        self.rig = Rig(root, store=store)
        self.rig.now_ns = lambda: time.time_ns() + 10**10  # nothing is young
        self.once = once
        self.source = replace(self.rig.source, settle_seconds=0.0, **source)
        self.blind = EventCoverage()
        self.rewatched = 0
        self.jump = 0.0
        self.time = time.monotonic
        self.clock = Clock(lambda: self.time() + self.jump, time.time_ns, lambda: 0.5)
        self.open()

    def open(self) -> None:
        """Build everything on the rig."""
        context = Context(self.rig.state, self.clock, self, self.once, Heartbeats(60.0, self.clock.monotonic))
        heartbeat = Heartbeat(context.heartbeats)
        self.workers = Workers("store", self.rig.engine, context, heartbeat)
        watch = WatchHandle(lambda: self.blind, self._rewatch)
        self.runner = SourceRunner(self.source, self.workers, context, heartbeat, watch)

    def _rewatch(self) -> None:
        self.rewatched += 1

    def finished(self, ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        self.runner.gone(ref) if outcome.wants_delete else self.runner.file_done(ref)

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None:
        """Nothing follows from it here."""

    def root_changed(self, source: str, reason: str) -> None:
        self.runner.ask("", reason)

    def start(self) -> None:
        self.runner.start()
        self.workers.start()

    def restart(self) -> None:
        """What a new process would find."""
        self.stop()
        self.rig.restart()
        self.rig.now_ns = lambda: time.time_ns() + 10**10
        self.open()
        self.start()

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.jump += seconds
        with self.runner._changed:
            self.runner._changed.notify_all()
        with self.workers.queue._lock:
            self.workers.queue._work.notify_all()

    def settle(self) -> None:
        """Wait until the keeper has nothing to do and all files are done with."""
        wait_until("it settles", lambda: self._is_settled() and self._is_settled())

    def _is_settled(self) -> bool:
        runner = self.runner
        with runner._changed:
            idle = not runner._busy and (not runner.schedule.asked or runner.schedule.setbacks > 0)
        return idle and self.workers.queue.idle()

    def stop(self) -> None:
        self.runner.stop()
        self.workers.stop()
        assert self.runner.join(30.0)
        assert self.workers.join(30.0)

    def close(self) -> None:
        self.stop()
        self.rig.close()

    @property
    def objects(self) -> set[str]:
        return {key.removeprefix("p/") for key in self.rig.fake.objects}

    def write(self, *names: str) -> None:
        for name in names:
            self.rig.write(name, b"content of " + os.fsencode(name))


def remove(house: House, *names: str) -> None:
    for name in names:
        (house.rig.folder / name).unlink()
        house.workers.queue.mark(house.rig.ref(name), quiet_seconds=0.0, event=True)
