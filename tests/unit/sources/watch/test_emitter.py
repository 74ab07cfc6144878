"""The reading thread's parts: the canary, and turns that end."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver, EventEmitter

from syncd.sources.watch import inotify
from syncd.sources.watch.emitter import Canary, InotifyEmitter
from syncd.sources.watch.inotify import Inotify
from tests.unit.sources.watch.watch_rig import Stepper


def test_emitter_is_one_for_watchdogs_observer() -> None:
    """What runs is a watchdog emitter, so watchdog's observer starts, stops and joins it."""
    assert issubclass(InotifyEmitter, EventEmitter)
    assert BaseObserver(InotifyEmitter).emitters == set()


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    made.close()


def test_canary_sings_and_writes_nothing(kernel: Inotify, canary: Canary) -> None:
    """Its song is one record of an opened file, again after it was placed again; the file stays as it is."""
    canary.place(kernel)
    before = os.fstat(canary._fd)
    for _ in range(2):
        canary.trigger()
        assert [(r.watch, r.mask) for r in kernel.read()] == [(canary.watch, inotify.OPEN)]
        canary.place(kernel)
    assert os.fstat(canary._fd) == before


def test_canary_has_no_name(kernel: Inotify, canary: Canary) -> None:
    """No other process can open or sweep it, and one that is killed leaves nothing of it."""
    canary.place(kernel)
    assert os.fstat(canary._fd).st_nlink == 0
    assert not os.get_inheritable(canary._fd)


def test_canary_that_cannot_be_made_is_said_once(
    kernel: Inotify, canary: Canary, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is none then, and a later tick finds that it can be made now."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", refuse)
        canary.place(kernel)
        canary.place(kernel)
        assert (canary.watch, len(caplog.records)) == (None, 1)
    canary.place(kernel)
    assert canary.watch is not None


def refuse(name: str) -> int:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_turns_come_to_rest(tmp_path: Path) -> None:
    """After a burst of work there comes a turn with nothing left to do."""
    (tmp_path / "root").mkdir()
    stepper = Stepper(tmp_path / "root")
    for number in range(300):
        (tmp_path / f"root/{number}/a").mkdir(parents=True)
    stepper.catch_up()

    assert stepper.watches == 601
    assert stepper.step() is False
    stepper.close()
