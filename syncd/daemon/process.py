"""This process and its machine: its id, core files, descriptors, suspend, a directory in memory."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import resource
import stat
import time
from collections.abc import Mapping
from contextlib import suppress

from syncd.core import plan
from syncd.sources import mounts

SHARED_MEMORY = "/dev/shm"  # noqa: S108  a directory of our own is made there, with mode 0700

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
PODMANS_MARK = "/run/.containerenv"

_LAYERED = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
_PR_SET_DUMPABLE = 4  # prctl(2)


def keep_memory_private() -> None:
    """Prevent core files of this process, as far as possible: they would contain keys.

    The limit does not bind a program that the kernel pipes cores to; being undumpable does. It also keeps
    debuggers of the same user out. Root can still attach, and signals still end the process as usual.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0),) * 4)


def machine_id() -> str:
    """The id of this machine; empty where it has none that is its own and lasts.

    A container's root is made of the layers of an image: an id there repeats in each container of the image,
    or goes with the container. One that was mounted there on purpose counts.
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
    """How long the machine has been suspended since it booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def canary_directory(state_dir: str, environ: Mapping[str, str]) -> str:
    """Make the canary's directory, in memory if possible, so that an idle daemon writes to no disk.

    Its name follows from the state directory, which one daemon has at a time: that of a killed
    daemon is used again.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:16]
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    for place in (runtime, environ.get("XDG_RUNTIME_DIR", ""), SHARED_MEMORY):
        if place and os.access(place, os.W_OK | os.X_OK):
            with suppress(OSError):
                return _own_directory(os.path.join(place, f"syncd-canary-{name}"))
    return _own_directory(os.path.join(state_dir, "canary"))


def _own_directory(path: str) -> str:
    """A new directory, or one that was made here before. Raises OSError if it is another user's, or none."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    return path


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one. It protects programs that use select(2); syncd uses poll."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
