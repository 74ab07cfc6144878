"""System calls of the `dir` store: whole writes, copies inside the kernel, and what their errors mean.

Everything works on descriptors, so that no directory of a path can change between two calls. Names are bytes:
they do not depend on the locale.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import xxhash

from syncd.core.errors import (
    OS_REMEDIES,
    RENAME,
    TOO_LARGE,
    AccessRefused,
    QuotaExceeded,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from syncd.storage.base import Body
from syncd.storage.digests import are_zeros

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_TO_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_COPY_BYTES = 64 << 20
_READ_BYTES = 1 << 20
BLOCK = 4096
"""The smallest hole: the block size of most file systems."""
_ZEROS = bytes(BLOCK)

SHUT = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Nothing can be stored here until the operator acts."""

_BAD_NAME = f"the file system does not accept this name; {RENAME}"
NOT_THIS_ONE = {
    errno.ENAMETOOLONG: OS_REMEDIES[errno.ENAMETOOLONG],
    errno.EINVAL: _BAD_NAME,
    errno.EILSEQ: _BAD_NAME,
    errno.EFBIG: "the file system does not accept files of this size; " + TOO_LARGE,
    errno.EMLINK: "its directory cannot hold more directories; spread the files over several",
    errno.EXDEV: "another file system is mounted inside the store's directory; make it a store of its own",
    errno.ELOOP: "a symbolic link is in the way; remove it: syncd follows none inside a store",
    errno.ENOTDIR: "something that is not a directory is in the way; move it away",
    errno.EISDIR: "a directory is in the way; move it away",
}
"""One object cannot be stored; others can."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_OUTCOME_UNKNOWN = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EHOSTDOWN}
_NO_KERNEL_COPY = {
    errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY, errno.EBADF,
}  # fmt: skip


def translate(error: OSError, doing: str, *, whole_store: bool = True) -> StoreError:
    """Return our error for `error`, which occurred while `doing` (a verb and its object).

    ``whole_store`` says that a missing permission concerns every object, not only this one.
    """
    number = error.errno or 0
    code = errno.errorcode.get(number, "")
    message = f"cannot {doing}: {os.strerror(number)}"
    if number in SHUT and (whole_store or number == errno.EROFS):
        return AccessRefused(message, code=code, hint=OS_REMEDIES[number], credentials=False)
    if number in SHUT:
        return StoreRefused(message, code=code, hint=OS_REMEDIES[number])
    if number in NOT_THIS_ONE:
        return StoreRefused(message, code=code, hint=NOT_THIS_ONE[number])
    hint = OS_REMEDIES.get(number, "")
    if number in _NO_ROOM:
        return QuotaExceeded(message, code=code, hint=hint)
    return StoreUnavailable(message, code=code, hint=hint, outcome_unknown=number in _OUTCOME_UNKNOWN)


@contextmanager
def errors_of_ours(doing: str, *, whole_store: bool = True) -> Iterator[None]:
    """Turn every OSError into the error that `translate` returns."""
    try:
        yield
    except OSError as error:
        raise translate(error, doing, whole_store=whole_store) from error


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """Yield the descriptor; close it at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


def narrow_group(fd: int, mode: int) -> None:
    """Remove the bits in `mode` that only the group has, or only others have, if a new file has another group
    than this process, from its directory.
    """
    group, others = mode >> 3 & 7, mode & 7
    found = os.fstat(fd)
    if group != others and found.st_gid != os.getegid():
        os.fchmod(fd, stat.S_IMODE(found.st_mode) & (0o700 | (group & others) * 0o011))


def refuse_exposed(directory: int, fd: int, mode: int) -> None:
    """Raise StoreRefused if users can read a file in `directory` to whom `mode` denies that.

    FAT and many network file systems have their own permissions. They do no harm if a directory above lets no
    other user pass.
    """
    exposed = stat.S_IMODE(os.fstat(fd).st_mode) & 0o044 & ~mode
    passing = 0o011 if exposed & 0o040 else 0o001
    if exposed and _may_pass(directory, passing):
        raise StoreRefused(
            "the store's file system would let other users read this private file",
            hint="mount it with umask=077 (SMB: file_mode=0600,dir_mode=0700), or close a directory above it "
            "with `chmod 700`",
        )


def _may_pass(directory: int, passing: int) -> bool:
    """Return whether a directory and all above it have one of the permission bits `passing`."""
    here = os.dup(directory)
    while True:
        with closing(here):
            found = os.fstat(here)
            if not found.st_mode & passing:
                return False
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
        if os.path.samestat(found, os.fstat(above)):
            os.close(above)
            return True
        here = above


def open_subdirectory(fd: int, name: bytes) -> int:
    """Open a private directory below `fd`; make it (0700, durably) if it is missing."""
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        make_directory(fd, name, 0o700)
        return os.open(name, OPEN_DIRECTORY, dir_fd=fd)


def make_directory(fd: int, name: bytes, mode: int = 0o777) -> None:
    """Make directory `name` below `fd`, durably; succeed if another process just made it."""
    try:
        os.mkdir(name, mode, dir_fd=fd)
    except FileExistsError:
        return
    give_to_owner(fd, name)
    sync_directory(fd)


def give_to_owner(fd: int, name: bytes) -> None:
    """Give what root makes in another user's directory to that user.

    Otherwise one command of root's, such as a check, would lock out the service that writes there.
    """
    if os.geteuid() == 0:
        owner = os.fstat(fd)
        with suppress(OSError):  # not every file system has owners
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=fd, follow_symlinks=False)


def sync_directory(fd: int) -> None:
    """Make the names in a directory durable, if its file system supports that."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise


def remove_file(fd: int, name: bytes) -> bool:
    """Remove `name` below `fd`; return False if there is no such file."""
    try:
        os.unlink(name, dir_fd=fd)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


def write_whole(fd: int, body: Body) -> None:
    """Write all of `body` at the descriptor's position."""
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_file(fd: int, name: bytes, temporary: bytes, content: bytes) -> None:
    """Make `name` below `fd` hold `content`, durably and in one step, through `temporary` beside it."""
    with closing(os.open(temporary, OPEN_NEW, 0o600, dir_fd=fd)) as file:
        write_whole(file, content)
        os.fsync(file)
    os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
    sync_directory(fd)


def read_file(fd: int, name: bytes, most: int) -> bytes | None:
    """Return at most `most` bytes of a small file below `fd`; None: there is none."""
    try:
        opened = os.open(name, OPEN_TO_READ, dir_fd=fd)
    except FileNotFoundError:
        return None
    with closing(opened) as file:
        return read_range(file, 0, most)


def read_into(room: memoryview, fd: int, offset: int) -> memoryview:
    """Fill `room` from `offset` and return it; less of it only if the file ends."""
    done = 0
    while done < len(room) and (count := os.preadv(fd, [room[done:]], offset + done)):
        done += count
    return room[:done]


def read_range(fd: int, offset: int, size: int) -> bytes:
    """Return `size` bytes from `offset`; fewer only if the file ends."""
    blocks = []
    while size > 0 and (block := os.pread(fd, min(size, _READ_BYTES), offset)):
        blocks.append(block)
        offset += len(block)
        size -= len(block)
    return b"".join(blocks)


def write_sparse(fd: int, body: Body) -> None:
    """Do as `write_whole`, but make holes of blocks of zeros. `fd` is at the end of its file."""
    view = memoryview(body)
    written = 0
    for start, end in zero_runs(view):
        write_whole(fd, view[written:start])
        os.lseek(fd, end - start, os.SEEK_CUR)
        written = end
    write_whole(fd, view[written:])
    if written and written == len(view):
        add_hole(fd, 0)


def zero_runs(view: memoryview) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of zero blocks. Examines only blocks that begin with a zero."""
    if are_zeros(view) and len(view) >= BLOCK:
        yield 0, len(view) // BLOCK * BLOCK
        return
    first_bytes = bytes(view[: len(view) // BLOCK * BLOCK : BLOCK])
    index = first_bytes.find(0)
    while index >= 0:
        start = index
        while index < len(first_bytes) and view[index * BLOCK : (index + 1) * BLOCK].tobytes() == _ZEROS:
            index += 1
        if index > start:
            yield start * BLOCK, index * BLOCK
        index = first_bytes.find(0, max(index, start + 1))


def add_hole(fd: int, size: int) -> None:
    """Append a hole. `fd` is at the end of its file, and stays there."""
    os.ftruncate(fd, os.lseek(fd, size, os.SEEK_CUR))


def copy_range(source: int, offset: int, target: int, size: int) -> None:
    """Append `size` bytes of `source` from `offset` to `target`, inside the kernel if possible.

    File systems that can share blocks do so, and holes stay holes. Raises StoreUnavailable if `source` ends
    too soon.
    """
    end = offset + size
    while offset < end:
        data = _next_data(source, offset, end)
        if data > offset:
            add_hole(target, data - offset)
            offset = data
            continue
        hole = _next_hole(source, offset, end)
        _copy_data(source, offset, target, hole - offset)
        offset = hole


def is_unwritten(fd: int, offset: int, size: int) -> bool:
    """Return whether the file system says that the range was never written. Raises as `copy_range`."""
    return _next_data(fd, offset, offset + size) == offset + size


def _next_data(fd: int, offset: int, end: int) -> int:
    """Return where the next data begin, or `end`. Raises StoreUnavailable if the file ends before `end`."""
    try:
        return min(os.lseek(fd, offset, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno != errno.ENXIO:
            return offset  # this file system knows no holes
    if os.fstat(fd).st_size < end:
        raise StoreUnavailable("a file in the store's directory became shorter while it was read")
    return end


def _next_hole(fd: int, offset: int, end: int) -> int:
    try:
        return min(max(os.lseek(fd, offset, os.SEEK_HOLE), offset + 1), end)
    except OSError:
        return end


def _copy_data(source: int, offset: int, target: int, size: int) -> None:
    end = offset + size
    while offset < end:
        try:
            copied = os.copy_file_range(source, target, min(end - offset, _COPY_BYTES), offset_src=offset)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            copied = 0
        if not copied:
            break
        offset += copied
    while offset < end:
        block = os.pread(source, min(end - offset, _READ_BYTES), offset)
        if not block:
            raise StoreUnavailable("a file in the store's directory became shorter while it was read")
        write_whole(target, block)
        offset += len(block)


def digest_of_range(fd: int, offset: int, size: int) -> bytes:
    """Return the XXH3-128 of `size` bytes from `offset`. Raises StoreUnavailable if the file is shorter."""
    hasher = xxhash.xxh3_128()
    buffer = memoryview(bytearray(min(size, _READ_BYTES) or 1))
    while size > 0:
        count = os.preadv(fd, [buffer[: min(size, len(buffer))]], offset)
        if not count:
            raise StoreUnavailable("a file in the store's directory became shorter while it was read")
        hasher.update(buffer[:count])
        offset += count
        size -= count
    return hasher.digest()
