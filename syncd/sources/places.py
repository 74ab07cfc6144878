"""Where a configured path leads, without waiting for a file system whose server may be gone.

Links are resolved as far as this machine's file systems reach. A separate process looks behind a mount whose
server may be gone, because a thread that waits for a dead server cannot be ended, nor can its process. It has
a moment; without an answer the path is taken as written.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from syncd.sources.mounts import MountTable

if TYPE_CHECKING:
    import subprocess

PATIENCE_SECONDS = 2.0
"""The limit for all paths of one `Places` together."""
_MOST_LINKS = 40  # like the kernel
_PROGRAM = """
import os, sys
path = os.path.realpath(os.fsencode(sys.argv[1]))
kind = "other" if os.path.exists(path) else ""
if os.path.isdir(path):
    kind = "directory" if os.access(path, os.R_OK | os.X_OK) else "closed"
if kind:
    os.statvfs(path)  # what else is asked the kernel may still know
sys.stdout.buffer.write(kind.encode() + b"\\0" + path)
"""

_unanswered: dict[str, subprocess.Popen[bytes]] = {}
"""Mount point -> the process that still waits for it: no other one starts until that ends."""


def silence(path: str) -> str:
    """Return why nothing may be asked below the absolute `path`; empty: it answers, or is missing."""
    if Places().look(path) is not None:
        return ""
    return f"{path} does not answer; check whether the server of its file system is up"


class Found(NamedTuple):
    """What is at a path."""

    path: str
    """The path without symbolic links, as far as they could be resolved."""
    kind: str
    """``directory``, ``closed`` (a directory that syncd may not list), ``other``; empty: nothing is there."""


class Places:
    """Resolves paths. With `ask` False it does not look behind a mount whose server may be gone."""

    def __init__(self, *, ask: bool = True, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._until = 0.0
        self._known: dict[str, Found | None] = {}
        try:
            self._mounts: MountTable | None = MountTable()
        except OSError:  # unknown without /proc
            self._mounts = None
        else:
            self._mounts.close()

    def real(self, path: str) -> str:
        """Return the absolute `path` without symbolic links, as far as that can be known."""
        found = self.look(path)
        return found.path if found is not None else self._split(path)[1]

    def look(self, path: str) -> Found | None:
        """Return what is at the absolute `path`; None: its server does not answer, or must not be asked."""
        if path not in self._known:
            mount, real = self._split(path)
            self._known[path] = self._answer(mount, real) if mount else _look(real)
        return self._known[path]

    def names(self, real: str) -> tuple[str, ...]:
        """Return what tells a directory from others: its path without links, and its origin if known."""
        origin = self._mounts.origin(real) if self._mounts is not None else ""
        return (real, origin) if origin and real != "/" else (real,)

    def may_hang(self, point: str) -> bool:
        """Return whether something is mounted exactly here whose server may be gone."""
        return self._mounts is not None and self._mounts.may_hang(point)

    def _split(self, path: str) -> tuple[str, str]:
        """Return the mount behind which the path is not resolved (empty: none), and the path."""
        done, rest, links = "", path.split("/"), 0
        while rest:
            name = rest.pop(0)
            if name in ("", "."):
                continue
            at = os.path.dirname(done) if name == ".." else f"{done}/{name}"
            if self.may_hang(at):
                return at, os.path.normpath("/".join((at, *rest)))
            done, target = at, _link(at) if links < _MOST_LINKS else ""
            if target:
                links += 1
                done = "" if target.startswith("/") else os.path.dirname(done)
                rest = target.split("/") + rest
        return "", done or "/"

    def _answer(self, mount: str, path: str) -> Found | None:
        """Return what a separate process finds there; None: it does not answer in time."""
        waiting = _unanswered.get(mount)
        if not self._ask or (waiting is not None and waiting.poll() is None):
            return None
        import subprocess  # late, because few configurations need it

        self._until = self._until or self._monotonic() + PATIENCE_SECONDS
        try:
            asked = subprocess.Popen(  # noqa: S603  our own program, and a path as its argument
                [sys.executable, "-ISc", _PROGRAM, path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            return None
        try:
            answer, _ = asked.communicate(timeout=max(0.0, self._until - self._monotonic()))
        except subprocess.TimeoutExpired:
            asked.kill()
            if asked.stdout is not None:
                asked.stdout.close()
            _unanswered[mount] = asked
            return None
        kind, _, real = answer.partition(b"\0")
        return Found(os.fsdecode(real), kind.decode()) if real else None


def _look(path: str) -> Found:
    if os.path.isdir(path):
        return Found(path, "directory" if os.access(path, os.R_OK | os.X_OK) else "closed")
    return Found(path, "other" if os.path.exists(path) else "")


def _link(path: str) -> str:
    """Return the target of the symbolic link at `path`; empty: there is none."""
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return ""
