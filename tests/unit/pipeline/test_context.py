"""Time and chance are the machine's own, and a summary begins empty."""

from __future__ import annotations

import time

from syncd.pipeline.context import RunSummary, real_clock


def test_the_real_clock_is_the_machines() -> None:
    """Seconds that only grow, nanoseconds of the wall clock, and chance from 0 up to 1."""
    clock = real_clock()
    before = time.monotonic(), time.time_ns()
    assert before <= (clock.monotonic(), clock.now_ns())
    assert clock.now_ns() - before[1] < 60 * 10**9
    chances = {clock.chance() for _ in range(50)}
    assert len(chances) > 1
    assert all(0.0 <= chance < 1.0 for chance in chances)


def test_summaries_share_nothing() -> None:
    """What one pass counts is not in the next one's summary."""
    first, second = RunSummary(), RunSummary()
    first.actions["Upload"] += 1
    first.failures.append(("x", "y"))  # type: ignore[arg-type]
    assert (second.actions, second.failures) == ({}, [])
