"""Orders for a fake that answers calls: fail, wait, tell; and what it counts.

Every request is one `Call`. It goes through these stations: counted, ``before`` hooks, delay, faults without
effect, the effect, ``after`` hooks, faults after the effect. Hooks and delays run outside the lock, so that a
test may hold one request while others go on.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from syncd.core.errors import StoreUnavailable

VERBS = (
    "put_object",
    "head_object",
    "get_object",
    "delete_object",
    "copy_object",
    "create_multipart_upload",
    "upload_part",
    "upload_part_copy",
    "list_parts",
    "complete_multipart_upload",
    "abort_multipart_upload",
    "list_multipart_uploads",
    "list_objects",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as hooks and conditions see it."""

    verb: str
    nth: int
    """Which call of this verb, from 1."""
    key: str
    upload_id: str = ""
    number: int = 0
    """Part number of a part; for a page of a listing, which page, from 1."""
    size: int = 0
    """Bytes of content in the request."""


Hook = Callable[[Call], object]
Condition = Callable[[Call], bool]
Fault = BaseException | type[BaseException] | Callable[[Call], BaseException]


@dataclass(slots=True)
class _Order:
    """A fault that a test ordered."""

    verb: str
    fault: Fault
    times: int | None
    after_effect: bool
    when: Condition | None
    nth: int | None

    def fits(self, call: Call, after_effect: bool) -> bool:
        return (
            self.after_effect == after_effect
            and self.times != 0
            and self.verb in (call.verb, "*")
            and (self.nth is None or self.nth == call.nth)
            and (self.when is None or self.when(call))
        )

    def error(self, call: Call) -> BaseException:
        if isinstance(self.fault, BaseException):
            return self.fault.with_traceback(None)
        if isinstance(self.fault, type):
            return self.fault(f"ordered for {call.verb} {call.nth}")
        error: BaseException = self.fault(call)
        return error


class Switchboard:
    """What stands between a caller and a fake: counters, orders and the lock."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """Requests so far, by verb; ``calls.total()`` for all."""
        self.log: list[Call] = []
        """Every request, in the order in which it came."""
        self.bytes_received = 0
        """Content of puts and parts that came over the wire, kept or not."""
        self.bytes_served = 0
        """Content that `get_object` answered."""
        self.in_flight = 0
        self.max_in_flight = 0
        self.bytes_in_flight = 0
        self.max_bytes_in_flight = 0
        self.closed = False
        self._lock = threading.RLock()
        self._orders: list[_Order] = []
        self._before: list[tuple[str, Hook]] = []
        self._after: list[tuple[str, Hook]] = []
        self._delays: list[tuple[str, float, Callable[[float], object]]] = []

    # ---- orders ------------------------------------------------------------------------------------------

    def fail(
        self,
        verb: str,
        fault: Fault,
        *,
        times: int | None = 1,
        after_effect: bool = False,
        when: Condition | None = None,
        nth: int | None = None,
    ) -> Self:
        """Let calls of `verb` (``*``: any) raise `fault`: an error, its class, or a function of the call.

        `times` of them (None: always), counted over those that `when` and `nth` (the number of the call of
        that verb, from 1, over the life of the store) let through; after the effect, that is with the answer
        lost, or instead of it. Orders are tried in the order in which they were given; one fires for a call.
        """
        _known(verb)
        with self._lock:
            self._orders.append(_Order(verb, fault, times, after_effect, when, nth))
        return self

    def lose_answer(
        self, verb: str, *, times: int | None = 1, when: Condition | None = None, nth: int | None = None
    ) -> Self:
        """Let calls of `verb` take effect, but end in StoreUnavailable with an unknown outcome."""

        def lost(call: Call) -> BaseException:
            return StoreUnavailable(f"the answer to {call.verb} was lost", outcome_unknown=True)

        return self.fail(verb, lost, times=times, after_effect=True, when=when, nth=nth)

    def before(self, verb: str, hook: Hook) -> Self:
        """Run `hook` with every call of `verb` (``*``: any) before its effect; it may block or raise."""
        _known(verb)
        self._before.append((verb, hook))
        return self

    def after(self, verb: str, hook: Hook) -> Self:
        """Run `hook` with every call of `verb` (``*``: any) after its effect; it may block or raise."""
        _known(verb)
        self._after.append((verb, hook))
        return self

    def delay(self, verb: str, seconds: float, sleep: Callable[[float], object]) -> Self:
        """Let every call of `verb` (``*``: any) take `seconds` by `sleep`, such as that of a `FakeClock`."""
        _known(verb)
        self._delays.append((verb, seconds, sleep))
        return self

    def heal(self) -> Self:
        """Forget all orders, hooks and delays."""
        with self._lock:
            self._orders.clear()
            self._before.clear()
            self._after.clear()
            self._delays.clear()
        return self

    def reset_counters(self) -> Self:
        """Reset the counts. Numbers of calls (``nth``) begin at 1 again."""
        with self._lock:
            self.calls.clear()
            self.log.clear()
            self.bytes_received = self.bytes_served = 0
            self.max_in_flight, self.max_bytes_in_flight = self.in_flight, self.bytes_in_flight
        return self

    # ---- inside ------------------------------------------------------------------------------------------

    @contextmanager
    def _call(
        self, verb: str, key: str, upload_id: str = "", number: int = 0, size: int = 0
    ) -> Iterator[None]:
        """All stations of one request; the body of the ``with`` is its effect, under the lock."""
        call = self._enter(verb, key, upload_id, number, size)
        try:
            for wanted, hook in list(self._before):
                if wanted in (verb, "*"):
                    hook(call)
            for wanted, seconds, sleep in list(self._delays):
                if wanted in (verb, "*"):
                    sleep(seconds)
            self._raise_ordered(call, after_effect=False)
            with self._lock:
                yield
            for wanted, hook in list(self._after):
                if wanted in (verb, "*"):
                    hook(call)
            self._raise_ordered(call, after_effect=True)
        finally:
            with self._lock:
                self.in_flight -= 1
                self.bytes_in_flight -= size

    def _enter(self, verb: str, key: str, upload_id: str, number: int, size: int) -> Call:
        with self._lock:
            if self.closed:
                raise AssertionError(f"{verb} on a store that was closed")
            self.calls[verb] += 1
            call = Call(verb, self.calls[verb], key, upload_id, number, size)
            self.log.append(call)
            self.bytes_received += size
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self.bytes_in_flight += size
            self.max_bytes_in_flight = max(self.max_bytes_in_flight, self.bytes_in_flight)
            return call

    def _raise_ordered(self, call: Call, *, after_effect: bool) -> None:
        with self._lock:
            for order in self._orders:
                if order.fits(call, after_effect):
                    if order.times is not None:
                        order.times -= 1
                    raise order.error(call)


def _known(verb: str) -> None:
    if verb != "*" and verb not in VERBS:
        raise ValueError(f"no such verb: {verb}")
