"""Faults to order for the BOS server of the tests: which request fails, how, and how often."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

KINDS = {
    "error": "answers `status` and `code` instead of doing it (the body is read); code '' sends no body",
    "error_in_200": "answers 200, chunked, with an error object in the body; does nothing",
    "html": "answers `status` with a page of HTML; does nothing",
    "empty_200": "does it, then answers 200 without body and without ETag",
    "cut_before_body": "closes the connection once the headers are read; does nothing",
    "cut_in_body": "closes the connection after `size` bytes of the body; does nothing",
    "cut_after_body": "closes the connection once the body is read; does nothing",
    "lose_answer": "does it, then closes the connection without an answer",
    "cut_answer": "does it, then closes the connection in the middle of the answer's body",
    "drip": "does it, then sends `size` blanks, one every `seconds`, before the answer's body",
    "slow_read": "waits `seconds` before each 64 KiB of the body that it reads",
    "hold": "waits, before doing it, until it is released",
    "hold_after": "does it, then waits until it is released before it answers",
    "wrong_etag": "does it, then answers with another ETag",
    "corrupt": "does it, then damages what it stored (PutObject and UploadPart)",
}


@dataclass
class Fault:
    """One order. It takes the first `times` requests that fit, after letting `skip` of them pass."""

    kind: str
    op: str = ""
    """``PutObject``, ``UploadPart``, ...; empty: any."""
    key: str = ""
    """Part of the key; empty: any."""
    part: int = 0
    """Part number; 0: any."""
    times: int = 1
    """-1: without end."""
    skip: int = 0
    status: int = 500
    code: str = "InternalError"
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    size: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}; there are {', '.join(KINDS)}")


class Faults:
    """The orders in force, and the requests that they hold."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._orders: list[Fault] = []
        self._generation = 0
        self._held = 0

    def add(self, fault: Fault) -> None:
        with self._changed:
            self._orders.append(fault)

    def clear(self) -> None:
        """Remove all orders and release the requests that they hold."""
        with self._changed:
            self._orders.clear()
            self._release()

    def release(self) -> None:
        """Release the requests that are held; the orders stay."""
        with self._changed:
            self._release()

    def take(self, op: str, key: str, part: int) -> Fault | None:
        """The first order that this request falls under, used up by one."""
        with self._changed:
            for fault in self._orders:
                fits = fault.op in ("", op) and fault.key in key and fault.part in (0, part)
                if not fits or fault.times == 0:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1 if fault.times > 0 else 0
                return fault
            return None

    def hold(self) -> None:
        """Wait for `release` or `clear`."""
        with self._changed:
            generation = self._generation
            self._held += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._generation != generation)
            self._held -= 1
            self._changed.notify_all()

    def held(self) -> int:
        """How many requests are held now."""
        with self._changed:
            return self._held

    def wait_held(self, count: int, seconds: float) -> bool:
        """Wait until that many requests are held."""
        with self._changed:
            return self._changed.wait_for(lambda: self._held >= count, seconds)

    def _release(self) -> None:
        self._generation += 1
        self._changed.notify_all()
