"""The tree in memory answers as the kernel does: the same calls on both, and the same answers."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import random
import shutil
import signal
import stat as modes
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.torture.simulation.syscalls import Stat, Syscalls
from tests.torture.simulation.tree import Tree, Volume

EXAMPLES = int(os.environ.get("SYNCD_SIMULATION_EXAMPLES", "250"))
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
NOBODY = 65534
AT_FDCWD = -100
RENAME_EXCHANGE = 2

NAMES = st.sampled_from(("a", "b", "d", "d/a", "d/e", "d/e/x", "l", "l/a"))
READ_FLAGS = st.sampled_from(
    (
        os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY,
        os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW,
        os.O_PATH | os.O_DIRECTORY,
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
        os.O_RDONLY | os.O_NONBLOCK,
    )
)
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.binary(max_size=9), st.integers(0, 5)),
    st.tuples(st.just("append"), NAMES, st.binary(min_size=1, max_size=5)),
    st.tuples(st.just("overwrite"), NAMES, st.binary(min_size=1, max_size=5), st.integers(0, 5)),
    st.tuples(st.just("truncate"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("utime"), NAMES, st.integers(0, 10**18)),
    st.tuples(st.just("chmod"), NAMES, st.sampled_from((0, 0o400, 0o500, 0o644, 0o755))),
    st.tuples(st.sampled_from(("mkdir", "mkfifo", "unlink", "rmdir")), NAMES),
    st.tuples(st.sampled_from(("rename", "link", "exchange")), NAMES, NAMES),
    st.tuples(st.just("symlink"), st.sampled_from(("a", "d", "nowhere", "l")), NAMES),
    st.tuples(st.just("read"), NAMES, READ_FLAGS, st.integers(0, 9), st.integers(0, 6)),
    st.tuples(st.just("list"), NAMES, READ_FLAGS),
    st.tuples(st.just("lease"), NAMES, st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR))),
    st.tuples(st.just("below"), NAMES, READ_FLAGS, st.sampled_from(("a", "e", "x", "."))),
)


class RealCalls:
    """The kernel, with the one call that Python does not offer, and one that is in another module."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fcntl(self, fd: int, command: int, argument: int) -> int:
        return fcntl.fcntl(fd, command, argument)

    def exchange(self, one: str, two: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        paths = [os.fsencode(one), os.fsencode(two)]
        if libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2")


class Side:
    """One of the two: its calls, and where its tree is."""

    def __init__(self, calls: Any, root: str) -> None:
        self.calls = calls
        self.root = root
        self.inodes: dict[int, int] = {}

    def do(self, operation: tuple[Any, ...]) -> object:
        """The answer to one operation, in words that both can say."""
        try:
            return getattr(self, f"_{operation[0]}", self._plain)(*operation)
        except OSError as error:
            return errno.errorcode[error.errno]

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _plain(self, call: str, *names: str) -> object:
        getattr(self.calls, call)(*map(self._at, names))
        return "done"

    def _symlink(self, _: str, target: str, name: str) -> object:
        self.calls.symlink(target, self._at(name))
        return "done"

    def _chmod(self, _: str, name: str, mode: int) -> object:
        self.calls.chmod(self._at(name), mode)
        return "done"

    def _utime(self, _: str, name: str, at_ns: int) -> object:
        self.calls.utime(self._at(name), ns=(at_ns, at_ns))
        return "done"

    def _truncate(self, _: str, name: str, size: int) -> object:
        self.calls.truncate(self._at(name), size)
        return "done"

    def _write(self, _: str, name: str, data: bytes, offset: int) -> object:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
        return self._written(self.calls.open(self._at(name), flags, 0o644), data, offset)

    def _append(self, _: str, name: str, data: bytes) -> object:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK
        return self._written(self.calls.open(self._at(name), flags), data, 0)

    def _overwrite(self, _: str, name: str, data: bytes, offset: int) -> object:
        return self._written(self.calls.open(self._at(name), os.O_WRONLY | os.O_NONBLOCK), data, offset)

    def _written(self, fd: int, data: bytes, offset: int) -> object:
        try:
            return self.calls.pwrite(fd, data, offset)
        finally:
            self.calls.close(fd)

    def _read(self, _: str, name: str, flags: int, size: int, offset: int) -> object:
        fd = self.calls.open(self._at(name), flags)
        try:
            buffer = bytearray(size)
            count = self.calls.preadv(fd, [memoryview(buffer)], offset)
            return count, bytes(buffer), self.calls.pread(fd, size, offset)
        finally:
            self.calls.close(fd)

    def _lease(self, _: str, name: str, other: int) -> object:
        """Where another process has the file open, too."""
        fds = [self.calls.open(self._at(name), other | os.O_NONBLOCK)]
        try:
            fds.append(self.calls.open(self._at(name), os.O_RDONLY | os.O_NONBLOCK))
            self.calls.fcntl(fds[1], fcntl.F_SETSIG, signal.SIGURG)
            self.calls.fcntl(fds[1], fcntl.F_SETLEASE, fcntl.F_RDLCK)
            return self.calls.fcntl(fds[1], fcntl.F_SETLEASE, fcntl.F_UNLCK)
        finally:
            for fd in fds:
                self.calls.close(fd)

    def _list(self, _: str, name: str, flags: int) -> object:
        fd = self.calls.open(self._at(name), flags)
        try:
            with self.calls.scandir(fd) as found:
                entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
            return entries, sorted(self.calls.listdir(fd))
        finally:
            self.calls.close(fd)

    def _below(self, _: str, name: str, flags: int, child: str) -> object:
        """Relative to a descriptor, and to a copy of it."""
        fd = self.calls.open(self._at(name), flags)
        try:
            copy = self.calls.dup(fd)
            try:
                self.calls.close(self.calls.open(child, os.O_PATH | os.O_NOFOLLOW, dir_fd=copy))
                found = self.calls.stat(child, dir_fd=copy, follow_symlinks=False)
                return self._said(found), self._said(self.calls.fstat(copy))
            finally:
                self.calls.close(copy)
        finally:
            self.calls.close(fd)

    def _said(self, found: os.stat_result | Stat) -> object:
        """A stat without the numbers that each side chooses by itself."""
        size, links = (found.st_size, found.st_nlink) if not modes.S_ISDIR(found.st_mode) else (0, 0)
        return found.st_mode, size, links

    def survey(self) -> tuple[dict[str, object], dict[str, tuple[int, int, int]]]:
        """What is at every name: in words that both say, and (inode, mtime, ctime) to compare over time."""
        said: dict[str, object] = {}
        times: dict[str, tuple[int, int, int]] = {}
        for name in ("", "a", "b", "d", "d/a", "d/b", "d/e", "d/e/x", "l"):
            try:
                found = self.calls.stat(self._at(name).rstrip("/"), follow_symlinks=False)
            except OSError as error:
                said[name] = errno.errorcode[error.errno]
                continue
            said[name] = self._said(found)
            times[name] = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        return said, times


@contextmanager
def _unprivileged() -> Iterator[None]:
    """As a user to whom modes mean something."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(0)


def _compare_times(
    real: dict[str, tuple[bool, ...]],
    fake: dict[str, tuple[bool, ...]],
    said: dict[str, Any],
    operation: tuple[Any, ...],
) -> None:
    """The same changes. But a directory's times may stand still on tmpfs, which takes them from the entry;
    and to cut a file to the size that it has changes its times on some file systems."""
    for name, same in real.items():
        if modes.S_ISDIR(said[name][0]):
            assert all(here or not there for here, there in zip(same, fake[name], strict=True)), operation
        elif operation[0] != "truncate" or said[name][1] != operation[2]:
            assert same == fake[name], operation


def _same(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[bool, ...]]:
    """Per name: which of inode, mtime and ctime one operation has left as they were."""
    return {
        name: tuple(one == two for one, two in zip(before[name], after[name], strict=True))
        for name in before.keys() & after.keys()
    }


def _has_fine_times(directory: str) -> bool:
    """Whether two changes in a row have two times here (Linux 6.13 and later)."""
    seen = set()
    for number in range(20):
        os.chmod(directory, 0o755 - number % 2)
        seen.add(os.stat(directory).st_ctime_ns)
    os.chmod(directory, 0o755)
    return len(seen) == 20


@contextmanager
def _two_sides() -> Iterator[tuple[Side, Side, bool]]:
    base = tempfile.mkdtemp(prefix="syncd-tree-", dir=MEMORY)
    ticks = itertools.count(1)
    try:
        fine = _has_fine_times(base)
        if os.geteuid() == 0:
            os.chown(base, NOBODY, -1)
        tree = Tree(lambda: next(ticks), lambda: next(ticks))
        fake = Syscalls(tree)
        fake.mkdir("/base")
        umask = os.umask(0o022)
        try:
            with _unprivileged():
                yield Side(RealCalls(), base), Side(fake, "/base"), fine
        finally:
            os.umask(umask)
        assert fake.descriptors == 0
    finally:
        for directory, _, _ in os.walk(base):
            os.chmod(directory, 0o755)
        shutil.rmtree(base)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OPERATIONS, max_size=25))
def test_the_tree_answers_as_the_kernel_does(operations: list[tuple[Any, ...]]) -> None:
    """The same operations give the same answers, errors, contents, and changes of inode, mtime and ctime."""
    with _two_sides() as (real, fake, fine):
        was_real, was_fake = real.survey()[1], fake.survey()[1]
        for operation in operations:
            assert real.do(operation) == fake.do(operation), operation
            said_real, is_real = real.survey()
            said_fake, is_fake = fake.survey()
            assert said_real == said_fake, operation
            if fine:
                _compare_times(_same(was_real, is_real), _same(was_fake, is_fake), said_real, operation)
            was_real, was_fake = is_real, is_fake


# ---- what the kernel does, too, but not when it is asked to -----------------------------------------------


@pytest.mark.parametrize("granularity_ns", [1, 4_000_000, 1_000_000_000, 2_000_000_000])
def test_times_are_cut_to_the_granularity(granularity_ns: int) -> None:
    """Two changes within a tick have one time, and a change in a later tick has another."""
    now = [1_700_000_000_123_456_789]
    calls = Syscalls(Tree(lambda: now[0], lambda: now[0], granularity_ns=granularity_ns))
    calls.mkdir("/a")
    first = calls.stat("/a")
    calls.chmod("/a", 0o700)
    second = calls.stat("/a")
    now[0] += granularity_ns
    calls.chmod("/a", 0o755)

    assert first.st_ctime_ns == second.st_ctime_ns == (now[0] // granularity_ns - 1) * granularity_ns
    assert calls.stat("/a").st_ctime_ns == first.st_ctime_ns + granularity_ns
    assert calls.stat("/a").st_mtime_ns == first.st_mtime_ns


def test_a_listing_misses_names_that_move_while_it_is_read() -> None:
    """As on a real disk: with names moving between two entries, some listings miss one that is there."""

    def names(seed: int) -> set[str]:
        tree = Tree(time.monotonic_ns, time.monotonic_ns, chance=random.Random(seed))
        people = Syscalls(tree)
        for name in "abcdef":
            people.mkdir(f"/{name}")
        moves: Iterator[Callable[[], None]] = iter([lambda: people.rename("/c", "/z")])

        def breathe(call: str, path: bytes) -> None:
            if call == "list" and path:
                next(moves, lambda: None)()

        reader = Syscalls(tree, breathe=breathe)
        return set(reader.listdir(reader.open("/", os.O_RDONLY | os.O_DIRECTORY)))

    listings = [names(seed) for seed in range(40)]

    assert any({"c", "z"} & listing == set() for listing in listings), "nothing was ever missed"
    assert any({"c", "z"} <= listing for listing in listings), "nothing was ever seen twice"
    assert all(set("abdef") <= listing for listing in listings)


def test_an_inode_number_is_used_again() -> None:
    """A new file gets the number of one that is gone, but not while that is still open."""
    calls = Syscalls(Tree(time.monotonic_ns, time.monotonic_ns))
    create = os.O_WRONLY | os.O_CREAT
    fd = calls.open("/a", create)
    number = calls.fstat(fd).st_ino
    calls.unlink("/a")
    calls.close(calls.open("/b", create))
    calls.close(fd)
    calls.close(calls.open("/c", create))

    assert calls.stat("/b").st_ino != number
    assert calls.stat("/c").st_ino == number


def test_a_mount_hides_what_is_below_it() -> None:
    """A mounted volume has its own device; without it there is the empty directory below."""
    tree = Tree(time.monotonic_ns, time.monotonic_ns)
    calls = Syscalls(tree)
    calls.mkdir("/src")
    volume = Volume(7)
    point = tree.root.entries[b"src"]
    tree.mounts[point] = volume
    calls.close(calls.open("/src/a", os.O_WRONLY | os.O_CREAT))
    mounted = calls.stat("/src").st_dev, calls.stat("/src/a").st_dev
    del tree.mounts[point]

    assert mounted == (7, 7)
    assert calls.stat("/src").st_dev == 1
    with pytest.raises(FileNotFoundError):
        calls.stat("/src/a")
