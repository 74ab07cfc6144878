"""Listings in pages."""

from __future__ import annotations

import pytest

from syncd.core.errors import StoreRefused
from syncd.storage import base
from syncd.storage.base import Pages


def test_pages_come_when_they_are_needed() -> None:
    """The first item costs one page."""
    asked: list[int | None] = []

    def fetch(marker: int | None) -> tuple[list[int], int | None]:
        asked.append(marker)
        at = marker or 0
        return list(range(at, at + 3)), at + 3 if at < 6 else None

    pages = Pages(fetch)
    assert next(pages) == 0
    assert asked == [None]
    assert list(pages) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert asked == [None, 3, 6]
    assert list(pages) == []


def test_an_empty_page_in_the_middle_is_not_the_end() -> None:
    """A server may filter after it has cut the page."""
    answers: dict[int | None, tuple[list[str], int | None]] = {None: ([], 1), 1: ([], 2), 2: (["a"], None)}
    assert list(Pages(answers.__getitem__)) == ["a"]


def test_a_page_that_failed_is_asked_for_again() -> None:
    """Nothing is lost and nothing told twice."""
    failures = [KeyError("once"), KeyError("twice")]

    def fetch(marker: int | None) -> tuple[list[int], int | None]:
        if marker == 1 and failures:
            raise failures.pop()
        return [marker or 0], (marker or 0) + 1 if (marker or 0) < 2 else None

    pages = Pages(fetch)
    assert next(pages) == 0
    for _ in range(2):
        with pytest.raises(KeyError):
            next(pages)
    assert list(pages) == [1, 2]


def test_a_marker_that_does_not_move_ends_the_list() -> None:
    """A server that repeats itself is not asked for ever."""
    assert list(Pages(lambda marker: (["a", "b"], 5))) == ["a", "b", "a", "b"]


def test_a_page_that_begins_with_its_marker_tells_nothing_twice() -> None:
    """A restore would have failed for that file, and counts would have been wrong."""
    pages: dict[str | None, tuple[list[str], str | None]] = {
        None: (["a", "b"], "b"),
        "b": (["b", "c"], "c"),
        "c": (["c"], None),
    }
    assert list(Pages(pages.__getitem__)) == ["a", "b", "c"]


@pytest.mark.parametrize("items", [[], ["a"]])
def test_a_listing_without_an_end_is_refused(items: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its markers move, and nothing new comes; some pages without anything new are no error."""
    monkeypatch.setattr(base, "MAX_BARREN_PAGES", 5)
    following = iter([items, items, ["b"], items, items, items, items])

    def some(marker: int | None) -> tuple[list[str], int | None]:
        page = next(following, None)
        return (["c"], None) if page is None else (page, (marker or 0) + 1)

    assert list(Pages(some))[-1] == "c"
    with pytest.raises(StoreRefused, match="no end"):
        list(Pages(lambda marker: (items, (marker or 0) + 1)))
