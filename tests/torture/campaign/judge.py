"""Looks at the store all the time: is each object one state that its file really had?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.shelves import Shelf
from tests.support.states import LoggedStates

_PAUSE_SECONDS = 0.1


@dataclass
class Verdict:
    """What was seen."""

    compared: int = 0
    """Objects that were read and found in the log of states."""
    torn: list[str] = field(default_factory=list)
    """Objects that are no state which their file ever had."""
    deleted: list[str] = field(default_factory=list)
    """Objects that were there and are not any more."""


class Judge:
    """Compares what `shelf` holds with a log of states; an object that it has seen is read once.

    `name_of` tells the name of the file that an object is of. `keep` is where torn objects go.
    """

    def __init__(self, shelf: Shelf, known: LoggedStates, name_of: Callable[[str], str], keep: Path) -> None:
        self.verdict = Verdict()
        self._shelf = shelf
        self._known = known
        self._name_of = name_of
        self._keep = keep
        self._seen: dict[str, object] = {}
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="judge")

    def __enter__(self) -> Judge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def look(self) -> None:
        """Read every object that is new or another since the last look."""
        versions = self._shelf.versions()
        self.verdict.deleted += [key for key in self._seen if key not in versions]
        self._seen = {key: self._seen[key] for key in self._seen if key in versions}
        for key, version in versions.items():
            if self._seen.get(key) == version:
                continue
            content = self._shelf.fetch(key)
            if content is None:
                self.verdict.deleted.append(key)
                continue
            self._seen[key] = version
            self._compare(key, content)

    def _compare(self, key: str, content: bytes) -> None:
        if self._known.had(self._name_of(key), content):
            self.verdict.compared += 1
            return
        self.verdict.torn.append(key)
        self._keep.mkdir(exist_ok=True)
        (self._keep / f"{len(self.verdict.torn)} {key.replace('/', '_')}").write_bytes(content)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_PAUSE_SECONDS):
                self.look()
        except BaseException as error:  # raised to end this process
            self._error = error
