"""What the tests of watching stand on: ears for what is reported, and a follower that does as a daemon would.

A `Follower` looks only where it is told to: at a path that changed, through a subtree in doubt. So if what it
has seen becomes what is on the disk, nothing was missed; if it does not, something was.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.api import EventQueue, ObservedWatch

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.watch.emitter import InotifyEmitter
from syncd.sources.watch.gaps import WatchStatus
from syncd.sources.watch.inotify import Inotify
from syncd.sources.watch.reports import WatchReports
from syncd.sources.watch.watcher import Watcher

DEADLINE_SECONDS = 30.0
NAME = "docs"
CANNOT = 77
"""Exit code of a scenario that the machine, not the product, makes impossible."""

MAX_READ = 4096

Seen = dict[str, tuple[int, int, bytes]]
"""Path -> inode, size, the first bytes of a regular file. No mtime: that can change without an event."""


def eventually(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> bool:
    """Whether the condition comes true before the deadline; asks every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def walk(root: str, below: str = "") -> Seen:
    """Every file of a tree (no directories), as it is now, without those that vanish during the walk."""
    seen: Seen = {}
    for directory, _, names in os.walk(os.path.join(root, below)):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), root)
            state = look(root, path)
            if state is not None:
                seen[path] = state
    return seen


def look(root: str, path: str) -> tuple[int, int, bytes] | None:
    """One file as it is now; None for a directory or nothing."""
    try:
        status = os.stat(os.path.join(root, path), follow_symlinks=False)
        head = b""
        if stat.S_ISREG(status.st_mode) and status.st_size:
            with open(os.path.join(root, path), "rb") as file:
                head = file.read(MAX_READ)
    except OSError:
        return None
    return None if stat.S_ISDIR(status.st_mode) else (status.st_ino, status.st_size, head)


class Listener:
    """Remembers everything that is reported."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.doubts: list[tuple[str, str, str]] = []
        self._condition = threading.Condition()

    def changed(self, source: str, path: str) -> None:
        with self._condition:
            self.changes.append((source, path))
            self._condition.notify_all()

    def rescan(self, source: str, subtree: str, reason: str) -> None:
        with self._condition:
            self.doubts.append((source, subtree, reason))
            self._condition.notify_all()

    def paths(self, source: str = NAME) -> list[str]:
        """Changed paths of one source, in order."""
        with self._condition:
            return [path for name, path in self.changes if name == source]

    def subtrees(self, source: str = NAME) -> list[str]:
        """Subtrees in doubt of one source, in order."""
        with self._condition:
            return [subtree for name, subtree, _ in self.doubts if name == source]

    def hears(self, *paths: str, source: str = NAME, seconds: float = DEADLINE_SECONDS) -> bool:
        """Whether all these paths are reported as changed before the deadline."""
        with self._condition:
            return self._condition.wait_for(lambda: {*paths} <= {*self._paths(source)}, seconds)

    def doubts_of(self, subtree: str, source: str = NAME, seconds: float = DEADLINE_SECONDS) -> bool:
        """Whether this subtree is reported as doubtful before the deadline."""
        with self._condition:
            return self._condition.wait_for(
                lambda: any(doubt[:2] == (source, subtree) for doubt in self.doubts), seconds
            )

    def forget(self) -> None:
        """Begin again."""
        with self._condition:
            self.changes.clear()
            self.doubts.clear()

    def _paths(self, source: str) -> list[str]:
        return [path for name, path in self.changes if name == source]


class Follower(Listener):
    """Looks where it is told to, in a thread of its own, and knows what it saw there."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = root
        self.seen: Seen = {}
        self._jobs: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="follower")
        self._thread.start()

    def changed(self, source: str, path: str) -> None:
        super().changed(source, path)
        self._jobs.put(("look", path))

    def rescan(self, source: str, subtree: str, reason: str) -> None:
        super().rescan(source, subtree, reason)
        self._jobs.put(("scan", subtree))

    def scan(self) -> None:
        """What a daemon does at start."""
        self._jobs.put(("scan", ""))

    def is_right(self, seconds: float = DEADLINE_SECONDS) -> bool:
        """Whether what was seen becomes what is there."""
        return eventually(lambda: self._jobs.empty() and self.seen == walk(self.root), seconds)

    def errors(self) -> dict[str, tuple[object, object]]:
        """Path -> (seen, there) where the two differ: for messages."""
        there = walk(self.root)
        paths = self.seen.keys() | there.keys()
        return {
            path: (self.seen.get(path), there.get(path))
            for path in paths
            if self.seen.get(path) != there.get(path)
        }

    def close(self) -> None:
        """End the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            kind, path = job
            if kind == "look":
                found = look(self.root, path)
                if found is None:
                    self.seen.pop(path, None)
                else:
                    self.seen[path] = found
            else:
                found_below = walk(self.root, path)
                below = path + "/" if path else ""
                kept = {each: state for each, state in self.seen.items() if not each.startswith(below)}
                self.seen = kept | found_below


class Watch:
    """A watcher at work, and its listener."""

    def __init__(self, watcher: Watcher, listener: Listener) -> None:
        self.watcher = watcher
        self.listener = listener

    def status(self, source: str = NAME) -> WatchStatus:
        return self.watcher.status()[source]

    def watches_exactly(self, root: str, seconds: float = DEADLINE_SECONDS) -> bool:
        """Whether the number of watches becomes the number of directories."""
        return eventually(lambda: self.status().watches == sum(1 for _ in os.walk(root)), seconds)

    def has_heard_everything(self) -> bool:
        """Wait until what happened before is dealt with: events come in order, and so does the canary's."""
        return self.watcher.is_alive(DEADLINE_SECONDS)


@contextmanager
def watching(
    roots: Path | str | Mapping[str, str],
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    rules: Rules | None = None,
    listener: Listener | None = None,
) -> Iterator[Watch]:
    """A started watcher for these roots (one is called `NAME`); stopped at the end."""
    named = dict(roots) if isinstance(roots, Mapping) else {NAME: str(roots)}
    sources = [Source(name=name, root=root, store="store") for name, root in named.items()]
    ear = listener or Listener()
    each = {name: rules or Rules(include, exclude) for name in named}
    watcher = Watcher(sources, each, ear)
    watcher.start()
    try:
        yield Watch(watcher, ear)
    finally:
        watcher.stop()


@contextmanager
def following(root: Path | str) -> Iterator[tuple[Watch, Follower]]:
    """A started watcher and a follower that has scanned once."""
    follower = Follower(str(root))
    try:
        with watching(root, listener=follower) as watch:
            follower.scan()
            yield watch, follower
    finally:
        follower.close()


class Meddler(Rules):
    """Rules that do something, once, when they are asked about a directory: just before it is looked at."""

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        super().__init__((), ())
        self._actions = dict(actions)

    def wants_directory(self, path: str) -> bool:
        action = self._actions.pop(path, None)
        if action is not None:
            action()
        return super().wants_directory(path)


class Stepper:
    """The reader without its thread: the test says when it reads, so records are as old as it wants."""

    def __init__(
        self,
        root: Path,
        *,
        exclude: Sequence[str] = (),
        rules: Rules | None = None,
        **settings: Any,
    ) -> None:
        self.listener = Listener()
        self.root = str(root)
        source = Source(name=NAME, root=self.root, store="store", **settings)
        each = {NAME: rules or Rules((), exclude)}
        reports = WatchReports([source], each, self.listener)
        self._kernel = Inotify()
        self._emitter = InotifyEmitter(
            EventQueue(), ObservedWatch("/", recursive=False), kernel=self._kernel, sources=[source],
            rules=each, reports=reports,
        )  # fmt: skip
        self._emitter.place_all()
        self.catch_up()

    def step(self) -> bool:
        """One turn; False if nothing is left to do."""
        return self._emitter.turn(0.03)

    def catch_up(self) -> None:
        """Turns, until there is nothing left to do."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.step():
            assert time.monotonic() < deadline, "the reader does not come to rest"

    @property
    def status(self) -> WatchStatus:
        return self._emitter.statuses[NAME]

    @property
    def watches(self) -> int:
        return self.status.watches

    @property
    def kernel_watches(self) -> int:
        """How many watches the kernel holds for us."""
        with open(f"/proc/self/fdinfo/{self._kernel.fileno()}") as info:
            return sum(line.startswith("inotify ") for line in info)

    def blind(self) -> list[str]:
        """Directories in which a file can be made without its path being reported."""
        directories = [os.path.relpath(each, self.root) for each, _, _ in os.walk(self.root)]
        probes = [os.path.normpath(os.path.join(directory, "probe")) for directory in directories]
        self.listener.forget()
        for probe in probes:
            Path(self.root, probe).touch()
        self.catch_up()
        heard = set(self.listener.paths())
        for probe in probes:
            Path(self.root, probe).unlink()
        self.catch_up()
        return [probe for probe in probes if probe not in heard]

    def close(self) -> None:
        self._emitter.close()


def exchange(one: Path | str, other: Path | str) -> None:
    """Two names change places, at once (renameat2 with RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def apart(scenario: str, directory: Path) -> dict[str, object]:
    """Run a scenario of `watch_scenarios` in a process of its own, with rights and namespaces of its own."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"{__package__}.watch_scenarios", scenario, str(directory)],
        cwd=Path(__file__).parents[4], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if result.returncode == CANNOT:
        pytest.skip(f"THIS MACHINE CANNOT SHOW IT: {result.stdout.strip()}")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer
