"""The limit on concurrent requests and on memory that the transfers to one store share."""

from __future__ import annotations

import threading
from collections import deque

from syncd.core.errors import Stopped
from syncd.transfer.heartbeat import Heartbeat


class Slots:
    """Up to `slots` holders at once, with at most `memory` bytes among them.

    First come, first served, so that small files do not starve a large part. One holder is always admitted,
    whatever its size, so that a part larger than `memory` can be sent.

    When the store asks for fewer requests (`throttled`), half as many are allowed; each round of answers
    (`answered`) then allows one more, up to `slots`.
    """

    def __init__(self, slots: int, memory: int, heartbeat: Heartbeat | None = None) -> None:
        self.heartbeat = heartbeat or Heartbeat()
        self._slots = slots
        self._open = float(slots)
        self._echoes = 0
        """How many more `throttled` to ignore: of requests in flight when the limit was last halved."""
        self._memory = memory
        self._held = 0
        self._bytes = 0
        self._line: deque[object] = deque()
        self._stopped = False
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        held = f"{self._held} of {int(self._open)} (at most {self._slots})"
        return f"<Slots {held}, {self._bytes} of {self._memory} bytes, {len(self._line)} waiting>"

    def hold(self, size: int) -> Held:
        """Wait for a slot and `size` bytes, and give them back at the end. Raises Stopped."""
        return Held(self, size)

    def enter(self, size: int) -> None:
        """The first half of `hold`."""
        if not self._enter_at_once(size):
            self.heartbeat.rest()  # the threads that hold the slots have heartbeats of their own
            self._wait(size)
        self.heartbeat.step()

    def _enter_at_once(self, size: int) -> bool:
        with self._changed:
            if self._line or self._stopped or not self._has_room(size):
                return False
            self._held += 1
            self._bytes += size
            return True

    def _wait(self, size: int) -> None:
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: self._stopped or (self._line[0] is ticket and self._has_room(size))
                )
                if self._stopped:
                    raise Stopped
                self._held += 1
                self._bytes += size
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()

    def leave(self, size: int) -> None:
        """The second half of `hold`."""
        with self._changed:
            self._held -= 1
            self._bytes -= size
            if self._line:
                self._changed.notify_all()

    def enter_again(self, size: int) -> None:
        """Take what was given back by `leave` too early, whether there is room or not."""
        with self._changed:
            self._held += 1
            self._bytes += size

    def throttled(self) -> None:
        """The store asked for fewer requests. Of the requests in flight together, only the first counts."""
        with self._changed:
            if self._echoes > 0:
                self._echoes -= 1
                return
            self._open = max(1.0, self._open / 2)
            self._echoes = self._held - 1

    def answered(self) -> None:
        """A request succeeded."""
        if self._open >= self._slots:  # as nearly always
            return
        with self._changed:
            self._echoes = max(0, self._echoes - 1)
            self._open = min(float(self._slots), self._open + 1.0 / self._open)
            self._changed.notify_all()

    def stop(self) -> None:
        """Raise Stopped in every thread that waits, now or later."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        if self._held >= int(self._open):
            return False
        return self._held == 0 or self._bytes + size <= self._memory


class Held:
    """What `Slots.hold` returns. No generator, because every request uses it and generators cost more.

    One thread may enter it and another leave it: the first calls `hand_over`, the other `take_over`.
    """

    __slots__ = ("_size", "_slots")

    def __init__(self, slots: Slots, size: int) -> None:
        self._slots = slots
        self._size = size

    def __enter__(self) -> None:
        self._slots.enter(self._size)
        self._slots.heartbeat.holds(self)

    def __exit__(self, *_: object) -> None:
        self._slots.heartbeat.holds(None)
        self._slots.leave(self._size)

    def hand_over(self) -> None:
        """The calling thread goes on without it."""
        self._slots.heartbeat.holds(None)

    def take_over(self) -> None:
        """The calling thread has it from now on."""
        self._slots.heartbeat.holds(self)

    # ---- see `syncd.transfer.heartbeat.Hold` ------------------------------------------------------------

    def lend(self) -> None:
        """Others may use it: its owner waits for the kernel."""
        self._slots.leave(self._size)

    def take_back(self) -> None:
        """Its owner moves again."""
        self._slots.enter_again(self._size)
