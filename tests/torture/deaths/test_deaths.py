"""Dies at every effect on state and store in turn, starts again, runs on, and checks the invariants.

The points are generated from the interfaces. For each call of a method of `ObjectStore` or of the state that
has an effect: before it, after it, and both with the answer lost while the process lives on. For each
question: the answer is lost. `tests.torture.deaths` says what is done and what has to hold.

Every moment on every store, and every second death, takes a while::

    SYNCD_DEATHS_ALL=1 python -m pytest -n 0 --timeout 0 tests/torture/deaths/test_deaths.py
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.transfer.engine import Engine
from tests.torture.deaths.lives import ALL, moments, suffer, suffer_twice
from tests.torture.deaths.places import KINDS, Places, places
from tests.torture.deaths.points import STATE_EFFECTS, STORE_EFFECTS, Death, Fate, Point
from tests.torture.deaths.scenarios import SCENARIOS, Scenario

__all__ = ["STATE_EFFECTS", "STORE_EFFECTS", "Death", "Fate", "Point"]

ON_SERVERS = frozenset({"put", "multipart", "resume", "restart", "delta", "copy", "delete"})
"""What each real store goes through: all that it is asked and told."""
ON_REAL_STORES = ON_SERVERS | {
    "swept", "replace", "delete-listed", "delete-and-return", "abandon", "too-small", "multipart-then-other",
    "replace-then-back",
}  # fmt: skip
"""The same for those that answer within a millisecond."""
GOES_THROUGH = {
    "dir": ON_REAL_STORES | {"holes"},
    "bos": ON_REAL_STORES | {"moved-content"},
    "ceph": ON_SERVERS,
}


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """The kind of store that a test asks for; it lives as long as its tests are together."""
    with places(request.param, request, tmp_path_factory) as found:
        yield found


@pytest.mark.parametrize(
    ("store", "scenario"),
    [
        pytest.param(kind, scenario, id=f"{kind}-{scenario.name}")
        for kind in KINDS
        for scenario in SCENARIOS
        if kind == "fake" or (ALL and not scenario.on_fake) or scenario.name in GOES_THROUGH[kind]
    ],
    indirect=["store"],
)
def test_every_moment(store: Places, scenario: Scenario) -> None:
    """Wherever the process dies or an answer is lost, it ends in the same place, and no torn object is ever
    seen."""
    for point in moments(store, scenario):
        try:
            suffer(store, scenario, point)
        except BaseException as error:
            error.add_note(f"at {point}")
            raise


@pytest.mark.parametrize("name", ["multipart", "resume", "restart", "delta", "delete"])
def test_every_moment_of_the_recovery(name: str) -> None:
    """A second death, while the first is being made good, ends in the same place."""
    fake = Places("fake")
    scenario = next(each for each in SCENARIOS if each.name == name)
    deaths = [point for point in moments(fake, scenario) if not point.lives]
    stride = 1 if ALL else 5
    for index, first in enumerate(deaths):
        nth, goes_on = 1 + index % stride, True
        while goes_on:
            try:
                goes_on = suffer_twice(fake, scenario, first, nth=nth, after=bool((index + nth) % 2))
            except BaseException as error:
                error.add_note(f"at {first}, then at effect {nth} of the recovery")
                raise
            nth += stride


def test_no_effect_is_forgotten() -> None:
    """Every method with an effect is met in some scenario, so that a new one cannot slip by untested."""
    met = {point.method for scenario in SCENARIOS for point in moments(Places("fake"), scenario)}
    after_a_failure = {"record"}  # the workers': see test_workers
    assert (STATE_EFFECTS | STORE_EFFECTS) - after_a_failure <= met


def test_the_engine_touches_the_world_only_through_state_and_store() -> None:
    """What the points do not cover would be an effect of another kind: there is none."""
    assert not {"requests", "sqlite3", "socket"} & set(vars(__import__(Engine.__module__, fromlist=["x"])))
