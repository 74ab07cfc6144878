"""The limits on concurrent requests and on memory: those of one store, and those that the stores share.

One machine has one line, one memory and one disk. So the `Slots` of all stores share a `Bound`. A part of it
is reserved for each of them, so that a store that hangs with all it may hold leaves something to the others.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice
from typing import Protocol

from syncd.core.errors import Stopped
from syncd.transfer.pace.heartbeat import Heartbeat


class Pacer(Protocol):
    """The line that bodies go out on."""

    def bytes_under_way(self) -> float:
        """Return how many bytes may be under way at once; one body may, whatever its size."""
        ...

    def look(self) -> tuple[float, int]:
        """Return the time, and how many bytes the line has carried."""
        ...

    def carried(self, size: int, since: tuple[float, int]) -> None:
        """Note that a body of `size` bytes arrived that was begun at `since`."""
        ...


class Bound:
    """What the `Slots` that share it may hold together: `slots` holders with `memory` bytes.

    Half of it is reserved for those that hold less than their share. Each may hold one thing, whatever the
    others hold. On a line with a `pacer`, the next body is admitted when what is under way is nearly sent.
    """

    def __init__(self, slots: int, memory: int, pacer: Pacer | None = None) -> None:
        self.slots = slots
        self.memory = memory
        self.pacer = pacer
        self.changed = threading.Condition()
        self.members: list[Slots] = []
        self.unsent = self.unsent_small = 0
        """Bytes of admitted bodies that have not gone out yet: of all, and of small ones."""
        self.small = min(_MOST_SMALL, memory // 64)
        """A body of up to so many bytes finds memory and a place on the line even if parts have taken all."""
        self.turns = 0
        """How often anything was admitted."""
        self.is_paced = False
        """A thread waits for the line."""

    def admits(self, slots: int, size: int, member: Slots) -> bool:
        """Return whether the member, which holds `slots`, may hold one more, of `size` bytes."""
        return self._carries(size) and self._has_room(slots, size, member)

    def _carries(self, size: int) -> bool:
        """Return whether the line takes a body of `size` bytes now. It always takes some small ones."""
        if not size or self.pacer is None or not self.unsent:
            return True
        under_way = self.pacer.bytes_under_way()
        nearly_sent = under_way * _NEARLY
        if size <= self.small and self.unsent_small + size <= nearly_sent:
            return True
        if self.unsent > nearly_sent and self.unsent + size > under_way:
            self.is_paced = True
            return False
        return True

    def admitted(self, unsent: int, size: int) -> None:
        """Count `unsent` more bytes of an admitted body of `size` bytes as not sent."""
        self.unsent += unsent
        if size <= self.small:
            self.unsent_small += unsent

    def _has_room(self, slots: int, size: int, member: Slots) -> bool:
        """Return whether the others leave the member so much."""
        if slots == 0:
            return True
        held = memory = 0
        share = 2 * len(self.members)
        least, least_memory = max(1, self.slots // share), self.memory // share
        for each in self.members:
            is_other = each is not member
            held += max(each.held, least) if is_other else each.held
            memory += max(each.bytes, least_memory) if is_other else each.bytes
        most = self.memory + self.small if size <= self.small else self.memory
        return held < self.slots and memory + size <= most


_NEARLY = 0.1
_MOST_SMALL = 1 << 20
_HANDOVER_SECONDS = 1.0  # the waiting threads may wait for something else


class _Ticket:
    """A thread that waits to hold `size` bytes."""

    __slots__ = ("passed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.passed = 0
        """The bytes of later threads that went before it."""


class Slots:
    """Up to `slots` holders at once, with at most `memory` bytes among them.

    First come, first served, so that small files do not starve a large part. But while the first one has no
    room, others go before it, with as many bytes as it has itself: a small file does not wait for the parts
    of all large ones. Of the stores that share a bound, the one that has waited longest is next. One holder
    is always admitted, whatever its size, so that a part larger than `memory` can be sent.

    When the store asks for fewer requests (`throttled`), half as many are allowed; each round of answers
    (`answered`) then allows one more, up to `slots`.
    """

    def __init__(
        self, slots: int, memory: int, heartbeat: Heartbeat | None = None, bound: Bound | None = None
    ) -> None:
        self.heartbeat = heartbeat or Heartbeat()
        self.bound = bound or Bound(slots, memory)
        self._slots = slots
        self._open = float(slots)
        self._echoes = 0
        """How many more `throttled` to ignore: those of requests in flight when the limit was last halved."""
        self.held = 0
        self.bytes = 0
        self._line: deque[_Ticket] = deque()
        self._turn = 0
        """The last turn of the bound that was its own."""
        self._stopped = False
        self._changed = self.bound.changed
        with self._changed:
            self.bound.members.append(self)

    def __repr__(self) -> str:
        held = f"{self.held} of {int(self._open)} (at most {self._slots})"
        return f"<Slots {held}, {self.bytes} of {self.bound.memory} bytes, {len(self._line)} waiting>"

    def hold(self, size: int) -> Held:
        """Wait for a slot and `size` bytes, and give them back at the end. Raises Stopped."""
        return Held(self, size)

    def enter(self, size: int) -> None:
        """Do the first half of `hold`."""
        if not self._enter_at_once(size):
            self.heartbeat.rest()  # the threads that hold the slots have their own heartbeats
            self._wait(size)
        self.heartbeat.step()

    def _enter_at_once(self, size: int) -> bool:
        with self._changed:
            if self._stopped or not self._may_go(size, len(self._line)):
                return False
            self._take(size)
            return True

    def _wait(self, size: int) -> None:
        ticket = _Ticket(size)
        with self._changed:
            self._line.append(ticket)
            try:
                self._changed.wait_for(lambda: self._stopped or self._may_go(size, self._line.index(ticket)))
                if self._stopped:
                    raise Stopped
                self._take(size)
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()

    def pass_on(self, size: int) -> None:
        """Let waiting threads go first, then go on. Raises Stopped, and then nothing is held."""
        with self._changed:
            if not any(each._line for each in self.bound.members):
                return
            turns = self.bound.turns
        self.heartbeat.rest()
        self.leave(size)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.bound.turns != turns, _HANDOVER_SECONDS)
        self.enter(size)

    def _may_go(self, size: int, place: int) -> bool:
        """Return whether a thread in this place of the line may hold `size` bytes now."""
        if place == 0:
            return self._has_room(size)
        first = self._line[0]
        left = first.size - max(first.passed, 1)  # what is as large waits behind it
        if size > left or not self._has_room(size):
            return False
        before = (each.size for each in islice(self._line, 1, place) if each.size <= left)
        return not any(map(self._fits, (first.size, *before)))

    def _take(self, size: int) -> None:
        if self._line:
            self._line[0].passed += size  # its own bytes no longer matter
        self.bound.turns += 1
        self._turn = self.bound.turns
        self.held += 1
        self.bytes += size
        self.bound.admitted(size, size)

    def leave(self, size: int, unsent: int | None = None) -> None:
        """Do the second half of `hold`; `unsent` bytes never went out (None: all)."""
        with self._changed:
            self.held -= 1
            self.bytes -= size
            self.bound.admitted(-(size if unsent is None else unsent), size)
            if self._stopped and not self.held and self in self.bound.members:
                self.bound.members.remove(self)
            self._changed.notify_all()

    def sent(self, sent: int, size: int) -> None:
        """Count `sent` bytes of a held body of `size` bytes as gone out."""
        with self._changed:
            self.bound.admitted(-sent, size)
            if self.bound.is_paced:
                self.bound.is_paced = False
                self._changed.notify_all()

    def enter_again(self, size: int) -> None:
        """Take back what `leave` gave up too early, whether there is room or not."""
        with self._changed:
            self.held += 1
            self.bytes += size
            if self not in self.bound.members:
                self.bound.members.append(self)

    def throttled(self) -> None:
        """Allow fewer requests, as the store asks. Of requests in flight together, only the first counts."""
        with self._changed:
            if self._echoes > 0:
                self._echoes -= 1
                return
            self._open = max(1.0, self._open / 2)
            self._echoes = self.held - 1

    def answered(self) -> None:
        """Note that a request succeeded."""
        if self._open >= self._slots:  # the usual case
            return
        with self._changed:
            self._echoes = max(0, self._echoes - 1)
            self._open = min(float(self._slots), self._open + 1.0 / self._open)
            self._changed.notify_all()

    def stop(self) -> None:
        """Raise Stopped in every thread that waits, now or later."""
        with self._changed:
            self._stopped = True
            if not self.held and self in self.bound.members:
                self.bound.members.remove(self)
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._fits(size) and not any(each._goes_before(self) for each in self.bound.members)

    def _goes_before(self, other: Slots) -> bool:
        """Return whether a thread waits here that would fit, and the other had its turn since this one's."""
        waits = bool(self._line) and self._turn < other._turn and not self._stopped
        return waits and self._fits(self._line[0].size)

    def _fits(self, size: int) -> bool:
        return self.held < int(self._open) and self.bound.admits(self.held, size, self)


class Held:
    """What `Slots.hold` returns. Not a generator: every request uses it, and generators cost more.

    One thread may enter it and another leave it: the first calls `hand_over`, the other `take_over`.
    """

    __slots__ = ("_is_held", "_since", "_size", "_slots", "_unsent")

    def __init__(self, slots: Slots, size: int) -> None:
        self._slots = slots
        self._size = self._unsent = size
        self._since: tuple[float, int] | None = None
        self._is_held = False

    def __enter__(self) -> None:
        self._slots.enter(self._size)
        self._is_held = True
        self._slots.heartbeat.holds(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._slots.heartbeat.holds(None)
        pacer = self._slots.bound.pacer
        if kind is None and not self._unsent and self._since is not None and pacer is not None:
            pacer.carried(self._size, self._since)
        if self._is_held:
            self._slots.leave(self._size, self._unsent)

    def pass_on(self) -> None:
        """Let waiting threads go first, then go on. Raises Stopped."""
        self._is_held = False
        self._slots.heartbeat.holds(None)
        self._slots.pass_on(self._size)
        self._is_held = True
        self._slots.heartbeat.holds(self)

    def sent(self, size: int) -> None:
        """Count so many bytes as gone out, perhaps not for the first time."""
        bound = self._slots.bound
        if self._since is None and bound.pacer is not None:
            self._since = bound.pacer.look()
        size = min(size, self._unsent)
        if size:
            self._unsent -= size
            self._slots.sent(size, self._size)

    def hand_over(self) -> None:
        """Detach it from the calling thread."""
        self._slots.heartbeat.holds(None)

    def take_over(self) -> None:
        """Attach it to the calling thread."""
        self._slots.heartbeat.holds(self)

    # ---- see `syncd.transfer.pace.heartbeat.Hold` --------------------------------------------------------

    def lend(self) -> None:
        """Let others use it while its owner waits for the kernel."""
        self._slots.leave(self._size, self._unsent)
        self._unsent = 0

    def take_back(self) -> None:
        """Return it to its owner, which moves again."""
        self._slots.enter_again(self._size)
