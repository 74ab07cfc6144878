"""Waiting for conditions, with a deadline that a slow machine does not reach."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 30.0


def wait_until(what: str, holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as `holds` says so; fail when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.005)


class Running(Generic[T]):
    """A call in a daemon thread of its own; `result` waits for it."""

    def __init__(self, call: Callable[..., T], *arguments: Any, **named: Any) -> None:
        self._outcome: list[T] = []
        self._error: list[BaseException] = []

        def run() -> None:
            try:
                self._outcome.append(call(*arguments, **named))
            except BaseException as error:  # raised again where the result is read
                self._error.append(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def result(self, seconds: float = DEADLINE_SECONDS) -> T:
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise AssertionError(f"not over within {seconds:.0f} s")
        if self._error:
            raise self._error[0]
        return self._outcome[0]
