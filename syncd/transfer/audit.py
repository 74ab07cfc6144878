"""Compares the store with the records, and the records with the disk."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from itertools import islice

import xxhash
from msgspec import Struct
from msgspec.structs import replace

from syncd.core import deletions, paths, plan
from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    FileError,
    KeyBusy,
    PreconditionFailed,
    StoreRefused,
)
from syncd.core.model import FileRef, FileStat, ObjectInfo, Recorded, Source
from syncd.core.patterns import Rules
from syncd.core.words import BY_OTHER, counted
from syncd.sources import directories, entries, files, fingerprint, places
from syncd.sources.fingerprint import Witness
from syncd.sources.scan import compare
from syncd.state.audits import Unlike
from syncd.state.state import State
from syncd.storage.base import ObjectStore

_PAGE = 1000
_SAMPLES = 10
_READ_SIZE = 8 << 20
_MOST_REASONS = 100_000
MOST_NAMED = 1000
"""Differences of one source that are kept with their files; more are only counted."""
NOT_STORED = "the file has not been uploaded"
_ROTTEN_FILE = "the file's content changed, but not its stat"
_OTHER_CONTENT = "the object's content is not what was sent, whatever its metadata say"
_OTHER_FINGERPRINT = "the object has a different fingerprint"


class Difference(Struct, frozen=True):
    """One thing that differs from its record. `serious`: the store does not hold what the record claims."""

    ref: FileRef
    what: str
    serious: bool
    damaged: bool = False
    """The store does not hold the recorded content: sending the file again repairs that."""
    foreign: bool = False
    """Another program wrote the object: a repair would destroy its content."""
    etag: str = ""
    """The ETag of the record."""
    rotten: str = ""
    """The ETag of an object that has lost its content, which neither that nor its metadata show."""


def verify(  # the caller's wiring, each named
    source: Source,
    state: State,
    store: ObjectStore,
    *,
    read: bool,
    deep: float = 0.0,
    threads: int,
    pauses: Sequence[Callable[[], object]] = (),
) -> Iterator[list[Difference]]:
    """Yield the differences of each recorded file of one source: an empty list if there are none.

    Asks the store for each recorded object. With `read` every file is read and fingerprinted again; without,
    a file whose stat matches its record counts as unchanged. `deep` is the share of the objects, chosen at
    random, that are downloaded, because an object may keep its size and metadata and lose its content. What
    the last audit found by reading is read again. If the root cannot be opened, only the store is compared.

    Beside a working daemon an object changes a moment before its record. So what looks serious is looked at
    again after each of `pauses`, with the record of that moment, and counts only if neither record nor object
    has changed. Raises StoreError when the store cannot be used.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    silence = places.silence(source.root)
    root_fd, trouble = (None, _closed(source, silence)) if silence else _opened(source)
    if trouble is not None:
        yield [trouble]
    looker = _Looker(root_fd, state, store, source.name, read=read, deep=deep)
    try:
        rows = state.all_recorded(source.name)
        while batch := list(islice(rows, _PAGE)):
            looks = list(pool.map(looker.look, batch))
            for pause in pauses:
                if not any(look.is_serious for look in looks):
                    break
                pause()
                looks = list(pool.map(looker.look_again, (ref for ref, _ in batch), looks))
            yield from (look.found for look in looks)
    finally:
        pool.shutdown(cancel_futures=True)  # do not ask a store that is down for more objects
        if root_fd is not None:
            os.close(root_fd)


def page(
    source: Source,
    state: State,
    store: ObjectStore,
    after: bytes,
    limit: int,
    reading: Callable[[], AbstractContextManager[None]],
) -> tuple[bytes | None, int, list[Difference]]:
    """Compare the next recorded files, at most `limit`, behind the path `after`, with a request for each.

    Returns the last path (None: no file is left behind it), how many files there were, and what is serious.
    What seems serious is looked at again while no thread of this process may change its object. If one does
    just then, nothing is reported; nor is a record in doubt without an earlier difference, because its file
    is looked at anyway, and the object may be newer. `reading` surrounds reads of the folder, and may raise.
    Raises StoreError when the store cannot be used, StateError.
    """
    rows = state.recorded_page(source.name, after, limit, kept=True)
    with reading():
        root_fd, _ = _opened(source)
    looker = _Looker(root_fd, state, store, source.name, read=False, deep=0.0, reading=reading)
    found: list[Difference] = []
    try:
        for path, row in rows:
            ref = FileRef(source.name, os.fsdecode(path))
            if row.in_doubt and not state.audits.what(ref):
                continue
            look = looker.look((ref, row))
            if look.is_serious:
                with suppress(KeyBusy), state.locks.exclusive(looker, (row.store_id, row.key)):
                    found += [each for each in looker.look_again(ref, look).found if each.serious]
    finally:
        if root_fd is not None:
            os.close(root_fd)
    return rows[-1][0] if len(rows) == limit else None, len(rows), found


def repair(ref: FileRef, state: State) -> bool:
    """Put the record of a file with a damaged object in doubt: the next look sends the file again.

    Returns whether there will be one. A file that was deleted cannot be sent, so its record is dropped. What
    is known of its object stays until the file was sent. Raises StateError.
    """
    row = state.recorded(ref)
    if row is None:
        return False
    if row.kept:
        state.forget(ref)
    else:
        state.doubt(ref, row)
    return not row.kept


def allowed(damaged: int, files: int, bound: tuple[int, float]) -> str:
    """Return why so many of so many files are not repaired without the operator; empty: they are.

    `bound` is a number of files, and a share of them.
    """
    most = deletions.allowance(files, *bound)
    if damaged <= most:
        return ""
    return (
        f"nothing is repaired: {damaged} of {counted(files, 'object', 'is')} damaged, and at most {most} are "
        "repaired without a look at the store"
    )


def named(found: Iterable[Difference], most: int | None = None) -> tuple[list[Unlike], int]:
    """Return differences, one for each file, for `Audits.keep`, and how many beyond `most` are left out.

    What another program wrote is not damaged, and what is wrong on the disk must not be sent.
    """
    merged: dict[FileRef, Unlike] = {}
    for each in found:
        one = Unlike(each.ref, each.etag, each.what, each.damaged, each.rotten)
        before = merged.get(each.ref)
        if before is not None:
            what, rotten = f"{before.what}; {each.what}", before.rotten or each.rotten
            one = Unlike(each.ref, each.etag, what, before.damaged and each.damaged, rotten)
        merged[each.ref] = one
    first = list(islice(merged.values(), most))
    return first, len(merged) - len(first)


def _opened(source: Source) -> tuple[int | None, Difference | None]:
    """Return a descriptor of the source's directory, or the reason why there is none."""
    try:
        return directories.open_root(source.root), None
    except FileError as error:
        return None, _closed(source, str(error))


def _closed(source: Source, why: str) -> Difference:
    return Difference(
        FileRef(source.name, ""), f"the source's directory cannot be opened: {why}", serious=False
    )


def unknown(
    source: Source, state: State, store: ObjectStore, others: Sequence[Source]
) -> Iterator[Difference]:
    """Yield objects under the source's prefix without a record: from earlier files, or written by others.

    `others` are the other sources of the same store; objects under their own prefixes belong to them. Raises
    StoreError.
    """
    theirs = tuple(
        other.prefix
        for other in others
        if other.prefix != source.prefix and other.prefix.startswith(source.prefix)
    )
    for info in store.list_objects(source.prefix):
        if theirs and info.key.startswith(theirs):
            continue
        path = paths.path_for(source.prefix, info.key)
        row = state.recorded(FileRef(source.name, path)) if path is not None else None
        if row is None or (row.store_id, row.key) != (store.store_id, info.key):
            shown = FileRef(source.name, path if path is not None else info.key)
            yield Difference(shown, "the store has an object without a record", serious=False)


def unrecorded(source: Source, state: State, store_id: str) -> Iterator[Difference]:
    """Yield the wanted files of the source without a record: nothing says that the store has them.

    Raises StateError.
    """
    if places.silence(source.root):
        return  # `verify` has reported it
    sink = _Unrecorded()
    report = compare.scan(
        source,
        Rules.of(source),
        state,
        sink,
        should_stop=lambda: False,
        store_id=store_id,
    )
    if report.doubt:
        yield Difference(
            FileRef(source.name, ""), f"its files cannot be listed: {report.doubt}", serious=False
        )
    reasons = {failure.ref: failure.error for failure in state.failures.page(source.name, _MOST_REASONS)}
    for ref in sink.refs:
        if state.recorded(ref) is not None:
            continue  # its record is among those of deleted files: the file is back
        why = f": {reasons[ref]}" if ref in reasons else ""
        yield Difference(ref, f"{NOT_STORED}{why}", serious=False)


class _Unrecorded:
    """The sink of a scan that keeps the names of files without a record."""

    def __init__(self) -> None:
        self.refs: list[FileRef] = []

    def found(self, ref: FileRef, _stat: FileStat, recorded: Recorded | None) -> None:
        if recorded is None:
            self.refs.append(ref)

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        """Ignore it: `verify` names it."""

    def skipped(self, ref: FileRef, reason: str) -> None:
        """Ignore it: it is not wanted."""

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        """Ignore it: its content may have records."""

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        """Ignore it: its files have records."""


def of_others(
    source: Source, state: State, store: ObjectStore, own: Collection[str]
) -> list[tuple[ObjectInfo, bool]]:
    """Return objects under the source's prefix that another instance wrote; True: and that are not recorded.

    `own` are the ids that count as ours. It looks at a few objects of the first page. Raises StoreError.
    """
    page = [info.key for info in islice(store.list_objects(source.prefix), _PAGE)]
    found = []
    for key in page[:: max(1, len(page) // _SAMPLES)][:_SAMPLES]:
        info = store.head_object(key)
        if info is None or not plan.is_others(info, own):
            continue
        path = paths.path_for(source.prefix, key)
        row = state.recorded(FileRef(source.name, path)) if path is not None else None
        is_foreign = row is not None and plan.is_foreign(info, own, row)
        found.append((info, is_foreign))
    return found


class _Look(Struct, frozen=True):
    """One file, its record and its object, as they were at one moment."""

    found: list[Difference]
    row: Recorded
    seen: tuple[str, int] | None = None
    """ETag and size of the object; None: it is missing, or the store did not say."""

    @property
    def is_serious(self) -> bool:
        return any(difference.serious for difference in self.found)


class _Looker:
    """Looks at the files of one source, from several threads."""

    def __init__(
        self,
        root_fd: int | None,
        state: State,
        store: ObjectStore,
        source: str,
        *,
        read: bool,
        deep: float,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._root_fd = root_fd
        self._state = state
        self._store = store
        self._read = read
        self._deep = deep
        self._reading = reading
        self._seed = random.getrandbits(32)
        self._witness = Witness(state.secret)
        _, stand = state.audits.standing(source, _MOST_REASONS)
        self._again = {ref for ref, what in stand if _ROTTEN_FILE in what or _OTHER_CONTENT in what}

    def look(self, recorded: tuple[FileRef, Recorded]) -> _Look:
        """Compare the object and the file with this record."""
        ref, row = recorded
        seen = None
        if row.store_id != self._store.store_id:
            found = [Difference(ref, f"its object is in another store: {row.store_id}", serious=False)]
        else:
            try:
                info = self._store.head_object(row.key)
                found = _of_store(ref, row, info)
                if info is not None and any(each.foreign for each in found) and self._is_cut(ref, row, info):
                    found = [Difference(ref, _cut_words(row, info), serious=True, damaged=True)]
                seen = (info.etag, info.size) if info is not None else None
                is_known = any(each.damaged or each.foreign for each in found)
                if info is not None and not is_known and self._is_deep(ref):
                    found += _of_content(ref, row, info, self._store, self._witness)
            except AccessRefused:
                raise
            except StoreRefused as refused:
                found = [
                    Difference(ref, f"the store refuses to describe the object: {refused}", serious=True)
                ]
        if self._root_fd is not None:
            witness = self._witness if self._read or ref in self._again else None
            with self._reading():
                found += _of_disk(self._root_fd, ref, row, witness)
        return _Look([replace(each, etag=row.etag) for each in found], row, seen)

    def look_again(self, ref: FileRef, before: _Look) -> _Look:
        """Look again with the present record if it looked serious. If record or object changed in between, it
        is being changed, and differs in nothing serious.
        """
        if not before.is_serious:
            return before
        row = self._state.recorded(ref)
        if row is None:
            return _Look([], before.row)
        look = self.look((ref, row))
        if look.is_serious and (look.row, look.seen) != (before.row, before.seen):
            changing = Difference(ref, "it was changed while it was compared", serious=False)
            return _Look([*(each for each in look.found if not each.serious), changing], row)
        return look

    def _is_cut(self, ref: FileRef, row: Recorded, info: ObjectInfo) -> bool:
        """Return whether a store that digests its content has only the beginning of the recorded file."""
        if self._root_fd is None or info.digest is None or info.size >= row.fingerprint.size:
            return False
        try:
            with self._reading(), closing(files.open_file(self._root_fd, ref.path)) as file:
                if file.stat() != row.stat or not info.size:
                    return file.stat() == row.stat
                file.cut(info.size, to_line=False)
                start = fingerprint.compute(file, info.size, _READ_SIZE, lambda: False, self._witness)
        except FileError:
            return False
        return start.fingerprint.digest == info.digest

    def _is_deep(self, ref: FileRef) -> bool:
        chance = xxhash.xxh32_intdigest(os.fsencode(ref.path), self._seed) / 2**32  # the same at each look
        return chance < self._deep or ref in self._again


class _ObjectFile:
    """An object that is read like a file."""

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        self._store, self._info = store, info
        self._start, self._body = 0, memoryview(b"")

    def view(self, offset: int, room: memoryview) -> memoryview:
        """Return as many bytes from `offset` as there is `room`. Offsets only grow. Raises FileChanged,
        StoreError.
        """
        if offset + len(room) > self._start + len(self._body):
            last = min(offset + _READ_SIZE, self._info.size) - 1
            body = self._store.get_object(self._info.key, offset, last, self._info.etag).body
            self._start, self._body = offset, memoryview(body)
        piece = self._body[offset - self._start :][: len(room)]
        if len(piece) < len(room):
            raise FileChanged("the object ended early")
        return piece

    def check_end(self, _size: int) -> None:
        """Do nothing: the store reported the size."""


def _of_content(
    ref: FileRef, row: Recorded, info: ObjectInfo, store: ObjectStore, witness: Witness
) -> list[Difference]:
    try:
        now = fingerprint.compute(_ObjectFile(store, info), info.size, _READ_SIZE, lambda: False, witness)
    except (FileChanged, PreconditionFailed):
        return [Difference(ref, "the object was changed while it was read", serious=False)]
    if plan.same_content(now.fingerprint, now.witness, row.fingerprint, row.witness):
        return []
    return [Difference(ref, _OTHER_CONTENT, serious=True, damaged=True, rotten=info.etag)]


def _of_store(ref: FileRef, row: Recorded, info: ObjectInfo | None) -> list[Difference]:
    if info is None:
        return [Difference(ref, "the object is missing", serious=True, damaged=True)]
    is_belied = plan.is_belied(info, row)
    by_other = info.foreign or (info.digest is None and info.instance is None) or is_belied
    is_other = by_other and info.etag != row.etag and not row.in_doubt  # a record in doubt has no ETag
    if (info.size, info.digest or row.fingerprint.digest) != (row.fingerprint.size, row.fingerprint.digest):
        what = _cut_words(row, info) if info.size != row.fingerprint.size else _OTHER_FINGERPRINT
        what = f"{BY_OTHER}: {what}" if is_other else what
        return [Difference(ref, what, serious=True, damaged=not is_other, foreign=is_other)]
    if info.etag == row.etag or row.in_doubt:
        return []
    if info.digest is None or is_belied:
        return [Difference(ref, BY_OTHER, serious=True, foreign=True)]
    return [Difference(ref, "another program rewrote the object, with the same fingerprint", serious=False)]


def _cut_words(row: Recorded, info: ObjectInfo) -> str:
    return f"the object has {counted(info.size, 'byte')}, its record says {row.fingerprint.size}"


def _of_disk(root_fd: int, ref: FileRef, row: Recorded, witness: Witness | None) -> list[Difference]:
    try:
        seen = entries.look(root_fd, ref.path, links=paths.is_link_key(row.key))
        if seen is None:
            return [Difference(ref, "the file is gone", serious=False)]
        if not isinstance(seen, FileStat):
            return [Difference(ref, f"the file is now a {seen.kind}", serious=False)]
        if witness is None:
            changed = seen != row.stat
            return [Difference(ref, "the file has changed since", serious=False)] if changed else []
        with closing(entries.open_entry(root_fd, ref.path, links=paths.is_link_key(row.key))) as file:
            size = file.stat().size
            now = fingerprint.compute(file, size, _READ_SIZE, lambda: False, witness)
    except FileError as error:
        return [Difference(ref, f"the file cannot be read: {error}", serious=False)]
    if plan.same_content(now.fingerprint, now.witness, row.fingerprint, row.witness):
        return []
    if seen == row.stat:
        return [Difference(ref, _ROTTEN_FILE, serious=True)]
    return [Difference(ref, "the file has changed since", serious=False)]


__all__ = [
    "MOST_NAMED", "NOT_STORED", "Difference", "allowed", "named", "of_others", "page", "repair", "unknown",
    "unrecorded", "verify",
]  # fmt: skip
