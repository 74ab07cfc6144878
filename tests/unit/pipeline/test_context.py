"""Time and chance are the machine's own, and a summary begins empty."""

from __future__ import annotations

import time

from syncd.core.model import FileRef
from syncd.core.plan import Nothing, Outcome, Upload
from syncd.pipeline.context import MOST_NAMED, RunSummary, real_clock


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


def test_a_summary_counts_all_and_names_the_first() -> None:
    """A pass may fail at a million files."""
    summary, ref = RunSummary(), FileRef("docs", "a")
    for outcome in (Outcome(Upload("new"), 5, size=7), Outcome(Nothing("unchanged"), size=3)):
        summary.count(outcome)
    for number in range(MOST_NAMED + 1):
        summary.count_failure(ref, f"trouble {number}", is_settling=False)
        summary.count_failure(ref, "it changes", is_settling=True)
    assert summary.actions == {"Upload": 1, "Nothing": 1}
    assert (summary.bytes_sent, summary.bytes_saved, summary.bytes_finished) == (5, 0, 10)
    assert (summary.failed, summary.settling) == (MOST_NAMED + 1, MOST_NAMED + 1)
    assert [words for _, words in summary.failures] == [f"trouble {number}" for number in range(MOST_NAMED)]
    assert summary.unsettled == [(ref, "it changes")] * MOST_NAMED
