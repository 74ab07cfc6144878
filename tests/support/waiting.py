"""Waiting for conditions, with a deadline that a slow machine does not reach."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
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


class Holder:
    """Holds something in a thread of its own until it is let go."""

    def __init__(self, hold: Callable[[], AbstractContextManager[object]]) -> None:
        self.inside = threading.Event()
        self.release = threading.Event()

        def run() -> None:
            with hold():
                self.inside.set()
                self.release.wait(30)

        self.running = Running(run)

    def leave(self) -> None:
        self.release.set()
        self.running.result()


@contextmanager
def running(code: str, path: Path) -> Iterator[None]:
    """Runs a program in Python that works in `path`; it prints a line once it does."""
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
        process.stdout.close()
