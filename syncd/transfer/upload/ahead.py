"""Sends a large new file while it is read for the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from syncd.core import parts
from syncd.core.errors import FileChanged, Stopped, UploadGone
from syncd.core.parts import Span
from syncd.core.plan import Outcome
from syncd.sources import fingerprint
from syncd.sources.fingerprint import LEAF, Hasher, Witness
from syncd.transfer.pace.contents import Contents
from syncd.transfer.upload.part_sender import Job
from syncd.transfer.upload.uploader import Uploader

LEAST_PARTS = 4
"""The least parts of a file that is sent while it is first read: with fewer there is little to gain."""


class _BlockKnown(Exception):
    """A recorded file has a block of this one, so the store may be able to copy parts instead."""


class Ahead:
    """Sends the parts of a large new file while it is read for the first time, instead of afterwards.

    The fingerprint of a file is needed before its parts if it can save sending them, or if the object gets
    its metadata when the upload begins. If neither is so (BOS), the bytes are hashed and sent from one
    buffer. When the last part was read, all are read once more, while the last ones are under way: each must
    still be what was sent. All first reads come before all second ones, so that the file was in this state
    between the two, as when the fingerprint comes first.

    What follows is a normal step: it knows the digests, decides, finds the upload with all of its parts, and
    completes it. Until then the checkpoint does not say what the content is. If the process dies, the file
    changes or a block of it turns out to be known, a step that has the fingerprint continues with the parts
    that are still what the file holds. For any thread.
    """

    def __init__(self, uploader: Uploader, contents: Contents, should_stop: Callable[[], bool]) -> None:
        self._uploader = uploader
        self._contents = contents
        self._should_stop = should_stop
        self._witness = Witness(uploader.state.secret)

    def may_send(self, job: Job) -> bool:
        """Return whether no record can save sending a file that is itself without a record, and reading it
        takes long.
        """
        size = job.stat.size
        return (
            parts.count(size, job.part_size) >= LEAST_PARTS
            and not job.file.is_mostly_hole
            and self._uploader.limits().completes_with_meta
            and self._uploader.unfinished(job.ref) is None
            and not self._uploader.state.has_size(self._uploader.store.store_id, size)
        )

    def send(self, job: Job, act: Callable[[Job], Outcome]) -> Outcome | None:
        """Read the file of the job, send its parts, and `act` on the job with digests and parts.

        None: the fingerprint has to come first after all, also because another file under way may have the
        same content; the parts that were sent wait in their upload. The caller holds the key. Raises
        FileError, StoreError, StateError, Stopped.
        """
        hasher = Hasher(self._witness, job.stat.size, job.part_size)
        unread = replace(job, digests=fingerprint.unread(job.stat.size, hasher.parts))
        reading = _Reading(unread, hasher, self._uploader, self._witness, self._should_stop)
        with self._contents.alone(unread.digests) as is_alone:
            if not is_alone:
                return None
            try:
                sent = self._uploader.send_ahead(unread, reading.spans(), reading.first)
            except (_BlockKnown, UploadGone):
                return None
            return act(replace(job, digests=hasher.ended(), ahead=sent))


class _Reading:
    """Both reads of one file, in the file's thread."""

    def __init__(
        self,
        job: Job,
        hasher: Hasher,
        uploader: Uploader,
        witness: Witness,
        should_stop: Callable[[], bool],
    ) -> None:
        self._job = job
        self._hasher = hasher
        self._state = uploader.state
        self._heartbeat = uploader.slots.heartbeat
        self._witness = witness
        self._should_stop = should_stop

    def spans(self) -> Iterator[Span]:
        """Yield the parts in order; after the last one all are read again. Raises FileChanged, Stopped."""
        job = self._job
        yield from parts.cut(job.stat.size, job.part_size)
        with self._heartbeat.reading(job.ref.source):
            job.file.check_end(job.stat.size)
            buffer = memoryview(bytearray(LEAF))
            for span in parts.cut(job.stat.size, job.part_size):
                halves = [self._witness.half(leaf) for leaf in self._leaves(span, buffer)]
                if self._witness.joined_half(halves) != job.digests.parts[span.number - 1][:8]:
                    raise FileChanged(f"part {span.number} was changed while the file was sent")

    def first(self, job: Job, span: Span, buffer: memoryview) -> memoryview:
        """Fill `buffer` with the next part, and digest it. Raises FileChanged, Stopped, _BlockKnown."""
        with self._heartbeat.reading(job.ref.source):
            for leaf in self._leaves(span, buffer, within=True):
                self._hasher.update(leaf)
            self._hasher.end_part()
            if job.file.stat() != job.stat:
                raise FileChanged("the file changed while it was sent")
        before = span.number - 1
        # The state remembers these blocks of recorded files one by one.
        if before & (before - 1) == 0 and self._state.find_blocks(job.grid, 1):
            raise _BlockKnown
        return buffer

    def _leaves(self, span: Span, buffer: memoryview, *, within: bool = False) -> Iterator[memoryview]:
        """Read a part leaf by leaf, each to its place `within` the buffer, or all to its beginning."""
        for start in range(0, span.size, LEAF):
            if self._should_stop():
                raise Stopped("stopped while a file was read")
            at = start if within else 0
            leaf = buffer[at : at + min(LEAF, span.size - start)]
            self._job.file.read_into(span.offset + start, leaf)
            yield leaf
