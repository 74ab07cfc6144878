"""The folder that files are restored to, and nothing outside of it.

Each component of a path is opened relative to the one before it, and only as a directory: no link is
followed, not even one that has just appeared. A directory that is watched or belongs to a store is not
entered, under any name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from syncd.core.errors import FileUnwritable, os_words
from syncd.core.restoring import DRAFT, Existing, Proof, folded
from syncd.sources.directories import DIRECTORY, GONE, open_resolved
from syncd.storage.base import Body
from syncd.storage.dir.files import closing, sync_directory
from syncd.transfer.restore import links
from syncd.transfer.restore.attributes import Facts, give, set_time
from syncd.transfer.restore.closed import Closed, identity, why_closed
from syncd.transfer.restore.digest import digest_of
from syncd.transfer.restore.disks import Disks
from syncd.transfer.restore.draft import Draft, look, name_of_draft
from syncd.transfer.restore.links import ExistingLink

_EVERY_FILE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
"""Errors that the next file meets as well."""
_ELSEWHERE = "restore it to another file system, or download the object with the store's tools"
_REMEDIES = {
    errno.ENAMETOOLONG: f"a name is longer than this file system takes: {_ELSEWHERE}",
    errno.EINVAL: f"where it is the name that this file system does not take, {_ELSEWHERE}",
    errno.EILSEQ: f"this file system does not take the name: {_ELSEWHERE}",
    errno.EFBIG: f"this file system, or a limit of this process, allows no file so large: {_ELSEWHERE}",
}
"""The errors of file systems that hold less than the one that the files come from."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_AT_ONCE = 64
"""How many small files get their names together: each holds two descriptors until then."""
_AT_ONCE_BYTES = 64 << 20
_AT_ONCE_SECONDS = 1.0
_WORTH_ALL = 8
"""Fewer files or folders are made durable one by one: others may have written much to the same disk."""

Ended = Callable[[FileUnwritable | None], object]
"""Called when a file has its name (None), or with the reason why it gets none."""


class _Place:
    """The open directory of a path, and its last component; closed at the end of a block."""

    __slots__ = ("_is_root", "device", "fd", "name")

    def __init__(self, fd: int | None, device: int, name: str, *, is_root: bool) -> None:
        self.fd = fd
        """None: there is no such directory."""
        self.device = device
        self.name = name
        self._is_root = is_root

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory."""
        if self.fd is not None and not self._is_root:
            os.close(self.fd)


class _Waiting(NamedTuple):
    """A small file that waits for its name, with others."""

    draft: Draft
    place: _Place
    path: str
    existing: Existing | None
    size: int
    ended: Ended

    def close(self) -> None:
        """Close the draft and its directory."""
        try:
            self.draft.close()
        finally:
            self.place.close()


class Folder:
    """The directory at the resolved `path`, made if it is missing. For several threads.

    With ``create=False`` nothing is made, and a missing directory counts as empty. With ``special`` files get
    setuid, setgid and capabilities as they had them. Raises FileUnwritable.
    """

    def __init__(
        self, path: str, closed: Mapping[str, Closed], *, create: bool, special: bool = False
    ) -> None:
        if reason := why_closed(path, closed):
            raise FileUnwritable(
                f"nothing is restored to {path}: {reason}; choose another folder", every_file=True
            )
        self._closed = {identity(each): found.label for each, found in closed.items()}
        self._special = special
        self.incomplete: dict[str, str] = {}
        """Files without some of their attributes, and why."""
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._disks = Disks()
        self._unnamed: set[str] = set()
        """The paths of small files that are written and have no name yet."""
        self._waiting: list[_Waiting] = []
        """Those of them that no thread is naming now."""
        self._waiting_since = 0.0
        self._waiting_bytes = 0
        self._naming = threading.Lock()
        self._marked: dict[str, Facts] = {}
        """Folders that have objects, and the facts for them."""
        self._new: set[str] = set()
        """Folders that this restore made."""
        self._ignores: tuple[bool, bool] = (False, False)
        """Whether two names may be one here: by case, by the form of an accent."""
        self._claimed: dict[str, str] = {}
        """Folded path -> the path that came first; filled only if two may be one."""
        umask = os.umask(0o077)
        os.umask(umask)
        self._mode, self._folder_mode = 0o666 & ~umask, 0o777 & ~umask
        self._root: int | None = None
        with _ERRORS_OF_OURS:
            if create:
                os.makedirs(path, exist_ok=True)
            with contextlib.suppress(*(() if create else (FileNotFoundError,))):
                self._root = open_resolved(path)
            self._device = os.fstat(self._root).st_dev if self._root is not None else 0
            if create and self._root is not None:
                self._ignores = _ignores(self._root)

    def look(self, path: str) -> Existing | None:
        """Return the file at `path`; None: there is none. Raises FileUnwritable if something else is there,
        or if this file system gives the path to another key that came first.
        """
        self._claim(path)
        if path in self._unnamed:  # the store lists a key twice, or two keys become one name
            self.settle()
        with _ERRORS_OF_OURS, self._place(path) as place:
            return look(place.fd, place.name) if place.fd is not None else None

    def _claim(self, path: str) -> None:
        case, form = self._ignores
        if case or form:
            with self._lock:
                first = self._claimed.setdefault(folded(path, case=case, form=form), path)
            if first != path:
                raise FileUnwritable("another key has the same name here: restore this one to another folder")

    def look_link(self, path: str) -> ExistingLink | None:
        """Return the symbolic link at `path`; None: there is none. Raises FileUnwritable as `look` does."""
        self._claim(path)
        with _ERRORS_OF_OURS, self._place(path) as place:
            return links.look(place.fd, place.name) if place.fd is not None else None

    def link(self, path: str, target: bytes, existing: ExistingLink | None, facts: Facts) -> None:
        """Make a symbolic link at `path`, which leads to `target`, in the place of `existing`. Nothing that
        is restored later follows it. Raises FileUnwritable.
        """
        with _ERRORS_OF_OURS, self._place(path, make=True) as place:
            assert place.fd is not None, "it was made"
            links.make(place.fd, place.name, name_of_draft("", path), target, existing, facts)
        with self._lock:
            self._changed.add(path.rpartition("/")[0])

    def has(self, path: str, existing: Existing, proof: Proof) -> bool:
        """Return whether the file that was found at `path` has this digest. Raises FileUnwritable."""
        with _ERRORS_OF_OURS, self._place(path) as place:
            if place.fd is None:
                return False
            try:
                descriptor = os.open(place.name, _READ, dir_fd=place.fd)
            except PermissionError:  # perhaps its mode forbids reading: it counts as different, and is kept
                return False
            with closing(descriptor) as fd:
                stat = os.fstat(fd)
                same = (stat.st_dev, stat.st_ino, stat.st_ctime_ns) == existing.identity
                return same and digest_of(fd, existing.size, proof.kind) == proof.value

    def make(self, path: str, facts: Facts) -> None:
        """Make the folder `path`; `furnish` gives it its time and attributes. Raises FileUnwritable."""
        self._claim(path)
        with _ERRORS_OF_OURS, self._place(f"{path}/.", make=True):
            pass
        with self._lock:
            self._marked[path] = facts

    def holds(self, path: str) -> bool:
        """Return whether the folder `path` exists. Raises FileUnwritable if something else does."""
        with _ERRORS_OF_OURS, self._place(f"{path}/.") as place:
            return place.fd is not None

    def furnish(self) -> None:
        """Give the folders that have objects their attributes and times, after everything is restored. A
        folder keeps what it has if it existed before, has content, and permissions that no restore gave it.
        `incomplete` gets what fails.
        """
        with self._lock:
            marked, self._marked = self._marked, {}
        whole: set[int] = set()
        for path in sorted(marked, reverse=True):  # inner ones first: syncd may lose access to a folder
            try:
                with _ERRORS_OF_OURS, self._opened(path) as fd:
                    failed = self._furnish(fd, path, marked[path]) if fd is not None else []
                    if fd is not None:
                        self._make_durable(fd, whole, len(marked))
            except FileUnwritable as error:
                failed = [f"attributes: {error}"]
            if failed:
                self.incomplete[path] = "; ".join(failed)
        with _ERRORS_OF_OURS:
            self._disks.sync(whole)

    def _furnish(self, fd: int, path: str, facts: Facts) -> list[str]:
        mtime_ns, wanted = facts
        mode = modes.S_IMODE(os.fstat(fd).st_mode)
        ours = (
            self._folder_mode,
            mode if wanted.mode is None else wanted.mode & 0o777,
        )  # of a restore that died
        if path not in self._new and mode & 0o777 not in ours and os.listdir(fd):
            return []
        set_time(fd, mtime_ns)
        return give(fd, wanted, mode, special=self._special)

    def _make_durable(self, fd: int, whole: set[int], count: int) -> None:
        """Make one of `count` folders durable: now, or later with the devices in `whole`. Raises OSError."""
        device = self._disks.of(fd, os.fstat(fd).st_dev) if count >= _WORTH_ALL else None
        if device is None:
            sync_directory(fd)
        else:
            whole.add(device)

    @contextlib.contextmanager
    def draft(self, path: str, name: str) -> Iterator[Draft]:
        """Open the draft `name` of the file at `path`, in the same directory. Raises FileUnwritable, also for
        errors of the file system inside the block.
        """
        with _ERRORS_OF_OURS, self._place(path, make=True) as place:
            draft = self._draft(place, name)
            with contextlib.closing(draft):
                yield draft

    def _draft(self, place: _Place, name: str) -> Draft:
        assert place.fd is not None, "it was made"
        device = self._disks.of(place.fd, place.device)
        return Draft(place.fd, name, device, direct=self._disks.takes_direct(device))

    def place(self, draft: Draft, path: str, existing: Existing | None, size: int, facts: Facts) -> None:
        """Finish the draft, make it durable, and give it its name. Raises OSError, FileUnwritable."""
        self._finish(draft, path, size, facts)
        try:
            draft.sync()
            self._name(draft, path, existing)
        except (OSError, FileUnwritable) as error:
            self.incomplete.pop(path, None)
            if getattr(error, "errno", None) not in _EVERY_FILE:
                draft.discard()  # it would be refused this name again
            raise

    def write_soon(
        self, path: str, name: str, body: Body, existing: Existing | None, facts: Facts, ended: Ended
    ) -> None:
        """Restore a small file with the content `body` by way of the draft `name`. It gets its name together
        with others if that costs less. Raises FileUnwritable, unless `ended` is called.
        """
        with _ERRORS_OF_OURS:
            each = self._written(path, name, body, existing, facts, ended)
        with self._lock:
            is_twice = path in self._unnamed  # another key has this name, too
            joins = each.draft.device is not None and not is_twice
            if joins:
                self._waiting_since = self._waiting_since if self._waiting else time.monotonic()
                self._waiting.append(each)
                self._unnamed.add(path)
                self._waiting_bytes += each.size
        if is_twice:
            self.settle()
        elif self._is_due():
            self.settle(unless_done=True)
        if not joins:
            ended(self._named(each, is_durable=False))

    def _is_due(self) -> bool:
        """Return whether enough files wait, or have waited long enough."""
        is_full = len(self._waiting) >= _AT_ONCE or self._waiting_bytes >= _AT_ONCE_BYTES
        return is_full or (bool(self._waiting) and time.monotonic() - self._waiting_since >= _AT_ONCE_SECONDS)

    def _written(
        self, path: str, name: str, body: Body, existing: Existing | None, facts: Facts, ended: Ended
    ) -> _Waiting:
        place = self._place(path, make=True)
        try:
            draft = self._draft(place, name)
        except BaseException:
            place.close()
            raise
        each = _Waiting(draft, place, path, existing, len(body), ended)
        try:
            draft.write(body)
            self._finish(draft, path, len(body), facts)
        except BaseException:
            try:
                draft.discard()
            finally:
                each.close()
            raise
        return each

    def settle(self, *, unless_done: bool = False) -> None:
        """Give all waiting files their names, and pass every outcome to their `ended`. With `unless_done` not
        if another thread has just done so: a few files would take as long as many.
        """
        with self._naming:  # a thread with more files waits here, because waiting files hold descriptors
            if unless_done and not self._is_due():
                return
            with self._lock:
                waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            is_durable = False
            if len(waiting) >= _WORTH_ALL:
                with contextlib.suppress(OSError):  # fsync shows which file failed
                    self._disks.sync({each.place.device for each in waiting})
                    is_durable = True
            for each in waiting:
                error = self._named(each, is_durable=is_durable)
                self._unnamed.discard(each.path)
                each.ended(error)

    def _named(self, each: _Waiting, *, is_durable: bool) -> FileUnwritable | None:
        try:
            with _ERRORS_OF_OURS:
                try:
                    if not is_durable:
                        each.draft.sync()
                    self._name(each.draft, each.path, each.existing)
                except BaseException:
                    self.incomplete.pop(each.path, None)
                    each.draft.discard()
                    raise
                finally:
                    each.close()
        except FileUnwritable as error:
            return error
        return None

    def _finish(self, draft: Draft, path: str, size: int, facts: Facts) -> None:
        mtime_ns, wanted = facts
        if failed := draft.finish(size, mtime_ns, self._mode, wanted, special=self._special):
            with self._lock:
                self.incomplete[path] = "; ".join(failed)

    def _name(self, draft: Draft, path: str, existing: Existing | None) -> None:
        draft.place(path.rpartition("/")[2], existing)
        with self._lock:
            self._changed.add(path.rpartition("/")[0])

    def sync(self) -> None:
        """Make the names of everything that was placed durable. Raises FileUnwritable."""
        with self._lock:
            changed, self._changed = self._changed, set()
        whole: set[int] = set()
        for path in changed:
            with _ERRORS_OF_OURS, self._opened(path) as fd:
                if fd is not None:
                    self._make_durable(fd, whole, len(changed))
        with _ERRORS_OF_OURS:
            self._disks.sync(whole)

    def close(self) -> None:
        """Close the directory."""
        self._disks.close()
        if self._root is not None:
            os.close(self._root)
            self._root = None

    # ---- inside ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int | None]:
        """Open the folder `path`; None: there is none."""
        with self._place(f"{path}/." if path else ".") as place:
            if place.fd is None:
                yield None
                return
            with closing(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.fd)) as fd:
                yield fd

    def _place(self, path: str, *, make: bool = False) -> _Place:
        """Open the directory of `path`; with `make` it is made if it is missing. Raises FileUnwritable,
        OSError.
        """
        directory, _, name = path.rpartition("/")
        fd, device, above = self._root, self._device, ""
        try:
            for component in directory.split("/") if directory else ():
                if fd is None:
                    break
                here = f"{above}/{component}" if above else component
                below = self._enter(fd, component)
                if below is None and make:
                    below = self._make(fd, component, above, here)
                if fd != self._root:
                    os.close(fd)
                fd, device = below or (None, device)
                above = here
        except BaseException:
            if fd is not None and fd != self._root:
                os.close(fd)
            raise
        return _Place(fd, device, name, is_root=fd == self._root)

    def _make(self, fd: int, component: str, above: str, here: str) -> tuple[int, int]:
        if here in self._unnamed:
            self.settle()  # a file of this name came first
        with contextlib.suppress(FileExistsError):
            os.mkdir(component, dir_fd=fd)
            with self._lock:
                self._changed.add(above)
                self._new.add(here)
        below = self._enter(fd, component)
        if below is None:
            raise FileUnwritable("the folder was removed during the restore: restore again")
        return below

    def _enter(self, fd: int, component: str) -> tuple[int, int] | None:
        """Return a descriptor of the directory below `fd`, and its device; None: there is none. Raises
        FileUnwritable, OSError.
        """
        if component in ("", ".", "..") or "\0" in component:
            raise FileUnwritable("no file can have this path: download the object with the store's tools")
        try:
            below = os.open(component, DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in GONE:
                raise FileUnwritable(
                    "a file or a symbolic link is in the way of the folder that it belongs to: move it away"
                ) from error
            raise
        found = os.fstat(below)
        label = self._closed.get((found.st_dev, found.st_ino))
        if label:
            os.close(below)
            raise FileUnwritable(f"its folder is {label}: restore it to another folder")
        return below, found.st_dev


class _ErrorsOfOurs:
    """A context in which each OSError becomes a FileUnwritable. Not a generator: each file enters some."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            remedy = _REMEDIES.get(error.errno or 0)
            words = f"{error.strerror}; {remedy}" if remedy else os_words(error)
            raise FileUnwritable(words, every_file=error.errno in _EVERY_FILE) from error


_ERRORS_OF_OURS = _ErrorsOfOurs()


def _ignores(root: int) -> tuple[bool, bool]:
    """Return whether names that differ are one here: by case, by the form of an accent."""
    probe = f"{DRAFT}\u00e9"
    with contextlib.suppress(OSError):
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root))
        try:
            return _is_there(root, probe.upper()), _is_there(root, probe.replace("\u00e9", "e\u0301"))
        finally:
            os.unlink(probe, dir_fd=root)
    return False, False


def _is_there(root: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
