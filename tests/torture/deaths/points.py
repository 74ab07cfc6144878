"""Where a process can die or lose an answer: at every method of state and store, found from the interfaces.

A new method is an effect until this table says that it is not, and an effect is met before, after, and
before and after with the answer lost, in every scenario that reaches it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from syncd.core.errors import StateError, StoreUnavailable, SyncdError
from syncd.state.checkpoints import Checkpoints
from syncd.state.history import Failures
from syncd.state.state import State
from syncd.storage.base import ObjectStore

STATE_QUESTIONS = frozenset(
    {
        "commits", "find_blocks", "find_content", "folder", "has_size", "last_scan", "learned", "lost",
        "outline_page", "all_recorded", "chunks", "part_digests", "recorded", "recorded_page",
        "recorded_totals", "pauses", "root_identity", "summaries", "totals",
        "find", "all", "leftovers",
        "page", "count",
    }
)  # fmt: skip
STATE_ELSEWHERE = frozenset(
    {
        "open",
        "open_read_only",
        "close",
        "flush",
        "give_back_memory",
        "keep_folders",
        "note_scan",
        "set_root_identity",
        "renumber_device",
        "add_totals",
        "serve",
        "overtake",
        "pardon",
        "pause",
        "resume",
        "unlearn",
    }
)
"""Not part of a step: opening, closing and `serve` have tests of their own, the rest holds no promise."""
STORE_QUESTIONS = frozenset(
    {"head_object", "get_object", "list_objects", "list_parts", "list_multipart_uploads"}
)
STORE_ELSEWHERE = frozenset({"close", "clock_ns"})


def _methods(interface: type) -> frozenset[str]:
    return frozenset(
        name for name in vars(interface) if not name.startswith("_") and callable(getattr(interface, name))
    )


STATE_PARTS = (Checkpoints, Failures)
"""Interfaces that `State` has as attributes."""
_OF_STATE = _methods(State).union(*map(_methods, STATE_PARTS))
STATE_EFFECTS = _OF_STATE - STATE_QUESTIONS - STATE_ELSEWHERE
STORE_EFFECTS = _methods(ObjectStore) - STORE_QUESTIONS - STORE_ELSEWHERE
EFFECTS = STATE_EFFECTS | STORE_EFFECTS
STATE_METHODS = _OF_STATE - STATE_ELSEWHERE
STORE_METHODS = STORE_EFFECTS | STORE_QUESTIONS

ANY = "*"
"""Stands for every effect: the n-th of them all."""


class Death(BaseException):
    """The process is gone: nothing may catch this and go on."""


@dataclass(frozen=True)
class Point:
    """One moment: before or after the `nth` call of `method`.

    The process dies there; or, where it `lives`, the call ends without an answer. `repeated` says that the
    store's own retry is between, so that the call is made once more at once.
    """

    method: str
    nth: int
    after: bool
    lives: bool = False
    repeated: bool = False

    def __str__(self) -> str:
        lost = ("repeated-" if self.repeated else "lost-") if self.lives else ""
        return f"{lost}{'after' if self.after else 'before'}-{self.method}-{self.nth}"


def points(calls: Mapping[str, int]) -> Iterator[Point]:
    """Every moment of a life in which these methods were called so often."""
    for method, count in sorted(calls.items()):
        if method == ANY:
            continue
        for nth in range(1, count + 1):
            yield Point(method, nth, after=False, lives=True)
            if method in EFFECTS:
                yield Point(method, nth, after=False)
                yield Point(method, nth, after=True)
                yield Point(method, nth, after=True, lives=True)
            if method in STORE_METHODS:
                yield Point(method, nth, after=True, lives=True, repeated=True)


class Fate:
    """Counts the calls, and lets one of them end as its point says."""

    def __init__(self, point: Point | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.awake = True
        """Calls count."""
        self.dead = False
        self.met = False
        """The point was reached."""
        self._point = point
        self._lock = threading.Lock()

    def wrap(self, real: Any, names: frozenset[str]) -> Any:
        """`real`, mortal: once dead, no method of it does anything any more."""
        return _Mortal(real, names, self)

    def call(self, name: str, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One call of a method that counts."""
        names = (name, ANY) if name in EFFECTS else (name,)
        with self._lock:
            if self.awake:
                self.calls.update(names)
            numbers = {each: self.calls[each] for each in names}
            self._meet(numbers, after=False)
        try:
            return real(*args, **kwargs)
        finally:  # an error is an answer, too
            with self._lock:
                self._meet(numbers, after=True)

    def _meet(self, numbers: Mapping[str, int], *, after: bool) -> None:
        if self.dead:
            raise Death(str(self._point))
        point = self._point
        if point is None or self.met or not self.awake:
            return
        if point.after == after and numbers.get(point.method) == point.nth:
            self.met = True
            self.dead = not point.lives
            if self.dead:
                raise Death(str(point))
            raise lost_answer(point)


def lost_answer(point: Point) -> SyncdError:
    """What the caller hears when the answer to a call is lost."""
    if point.method in STATE_METHODS:
        return StateError(f"lost: {point}")
    return StoreUnavailable(f"lost: {point}", outcome_unknown=True)


class _Mortal:
    def __init__(self, real: Any, names: frozenset[str], fate: Fate) -> None:
        self._real, self._names, self._fate = real, names, fate

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if isinstance(attribute, STATE_PARTS):
            return self._fate.wrap(attribute, self._names)
        if not callable(attribute):
            return attribute
        if name in self._names:
            return lambda *args, **kwargs: self._fate.call(name, attribute, *args, **kwargs)

        def question(*args: Any, **kwargs: Any) -> Any:
            if self._fate.dead:
                raise Death(name)
            return attribute(*args, **kwargs)

        return question
