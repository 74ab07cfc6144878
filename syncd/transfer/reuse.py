"""Finds content that the store already holds, so that less or nothing has to be sent, and copies an object
onto itself to give it other properties.

A record alone is no proof. A copy inside the store is compared with its source, because some servers ignore
the condition of the request, or the request. ETags prove parts copied from a donor. A digest proves objects
without a record: ours, or one of another program (`syncd.storage.proofs`).
"""

from __future__ import annotations

import logging
import re
import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import islice
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from syncd.core import parts, plan
from syncd.core.errors import TRY_ALL, FileUnreadable, StoreError, StoreRefused
from syncd.core.model import (
    FileRef,
    FileStat,
    Fingerprint,
    Leftover,
    ObjectInfo,
    ObjectMeta,
    Observed,
    Receipt,
    Recorded,
)
from syncd.core.paths import is_link_key
from syncd.core.plan import Copy, Upload
from syncd.sources import files
from syncd.state.state import State
from syncd.storage.base import ObjectStore, StoreLimits
from syncd.transfer.pace.heartbeat import Heartbeat, Reading
from syncd.transfer.upload.part_sender import Donor, Job

log = logging.getLogger("syncd.transfer")

SECOND_LOOK_PARTS = 8
"""The least for a second look, 64 MiB in parts of 8 MiB: less is sent before it is read twice."""
_SECOND_LOOK_SIZE = 16 << 30
"""The most for a second look. Its chunks take 3 MB in the state, and comparing them 40 MB of memory."""
_COPIED_PART = 512 << 20
"""The parts of an object that is too large for one copy: few requests, each of them short enough."""
_LONGEST_WAIT_NS = 90 * 10**9
"""How long a file waits for its heir: a renamed log may stay open for writing for a minute."""

_PAGE = 1000
"""Objects of a page, as many as stores list at once."""
_KEPT_PAGES = 16
"""About 5 MiB. Files come in the order of their keys, except those that settle longer."""
_PAGES_AHEAD = 4
"""The most that one question reads: a single file far ahead must not displace the others' pages."""
_REST_SECONDS = 60.0
_GOOD_SECONDS = 900.0
"""How long a listing is used, because others may change the objects."""
MANY = 10
"""So many deletions at once are worth a listing, and a page has to answer for so many."""
_SIGHT_SECONDS = 10.0
"""How long a census is used: after that an object may be another program's."""
_OUT_OF_ORDER = 64
"""By how many keys threads may ask out of order."""
_MOST_IN_VAIN = 3
"""After so many pages that answer for too few, the rest is looked at one by one."""
_MD5 = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


class Standing(Enum):
    """What the store has of a file before it is sent."""

    RECORDED = "there is a record, or nothing to send"
    KNOWN = "an object with its content"
    ABSENT = "nothing under its key"
    DIFFERS = "an object that is not known to have its content"


class Withheld(Exception):
    """The store does not have a file that is only looked up."""


class Listed(NamedTuple):
    """What a listing has under a key."""

    info: ObjectInfo | None
    """Its key, its size, its ETag, and as `md5` an ETag that looks like one. None: there is no object."""


class _Page(NamedTuple):
    last: str
    until: float
    objects: dict[str, ObjectInfo]


class Listing:
    """The objects under a prefix, read page by page while files are compared, to save a question for each.

    For any thread. It shows the state of a moment ago. So it is asked only about files without a record, and
    is closed before one of their objects is deleted.
    """

    def __init__(
        self, objects: Iterator[ObjectInfo], heartbeat: Heartbeat, monotonic: Callable[[], float]
    ) -> None:
        self._objects = objects
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pages: deque[_Page] = deque()
        self._next: dict[str, ObjectInfo] = {}
        self._before = self._last = ""
        self._since = monotonic()
        self._rests_until = -inf
        self._is_whole = self._is_closed = self._was_checked = False

    def find(self, key: str) -> Listed | None:
        """Return what is under the key; None: the store has to be asked. Raises Stopped."""
        with self._heartbeat.alone(self._lock):
            self._read_to(key)
            now = self._monotonic()
            while self._pages and (len(self._pages) > _KEPT_PAGES or self._pages[0].until < now):
                self._before = self._pages.popleft().last
            is_within = self._before < key <= self._last or (self._is_whole and self._pages)
            if self._is_closed or not is_within or key <= self._before:
                return None
            page = next((page for page in self._pages if key <= page.last), None)
            info = page.objects.get(key) if page is not None else None
            if info is not None and not self._was_checked:
                self._was_checked = True
                return None  # the store is asked whose the first object is
            return Listed(info)

    def close(self) -> None:
        """Answer no more questions, because the answers may be wrong."""
        with self._heartbeat.alone(self._lock):
            self._is_closed = True
            self._pages.clear()

    def _read_to(self, key: str) -> None:
        """Read on to the key. After a page that fails, listing rests for a while, then goes on there."""
        for _ in range(_PAGES_AHEAD):
            is_over = self._is_whole or self._is_closed or self._monotonic() < self._rests_until
            if is_over or key <= self._last:
                return
            try:
                self._read()
            except StoreError as error:
                log.info("objects are asked for one by one for now, as they are not listed: %s", error)
                self._rests_until = self._monotonic() + _REST_SECONDS

    def _read(self) -> None:
        """Read the next page. The store may have prepared it with the previous one, so it is as old."""
        until, self._since = self._since + _GOOD_SECONDS, self._monotonic()
        last = next(reversed(self._next), self._last)  # some are left if the last try failed
        for info in islice(self._objects, _PAGE - len(self._next)):
            if info.key <= last:  # not in the order of keys: passed keys may follow
                self._is_closed = True
                return
            last = info.key
            md5 = bytes.fromhex(info.etag) if _MD5.fullmatch(info.etag) else None
            self._next[last] = replace(info, md5=md5)
        self._is_whole = len(self._next) < _PAGE
        self._pages.append(_Page(last, until, self._next))
        self._last, self._next = last, {}


class _Range(NamedTuple):
    after: str
    last: str
    until: float
    etags: dict[str, str]


def census_of(
    store: ObjectStore,
    prefix: str,
    keys: Sequence[str],
    heartbeat: Heartbeat,
    monotonic: Callable[[], float],
) -> Census | None:
    """Return a census; None: single looks cost less, for a few keys, or a directory without requests."""
    if len(keys) < MANY or store.limits.describes_by_reading:
        return None
    return Census(store, prefix, keys, heartbeat, monotonic)


class Census:
    """The ETags of objects that are about to be deleted, by pages of a listing. For any thread.

    A page begins shortly before the requested key, so it costs no more requests than a HEAD. If the keys are
    far apart, or the store does not list, it has no answers.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        keys: Iterable[str],
        heartbeat: Heartbeat,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._keys = sorted(keys)
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._pages: list[_Range] = []
        self._in_vain = 0

    def etag(self, key: str) -> str:
        """Return the ETag of the object under the key, as just listed; empty: the store has to be asked.

        Raises Stopped.
        """
        with self._heartbeat.alone(self._lock):
            page = self._page(key)
            return page.etags.get(key, "") if page is not None else ""

    def _page(self, key: str) -> _Range | None:
        now = self._monotonic()
        for page in self._pages:
            if page.after < key <= page.last and now < page.until:
                return page
        if self._in_vain >= _MOST_IN_VAIN or self._of_these(key, self._keys[-1]) < MANY:
            return None
        try:
            page = self._read(key, now)
        except StoreError as error:
            log.info("objects are looked at one by one, as they are not listed: %s", error)
            self._in_vain = _MOST_IN_VAIN
            return None
        told = sum(each in page.etags for each in self._keys[self._index(key) :])
        self._in_vain = 0 if told >= MANY else self._in_vain + 1
        self._pages = [*self._pages[-1:], page]  # other threads are not done with the last one
        return page

    def _read(self, key: str, now: float) -> _Range:
        """Read from a little before the key, in the same folder, because threads ask out of order."""
        index, folder = self._index(key), key[: key.rfind("/") + 1]
        close = [
            each for each in self._keys[max(0, index - _OUT_OF_ORDER) : index] if each.startswith(folder)
        ]
        known = max((page.last for page in self._pages if page.last < key), default="")
        after = max(known, _before(close[0] if close else key))
        listed = islice(self._store.list_objects(self._prefix, after), _PAGE)
        etags = {info.key: info.etag for info in listed}
        last = max(etags, default=key) if len(etags) == _PAGE else self._keys[-1]
        return _Range(after, last, now + _SIGHT_SECONDS, etags)

    def _of_these(self, first: str, last: str) -> int:
        return bisect_right(self._keys, last) - self._index(first)

    def _index(self, key: str) -> int:
        return bisect_left(self._keys, key)


def _before(key: str) -> str:
    """Return a text that sorts shortly before the key. It may not be a file name."""
    prior = ord(key[-1]) - 1
    is_text = prior >= 0x20 and not 0xD800 <= prior < 0xE000
    return key[:-1] + (chr(prior) if is_text else "")


class Heirs:
    """Decides which files wait until the file that had their name was copied inside the store.

    Log rotation renames a whole chain at once: ``app.log`` to ``app.log.1``, that to ``app.log.2``. Each name
    can be copied from the one before until that is replaced, so the chain is worked off from its end. In a
    circle the first by name goes first, and the last of it is sent.
    """

    def __init__(
        self, state: State, appends: Callable[[FileRef], bool], reading: Callable[[FileRef], Reading]
    ) -> None:
        self.siblings: Callable[[FileRef], Sequence[FileRef]] = lambda ref: ()
        """Returns dirty files of its source that may be the recorded ones of it and of each other."""
        self._state = state
        self._appends = appends
        self._reading = reading
        self._since: dict[FileRef, int] = {}

    def wait_seconds(
        self, root_fd: int, ref: FileRef, seen: FileStat, recorded: Recorded | None, now_ns: int
    ) -> float:
        """Return how long to wait before the object of `recorded` may be replaced; 0: not at all."""
        if (
            recorded is None
            or recorded.fingerprint.size == 0
            or _inode(seen) == _inode(recorded.stat)
            or not self._goes_first(root_fd, ref, recorded)
        ):
            self._since.pop(ref, None)
            return 0.0
        since_ns = self._since[ref] = min(self._since.get(ref, now_ns), now_ns)  # the clock may be set back
        waited_ns = now_ns - since_ns
        return 0.0 if waited_ns > _LONGEST_WAIT_NS else min(2.0, 0.2 + waited_ns / 2e9)

    def forget(self, ref: FileRef) -> None:
        """Forget a file that is gone."""
        self._since.pop(ref, None)

    def _goes_first(self, root_fd: int, ref: FileRef, recorded: Recorded) -> bool:
        """Return whether the recorded file now has another name under which it is not recorded yet."""
        names, siblings = {}, self.siblings(ref)
        with self._reading(ref):
            for other in siblings:
                try:
                    found = files.look(root_fd, other.path)
                except FileUnreadable:
                    continue
                if isinstance(found, FileStat):
                    names[_inode(found)] = other, found
        chain, row = [ref], recorded
        while True:
            heir, found = names.get(_inode(row.stat), (None, None))
            if heir is None or found is None or heir in chain[1:]:
                return len(chain) > 1
            # An inode may be reused.
            if not _is_same(found, row.stat) and not (self._appends(ref) and found.size >= row.stat.size):
                return len(chain) > 1
            if heir == ref:
                return ref.path != min(each.path for each in chain)
            known = self._state.recorded(heir)
            if known is not None and _inode(known.stat) == _inode(row.stat):
                return len(chain) > 1
            chain.append(heir)
            if known is None:
                return True
            row = known


def _is_made(source: ObjectInfo, made: Receipt, copy: ObjectInfo, content: Fingerprint) -> bool:
    """Return whether `copy` is what an answer calls `made`, and not what was there before.

    The digest is from the request; ETags that are MD5s show what the store has. If the store drops metadata,
    the ETag of the answer decides.
    """
    told = copy.etag == made.etag if copy.digest is None else copy.digest == content.digest
    same_md5 = None in (source.md5, copy.md5) or source.md5 == copy.md5
    return told and same_md5 and copy.size == content.size


def _is_same(found: FileStat, known: FileStat) -> bool:
    return (found.size, found.mtime_ns) == (known.size, known.mtime_ns)


def _inode(stat: FileStat) -> tuple[int, int]:
    return stat.device, stat.inode


class Reuse:
    """Looks for content in one store, in the records and in the store itself."""

    def __init__(
        self, store: ObjectStore, state: State, limits: Callable[[], StoreLimits], owner: object
    ) -> None:
        self._store = store
        self._state = state
        self._limits = limits
        self._owner = owner

    def twin(self, key: str, observed: Observed) -> Recorded | None:
        """Return a record of the same content under another key; None: there is none."""
        content = observed.fingerprint
        if content.size == 0 or is_link_key(key):  # a put of it costs no more than a copy
            return None
        for _, row in self._state.find_content(self._store.store_id, content):
            same = plan.same_content(content, observed.witness, row.fingerprint, row.witness)
            if row.key != key and same and not is_link_key(row.key):
                return row
        return None

    def copy(self, twin: Recorded, job: Job) -> Receipt | None:
        """Let the store copy an object that it has; None: it is not the recorded one. Raises StoreError, also
        if the store claims to have copied, and has something else.

        Makes no copy while another worker writes the source object. The caller holds the job's key.
        """
        key, content = job.key, job.digests.fingerprint
        if content.size > self._store.limits.max_put_size or self._state.audits.is_rotten(twin.etag):
            return None
        with self._state.locks.shared(self._owner, (self._store.store_id, twin.key)) as free:
            if not free:
                return None
            info = self._store.head_object(twin.key)
            if info is None or info.etag != twin.etag or info.size != content.size:
                return None
            if info.digest is not None and info.digest != content.digest:
                return None
            made = self._store.copy_object(twin.key, key, job.meta(), twin.etag)
            copy = self._store.head_object(key)
            if copy is None or not _is_made(info, made, copy, content):
                raise StoreRefused("the store reports a copy that it did not make", hint=TRY_ALL)
            # Otherwise the ETag of the content shows that the right object was copied.
            after = info if copy.etag == twin.etag else self._store.head_object(twin.key)
        return Receipt(key, copy.etag) if after is not None and after.etag == twin.etag else None

    def onto_itself(self, ref: FileRef, key: str, meta: ObjectMeta, etag: str) -> None:
        """Let the store copy the object with this ETag onto itself, with other metadata and properties.

        Some servers ignore the condition: the caller, who holds the key, checks the result. Raises
        StoreError.
        """
        if meta.fingerprint.size > self._store.limits.max_put_size:
            self._in_parts(ref, key, meta, etag)
        else:
            self._store.copy_object(key, key, meta, etag)

    def _in_parts(self, ref: FileRef, key: str, meta: ObjectMeta, etag: str) -> None:
        """Copy in parts. The upload is recorded as one to abort before it begins, in case syncd dies.

        If an earlier one with an unknown id was left, that stays recorded.
        """
        store_id = self._store.store_id
        one_was_left = any(
            (each.key, each.upload_id) == (key, "") for each in self._state.checkpoints.leftovers(store_id)
        )
        unknown = Leftover(ref, store_id, key, "", self._store.clock_ns()[0])
        self._state.checkpoints.leave(unknown)
        upload_id = self._store.create_multipart_upload(key, meta)
        leftover = replace(unknown, upload_id=upload_id)
        self._state.checkpoints.leave(leftover)
        if not one_was_left:
            self._state.checkpoints.drop_leftover(unknown)
        size = meta.fingerprint.size
        step = parts.part_size_for(size, _COPIED_PART, self._store.limits)
        if self._limits().has_conditions:
            meta = replace(meta, replaces=etag)
        try:
            copied = [
                self._store.upload_part_copy(
                    key, upload_id, number, key, first, min(first + step, size) - 1, etag
                )
                for number, first in enumerate(range(0, size, step), 1)
            ]
            self._store.complete_multipart_upload(key, upload_id, copied, meta)
        except StoreError:
            self._store.abort_multipart_upload(key, upload_id)
            self._state.checkpoints.drop_leftover(leftover)
            raise
        self._state.checkpoints.drop_leftover(leftover)

    def donor(self, action: Upload | Copy, job: Job) -> Donor | None:
        """Return an object with parts of a large file: a twin too large to copy whole, or that of a recorded
        file with most of its blocks at the same places: its last version, or what it was copied from.
        """
        if isinstance(action, Copy) and not self._state.audits.is_rotten(action.twin.etag):
            spans = parts.cut(job.stat.size, job.part_size)
            return Donor(action.twin.key, action.twin.etag, {each.number: each.offset for each in spans})
        last = self._version(job.ref, job)
        if last is not None and spares_half(last, job):
            return last
        others = (self._version(ref, job) for ref in self._state.find_blocks(job.grid) if ref != job.ref)
        found = [each for each in (last, *others) if each is not None]
        return max(found, key=lambda each: len(each.places), default=None)

    def may_have_moved(self, job: Job, donor: Donor | None) -> bool:
        """Return whether a second look is worth another read: blocks save little, or did before."""
        is_large = len(job.digests.parts) >= SECOND_LOOK_PARTS and job.stat.size <= _SECOND_LOOK_SIZE
        if not is_large or self._object(job.ref) is None:
            return False
        return donor is None or not spares_half(donor, job) or bool(self._state.chunks(job.ref))

    def moved(self, job: Job, chunks: bytes) -> Donor | None:
        """Return the file's last version, if its chunks are known and hold parts of the new one."""
        recorded, before = self._object(job.ref), self._state.chunks(job.ref)
        if recorded is None or not before:
            return None
        places = parts.moved(before, chunks, job.stat.size, job.part_size)
        return Donor(recorded.key, recorded.etag, places)

    def _version(self, ref: FileRef, job: Job) -> Donor | None:
        """Return the object of a recorded file, if it is in this store and its blocks are known."""
        recorded, grid = self._object(ref), self._state.part_digests(ref)
        if recorded is None or grid is None:
            return None
        places = parts.unmoved(grid, recorded.fingerprint.size, job.grid, job.stat.size)
        return Donor(recorded.key, recorded.etag, places)

    def _object(self, ref: FileRef) -> Recorded | None:
        """Return the record of a file, if its object is in this store and good for copies."""
        found = self._state.recorded(ref)
        if found is None or found.store_id != self._store.store_id or found.in_doubt:
            return None
        return None if self._state.audits.is_rotten(found.etag) else found


def spares_half(donor: Donor, job: Job) -> bool:
    """Return whether the object has half of the parts."""
    return 2 * len(donor.places) >= len(job.digests.parts)
