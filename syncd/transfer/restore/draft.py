"""A file that is not proven yet: it lies beside its final name, and survives the death of the process.

A small file is written at once. A large one arrives in parts, in any order. Behind its content it keeps a
digest of each part that was written, and before these a digest of what is being restored. A part counts after
a restart only if its bytes still have that digest. So nothing has to be flushed before the end, and one file
holds everything: it is cut to its size when it is proven.

One process at a time works on a draft: it holds a lock on it. The name is derived from the object's key, so
that the next restore finds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat as modes
import threading
from contextlib import ExitStack

import xxhash

from syncd.core import parts
from syncd.core.errors import FileUnwritable
from syncd.core.model import Attributes
from syncd.core.restoring import DRAFT, Existing, Proof
from syncd.storage.base import Body
from syncd.storage.digests import once
from syncd.storage.dir.files import BLOCK, digest_of_range, write_sparse, zero_runs
from syncd.transfer.restore import attributes
from syncd.transfer.restore.digest import Running, digest_of

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 5
_DIGEST_BYTES = 16
_NOREPLACE = 1
"""RENAME_NOREPLACE of rename(2)."""
_NONE = Attributes()
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

_digest = once(xxhash.xxh3_128_digest)
_libc = ctypes.CDLL(None, use_errno=True)


def name_of_draft(store_id: str, key: str) -> str:
    """Return the name of the draft of an object, or of a restored path, which may not be UTF-8."""
    digest = xxhash.xxh3_128_hexdigest(f"{store_id}\n{key}".encode("utf-8", "surrogateescape"))
    return f"{DRAFT}{digest}.part"


class Draft:
    """The draft `name` in the directory with the descriptor `directory`. All methods raise OSError.

    `device` and `direct` come from `syncd.transfer.restore.disks`.
    """

    def __init__(self, directory: int, name: str, device: int | None = None, *, direct: bool = False) -> None:
        self.device = device
        self._is_direct = direct
        self._direct: int | None = None
        """The descriptor that writes parts past the page cache: with the cache the kernel copies every byte
        once more, and writes it back at the end, while the restore waits.
        """
        self._directory = directory
        self._name = name
        self._fd, self._is_empty = _open(directory, name)
        self._size = 0
        self._part_size = 0
        self._lock = threading.Lock()
        self._kept: set[int] = set()
        """The parts that this process has written."""
        self._begun = False
        self._notes: dict[int, bytes] = {}
        """Digests of parts that are written, but not noted yet."""
        self._noting = threading.Lock()
        self._running: Running | None = None

    def write(self, body: Body) -> None:
        """Make `body` the draft; blocks of zeros become holes."""
        if not self._is_empty:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._is_empty = False
        write_sparse(self._fd, body)

    # ---- parts -------------------------------------------------------------------------------------------

    def prepare(self, size: int, part_size: int, identity: bytes) -> None:
        """Continue the draft if it is of the object with this `identity` (16 bytes), else begin again."""
        self._size, self._part_size = size, part_size
        if self._is_direct and self._direct is None:
            with contextlib.suppress(OSError):  # without /proc
                self._direct = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        whole = self._trailer + _DIGEST_BYTES * (1 + parts.count(size, part_size))
        known = os.pread(self._fd, _DIGEST_BYTES, self._trailer) == identity
        if known and os.fstat(self._fd).st_size == whole:
            return
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, whole)
        os.pwrite(self._fd, identity, self._trailer)
        self._begun = True

    def is_cut_to(self, size: int) -> bool:
        """Return whether it may be whole already: the process died before the draft got its name."""
        return os.fstat(self._fd).st_size == size

    @property
    def _trailer(self) -> int:
        return -(-self._size // BLOCK) * BLOCK

    def has(self, span: parts.Span) -> bool:
        """Return whether the bytes of a part are those that were written."""
        if self._begun and span.number not in self._kept:
            return False
        noted = os.pread(self._fd, _DIGEST_BYTES, self._trailer + _DIGEST_BYTES * span.number)
        return any(noted) and digest_of_range(self._fd, span.offset, span.size) == noted

    def keep(self, span: parts.Span, body: Body) -> None:
        """Write a part, and then its digest. Several threads may keep different parts."""
        view = memoryview(body)
        at = 0
        for start, end in zero_runs(view) if self._is_hole(span) else ():
            self._write_part(view[at:start], span.offset + at)
            at = end
        self._write_part(view[at:], span.offset + at)
        self._note(span.number, _digest(body))

    def _note(self, number: int, digest: bytes) -> None:
        """Note a digest. The kernel lets one thread at a time write to a file: no thread waits for this."""
        with self._lock:
            self._notes[number] = digest
        self._write_notes()

    def _write_notes(self) -> None:
        while self._notes and self._noting.acquire(blocking=False):  # again for one that came in between
            try:
                while self._notes:
                    with self._lock:
                        number, digest = self._notes.popitem()
                    self._write_at(memoryview(digest), self._trailer + _DIGEST_BYTES * number)
            finally:
                self._noting.release()

    def _is_hole(self, span: parts.Span) -> bool:
        if self._begun:
            with self._lock:
                is_hole = span.number not in self._kept
                self._kept.add(span.number)
            return is_hole
        try:
            return os.lseek(self._fd, span.offset, os.SEEK_DATA) >= span.offset + span.size
        except OSError as error:
            return error.errno == errno.ENXIO

    def _write_part(self, view: memoryview, offset: int) -> None:
        whole = len(view) // BLOCK * BLOCK if self._direct is not None else 0
        if self._direct is not None and whole:
            try:
                whole = os.pwrite(self._direct, view[:whole], offset)
            except OSError as error:
                if error.errno != errno.EINVAL:  # the memory is not aligned as the device needs it
                    raise
                whole = 0
        self._write_at(view[whole:], offset + whole)

    def _write_at(self, view: memoryview, offset: int) -> None:
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    # ---- the end -----------------------------------------------------------------------------------------

    def expect(self, kind: str, spare: threading.Semaphore) -> None:
        """Compute this digest of the content while its parts arrive; see `Running` for `spare`."""
        self._running = Running(self._fd, kind, spare)

    def follow(self, span: parts.Span, body: Body | None, held: ExitStack) -> None:
        """Take a part that is kept; see `Running.follow`."""
        if self._running is not None:
            self._running.follow(span, body, held)

    def proves(self, proof: Proof, size: int) -> bool:
        """Return whether the first `size` bytes have this digest, known from their arrival or the file."""
        if self._running is not None and self._running.kind == proof.kind:
            return self._running.digest(size) == proof.value
        return digest_of(self._fd, size, proof.kind) == proof.value

    def finish(
        self,
        size: int,
        mtime_ns: int | None,
        mode: int,
        wanted: Attributes = _NONE,
        *,
        special: bool = False,
    ) -> list[str]:
        """Cut the draft to its content, and give it its attributes and its time.

        Returns what could not be set; see `attributes.give`.
        """
        self._notes.clear()
        if self._part_size:
            os.ftruncate(self._fd, size)
        failed = attributes.give(self._fd, wanted, mode, special=special)
        attributes.set_time(self._fd, mtime_ns)
        return failed

    def sync(self) -> None:
        """Make it durable."""
        os.fsync(self._fd)

    def place(self, name: str, existing: Existing | None) -> None:
        """Give the draft, which is durable, its final name: where nothing is, or in the place of `existing`.
        Raises FileUnwritable if something else is there now.
        """
        if existing is None:
            _rename_new(self._directory, self._name, name)
        else:
            found = look(self._directory, name)
            if found is None or found.identity != existing.identity:
                raise FileUnwritable(
                    "the file that was to be replaced changed in between, and is kept: restore again"
                )
            os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def discard(self) -> None:
        """Remove the draft. Works also after it got its final name."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._directory)

    def close(self) -> None:
        """Close the draft, and leave it as it is."""
        if self._running is not None:
            self._running.close()
        try:
            self._write_notes()
        finally:
            for fd in (self._fd, self._direct):
                if fd is not None:
                    os.close(fd)


def look(directory: int, name: str) -> Existing | None:
    """Return the regular file under `name`; None: nothing. Raises OSError, FileUnwritable if it is none."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not modes.S_ISREG(found.st_mode):
        raise FileUnwritable(
            f"{_KINDS.get(modes.S_IFMT(found.st_mode), 'a device')} of this name is in the way: move it away"
        )
    return Existing(found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino, found.st_ctime_ns))


_KINDS = {
    modes.S_IFLNK: "a symbolic link",
    modes.S_IFDIR: "a folder",
    modes.S_IFIFO: "a fifo",
    modes.S_IFSOCK: "a socket",
}


# ---- names ------------------------------------------------------------------------------------------------


def _open(directory: int, name: str) -> tuple[int, bool]:
    """Return a locked descriptor of the draft, an existing one if it is ours, else a new one; and whether it
    is empty.

    What others may have put in its place is removed: otherwise the result would belong to them.
    """
    for _ in range(_TRIES):
        try:
            fd = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
        except FileExistsError:
            left = _open_left(directory, name)
            if left is None:
                continue
            fd = left
        try:
            if _lock(fd) and (found := _as_named(directory, name, fd)) is not None:
                return fd, found.st_size == 0
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise FileUnwritable("another restore is writing this file: wait until that one ends")


def _open_left(directory: int, name: str) -> int | None:
    try:
        fd = os.open(name, _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO):
            raise
        os.unlink(name, dir_fd=directory)
        return None
    found = os.fstat(fd)
    if modes.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid():
        return fd
    os.close(fd)
    os.unlink(name, dir_fd=directory)
    return None


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _as_named(directory: int, name: str, fd: int) -> os.stat_result | None:
    """Return what the draft's name leads to; None: the process that had the lock placed or removed it."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if os.path.samestat(found, os.fstat(fd)) else None


def _rename_new(directory: int, old: str, new: str) -> None:
    """Rename where nothing is. Raises FileUnwritable if something is, OSError."""
    before, after = os.fsencode(old), os.fsencode(new)
    if _libc.renameat2(directory, before, directory, after, ctypes.c_uint(_NOREPLACE)) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # this file system cannot: look, then rename
        if look(directory, new) is None:
            os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
            return
        number = errno.EEXIST
    if number == errno.EEXIST:
        look(directory, new)  # reports what is there, if it is not a file
        raise FileUnwritable("something of this name appeared during the restore, and is kept: restore again")
    raise OSError(number, os.strerror(number))
