"""A source's objects get their properties: all of them, each once, and what stands in the way is named."""

from __future__ import annotations

import pytest

from syncd.core.errors import StoreRefused, StoreUnavailable
from syncd.core.model import Properties
from syncd.pipeline.passes.restamp import Restamped, restamp
from tests.unit.pipeline.house import House

NAMES = [f"d/{number:02}" for number in range(50)]


@pytest.fixture
def full(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Fifty files are there; since then the configuration speaks of their objects. Pages are small."""
    monkeypatch.setattr("syncd.state.state._PAGE", 7)
    house.write(*NAMES)
    house.start()
    house.settle()
    house.rig.know(properties=lambda path: Properties(cache_control="no-cache"))
    house.rig.fake.reset_counters()
    return house


def _run(house: House, *, dry_run: bool = False, most: int = 10**6) -> Restamped:
    asked = iter(range(most))
    return restamp(
        house.runner, house.rig.state, dry_run=dry_run, goes_on=lambda: next(asked, None) is not None
    )


def test_every_object_is_copied_once_and_an_interruption_costs_nothing(full: House) -> None:
    """A dry run names them and copies none; after an interruption only the others are copied."""
    planned = _run(full, dry_run=True)
    assert (planned.changed, sorted(planned.named)) == (50, [f"docs:{name}" for name in NAMES])
    assert full.rig.fake.calls["copy_object"] == 0
    first = _run(full, most=3)
    assert first.ended == "it was interrupted"
    assert 0 < first.changed < 50
    rest = _run(full)
    assert (rest.objects, rest.changed, rest.kept, rest.ended) == (50, 50 - first.changed, 0, "")
    assert full.rig.fake.calls["copy_object"] == 50
    assert _run(full).changed == 0


def test_one_that_is_refused_stops_no_other(full: House) -> None:
    """It is named, with the reason."""
    full.rig.fake.fail(
        "copy_object", StoreRefused("it is in the archive"), when=lambda call: call.key == "p/d/07"
    )
    done = _run(full)
    assert (done.changed, done.kept, done.left) == (49, 1, ["docs:d/07: it is in the archive"])


def test_a_store_that_is_down_and_a_pause_end_it(full: House) -> None:
    """Not after one failure, and not after a failure for each of a million objects."""
    full.rig.fake.fail("head_object", StoreUnavailable("down"), times=1000)
    done = _run(full)
    assert done.ended == "its store cannot be used: down"
    assert done.kept < 50
    full.workers.queue.hold(0.0, {"docs": float("inf")})
    assert _run(full).ended == "it is paused by the operator"


def test_no_sign_of_life_is_expected_of_threads_that_have_ended(house: House) -> None:
    """Or the daemon would count as stuck three minutes later."""
    house.write("a")
    house.rig.sync("a")
    heartbeat = house.rig.engine.readers.heartbeat
    heartbeat.rest()
    assert _run(house).objects == 1
    assert not heartbeat._heartbeats.are_expected()
