"""Threads that take turns anyway keep to one processor; digests of large files keep all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.transfer.pace import affinity
from syncd.transfer.pace.affinity import LARGE_BYTES, narrow, room_for
from tests.support.rig import Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import Running

ALL = os.sched_getaffinity(0)

several = pytest.mark.skipif(len(ALL) < 2, reason="there is one processor only")


def _in_a_thread(work: Callable[[], set[int]]) -> set[int]:
    return Running(work).result()


@several
def test_a_narrow_thread_keeps_to_one_processor() -> None:
    """The same for all that ask, and no other thread is affected."""

    def work() -> set[int]:
        narrow()
        return os.sched_getaffinity(0)

    first, second = _in_a_thread(work), _in_a_thread(work)
    assert first == second
    assert len(first) == 1
    assert os.sched_getaffinity(0) == ALL


@several
def test_a_large_file_has_all_processors_while_it_is_handled() -> None:
    """Also the threads that are started in between; afterwards it is one again."""
    seen: list[set[int]] = []

    def work() -> set[int]:
        narrow()
        with room_for(LARGE_BYTES):
            seen.append(os.sched_getaffinity(0))
            helper = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
            helper.start()
            helper.join()
        return os.sched_getaffinity(0)

    assert len(_in_a_thread(work)) == 1
    assert seen == [ALL, ALL]


@several
def test_a_small_file_moves_nobody() -> None:
    """Two system calls would be more than it is worth."""

    def work() -> set[int]:
        narrow()
        with room_for(LARGE_BYTES - 1):
            return os.sched_getaffinity(0)

    assert len(_in_a_thread(work)) == 1


def test_a_thread_that_never_was_narrow_stays_as_it_is() -> None:
    """Whatever the size."""
    with room_for(LARGE_BYTES):
        assert os.sched_getaffinity(0) == ALL
    assert os.sched_getaffinity(0) == ALL


def test_where_it_is_forbidden_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the sandbox of the service."""

    def refuse(pid: int, mask: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(affinity.os, "sched_setaffinity", refuse)
    narrow()
    with room_for(LARGE_BYTES):
        assert os.sched_getaffinity(0) == ALL


@several
def test_parts_of_a_large_file_go_out_on_all_processors(tmp_path: Path) -> None:
    """Its step runs on a narrow thread, and the senders are started in it."""
    limits = replace(SMALL_LIMITS, max_put_size=LARGE_BYTES, max_part_size=LARGE_BYTES)
    rig = Rig(tmp_path, store=FakeStore(limits), part_size=LARGE_BYTES)
    seen: list[set[int]] = []
    rig.fake.before("upload_part", lambda call: seen.append(os.sched_getaffinity(0)))
    rig.write("file", bytes(2 * LARGE_BYTES))

    def work() -> set[int]:
        narrow()
        rig.sync("file")
        return os.sched_getaffinity(0)

    try:
        assert len(_in_a_thread(work)) == 1
    finally:
        rig.close()
    assert seen
    assert all(mask == ALL for mask in seen)
