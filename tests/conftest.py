"""Fixtures that every test may use, and the rule that every test has to keep: leave no thread behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.store import SMALL_LIMITS, FakeStore

LEAK_DEADLINE_SECONDS = 5.0
"""How long a thread that was asked to end may take before it counts as left behind."""


@pytest.fixture(autouse=True)
def no_thread_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a non-daemon thread goes on that was not there before."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + LEAK_DEADLINE_SECONDS
    for thread in threading.enumerate():
        if thread not in before and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    leaked = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and not thread.daemon and thread.is_alive()
    ]
    if leaked:
        pytest.fail(f"{request.node.nodeid} left threads behind: {', '.join(sorted(leaked))}")


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def fake_store() -> FakeStore:
    """A store in memory with limits so small that a few bytes make a multipart upload."""
    return FakeStore(SMALL_LIMITS)
