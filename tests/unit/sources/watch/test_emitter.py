"""The reading thread's parts: the canary, and turns that end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver, EventEmitter

from syncd.sources.watch import inotify
from syncd.sources.watch.emitter import Canary, InotifyEmitter
from syncd.sources.watch.inotify import Inotify
from tests.unit.sources.watch.watch_rig import Stepper


@pytest.fixture
def kernel() -> Iterator[Inotify]:
    instance = Inotify()
    yield instance
    instance.close()


def test_emitter_is_one_for_watchdogs_observer() -> None:
    """What runs is a watchdog emitter, so watchdog's observer starts, stops and joins it."""
    assert issubclass(InotifyEmitter, EventEmitter)
    assert BaseObserver(InotifyEmitter).emitters == set()


def test_canary_sings_and_writes_nothing(kernel: Inotify, tmp_path: Path) -> None:
    """Its song is one record of an opened file; the file stays as it is."""
    canary = Canary(str(tmp_path / "made/for/it"))
    canary.place(kernel)
    before = os.stat(tmp_path / "made/for/it/canary")
    canary.trigger()

    assert [(r.watch, r.mask) for r in kernel.read()] == [(canary.watch, inotify.OPEN)]
    assert os.stat(tmp_path / "made/for/it/canary") == before


def test_canary_is_private(kernel: Inotify, tmp_path: Path) -> None:
    """Nobody else can list or open what it needs."""
    Canary(str(tmp_path / "canary")).place(kernel)

    assert [os.stat(tmp_path / path).st_mode & 0o777 for path in ("canary", "canary/canary")] == [
        0o700,
        0o600,
    ]


def test_canary_is_not_a_symbolic_link(
    kernel: Inotify, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that somebody put in its place is not followed; there is no canary then, which is said once."""
    (tmp_path / "canary").symlink_to(tmp_path / "precious")
    canary = Canary(str(tmp_path))
    canary.place(kernel)
    canary.place(kernel)

    assert (canary.watch, (tmp_path / "precious").exists(), len(caplog.records)) == (None, False, 1)


def test_turns_come_to_rest(tmp_path: Path) -> None:
    """After a burst of work there comes a turn with nothing left to do."""
    (tmp_path / "root").mkdir()
    stepper = Stepper(tmp_path / "root", tmp_path / "canary")
    for number in range(300):
        (tmp_path / f"root/{number}/a").mkdir(parents=True)
    stepper.catch_up()

    assert stepper.watches == 601
    assert stepper.step() is False
    stepper.close()
