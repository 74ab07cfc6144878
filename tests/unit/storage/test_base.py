"""Listings in pages."""

from __future__ import annotations

import itertools

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


@pytest.mark.parametrize("pages", [["ab"], ["ab", "cd"], ["ab", "", "cd", "ef"]])
@pytest.mark.parametrize("moves", [True, False])
def test_a_page_that_comes_again_is_an_error(pages: list[str], moves: bool) -> None:
    """At once or after others: the list would never end, or look complete where it is not."""
    asked = itertools.count()

    def fetch(marker: int | None) -> tuple[list[str], int | None]:
        number = next(asked)
        return list(pages[number % len(pages)]), number if moves else 1

    with pytest.raises(StoreRefused, match="repeats a page"):
        list(Pages(fetch))
    assert next(asked) == len(pages) + 1


def test_a_page_that_begins_with_its_marker_tells_nothing_twice() -> None:
    """A restore would have failed for that file, and counts would have been wrong."""
    pages: dict[str | None, tuple[list[str], str | None]] = {
        None: (["a", "b"], "b"),
        "b": (["b", "c"], "c"),
        "c": (["c"], None),
    }
    assert list(Pages(pages.__getitem__)) == ["a", "b", "c"]


def test_a_listing_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its markers move, and nothing comes; some empty pages are no error."""
    monkeypatch.setattr(base, "MAX_BARREN_PAGES", 5)
    items: list[str] = []
    following = iter([items, items, ["b"], items, items, items, items])

    def some(marker: int | None) -> tuple[list[str], int | None]:
        page = next(following, None)
        return (["c"], None) if page is None else (page, (marker or 0) + 1)

    assert list(Pages(some))[-1] == "c"
    with pytest.raises(StoreRefused, match="empty pages"):
        list(Pages(lambda marker: (items, (marker or 0) + 1)))
