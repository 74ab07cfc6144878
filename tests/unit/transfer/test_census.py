"""What is listed of many objects at once: never wrong, and never dearer than a question for each."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.errors import Stopped, StoreRefused, StoreUnavailable
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.transfer import reuse
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.reuse import MANY, Census
from tests.support.store import SMALL_LIMITS, FakeStore

PAGE = 20


class Bucket:
    """A store with objects, and a clock."""

    def __init__(self, keys: list[str]) -> None:
        self.now = 0.0
        self.fake = FakeStore(SMALL_LIMITS, page_size=PAGE)
        for key in keys:
            self.put(key)

    def put(self, key: str, content: bytes = b"x") -> str:
        return self.fake.put_object(key, content, ObjectMeta(Fingerprint(bytes(16), len(content)), 0)).etag

    def census(self, keys: list[str]) -> Census:
        return Census(self.fake, "p/", keys, Heartbeat(), lambda: self.now)

    @property
    def lists(self) -> int:
        return self.fake.calls["list_objects"]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_PAGE", PAGE)


def names(number: int, every: int = 1) -> list[str]:
    return [f"p/{each:05}" for each in range(0, number * every, every)]


@settings(max_examples=40)
@given(st.integers(0, 1 << 32))
def test_what_it_tells_is_so_and_costs_no_request_more(seed: int) -> None:
    """Whatever the names are, whatever is there, and in whatever order they are asked for."""
    chance = random.Random(seed)
    names = {"".join(chance.choices("abé\U0001f600\ue000!-/0", k=chance.randint(1, 4))) for _ in range(60)}
    keys = sorted(f"p/{name}" for name in names)
    bucket = Bucket([key for key in keys if chance.random() < 0.9])
    asked = [*keys, "p/other"]
    found = bucket.census(asked)
    for key in chance.sample(asked, len(asked)) if chance.random() < 0.3 else asked:
        here = bucket.fake.objects.get(key)
        assert found.etag(key) in ("", here.etag if here is not None else "")
    assert bucket.lists <= len(asked)


def test_a_folder_costs_a_request_for_each_page() -> None:
    """All of them are told of."""
    keys = names(10 * PAGE)
    bucket = Bucket(keys)
    found = bucket.census(keys)
    assert sum(bool(found.etag(key)) for key in keys) >= len(keys) - MANY
    assert bucket.lists <= 10


def test_threads_that_do_not_ask_in_order_cost_no_list_more() -> None:
    """One may ask for the tenth before another asks for the first."""
    keys = [*names(3), *(key.replace("p/", "p/folder/") for key in names(2 * PAGE))]
    bucket = Bucket(keys)
    found = bucket.census(keys)
    found.etag(keys[0])
    for key in [*keys[10:PAGE], *keys[3:10]]:
        assert found.etag(key)
    assert bucket.lists <= 2


def test_where_they_are_far_apart_they_are_looked_at_one_by_one() -> None:
    """A page for each of them would be as many requests, and larger ones."""
    keys = names(10 * PAGE, every=3)
    bucket = Bucket(names(30 * PAGE))
    found = bucket.census(keys)
    for key in keys:
        found.etag(key)
    assert bucket.lists == 3


def test_what_was_listed_is_good_for_seconds() -> None:
    """Then the page is asked for again, from where it is needed."""
    keys = names(2 * PAGE)
    bucket = Bucket(keys)
    found = bucket.census(keys)
    first = [found.etag(key) for key in keys[:3]]
    bucket.now += 10.1
    new = bucket.put(keys[3], b"another")
    assert (found.etag(keys[3]), bucket.lists) == (new, 2)
    assert all(first)


def test_a_few_are_not_worth_a_listing() -> None:
    """The last of many, for example."""
    keys = names(MANY + 5)
    bucket = Bucket(keys)
    found = bucket.census(keys)
    assert found.etag(keys[6]) == ""
    assert bucket.lists == 0
    assert found.etag(keys[5]) != ""


@pytest.mark.parametrize("error", [StoreRefused("no", status=403), StoreUnavailable("no answer")])
def test_what_is_not_listed_is_asked_once(error: Exception) -> None:
    """Keys may delete and not list."""
    keys = names(3 * MANY)
    bucket = Bucket(keys)
    bucket.fake.fail("list_objects", error)
    found = bucket.census(keys)
    assert {found.etag(key) for key in keys} == {""}
    assert bucket.lists == 1


def test_a_stop_is_a_stop() -> None:
    """It is no answer."""
    bucket = Bucket(keys := names(3 * MANY))
    bucket.fake.fail("list_objects", Stopped())
    with pytest.raises(Stopped):
        bucket.census(keys).etag(keys[0])


def test_a_server_that_begins_elsewhere_tells_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ignores behind which key the list is to begin tells of the first objects each time."""
    keys = names(10 * PAGE)
    bucket = Bucket(keys)
    plain = bucket.fake.list_objects
    monkeypatch.setattr(bucket.fake, "list_objects", lambda prefix, after: plain(prefix))
    found = bucket.census(keys)
    told = {key: etag for key in keys if (etag := found.etag(key))}
    assert told == {key: bucket.fake.objects[key].etag for key in keys[:PAGE]}
    assert bucket.lists == 4


@settings(max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=9, unique=True))
def test_a_page_begins_right_before_its_key(texts: list[str]) -> None:
    """So the key is its first, unless something lies between that is no usual name."""
    for text in texts:
        assert reuse._before(text) < text
    for first, second in pairwise(sorted(texts)):
        if len(first) == len(second) and first[:-1] == second[:-1]:
            assert first <= reuse._before(second) or ord(second[-1]) <= 0x20
