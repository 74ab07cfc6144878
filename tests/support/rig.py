"""One source, one store, real state and real files: what the tests of engine and transfer stand on."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from syncd.core.model import Destination, FileRef, OnDelete, Source, TransferPolicy
from syncd.core.plan import Outcome
from syncd.pipeline.reconcile import Reconciliation
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.transfer.engine import Engine
from syncd.transfer.local import EngineSource
from syncd.transfer.pace.progress import Line, Progress
from syncd.transfer.pace.slots import Slots
from syncd.transfer.upload.uploader import Uploader
from tests.support.store import SMALL_LIMITS, FakeStore

PART = 8
"""Bytes of a part; a file of up to so many bytes fits one request."""


def open_paths() -> Counter[str]:
    """How many descriptors this process has of each path."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of this listing is closed
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
    return found


class Rig:
    """A folder, a store and all that is between them, without loop and thread of its own.

    `wrap_state` and `wrap_store` put something between the engine and the real ones. `restart` is what a new
    process would find: the same directories and the same store, everything else new.
    """

    def __init__(
        self,
        root: Path,
        *,
        store: ObjectStore | None = None,
        part_size: int = PART,
        concurrency: int = 3,
        on_delete: OnDelete = OnDelete.KEEP,
        prefix: str = "p/",
        wrap_state: Callable[[State], Any] = lambda state: state,
        wrap_store: Callable[[ObjectStore], Any] = lambda store: store,
    ) -> None:
        self.folder = root / "folder"
        self.state_dir = root / "state"
        self.folder.mkdir(exist_ok=True)
        self.store = store if store is not None else FakeStore(SMALL_LIMITS, now_ns=time.time_ns)
        self.policy = TransferPolicy(concurrency=concurrency, part_size=part_size)
        self.instance = "this machine's docs"
        self.source = Source("docs", str(self.folder), "store", prefix=prefix, on_delete=on_delete)
        self._wrap_state = wrap_state
        self._wrap_store = wrap_store
        self._tokens = 0
        self.open()

    def open(self) -> None:
        """Open the state and build everything on it."""
        self.now_ns: Callable[[], int] = time.time_ns
        """The engine's clock, which a test may replace."""
        self.state = State.open(str(self.state_dir), now_ns=time.time_ns)
        self.senders = ThreadPoolExecutor(self.policy.concurrency)
        self.slots = Slots(self.policy.concurrency, self.policy.memory_limit)
        self.progress = Progress(Line(), sleep=time.sleep)
        self.uploader = Uploader(
            self._wrap_store(self.store),
            self._wrap_state(self.state),
            self.senders,
            self.slots,
            self.progress,
            now_ns=time.time_ns,
            new_token=self._token,
        )
        self.engine = Engine(
            {self.source.name: EngineSource(self.source, instance=self.instance)},
            self.uploader,
            self.policy,
            now_ns=lambda: self.now_ns(),
            should_stop=lambda: False,
        )

    def configure(self, **changes: Any) -> None:
        """Change the source as the engine and the state know it."""
        source = replace(self.engine.sources["docs"].source, **changes)
        self.know(source=source)
        self.state.serve([Destination(source.name, self.store.store_id, source.prefix)])

    def know(self, **changes: Any) -> None:
        """Change what the engine knows of the source."""
        self.engine.sources["docs"] = replace(self.engine.sources["docs"], **changes)

    def reconcile(self) -> Reconciliation:
        """What a source's runner has to compare the records with the store."""
        return Reconciliation(
            self.source, self.store, self.state, self.know, self.slots.heartbeat, time.monotonic
        )

    def _token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}-{os.getpid()}"

    def close(self) -> None:
        """Release everything but the directories."""
        self.senders.shutdown(wait=True, cancel_futures=True)
        self.state.close()

    def restart(
        self,
        *,
        wrap_state: Callable[[State], Any] = lambda state: state,
        wrap_store: Callable[[ObjectStore], Any] = lambda store: store,
    ) -> None:
        """A new process on the same directories."""
        self.close()
        self._wrap_state, self._wrap_store = wrap_state, wrap_store
        self.open()

    def write(self, name: str, content: bytes) -> FileRef:
        """Make or replace a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return self.ref(name)

    def ref(self, name: str) -> FileRef:
        return FileRef("docs", name)

    def sync(self, name: str, *, event: bool = True, delete_allowed: bool = False) -> Outcome:
        """One step for one file."""
        return self.engine.sync(self.ref(name), event=event, delete_allowed=delete_allowed)

    def plain(self, **changes: Any) -> None:
        """Another policy from the next `open` on."""
        self.policy = replace(self.policy, **changes)

    @property
    def fake(self) -> FakeStore:
        """The store, where it is the fake."""
        assert isinstance(self.store, FakeStore)
        return self.store
