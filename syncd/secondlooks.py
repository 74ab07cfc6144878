"""Files that are clean as far as anybody knows, and are to be looked at once more at a certain time.

Nobody waits for them: a look that is to come is no work that is left. When its time is there the file becomes
dirty like any other.

Time is seconds of a monotonic clock, passed in. No lock inside: the owner holds one.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from syncd.model import FileRef

_SPARE_ITEMS = 64
"""Dead items that are not worth a rebuild."""


class SecondLooks:
    """One look per file at most, and no more than `most` files. Each operation is O(log n), amortised."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._due: dict[FileRef, float] = {}
        self._heap: list[tuple[float, FileRef]] = []  # an item is alive while `_due` says the same

    def __len__(self) -> int:
        return len(self._due)

    def set(self, ref: FileRef, due: float) -> None:
        """Look at `due`, and not before, whatever was asked for so far. Ignored when there are too many."""
        if ref not in self._due and len(self._due) >= self._most:
            return
        self._due[ref] = due
        heappush(self._heap, (due, ref))
        if len(self._heap) > 2 * len(self._due) + _SPARE_ITEMS:
            self._rebuild()

    def discard(self, source: str) -> None:
        """Forget the files of `source`."""
        self._due = {ref: due for ref, due in self._due.items() if ref.source != source}
        self._rebuild()

    def next_due(self) -> float | None:
        """When the next look is due; None without any."""
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def pop(self, now: float) -> FileRef | None:
        """A file whose look is due, which is forgotten by that; None without any."""
        due = self.next_due()
        if due is None or due > now:
            return None
        _, ref = heappop(self._heap)
        del self._due[ref]
        return ref

    def _rebuild(self) -> None:
        self._heap = [(due, ref) for ref, due in self._due.items()]
        heapify(self._heap)
