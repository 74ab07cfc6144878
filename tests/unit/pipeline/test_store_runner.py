"""Everything that works for one store is wired to it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.backoff import Bandwidth, Timetable
from syncd.core.errors import Stopped
from syncd.core.model import FileRef, ObjectMeta, TransferPolicy
from syncd.pipeline.context import Context, real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.store_runner import StoreRunner
from syncd.sources.fingerprint import of_bytes
from syncd.state.state import State
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings

POLICY = TransferPolicy(concurrency=3, part_size=8)


def test_a_store_runner_wires_its_store_to_its_meter(tmp_path: Path) -> None:
    """Bytes, requests and signs of life of the store arrive where they belong; a directory has them, too."""
    state = State.open(str(tmp_path / "state"), now_ns=time.time_ns)
    (tmp_path / "mirror").mkdir()
    context = Context(state, real_clock(), Pipeline(state, real_clock()))
    limited = replace(POLICY, bandwidth_limit=Bandwidth(Timetable(((0, 1 << 30),))))
    some = StoreRunner("nas", DirSettings(str(tmp_path / "mirror")), limited, context)
    some.store.put_object("a", b"12345", ObjectMeta(of_bytes(b"12345"), 0))
    assert some.progress.requests == 1
    assert some.progress.line.look()[1] == 5
    assert some.progress.line.holds().rate == 1 << 30
    breaker = some._store_context(state).breaker
    assert not breaker.is_shut()
    queue = some.workers.queue
    assert queue.crew.size == POLICY.concurrency
    queue.mark(FileRef("docs", "a"), quiet_seconds=0.0, event=True)
    assert queue.take() is not None
    queue.crew.size = 1
    some.progress.requested()  # no other worker has anything to do at that time
    assert queue.crew.size == 2
    queue.pause(60.0)
    assert breaker.is_shut()
    breaker.busy()
    assert int(some._slots._open) < POLICY.concurrency
    with some._store_context(state).under_way("key", True):
        assert state.under_way is not None
        assert state.under_way.left() == []  # a system call ends with its process
    some.settings = BosSettings(HttpSettings("http://localhost"), "bucket")
    with some._store_context(state).under_way("key", True):
        assert state.under_way.left() == [(some.store.store_id, "key", True)]
    some.stop()
    with pytest.raises(Stopped):
        some.sleep(60.0)
    assert some.join(30.0)
    state.close()
