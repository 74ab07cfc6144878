"""A listing that comes in pages, each asked for when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Marker = TypeVar("Marker")


class Pages(Iterator[T], Generic[T, Marker]):
    """The items of all pages, in order.

    `fetch` is given the marker of a page (None: the first) and returns its items and the marker of the next
    page, None when it was the last. What it raises leaves the listing where it was: asked again, it asks for
    the same page again. That is what lets somebody else repeat what failed, which a generator does not.
    """

    def __init__(self, fetch: Callable[[Marker | None], tuple[list[T], Marker | None]]) -> None:
        self._fetch = fetch
        self._items: Iterator[T] = iter(())
        self._marker: Marker | None = None
        self._over = False

    def __iter__(self) -> Pages[T, Marker]:
        return self

    def __next__(self) -> T:
        while True:
            for item in self._items:
                return item
            if self._over:
                raise StopIteration
            items, following = self._fetch(self._marker)
            # A marker that does not move would never end.
            self._over = following is None or following == self._marker
            self._items, self._marker = iter(items), following
