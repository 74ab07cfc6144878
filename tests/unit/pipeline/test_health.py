"""A store is paused for its own trouble, says why, and is tried again; no single file pauses it."""

from __future__ import annotations

import pytest

from syncd.core.errors import QUOTA_FILES, PutsWait, QuotaExceeded, StoreError, StoreUnavailable, react
from syncd.core.model import FileRef
from syncd.pipeline.context import Clock
from syncd.pipeline.health import Health
from syncd.pipeline.queue import BREAKER_THRESHOLD, WorkQueue
from tests.support.clock import FakeClock

FILES = [FileRef("docs", name) for name in "abcdefgh"]
AWAY = StoreUnavailable("connection refused")


class Store:
    """What a neutral question meets, and how often it was asked."""

    def __init__(self, clock: FakeClock, *, once: bool = False, is_disk: bool = False) -> None:
        self.met: StoreError | None = None
        self.asked = 0
        self.clock = clock
        self.queue = WorkQueue(clock.monotonic)
        self.health = Health(
            "mine",
            self.queue,
            self.question,
            Clock(clock.monotonic, clock.now_ns, lambda: 0.5),
            once=once,
            is_disk=is_disk,
            concurrency=2,
        )

    def question(self) -> StoreError | None:
        self.asked += 1
        return self.met

    def fails(self, ref: FileRef, error: StoreError) -> None:
        """A file fails, and the workers report it."""
        trouble = self.health.ask(error)
        answers = trouble is None
        reaction = react(trouble or error, 1, 0.5, store_answers=answers)
        self.health.judge(ref, trouble or error, reaction, answers=answers, asked=trouble is not None)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


def test_a_store_that_answers_no_question_is_paused_until_it_does(store: Store) -> None:
    """One file is enough, where the question meets the same."""
    store.met = AWAY
    store.fails(FILES[0], AWAY)
    assert store.health.paused_for == "connection refused"
    assert store.health.is_in_trouble
    assert not store.health.ask_again(FILES[1])
    store.met = None
    assert store.health.ask_again(FILES[1])
    assert (store.health.paused_for, store.health.is_in_trouble) == ("", False)


def test_the_trouble_of_one_file_is_not_that_of_its_store(store: Store) -> None:
    """Of several different ones it may be; then content probes the store, not a question."""
    for ref in FILES[: BREAKER_THRESHOLD - 1]:
        store.fails(ref, AWAY)
    assert store.health.paused_for == ""
    store.fails(FILES[-1], AWAY)
    assert (store.health.paused_for, store.health.is_in_trouble) == ("connection refused", False)


def test_one_question_is_asked_for_all_that_failed_until_then(store: Store) -> None:
    """A later failure is followed by another one, and a clear error by none."""
    for _ in range(2):
        store.clock.advance(1.0)
        assert store.health.ask(AWAY) is None
        assert store.health.ask(AWAY) is None
    assert store.health.ask(QuotaExceeded("full")) is None
    assert store.asked == 2


@pytest.mark.parametrize("is_disk", [False, True])
def test_no_content_is_read_while_the_store_is_full(clock: FakeClock, is_disk: bool) -> None:
    """But for a probe now and then. What began before the quota was met does not show that there is room."""
    health = Store(clock, is_disk=is_disk).health
    for ref in FILES[: QUOTA_FILES - 1]:
        health.judge_quota(ref, QuotaExceeded("full"))
        health.may_put(clock.monotonic())
    health.judge_quota(FILES[-1], QuotaExceeded("full"))
    health.took_content(clock.monotonic())
    with pytest.raises(PutsWait, match="full") as refused:
        health.may_put(clock.monotonic())
    assert health.paused_for == "full"
    clock.advance(refused.value.seconds)
    health.may_put(clock.monotonic())
    health.took_content(clock.monotonic())
    assert health.paused_for == ""
    health.may_put(clock.monotonic())


def test_a_directory_that_hangs_is_paused(store: Store) -> None:
    """No file is handed out while the store is paused."""
    store.queue.mark(FILES[0], quiet_seconds=0.0, event=True)
    store.health.hangs(StoreUnavailable("no answer"))
    assert store.health.paused_for == "no answer"
    assert store.queue.take_due() is None


def test_a_doubt_about_the_store_pauses_it_only_where_the_question_fails(store: Store) -> None:
    store.clock.advance(1.0)
    store.health.doubt("docs", AWAY)
    assert store.health.paused_for == ""
    store.clock.advance(1.0)
    store.met = AWAY
    store.health.doubt("docs", AWAY)
    assert store.health.paused_for == "connection refused"


def test_a_single_pass_ends_with_a_store_that_cannot_be_used(clock: FakeClock) -> None:
    store = Store(clock, once=True)
    store.met = AWAY
    store.fails(FILES[0], AWAY)
    assert str(store.health.gave_up) == "connection refused"
    assert store.queue.is_closed
