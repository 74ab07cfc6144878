"""Retry: what is repeated, how often, and when. Time and chance are numbers here; nothing sleeps.

Scenarios:

- each verb is repeated after StoreUnavailable, and its arguments arrive unchanged
- create is repeated only when nothing can have been made
- a damaged body is sent a few times, not without end
- other errors go up at once
- pauses grow with full jitter; the store's wish is kept to, or goes up when it is too long; zero is at once
- a stop during a pause ends it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from syncd.core.backoff import Schedule
from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    Stopped,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Fingerprint, ObjectMeta, Part
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import Breaker, Clock
from syncd.storage.http.errors import ConnectionLost
from syncd.storage.retry import MAX_ANSWERED, MAX_IN_VAIN, Retries, RetryingStore
from tests.support.store import SMALL_LIMITS, FakeStore

CLOCK = Clock(lambda: 0.0, lambda seconds: None, lambda: 0.5)

META = ObjectMeta(Fingerprint(bytes(16), 1), 0)
PART = Part(1, 1, "e")
VERBS: dict[str, tuple[object, ...]] = {
    "put_object": ("k", b"x", META),
    "head_object": ("k",),
    "get_object": ("k", 0, 1, "e", None),
    "delete_object": ("k",),
    "copy_object": ("s", "k", META, "e"),
    "create_multipart_upload": ("k", META),
    "upload_part": ("k", "u", 1, b"x"),
    "upload_part_copy": ("k", "u", 1, "s", 0, 1, "e"),
    "list_parts": ("k", "u", 1),
    "complete_multipart_upload": ("k", "u", [PART], META),
    "abort_multipart_upload": ("k", "u"),
}


class Failing:
    """A store that fails with each of `errors` in turn and then answers ``answer`` to every verb."""

    store_id = "failing"
    limits = None

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.closed = False
        self.questions = 0
        """Requests of another verb than the first: they find nothing."""

    def __getattr__(self, verb: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if self.calls and verb != self.calls[0][0]:
                self.questions += 1
                return [] if verb == "list_parts" else None
            self.calls.append((verb, arguments))
            if self.errors:
                raise self.errors.pop(0)
            return "answer"

        return call

    def close(self) -> None:
        self.closed = True


def retrying(
    inner: Any, *, tries: int = 5, chance: float = 1.0, breaker: Breaker = Breaker()
) -> tuple[RetryingStore, list[float]]:
    pauses: list[float] = []
    retries = Retries(Schedule(base_seconds=1.0, cap_seconds=60.0), tries)
    return RetryingStore(inner, clock(pauses.append, chance), breaker, retries), pauses


def clock(sleep: Callable[[float], None], chance: float = 1.0) -> Clock:
    return Clock(lambda: 0.0, sleep, lambda: chance)


def unavailable(**facts: Any) -> StoreUnavailable:
    return StoreUnavailable("not now", **facts)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_repeated_as_it_was(verb: str) -> None:
    """The same arguments each time, the answer in the end."""
    inner = Failing(unavailable(), unavailable())
    store, pauses = retrying(inner)
    assert getattr(store, verb)(*VERBS[verb]) == (None if verb in QUIET else "answer")
    assert inner.calls == [(verb, VERBS[verb])] * 3
    assert len(pauses) == 2


QUIET = ("delete_object", "abort_multipart_upload")
"""They answer nothing."""


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "create_multipart_upload"])
def test_a_verb_is_repeated_when_its_outcome_is_unknown(verb: str) -> None:
    """Sending it twice does no more than sending it once."""
    inner = Failing(unavailable(outcome_unknown=True))
    getattr(retrying(inner)[0], verb)(*VERBS[verb])
    assert len(inner.calls) == 2


@pytest.mark.parametrize(
    ("error", "seconds", "tries"),
    [
        (unavailable(), 30.0, MAX_IN_VAIN),
        (unavailable(outcome_unknown=True), 60.0, MAX_IN_VAIN),
        (unavailable(outcome_unknown=True), 1.0, 5),
        (unavailable(status=503), 60.0, 5),
        (ConnectionLost("reset", outcome_unknown=True), 600.0, 5),
    ],
    ids=["no connection", "no answer", "soon", "answered", "reset"],
)
def test_what_waits_in_vain_is_repeated_once(error: StoreUnavailable, seconds: float, tries: int) -> None:
    """No server may be there; a connection that is lost on a slow line says that one is."""
    inner, now = Failing(*[error] * 9), [0.0]

    def head(key: str) -> None:
        now[0] += seconds
        Failing.__getattr__(inner, "head_object")(key)

    inner.head_object = head  # type: ignore[attr-defined]
    store = RetryingStore(inner, Clock(lambda: now[0], lambda seconds: None, lambda: 0.5))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        store.head_object("k")
    assert len(inner.calls) == tries


def test_while_nothing_comes_back_every_request_is_made_once() -> None:
    """Whatever it is about; an answer, be it an error, ends that."""
    now, silent, store = [0.0], [True], FakeStore(SMALL_LIMITS)

    def wait(call: object) -> None:
        now[0] += 60.0 * silent[0]

    store.before("*", wait)
    store.fail("*", StoreUnavailable("no byte moved"), times=None, when=lambda call: silent[0])
    repeating = RetryingStore(store, Clock(lambda: now[0], lambda seconds: None, lambda: 0.5))
    for verb, requests in (("head_object", 2), ("list_parts", 1), ("get_object", 1), ("head_object", 1)):
        store.reset_counters()
        with pytest.raises(StoreUnavailable):
            getattr(repeating, verb)(*VERBS[verb])
        assert (verb, store.calls[verb]) == (verb, requests)
    silent[0] = False
    with pytest.raises(StoreRefused):
        repeating.get_object("k", 0, 0)
    silent[0] = True
    store.reset_counters()
    with pytest.raises(StoreUnavailable):
        repeating.head_object("k")
    assert store.calls["head_object"] == 2


@pytest.mark.parametrize("verb", ["put_object", "upload_part"])
def test_content_that_was_answered_twice_is_sent_once_until_it_is_taken(verb: str) -> None:
    """The same content; and none counts any more where a neutral question is not answered."""
    inner = Failing(*[unavailable(status=500, outcome_unknown=True) for _ in range(5)])
    store = retrying(inner)[0]
    for calls, sends in ((2, 2), (3, 3), (4, 4), (5, 5)):
        with pytest.raises(StoreUnavailable) as caught:
            getattr(store, verb)(*VERBS[verb])
        assert (len(inner.calls), caught.value.sends) == (calls, sends)
    getattr(store, verb)(*VERBS[verb])
    inner.errors = [unavailable(status=500, outcome_unknown=True)]
    getattr(store, verb)(*VERBS[verb])
    assert len(inner.calls) == 8


@pytest.mark.parametrize("ends_well", [True, False])
@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_outcome_is_reported_whatever_succeeds_afterwards(verb: str, ends_well: bool) -> None:
    """Of what changes an object, by its key, once for each such try; a delete makes no object."""
    told: list[tuple[str, bool]] = []
    last = () if ends_well else (StoreRefused("no"),)
    inner = Failing(
        unavailable(outcome_unknown=True), unavailable(), unavailable(outcome_unknown=True), *last
    )
    clock = Clock(lambda: 0.0, lambda seconds: None, lambda: 0.5)
    store = RetryingStore(inner, clock, unsettled=lambda key, creates: told.append((key, creates)))  # type: ignore[arg-type]

    with suppress(StoreRefused, StoreUnavailable):
        getattr(store, verb)(*VERBS[verb])

    changes = {
        "put_object": True,
        "copy_object": True,
        "complete_multipart_upload": True,
        "delete_object": False,
    }
    assert told == ([("k", changes[verb])] * 2 if verb in changes else [])


@pytest.mark.parametrize("verb", VERBS)
def test_what_may_outlive_the_process_is_noted_before_it_is_sent_and_until_its_answer(verb: str) -> None:
    """Of what changes an object, each try."""
    order: list[str] = []

    @contextmanager
    def noted(key: str, creates: bool) -> Iterator[None]:
        order.append(f"noted {key} {creates}")
        yield
        order.append("answered")

    inner = Failing()
    store = RetryingStore(inner, Clock(lambda: 0.0, lambda seconds: None, lambda: 0.5), under_way=noted)  # type: ignore[arg-type]
    getattr(store, verb)(*VERBS[verb])
    unsettled = verb in ("put_object", "copy_object", "complete_multipart_upload", "delete_object")
    assert order == ([f"noted k {verb != 'delete_object'}", "answered"] if unsettled else [])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("status", "tries"), [(500, 2), (502, 2), (200, 2), (None, 5)])
def test_an_answer_that_repeats_is_not_asked_for_a_third_time(
    verb: str, status: int | None, tries: int
) -> None:
    """Nothing is sent more than twice against it; a connection that fails gives no answer."""
    if verb == "create_multipart_upload":
        tries = 1
    inner = Failing(*[unavailable(status=status, outcome_unknown=True) for _ in range(9)])
    with pytest.raises(StoreUnavailable):
        getattr(retrying(inner)[0], verb)(*VERBS[verb])
    assert len(inner.calls) == tries
    assert inner.questions == (verb in ("put_object", "upload_part"))


@pytest.mark.parametrize("status", [504, None])
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_content_that_is_there_is_not_sent_a_third_time(status: int | None, keeps_metadata: bool) -> None:
    """Every answer is lost, and the store has what was sent: it is known by its digest, or by its ETag."""
    store = FakeStore(SMALL_LIMITS)
    lost = unavailable(status=status, outcome_unknown=True)
    store.fail("put_object", lost, times=None, after_effect=True)
    store.fail("upload_part", lost, times=None, after_effect=True)
    if not keeps_metadata:
        store.after("put_object", lambda call: store.without_metadata("k", b"content"))
    told: list[str] = []
    repeating = RetryingStore(store, CLOCK, unsettled=lambda key, creates: told.append(key))
    meta = ObjectMeta(of_bytes(b"content"), 0)

    receipt = repeating.put_object("k", b"content", meta)
    upload_id = store.create_multipart_upload("k", meta)
    part = repeating.upload_part("k", upload_id, 1, b"content")

    md5 = hashlib.md5(b"content").hexdigest()
    assert (receipt.etag, part.etag, part.digest) == (md5, md5, of_bytes(b"content").digest)
    assert (store.calls["put_object"], store.calls["upload_part"]) == (2, 2)
    assert told == ["k", "k"]


@pytest.mark.parametrize("verb", ["put_object", "upload_part"])
def test_other_content_is_not_taken_for_what_was_sent(verb: str) -> None:
    """What lies there has the size and nothing else: the error goes up."""
    store = FakeStore(SMALL_LIMITS)
    meta = ObjectMeta(of_bytes(b"content"), 0)
    upload_id = store.create_multipart_upload("k", meta)
    store.put_object("k", b"another", ObjectMeta(of_bytes(b"another"), 0))
    store.upload_part("k", upload_id, 1, b"another")
    store.fail(verb, unavailable(status=504, outcome_unknown=True), times=None)
    repeating = RetryingStore(store, CLOCK)
    calls: dict[str, Callable[[], object]] = {
        "put_object": lambda: repeating.put_object("k", b"content", meta),
        "upload_part": lambda: repeating.upload_part("k", upload_id, 1, b"content"),
    }
    with pytest.raises(StoreUnavailable):
        calls[verb]()


def test_create_is_not_repeated_when_its_outcome_is_unknown() -> None:
    """There may be an upload already: the caller looks for it first."""
    inner = Failing(unavailable(outcome_unknown=True))
    with pytest.raises(StoreUnavailable):
        retrying(inner)[0].create_multipart_upload("k", META)
    assert len(inner.calls) == 1


def test_a_list_that_breaks_in_the_middle_is_begun_again() -> None:
    """No caller sees half of it."""

    class Breaking:
        tries = 0

        def list_multipart_uploads(self, prefix: str) -> Any:
            self.tries += 1
            yield f"{prefix}1"
            if self.tries == 1:
                raise unavailable(outcome_unknown=True)
            yield f"{prefix}2"

    store, _ = retrying(Breaking())
    assert list(store.list_multipart_uploads("a/")) == ["a/1", "a/2"]


@pytest.mark.parametrize(
    "error",
    [
        AccessRefused("keys"),
        StoreRefused("name"),
        UploadGone("gone"),
        PartsRefused("parts"),
        PreconditionFailed("other"),
        Stopped("stop"),
    ],
)
def test_what_will_not_change_is_not_repeated(error: Exception) -> None:
    """It goes up as it is."""
    inner = Failing(error)
    with pytest.raises(type(error)) as caught:
        retrying(inner)[0].put_object("k", b"x", META)
    assert caught.value is error
    assert len(inner.calls) == 1


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_tries_are_counted(tries: int) -> None:
    """The last error goes up, and no sleep follows it."""
    errors: list[StoreError] = [unavailable() for _ in range(10)]
    inner = Failing(*errors)
    store, pauses = retrying(inner, tries=tries)
    with pytest.raises(StoreUnavailable) as caught:
        store.head_object("k")
    assert caught.value is errors[tries - 1]
    assert (len(inner.calls), len(pauses)) == (tries, tries - 1)


def test_a_damaged_body_is_sent_a_few_times() -> None:
    """Chance explains it only a few times."""
    inner = Failing(*[PartCorrupt("damaged") for _ in range(10)])
    with pytest.raises(PartCorrupt):
        retrying(inner, tries=9)[0].upload_part("k", "u", 1, b"x")
    assert len(inner.calls) == MAX_ANSWERED
    inner = Failing(PartCorrupt("damaged"))
    retrying(inner)[0].upload_part("k", "u", 1, b"x")
    assert len(inner.calls) == 2


def test_pauses_grow_up_to_a_cap() -> None:
    """With all the chance there is, each is the ceiling."""
    inner = Failing(*[unavailable() for _ in range(8)])
    store, pauses = retrying(inner, tries=9)
    store.head_object("k")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_pauses_are_jittered_all_the_way_down() -> None:
    """Without any chance there is no wait, and no sleep for nothing."""
    inner = Failing(unavailable(), unavailable())
    store, pauses = retrying(inner, chance=0.0)
    store.head_object("k")
    assert pauses == []


def test_the_wish_of_the_store_is_a_least_pause() -> None:
    """Longer is allowed, shorter is not."""
    inner = Failing(unavailable(retry_after_seconds=7.0), unavailable(retry_after_seconds=0.5))
    store, pauses = retrying(inner)
    store.head_object("k")
    assert pauses == [7.0, 2.0]


def test_a_wish_that_is_too_long_goes_up() -> None:
    """The file is deferred instead of a worker sleeping."""
    inner = Failing(unavailable(retry_after_seconds=3600.0))
    store, pauses = retrying(inner)
    with pytest.raises(StoreUnavailable):
        store.head_object("k")
    assert (len(inner.calls), pauses) == (1, [])


def test_zero_means_at_once() -> None:
    """A connection had died of age; a clock was corrected."""
    inner = Failing(unavailable(retry_after_seconds=0.0), unavailable())
    store, pauses = retrying(inner)
    store.head_object("k")
    assert pauses == [2.0]


def test_a_probe_is_one_request() -> None:
    """Of a store that is left alone: whether it answers is all that is asked. What goes at once does go."""
    inner = Failing(unavailable(), unavailable(retry_after_seconds=0.0), unavailable())
    shut = True
    store, pauses = retrying(inner, breaker=Breaker(is_shut=lambda: shut))
    for requests in (1, 3):
        with pytest.raises(StoreUnavailable):
            store.head_object("k")
        assert len(inner.calls) == requests
    inner.errors = [unavailable()]
    shut = False
    store.head_object("k")
    assert pauses == [1.0]


@pytest.mark.parametrize(("status", "busy"), [(503, 2), (429, 2), (500, 0), (None, 0)])
def test_what_the_store_says_about_its_load_is_passed_on(status: int | None, busy: int) -> None:
    """Each answer that asks for fewer requests, and each success; a lost connection is neither."""
    told: list[str] = []
    store, _ = retrying(
        Failing(unavailable(status=status), unavailable(status=status)),
        breaker=Breaker(busy=lambda: told.append("busy"), answered=lambda: told.append("answer")),
    )
    store.head_object("k")
    assert told == ["busy"] * busy + ["answer"]


def test_a_stop_ends_a_pause() -> None:
    """The store is not asked again."""

    def sleep(seconds: float) -> None:
        raise Stopped("stop")

    inner = Failing(unavailable())
    store = RetryingStore(inner, clock(sleep))  # type: ignore[arg-type]
    with pytest.raises(Stopped):
        store.head_object("k")
    assert len(inner.calls) == 1


def test_the_rest_is_the_store_s_own() -> None:
    """Identity, limits and closing."""
    inner = Failing()
    store, _ = retrying(inner)
    assert (store.store_id, store.limits) == (inner.store_id, inner.limits)
    store.close()
    assert inner.closed


def test_a_retried_listing_repeats_the_page_not_the_list() -> None:
    """Long lists are not begun again, and not read whole before their first item is told."""
    store = FakeStore(page_size=2)
    for number in range(6):
        store.put_object(f"k{number}", b"x", META)
    retrying = RetryingStore(store, CLOCK, retries=Retries(max_tries=3))
    store.fail("list_objects", StoreUnavailable("reset"), when=lambda call: call.number == 2, times=1)
    listed = retrying.list_objects("k")
    assert next(listed).key == "k0"
    assert store.calls["list_objects"] == 1
    assert [info.key for info in listed] == ["k1", "k2", "k3", "k4", "k5"]
    assert store.calls["list_objects"] == 4


def test_a_listing_that_goes_on_failing_says_so_and_can_go_on_later() -> None:
    """The promise of the protocol: an iterator that raised is where it was."""
    store = FakeStore(page_size=2)
    for number in range(4):
        store.put_object(f"k{number}", b"x", META)
    retrying = RetryingStore(store, CLOCK, retries=Retries(max_tries=2))
    listed = retrying.list_objects("")
    assert [next(listed).key, next(listed).key] == ["k0", "k1"]
    store.fail("list_objects", StoreUnavailable("reset"), times=2)
    with pytest.raises(StoreUnavailable):
        next(listed)
    assert [info.key for info in listed] == ["k2", "k3"]
