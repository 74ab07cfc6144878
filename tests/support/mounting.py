"""Real file systems for tests that need one of their own: small, full, gone, or without power."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 60


def run(*command: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)


def need(*programs: str) -> None:
    """Skip the test where file systems cannot be mounted at all, and say so."""
    if os.geteuid() != 0:
        pytest.skip("CANNOT BE TESTED HERE: mounting a file system needs root")
    for program in ("mount", "umount", *programs):
        if shutil.which(program) is None:
            pytest.skip(f"CANNOT BE TESTED HERE: there is no {program}")


def mount(*options: str, at: Path) -> None:
    """Mount at a directory, or skip where the kernel does not let us (a container)."""
    done = subprocess.run(
        ["mount", *options, str(at)], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"CANNOT BE TESTED HERE: mount is refused: {done.stderr.strip()}")


@contextmanager
def mounted(*options: str, at: Path) -> Iterator[Path]:
    """Mounted inside the block."""
    need()
    at.mkdir(exist_ok=True)
    mount(*options, at=at)
    try:
        yield at
    finally:
        unmount(at)


def unmount(at: Path) -> None:
    """End the mount, also under a test that failed and still has files open: it would outlive the run.

    Raises CalledProcessError where something was open.
    """
    if not is_mounted(at):
        return
    try:
        run("umount", str(at))
    except subprocess.CalledProcessError:
        run("umount", "-l", str(at))
        raise


def is_mounted(at: Path) -> bool:
    """Whether something is mounted there; `os.path.ismount` does not see a bind mount of the same device."""
    place = str(at).replace(" ", "\\040")
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return any(line.split(" ")[4] == place for line in table.splitlines())


def tmpfs(at: Path, size: str) -> AbstractContextManager[Path]:
    """A file system in memory of `size`, such as ``1m``, mounted inside the block."""
    return mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", at=at)


@contextmanager
def silent(at: Path, kind: str = "fuse.sshfs") -> Iterator[Callable[[], None]]:
    """A network file system at `at` whose server answers nothing. Yields what ends every wait for it."""
    need()
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"CANNOT BE TESTED HERE: there is no /dev/fuse: {error.strerror}")
    at.mkdir(exist_ok=True)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % server
    if ctypes.CDLL(None, use_errno=True).mount(b"server:", os.fsencode(at), kind.encode(), 0, options) != 0:
        os.close(server)
        pytest.skip(f"CANNOT BE TESTED HERE: mount is refused: {os.strerror(ctypes.get_errno())}")
    fds = [server]

    def end() -> None:
        while fds:
            os.close(fds.pop())

    try:
        yield end
    finally:
        end()
        run("umount", "-l", str(at))


def ext4_image(path: Path, megabytes: int, *more: str) -> Path:
    """A file that holds an empty ext4 file system."""
    need("mkfs.ext4", "losetup")
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    run("mkfs.ext4", "-q", "-F", *more, str(path))
    return path


def image(path: Path, at: Path) -> AbstractContextManager[Path]:
    """The file system in the file `path`, mounted inside the block."""
    return mounted("-o", "loop", str(path), at=at)


@contextmanager
def formatted(path: Path, at: Path, make: tuple[str, ...], mount_by: tuple[str, ...]) -> Iterator[Path]:
    """The file `path`, made by the program `make` and mounted by the program `mount_by`, inside the block."""
    need(make[0], mount_by[0], "losetup")
    run(*make, str(path))
    at.mkdir()
    attached = subprocess.run(
        ["losetup", "-f", "--show", str(path)], capture_output=True, text=True, check=False
    )
    if attached.returncode != 0:
        pytest.skip(f"CANNOT BE TESTED HERE: no loop device: {attached.stderr.strip()}")
    device = attached.stdout.strip()
    try:
        done = subprocess.run([*mount_by, device, str(at)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"CANNOT BE TESTED HERE: {mount_by[0]} is refused: {done.stderr.strip()}")
        yield at
    finally:
        try:
            unmount(at)
        finally:
            run("losetup", "-d", device)
