"""Every state that a file has had: is an object one of them?

The model, the simulation and the campaign judge by this.

Where other processes write the files, they note each state in a log before it can be seen: a line with name,
size and XXH3-128. Lines are appended with one write each, so that several processes may
share a log; names are as `os.fsencode` gives them, in hex.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import xxhash

State = tuple[int, str]
"""Size in bytes and XXH3-128 in hex."""


def state_of(content: bytes | bytearray | memoryview) -> State:
    """Of a file with that content."""
    return len(content), xxhash.xxh3_128_hexdigest(content)


class StateLog:
    """Appends; one for each process that writes files. A context manager."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> StateLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def add(self, name: str, state: State) -> None:
        """From now on `name` may have this state."""
        line = b"%s %d %s\n" % (os.fsencode(name).hex().encode(), state[0], state[1].encode())
        if os.write(self._descriptor, line) != len(line):
            raise AssertionError("half a line in the log of states")


class States:
    """Every state that each name has had, to judge whether an object is one of them."""

    def __init__(self) -> None:
        self._states: dict[str, set[State]] = {}

    def add(self, files: Mapping[str, bytes]) -> None:
        """Each of these files is what it is now."""
        for name, content in files.items():
            self._add(name, state_of(content))

    def had(self, name: str, content: bytes) -> bool:
        """Whether the file of that name ever had that content."""
        return state_of(content) in self.of(name)

    def of(self, name: str) -> set[State]:
        """All states of that name."""
        return self._states.get(name, set())

    def names(self) -> set[str]:
        """All names that ever were."""
        return set(self._states)

    def _add(self, name: str, state: State) -> None:
        self._states.setdefault(name, set()).add(state)


class LoggedStates(States):
    """The same from a log that grows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._offset = 0
        self.count = 0
        """Of states; one that a name had twice counts twice."""

    def of(self, name: str) -> set[State]:
        self._read_on()
        return super().of(name)

    def names(self) -> set[str]:
        self._read_on()
        return super().names()

    def _read_on(self) -> None:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            lines = log.read().rpartition(b"\n")[0]
        self._offset += len(lines) + 1 if lines else 0
        for line in lines.splitlines():
            name, size, digest = line.split()
            self._add(os.fsdecode(bytes.fromhex(name.decode())), (int(size), digest.decode()))
            self.count += 1
