"""The root of a `dir` store: checks that it exists, and that it is the expected directory.

The marker ``.syncd/store.json`` holds a random identity. The first use of a directory makes it. If a known
marker is gone or differs, something is not mounted, and we touch nothing. The root itself is created only if
the settings say so, and never again.

A copy of a directory, such as one restored from a backup, has the same identity, and may lack what was stored
since. The change time of its marker differs, which no program can copy or set.

Only we write in ``.syncd``: the marker, ``tmp/`` (unfinished files), ``uploads/`` and, if objects cannot
carry their records, ``meta/``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator

from msgspec import Struct

from syncd.core.errors import AccessRefused, StoreUnavailable
from syncd.storage.dir import file_system
from syncd.storage.dir.files import (
    OPEN_DIRECTORY,
    OPEN_NEW,
    closing,
    give_to_owner,
    make_directory,
    open_subdirectory,
    read_file,
    remove_file,
    sync_directory,
    write_whole,
)
from syncd.storage.dir.names import POSIX, PRIVATE, Traits

STAGING = b"tmp"
MOUNT_TABLE = "/etc/fstab"

_MARKER = b"store.json"
_STALE_NS = 24 * 3600 * 1_000_000_000
"""A staged file untouched for so long belongs to a dead process."""


class Opened(Struct, frozen=True):
    """The store while a verb uses it: descriptors of the root and of ``.syncd``, and the traits of their file
    system.
    """

    root: int
    private: int
    traits: Traits = POSIX


class Root:
    """The directory at `path`.

    ``known`` is what ``on_instance`` was last called with: the identity that the marker must have, and the
    change time that it had; empty: none is known yet. ``now_ns`` is the wall clock at the start, by which old
    staged files are found. ``create`` makes a missing directory, but not its parent, and not if it has been
    seen. ``on_copy`` is called if the directory is a copy of the known one.
    """

    def __init__(
        self,
        path: str,
        known: str,
        now_ns: int,
        *,
        create: bool = False,
        on_instance: Callable[[str], object] = lambda known: None,
        on_copy: Callable[[], object] = lambda: None,
    ) -> None:
        self._path = os.fsencode(path)
        self._on_instance = on_instance
        self._create = create
        self._on_copy = on_copy
        self._instance, _, self._changed = known.partition(" ")
        self._started_ns = now_ns
        self._swept = False
        self._marker: tuple[int, ...] | None = None
        self._traits: Traits | None = None
        self._lock = threading.Lock()

    @property
    def instance(self) -> str:
        """The identity of the directory, from its marker; empty until that is read."""
        return self._instance

    @contextlib.contextmanager
    def opened(self) -> Iterator[Opened]:
        """Open the store and check that it is ours. Raises StoreUnavailable, AccessRefused."""
        try:
            root_fd = self._open_root()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreUnavailable(
                "the store's directory is missing",
                hint="create it, or mount the file system that should be there",
            ) from error
        with closing(root_fd) as root, closing(self._open_private(root)) as private:
            self._check_marker(private)
            yield Opened(root, private, self._traits_of(root, private))

    def _open_root(self) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(self._path, flags)
        except FileNotFoundError:
            if not self._create or self._instance:
                raise
            self._refuse_if_listed()
        above, name = os.path.split(self._path)
        with closing(os.open(above, flags)) as parent:
            make_directory(parent, name)
        return os.open(self._path, flags)

    def _open_private(self, root: int) -> int:
        try:
            return os.open(PRIVATE, OPEN_DIRECTORY, dir_fd=root)
        except FileNotFoundError:
            self._refuse_if_known()
            self._refuse_if_listed()
            return open_subdirectory(root, PRIVATE)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise AccessRefused(
                ".syncd in the store's directory is not a directory",
                hint="remove it; syncd follows no symbolic link there",
                credentials=False,
            ) from error

    def _check_marker(self, private: int) -> None:
        with self._lock:
            try:
                stat = os.stat(_MARKER, dir_fd=private, follow_symlinks=False)
            except FileNotFoundError:
                self._refuse_if_known()
                _make_marker(private)
                stat = os.stat(_MARKER, dir_fd=private, follow_symlinks=False)
            look = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
            if look == self._marker:
                return
            instance = _read_marker(private)
            if self._instance and instance != self._instance:
                raise StoreUnavailable(
                    "the directory contains a different store than before",
                    hint="mount the right one; to use this one, move the state directory aside",
                )
            self._note(instance, "" if stat.st_nlink > 1 else str(stat.st_ctime_ns))
            self._marker = look
            self._traits = None  # another file system may hold the directory now
            if not self._swept:
                self._swept = True
                self._sweep(private)

    def _note(self, instance: str, changed: str) -> None:
        """Note the marker; `changed` is empty while it is being made: its change time is not final."""
        is_copy = bool(changed and self._changed) and changed != self._changed
        if is_copy:
            self._on_copy()  # first: if it raises, it is called again
        if (self._instance, self._changed) != (instance, changed or self._changed):
            self._on_instance(f"{instance} {changed}".strip())
        self._instance, self._changed = instance, changed or self._changed

    def _traits_of(self, root: int, private: int) -> Traits:
        """Return what the file system does with names; probe once, and again if that failed."""
        with self._lock:
            if self._traits is not None:
                return self._traits
            traits, sure = file_system.ask(root, private, STAGING)
            if sure:
                self._traits = traits
            return traits

    def _refuse_if_known(self) -> None:
        if self._instance:
            raise StoreUnavailable(
                "the store's directory is not mounted: its marker .syncd/store.json is gone",
                hint="mount it again",
            )

    def _refuse_if_listed(self) -> None:
        """Refuse a new store in a mount point on which nothing is mounted."""
        above = os.path.realpath(self._path)
        listed = _mount_points()
        while above != os.path.dirname(above):
            if above in listed and not os.path.ismount(above):
                where = above.decode(errors="backslashreplace")
                raise StoreUnavailable(
                    f"the store's directory is not mounted: {MOUNT_TABLE} lists {where}", hint="mount it"
                )
            above = os.path.dirname(above)

    def _sweep(self, private: int) -> None:
        """Remove files that dead processes staged."""
        with contextlib.suppress(OSError), closing(open_subdirectory(private, STAGING)) as staging:
            for name in map(os.fsencode, os.listdir(staging)):
                # ctime: the mtime of a staged file is that of the user's file.
                stat = os.stat(name, dir_fd=staging, follow_symlinks=False)
                if stat.st_ctime_ns < self._started_ns - _STALE_NS:
                    discard(staging, name)


def discard(fd: int, name: bytes) -> None:
    """Remove a staged file, or a directory of files, below `fd`. A later sweep removes leftovers."""
    with contextlib.suppress(OSError):
        if not remove_file(fd, name):
            with closing(os.open(name, OPEN_DIRECTORY, dir_fd=fd)) as directory:
                for below in os.listdir(directory):
                    remove_file(directory, os.fsencode(below))
            os.rmdir(name, dir_fd=fd)


def _make_marker(private: int) -> None:
    """Write a marker, unless another process did."""
    instance = secrets.token_hex(16)
    content = json.dumps({"syncd-store": 1, "instance": instance}).encode() + b"\n"
    temporary = _MARKER + b"." + instance.encode()
    with closing(os.open(temporary, OPEN_NEW, 0o600, dir_fd=private)) as fd:
        write_whole(fd, content)
        os.fsync(fd)
    give_to_owner(private, temporary)
    try:
        os.link(temporary, _MARKER, src_dir_fd=private, dst_dir_fd=private, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.rename(temporary, _MARKER, src_dir_fd=private, dst_dir_fd=private)
    remove_file(private, temporary)
    sync_directory(private)


def _read_marker(private: int) -> str:
    text = read_file(private, _MARKER, 4096) or b""
    try:
        return str(json.loads(text)["instance"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreUnavailable(
            "the store's marker .syncd/store.json is damaged",
            hint="restore it, or remove it and start syncd again to begin a new store",
        ) from error


def _mount_points() -> set[bytes]:
    try:
        with open(MOUNT_TABLE, "rb") as table:
            lines = [line.split() for line in table if not line.lstrip().startswith(b"#")]
    except OSError:
        return set()
    return {fields[1].replace(b"\\040", b" ") for fields in lines if len(fields) > 1}
