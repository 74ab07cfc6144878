"""What the daemon asks of the machine that it runs on."""

from __future__ import annotations

import ctypes
import os
import resource
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress

SHARED_MEMORY = "/dev/shm"  # noqa: S108  a directory of our own is made there, with mode 0700

_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_memory_private() -> None:
    """No core file of this process, whatever ends it: keys would be in it. Best effort.

    The limit alone does not bind a handler that the kernel pipes cores to, so the process says it itself.
    That also closes it to debuggers of its own user; root may attach to it as ever. A signal still kills and
    is still told to the service manager.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0),) * 4)


def suspended_seconds() -> float:
    """How long the machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def canary_directory(state_dir: str, environ: Mapping[str, str]) -> str:
    """A directory in memory where there is one: an idle daemon writes to no disk."""
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    for place in (runtime, environ.get("XDG_RUNTIME_DIR", ""), SHARED_MEMORY):
        if place and os.access(place, os.W_OK | os.X_OK):
            with suppress(OSError):
                return tempfile.mkdtemp(prefix="syncd-canary-", dir=place)
    return tempfile.mkdtemp(prefix="canary-", dir=state_dir)


def raise_descriptor_limit() -> None:
    """The soft limit is for programs that use select(2); nobody else needs it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
