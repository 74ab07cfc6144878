"""What each error carries, and what it means for the file and for its store."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core import errors
from syncd.core.errors import (
    DENIED_SECONDS,
    FILE_SCHEDULE,
    LONGEST_WISH_SECONDS,
    PAUSE_SECONDS,
    REFUSED_SCHEDULE,
    REFUSED_SECONDS,
    STORE_SCHEDULE,
    AccessRefused,
    ConfigError,
    FileChanged,
    FileUnreadable,
    FileVanished,
    KeyBusy,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    Problem,
    QuotaExceeded,
    Reaction,
    RootChanged,
    StateError,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
    react,
)

FACTS = {"status": 503, "code": "SlowDown", "request_id": "r-1", "hint": "check the clock"}


@pytest.mark.parametrize(
    ("kind", "more", "usual"),
    [
        (StoreError, {}, {}),
        (
            StoreUnavailable,
            {"outcome_unknown": True, "retry_after_seconds": 2.5},
            {"outcome_unknown": False, "retry_after_seconds": None},
        ),
        (PartsRefused, {"too_small": True}, {"too_small": False}),
        (AccessRefused, {"credentials": False}, {"credentials": True}),
    ],
)
def test_a_store_error_keeps_its_facts(
    kind: type[StoreError], more: dict[str, Any], usual: dict[str, Any]
) -> None:
    """What the store said is kept, and an error without such facts has none of them."""
    told, plain = vars(kind("slow down", **FACTS, **more)), vars(kind("slow down"))

    assert told == {"call": "", "seen": None, "sends": 0, **FACTS, **more}
    assert plain == {
        "call": "",
        "seen": None,
        "sends": 0,
        "status": None,
        "code": "",
        "request_id": "",
        "hint": "",
        **usual,
    }


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (FACTS, "slow down (503 SlowDown) [request r-1]; check the clock"),
        ({"status": 503}, "slow down (503)"),
        ({"code": "SlowDown"}, "slow down (SlowDown)"),
        ({"request_id": "r-1"}, "slow down [request r-1]"),
        ({"hint": "check the clock"}, "slow down; check the clock"),
        ({}, "slow down"),
    ],
)
def test_a_store_error_says_all_that_it_knows(facts: dict[str, Any], text: str) -> None:
    """Status, code, request id and hint appear only where they are known."""
    assert str(StoreError("slow down", **facts)) == text


@given(st.text())
def test_nothing_that_a_store_says_is_more_than_one_printable_line(said: str) -> None:
    """Logs and terminals obey line feeds and escape sequences, and the way to the store may be plain http."""
    error = StoreError(f"no: {said}", code=said, request_id=said, hint=said)
    assert str(error).isprintable()
    assert all(text.isprintable() for text in (error.code, error.request_id, error.hint))
    if said.isprintable():
        assert error.code == said


def test_a_change_says_how_long_the_file_has_to_rest() -> None:
    """By default it need not rest."""
    changed = FileChanged("the file changed", 2.5)

    assert (str(changed), changed.quiet_seconds) == ("the file changed", 2.5)
    assert FileChanged("the file changed").quiet_seconds == 0.0


def test_a_mistake_in_the_configuration_names_place_and_key() -> None:
    """A mistake of the whole file has no key; an error lists all mistakes, a line each."""
    one = Problem("c.yaml:3", "stores.nas.path", "7", "a path")
    other = Problem("c.yaml", "", "nothing", "a mapping")
    error = ConfigError([one, other])

    assert error.problems == (one, other)
    assert str(error).splitlines() == [
        "c.yaml:3: stores.nas.path: found 7; expected a path",
        "c.yaml: found nothing; expected a mapping",
    ]


EVERY_ERROR = [
    error(*arguments)
    for error, arguments in [
        (FileVanished, ("x",)),
        (FileChanged, ("x",)),
        (KeyBusy, ("x",)),
        (FileUnreadable, ("x",)),
        (RootChanged, ("x",)),
        (StoreUnavailable, ("x",)),
        (StoreRefused, ("x",)),
        (AccessRefused, ("x",)),
        (UploadGone, ("x",)),
        (PartCorrupt, ("x",)),
        (PartsRefused, ("x",)),
        (PreconditionFailed, ("x",)),
        (StateError, ("x",)),
        (KeyError, ("x",)),
        (MemoryError, ()),
    ]
]


@pytest.mark.parametrize("error", [FileVanished("x"), FileChanged("x")])
def test_a_file_that_moves_is_looked_at_again(error: errors.FileError) -> None:
    """Nothing is wrong, so nothing is recorded or charged."""
    assert react(error, 1, 0.5) == Reaction(again=True)


def test_a_file_whose_key_is_taken_is_looked_at_again_a_little_later() -> None:
    """The one who holds the key may change what there is to do."""
    assert react(KeyBusy("x"), 1, 0.5) == Reaction(again=True, defer_seconds=errors.KEY_BUSY_SECONDS)


def test_an_unreadable_file_waits_and_a_change_of_it_hastens_the_next_try() -> None:
    """The cause is in the file: a mark (permission was given) is worth another look."""
    assert react(FileUnreadable("x"), 1, 1.0) == Reaction(
        defer_seconds=FILE_SCHEDULE.base_seconds, record=True
    )


REFUSED = [
    StoreRefused("no"),
    PartCorrupt("x"),
    PartsRefused("x"),
    PreconditionFailed("x"),
    UploadGone("x"),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_a_refused_file_is_sent_twice_and_then_waits_for_hours(error: errors.StoreError) -> None:
    """The store is not to blame for refusing one key; a change of the file hastens the next try. What failed
    before for other reasons, as while the store was down, makes no difference."""
    first, second, third = (react(error, 9, 1.0, refusals=refusals) for refusals in (0, 1, 2))
    assert first == Reaction(defer_seconds=REFUSED_SECONDS, record=True, refused=True)
    assert second == Reaction(defer_seconds=REFUSED_SCHEDULE.base_seconds, record=True, refused=True)
    assert third.defer_seconds == 2 * second.defer_seconds
    assert react(error, 99, 1.0, refusals=98).defer_seconds == 24 * 3600


def test_a_file_that_is_denied_is_sent_again_soon_and_then_waits_as_long() -> None:
    """Clouds say 403 in passing. Not so where the keys are refused."""
    denied = StoreRefused("denied", status=403)
    assert react(denied, 1, 1.0) == Reaction(defer_seconds=DENIED_SECONDS, record=True, refused=True)
    assert react(denied, 2, 1.0, refusals=1).defer_seconds == REFUSED_SCHEDULE.base_seconds


UNCLEAR = [
    StoreUnavailable("broken", status=500, outcome_unknown=True),
    StoreFailed("broken", status=500, outcome_unknown=True),
    StoreUnavailable("a page of another", status=200, outcome_unknown=True),
    AccessRefused("bad signature", status=403),
]


@pytest.mark.parametrize("error", UNCLEAR, ids=str)
def test_where_the_store_answers_otherwise_the_file_is_charged(error: errors.StoreError) -> None:
    """As for any refusal; but several different files count against the store."""
    assert errors.is_unclear(error)
    charged = react(error, 1, 1.0, store_answers=True)
    assert charged == Reaction(defer_seconds=REFUSED_SECONDS, record=True, refused=True, store_failed=True)
    assert not react(error, 1, 1.0).refused


def test_a_store_that_wants_a_pause_for_one_file_gets_it_for_that_file() -> None:
    """It answers a neutral question: others need not wait."""
    error = StoreUnavailable("slow down", status=503, retry_after_seconds=600.0)
    assert errors.is_unclear(error)
    reaction = react(error, 1, 1.0, store_answers=True)
    assert (reaction.defer_seconds, reaction.pause_seconds, reaction.refused) == (600.0, 0.0, False)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("reset", outcome_unknown=True), StoreUnavailable("slow down", status=503)]
)
def test_what_is_no_word_about_one_file_is_never_charged_to_it(error: errors.StoreError) -> None:
    """No answer, or the wish for fewer requests."""
    assert errors.is_unclear(error)
    assert react(error, 9, 1.0, store_answers=True) == react(error, 9, 1.0)


@pytest.mark.parametrize("error", [*REFUSED, *UNCLEAR, QuotaExceeded("full", status=507)], ids=str)
def test_content_that_was_answered_twice_waits_for_hours(error: errors.StoreError) -> None:
    """Whether both times were in one attempt or not; with each further one it waits longer."""
    for sends, seconds in ((2, 3600.0), (3, 7200.0)):
        again = copy(error)
        again.sends = sends
        for refusals in (0, sends - 1):
            reaction = react(again, 1, 1.0, refusals=refusals, store_answers=True)
            assert (reaction.refused, reaction.defer_seconds) == (True, seconds)


def test_content_that_meets_a_passing_trouble_is_sent_ever_more_rarely() -> None:
    """A clock, a conflict or a slow connection may end at any time; an hour is the longest."""
    error = StoreUnavailable("cut", status=408)
    waits = []
    for error.sends in (1, 2, 3, 4, 9):
        waits.append(react(error, 1, 1.0, store_answers=True).defer_seconds)
    assert waits == [2.0, 60.0, 60.0, 60.0, 60.0]
    assert [react(error, attempts, 1.0).defer_seconds for attempts in (2, 3, 9)] == [120.0, 240.0, 3600.0]


def test_a_quota_stops_neither_the_store_nor_deletions() -> None:
    """The file waits, and counts against nothing else."""
    reaction = react(QuotaExceeded("full", status=507), 1, 1.0)
    assert reaction == Reaction(defer_seconds=REFUSED_SECONDS, record=True, refused=True)


def test_a_refused_account_pauses_the_store_and_blames_no_file() -> None:
    """One probe a minute, and no failure for each of a million files."""
    reaction = react(AccessRefused("bad key"), 1, 0.0)
    assert (reaction.pause_seconds, reaction.record, reaction.hold) == (PAUSE_SECONDS, False, True)


def test_an_unreachable_store_counts_against_the_store() -> None:
    """The file is tried again later, whatever happens to it until then."""
    reaction = react(StoreUnavailable("reset"), 1, 1.0)
    assert reaction == Reaction(
        defer_seconds=STORE_SCHEDULE.base_seconds, hold=True, record=True, store_failed=True
    )


@pytest.mark.parametrize(("wish", "kept"), [(120.0, 120.0), (1e9, LONGEST_WISH_SECONDS), (0.0, 0.0)])
def test_a_store_that_asks_for_a_pause_gets_it(wish: float, kept: float) -> None:
    """``Retry-After`` is about the store, not about the one file; no store is believed without a limit."""
    reaction = react(StoreUnavailable("slow down", retry_after_seconds=wish), 1, 0.5)
    assert reaction.pause_seconds == kept
    assert reaction.defer_seconds >= kept


def test_without_memory_nothing_is_done() -> None:
    """An unusable state stops all transfers; the file itself is not at fault."""
    reaction = react(StateError("disk full"), 1, 0.0)
    assert (reaction.stop, reaction.record, reaction.hold) == (True, False, True)


def test_a_bug_of_ours_poisons_one_file_only() -> None:
    """What is no error of ours is told with its traceback, and the file is tried again late."""
    reaction = react(KeyError("x"), 1, 1.0)
    assert reaction == Reaction(defer_seconds=STORE_SCHEDULE.base_seconds, hold=True, record=True, bug=True)


@given(error=st.sampled_from(EVERY_ERROR), attempts=st.integers(1, 10**6), chance=st.floats(0.0, 1.0))
def test_nothing_is_tried_again_at_once_or_never(error: BaseException, attempts: int, chance: float) -> None:
    """Each reaction either looks again after settling, or waits: at least a second, at most a day."""
    reaction = react(error, attempts, chance, refusals=attempts - 1)
    assert reaction.again or 1.0 <= reaction.defer_seconds <= 86400.0


@given(chance=st.floats(0.0, 1.0))
def test_waits_grow(chance: float) -> None:
    """The tenth failure in a row waits longer than the first, whatever chance says."""
    for error in (FileUnreadable("x"), StoreRefused("x"), StoreUnavailable("x")):
        assert react(error, 10, 0.0, refusals=9).defer_seconds > react(error, 1, chance).defer_seconds


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (StoreUnavailable("x", status=503), "throttled"),
        (StoreUnavailable("x", status=502), "unavailable"),
        (StoreUnavailable("x"), "unavailable"),
        (StoreFailed("x", status=500), "unavailable"),
        (AccessRefused("x", credentials=True), "auth"),
        (QuotaExceeded("x"), "quota"),
        (StoreRefused("x", status=403), "refused"),
        (PartCorrupt("x"), "integrity"),
        (FileUnreadable("x"), "unreadable"),
        (RootChanged("x"), "unreadable"),
        (StateError("x"), "state"),
        (KeyBusy("x"), "other"),
        (ZeroDivisionError(), "other"),
    ],
)
def test_each_failure_is_counted_under_one_of_few_words(error: BaseException, word: str) -> None:
    """They are labels of a metric."""
    assert errors.kind(error) == word
    assert word in errors.KINDS


def test_a_full_disk_is_tried_again_within_minutes() -> None:
    """To write to a disk costs no line, and room may be made at any time; the store is not to blame."""
    full = QuotaExceeded("No space left on device", code="ENOSPC")
    for attempts in (1, 2, 50):
        reaction = react(full, attempts, 1.0, refusals=attempts - 1)
        assert 0 < reaction.defer_seconds <= errors.STORE_SCHEDULE.cap_seconds
        assert (reaction.record, reaction.refused, reaction.store_failed) == (True, False, False)
