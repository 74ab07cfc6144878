"""Which objects may be removed: never more at once than was allowed, and nothing on doubtful evidence."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.core.deletions import FLOOR, MOST_KEPT, UNLIMITED, Deletions, Verdict, allowance
from syncd.core.model import FileRef

GRACE = 2.0
WINDOW = 3600.0


def ref(number: int) -> FileRef:
    return FileRef("docs", f"f{number}")


def deletions(max_files: int = 1000, max_fraction: float = 0.25, *, grace: float = GRACE) -> Deletions:
    return Deletions(max_files, max_fraction, grace_seconds=grace, window_seconds=WINDOW)


def gone(some: Deletions, count: int, now: float = 0.0, first: int = 0) -> None:
    for number in range(first, first + count):
        some.add(ref(number), now)


# ---- how many -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "max_files", "max_fraction", "expected"),
    [
        (100_000, 1000, 0.25, 1000),
        (1000, 1000, 0.25, 250),
        (20, 1000, 0.25, 5),
        (0, 1000, 0.25, FLOOR),
        (1000, 5, 1.0, 5),
        (2, 3, 1.0, 3),
        (1000, 0, 1.0, 0),
        (0, 0, 1.0, 0),
        (1000, UNLIMITED, 0.0, 0),
        (8, UNLIMITED, 0.25, 2),
        (3, UNLIMITED, 0.25, 0),
        (1000, UNLIMITED, 1.0, UNLIMITED),
    ],
)
def test_the_smaller_bound_counts_and_a_number_means_itself(
    recorded: int, max_files: int, max_fraction: float, expected: int
) -> None:
    """What a person wrote holds as it is written; the default, which has both, allows a handful at least."""
    assert allowance(recorded, max_files, max_fraction) == expected


def test_an_explicit_zero_allows_nothing_without_a_word() -> None:
    """With ``max_delete: 0`` a single vanished file waits for a person."""
    some = deletions(0, 1.0)
    gone(some, 1)

    verdict = some.judge(100.0, 1000)

    assert (verdict.allowed, verdict.parked) == ((), 1)
    assert "0 allowed" in verdict.reason


# ---- grace ----------------------------------------------------------------------------------------------


def test_a_file_has_to_be_gone_for_the_grace_period() -> None:
    """Too young: another look when it is old enough; then it goes."""
    some = deletions()
    gone(some, 1, now=10.0)

    assert some.judge(11.0, 1000) == Verdict((), 0, "", 10.0 + GRACE)
    assert some.judge(12.0, 1000) == Verdict((ref(0),), 0, "", None)
    assert some.waiting() == 0


def test_a_tree_that_is_being_removed_is_counted_whole_before_its_first_object_goes() -> None:
    """While candidates still come in, nothing goes; what comes in last may be what tips the scale."""
    some = deletions(20, 1.0)
    gone(some, 10, now=0.0)
    gone(some, 10, now=2.5, first=10)
    assert some.judge(3.0, 1000).allowed == ()
    gone(some, 1, now=4.0, first=20)

    assert some.judge(100.0, 1000).parked == 21


def test_what_trickles_in_for_ever_does_not_hold_up_the_rest() -> None:
    """After ten grace periods the ripe ones go, and there is another look at the young one."""
    some = deletions()
    gone(some, 1, now=0.0)
    gone(some, 1, now=10 * GRACE - 0.5, first=1)

    assert some.judge(10 * GRACE - 0.25, 1000).allowed == ()
    verdict = some.judge(10 * GRACE, 1000)

    assert verdict == Verdict((ref(0),), 0, "", 10 * GRACE - 0.5 + GRACE)


# ---- too many -------------------------------------------------------------------------------------------


def test_too_many_all_wait() -> None:
    """Not even the first ones go: which of them were meant is unknown."""
    some = deletions(10, 1.0)
    gone(some, 11)

    verdict = some.judge(100.0, 1000)

    assert (verdict.allowed, verdict.parked) == ((), 11)
    assert verdict.reason == "11 deletions are more than the 10 allowed without confirmation"


def test_a_share_is_one_of_the_files_there_were() -> None:
    """Deletions that go one by one are no fewer than those that go at once."""
    some = deletions(UNLIMITED, 0.25)
    recorded = 8
    for number, allowed in ((0, 1), (1, 1), (2, 0)):
        gone(some, 1, now=float(number), first=number)
        assert len(some.judge(number + GRACE, recorded).allowed) == allowed
        recorded -= allowed


def test_one_window_is_one_allowance() -> None:
    """What went lately counts; when the window has passed there is a new allowance."""
    some = deletions(10, 1.0)
    gone(some, 6)
    assert len(some.judge(100.0, 1000).allowed) == 6
    gone(some, 5, now=200.0, first=6)

    assert some.judge(300.0, 1000).parked == 5
    assert len(some.judge(100.0 + WINDOW, 1000).allowed) == 5


@given(
    max_files=st.integers(0, 30),
    max_fraction=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    recorded=st.integers(0, 300),
    steps=st.lists(st.tuples(st.floats(0.0, 2000.0), st.integers(0, 15)), max_size=40),
)
def test_never_more_than_allowed_in_any_window(
    max_files: int, max_fraction: float, recorded: int, steps: list[tuple[float, int]]
) -> None:
    """Whatever vanishes when: without a word no window sees more deletions than the allowance."""
    some = deletions(max_files, max_fraction)
    now, number = 0.0, 0
    went: list[float] = []
    for seconds, vanished in steps:
        now += seconds
        gone(some, vanished, now, number)
        number += vanished
        went += [now] * len(some.judge(now, max(0, recorded - len(went))).allowed)
    most = max((sum(end - WINDOW < at <= end for at in went) for end in went), default=0)
    assert most <= allowance(recorded, max_files, max_fraction)


@given(
    limit=st.integers(0, 30),
    steps=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 15), st.integers(0, 15)), max_size=30),
)
@example(limit=30, steps=[(0, 1, 0), (0, 15, 1), (0, 15, 0)])
def test_a_new_process_goes_on_with_the_window(limit: int, steps: list[tuple[int, int, int]]) -> None:
    """Each step is a process: it finds what vanished since and what the last one did not come to, and some of
    what it may delete it does not. That costs nothing, and what went counts for one window.
    """
    now, number, kept = 0.0, 0, ""
    left: list[FileRef] = []
    went: list[float] = []
    for hundreds, vanished, failing in steps:
        now += 100.0 * hundreds
        some = deletions(limit, 1.0, grace=0.0)
        some.recall(kept, now, int(now) * 10**9)
        left += [ref(each) for each in range(number, number + vanished)]
        number += vanished
        for each in left:
            some.add(each, now)
        free = limit - sum(now - WINDOW < at for at in went)
        allowed = some.judge(now, 1000).allowed
        assert len(allowed) == (len(left) if len(left) <= free else 0)
        for each in allowed[failing:]:
            left.remove(each)
            went.append(now)
            some.withdraw(each)
        some.give_back(lambda each: False)
        kept = some.spent(now, int(now) * 10**9)


def test_a_clock_that_is_set_back_makes_no_window_longer() -> None:
    """What seems to have gone in the future went just now."""
    some = deletions(3, 1.0, grace=0.0)
    some.recall("[[5000000000000, 3]]", 0.0, 10**9)
    gone(some, 1)
    assert some.judge(WINDOW - 1.0, 1000).parked == 1
    assert len(some.judge(WINDOW, 1000).allowed) == 1


@given(
    limit=st.integers(0, 20),
    words=st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20),
)
def test_a_word_allows_as_many_as_waited_and_no_more(limit: int, words: list[tuple[int, bool]]) -> None:
    """In one window there go at most the allowance and what a person has said yes to."""
    some = deletions(limit, 1.0)
    number, granted, went = 0, 0, 0
    for vanished, word in words:
        gone(some, vanished, 0.0, number)
        number += vanished
        if word:
            granted += some.confirm()
        went += len(some.judge(GRACE, 10_000).allowed)
    assert went <= limit + granted


# ---- a person's word ------------------------------------------------------------------------------------


def test_a_word_lets_go_what_waits() -> None:
    """After it all go at once; what vanishes later has to ask again."""
    some = deletions(10, 1.0)
    gone(some, 50)
    some.judge(100.0, 1000)

    assert some.confirm() == 50
    assert len(some.judge(100.0, 1000).allowed) == 50
    gone(some, 11, now=101.0, first=50)
    assert some.judge(200.0, 1000).parked == 11


def test_a_word_when_nothing_waits_allows_nothing_later() -> None:
    """Yes to nothing is no: it does not lie in wait for the next unmounted disk."""
    some = deletions(10, 1.0)

    assert some.confirm() == 0
    some.judge(0.0, 1000)
    gone(some, 50)

    assert some.judge(100.0, 1000).parked == 50


def test_one_more_that_vanishes_meanwhile_does_not_void_the_word() -> None:
    """The word covers its number, the allowance covers the rest."""
    some = deletions(10, 1.0)
    gone(some, 50)
    some.confirm()
    gone(some, 1, first=50)

    assert len(some.judge(100.0, 1000).allowed) == 51


def test_all_of_a_single_pass_may_be_allowed_beforehand() -> None:
    """``sync --allow-deletes`` speaks before anything is found."""
    some = deletions(10, 1.0, grace=0.0)
    some.held = "the root was replaced"
    some.confirm_all()
    gone(some, 50)

    assert some.held == ""
    assert len(some.judge(0.0, 1000).allowed) == 50


def test_what_is_held_waits_whatever_its_number() -> None:
    """After a root was replaced even one deletion is asked for; the word ends that."""
    some = deletions()
    some.held = "the root was replaced"
    gone(some, 1)

    assert some.judge(100.0, 1000) == Verdict((), 1, "the root was replaced", None)
    some.confirm()
    assert some.judge(100.0, 1000).allowed == (ref(0),)
    assert some.held == ""


# ---- what comes back ------------------------------------------------------------------------------------


def test_a_file_that_is_there_again_is_no_candidate() -> None:
    """Nor is anything when the evidence is withdrawn altogether."""
    some = deletions()
    gone(some, 3)
    some.withdraw(ref(1))
    some.withdraw(ref(99))
    assert some.judge(100.0, 1000).allowed == (ref(0), ref(2))
    gone(some, 3)
    some.clear()
    assert some.judge(100.0, 1000) == Verdict((), 0, "", None)


def test_what_a_scan_does_not_tell_again_is_back() -> None:
    """A directory that was moved away and back leaves no deletions that never end."""
    some = deletions(0, 1.0)
    gone(some, 5)
    some.scan_begins()
    some.add(ref(2), 50.0)
    some.add(ref(7), 50.0)
    some.scan_ended()

    some.confirm()
    assert some.judge(100.0, 1000).allowed == (ref(2), ref(7))


def test_what_is_told_again_has_been_gone_since_the_first_time() -> None:
    """Another scan does not make a candidate younger."""
    some = deletions()
    gone(some, 1, now=0.0)
    some.scan_begins()
    gone(some, 1, now=GRACE)
    some.scan_ended()

    assert some.judge(GRACE, 1000).allowed == (ref(0),)


# ---- memory ---------------------------------------------------------------------------------------------


def test_memory_is_bounded_when_everything_is_gone_and_allowed() -> None:
    """Beyond ten thousand only the number is kept; then another scan has to tell the rest."""
    some = deletions(UNLIMITED, 1.0)
    some.scan_begins()
    gone(some, MOST_KEPT + 500)
    some.scan_ended()
    assert len(some._candidates) == MOST_KEPT
    assert some.waiting() == MOST_KEPT + 500

    verdict = some.judge(100.0, 1_000_000)

    assert (len(verdict.allowed), verdict.rescan) == (MOST_KEPT, True)
    some.scan_begins()
    gone(some, 500, now=100.0, first=MOST_KEPT)
    some.scan_ended()
    verdict = some.judge(200.0, 1_000_000)
    assert (len(verdict.allowed), verdict.rescan) == (500, False)


def test_scans_do_not_count_the_same_files_again() -> None:
    """The number that waits is that of the last scan, not the sum of all."""
    some = deletions(0, 1.0)
    for _ in range(3):
        some.scan_begins()
        gone(some, MOST_KEPT + 500)
        some.scan_ended()

    assert some.judge(100.0, 1_000_000).parked == MOST_KEPT + 500


def test_a_word_covers_what_is_only_counted() -> None:
    """The rest that the next scan finds goes without asking again."""
    some = deletions(0, 1.0)
    gone(some, MOST_KEPT + 500)
    assert some.confirm() == MOST_KEPT + 500
    assert some.judge(100.0, 1_000_000).rescan
    some.scan_begins()
    gone(some, 500, now=100.0, first=MOST_KEPT)
    some.scan_ended()

    assert len(some.judge(200.0, 1_000_000).allowed) == 500


# ---- what was not seen ----------------------------------------------------------------------------------


def test_after_a_scan_that_did_not_see_everything_even_one_waits() -> None:
    """What is gone may be a part of much more; the next scan that sees everything ends that."""
    some = deletions(grace=0.0)
    gone(some, 1)
    some.scan_ended("the last scan met 2 errors")
    assert some.judge(0.0, 1000) == Verdict((), 1, "the last scan met 2 errors", None)

    some.scan_begins()
    gone(some, 1)
    some.scan_ended()
    assert some.judge(0.0, 1000).allowed == (ref(0),)


def test_a_word_goes_before_what_was_not_seen_for_as_many_as_waited() -> None:
    """Who has read the reason may let go what waits, and no more."""
    some = deletions(grace=0.0)
    some.scan_ended("the last scan met 2 errors")
    gone(some, 3)
    assert some.confirm() == 3
    assert len(some.judge(0.0, 1000).allowed) == 3

    gone(some, 1, first=3)
    assert some.judge(0.0, 1000).reason == "the last scan met 2 errors"
