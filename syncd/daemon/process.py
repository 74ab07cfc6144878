"""This process and its machine: its id, core files, descriptors, suspend."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import time
from collections.abc import Mapping
from contextlib import suppress

from syncd.core import plan
from syncd.sources import mounts

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
PODMANS_MARK = "/run/.containerenv"

_LAYERED = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
_PR_SET_DUMPABLE = 4  # prctl(2)
_M_ARENA_MAX = -8  # mallopt(3)


def keep_memory_private() -> None:
    """Prevent core files of this process, as far as possible: they would contain keys.

    The core limit does not bind a program that the kernel pipes cores to; being undumpable does, and also
    keeps debuggers of the same user out. Root can still attach, and signals still end the process as usual.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0),) * 4)


def machine_id() -> str:
    """Return the id of this machine; empty: it has none of its own that lasts.

    A container's root comes from the layers of an image: an id there repeats in each container of the image,
    or vanishes with the container. An id that was mounted there counts.
    """
    mounted: Mapping[str, mounts.Mount] = {}
    with suppress(OSError), open(mounts.TABLE, "rb") as table:
        mounted = mounts.parse(table.read())
    root = mounted.get("/")
    is_container = os.path.exists(PODMANS_MARK) or (root is not None and root.type in _LAYERED)
    for path in MACHINE_IDS:
        if is_container and path not in mounted:
            continue
        with suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
            if found := plan.machine_id(file.read(100)):
                return found
    return ""


def suspended_seconds() -> float:
    """Return how many seconds the machine has been suspended since it booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def share_one_heap() -> None:
    """Have all threads share one heap; otherwise the allocator keeps up to eight for each processor."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Collect garbage, and give free memory back to the kernel."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one. The soft one protects users of select(2); syncd uses poll."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
