"""The parts of one upload: finds those that the store has, and sends the others.

The bytes of a part are read once; the same buffer is compared with the digest of the fingerprint pass and
then sent. The store's listing decides which parts are done.
"""

from __future__ import annotations

import logging
import mimetypes
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.core import parts
from syncd.core.errors import (
    FileChanged,
    FilePaused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
    is_denied,
)
from syncd.core.model import (
    Attributes,
    Checkpoint,
    FileRef,
    FileStat,
    FolderStat,
    LinkStat,
    ObjectMeta,
    Part,
    Properties,
    Recorded,
)
from syncd.core.parts import PartDigests, Span
from syncd.core.paths import FOLDER, name_of
from syncd.sources import fingerprint
from syncd.sources.buffers import Buffers
from syncd.sources.files import OpenFile
from syncd.sources.fingerprint import Digests, Witness
from syncd.state.state import State
from syncd.storage.base import Body, ObjectStore
from syncd.storage.digests import crc32, md5_hex
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.pace.slots import Held, Slots

log = logging.getLogger("syncd.transfer")

_MOST_UNFIT = 256
COPY, COPY_PARTS, CONDITIONS = "copy objects", "copy parts", "replace objects on a condition"
_CANNOT = "cannot:"  # the state keeps until when to avoid a verb under this name and the verb's
_CANNOT_NS = 3600 * 10**9


class Meter(Protocol):
    """Counts the bytes of each file as they are sent."""

    def began(self, ref: FileRef, total: int, done: int) -> None:
        """Note that the transfer of a file starts; `done` of its `total` bytes need not be sent."""
        ...

    def sending(self, ref: FileRef, size: int) -> AbstractContextManager[None]:
        """Return a context in which this thread sends a body of `size` bytes of the file."""
        ...

    def carried(self, ref: FileRef, size: int) -> None:
        """Note that the store acknowledged `size` more bytes."""
        ...

    def ended(self, ref: FileRef) -> None: ...

    def is_held(self, ref: FileRef) -> bool:
        """Return whether the operator has paused the sending of this file."""
        ...

    @property
    def heartbeat(self) -> Heartbeat:
        """Return the heartbeat of the calling thread."""
        ...


class Donor(Struct, frozen=True):
    """An object in the same store that already has parts of the new one."""

    key: str
    etag: str
    places: Mapping[int, int]
    """Part number -> its offset in this object."""

    @property
    def name(self) -> tuple[str, str]:
        """Return what identifies this version of the object."""
        return self.key, self.etag


class Lookup(Enum):
    """Whether a file is only looked up in the store, and not sent."""

    NONE = "it is sent"
    RECORD = "it is recorded where the store has it"
    DRY = "nothing is recorded"


class Job(Struct, frozen=True):
    """One file to send: open and read, with its record and its destination."""

    ref: FileRef
    key: str
    file: OpenFile
    stat: FileStat
    digests: Digests
    part_size: int
    """0 if the file fits one request."""
    body: Body | None
    """The content, if it fits one request."""
    recorded: Recorded | None
    aimed: Recorded | None
    """The record, if it describes the object under this key; a record of another key proves nothing."""
    donor: Donor | None = None
    """An object that already has some of the parts."""
    is_open: bool | None = None
    """Whether the file was open for writing before it was read; None: unknown."""
    instance: str = ""
    """The id that the object names."""
    seen: str | None = None
    """The ETag of the object last seen under the key; empty: there was none; None: unknown."""
    proven: str = ""
    """The ETag of another program's object that has the content, as found while the file was read."""
    by_crc32: bool = False
    """A CRC-32 proves that another program's object has the content."""
    lookup: Lookup = Lookup.NONE
    failed_before: bool = False
    """Earlier tries failed: the store may have the content without an answer that said so."""
    properties: Properties = field(default_factory=Properties)
    """The configured properties of the object."""
    attributes: Attributes | None = None
    """The attributes of the file that the object is to carry."""
    left_out: Collection[str] = ()
    """Names of extended attributes that do not fit its object."""
    is_wanted: Callable[[], bool] = lambda: True
    """Returns whether the present configuration still wants the file."""
    ahead: Mapping[str, Mapping[int, Part]] = field(default_factory=dict)
    """Upload id -> the parts that this step has already sent, while it read the file."""

    @property
    def grid(self) -> PartDigests:
        """Return the witnesses of the parts."""
        return PartDigests(self.part_size, tuple(self.digests.parts))

    def spared(self) -> int:
        """Return about how many bytes the donor saves."""
        return len(self.donor.places) * self.part_size if self.donor is not None else 0

    def meta(self, token: str = "") -> ObjectMeta:
        """Return the metadata stored with the object."""
        is_link = isinstance(self.stat, LinkStat)
        properties = Properties() if is_link else self.properties
        return ObjectMeta(
            self.digests.fingerprint,
            self.stat.mtime_ns,
            token,
            properties.content_type or content_type_of(self.key),
            self.file.mode,
            self.instance,
            properties,
            self.attributes,
            is_link,
            allocated=self.file.allocated,
            is_folder=isinstance(self.stat, FolderStat),
        )


Read = Callable[[Job, Span, memoryview], memoryview]
"""Returns the bytes of a part, for which there is memory; afterwards the job has its witness."""


class Sent(Struct, frozen=True):
    """Acknowledged parts by number, and the numbers of those that the store copied itself."""

    parts: dict[int, Part]
    copied: frozenset[int]


@contextmanager
def call(name: str) -> Iterator[None]:
    """Let errors of the store name the call of an upload in which they occur."""
    try:
        yield
    except StoreError as error:
        error.call = name
        raise


class Shortcuts:
    """The verbs that save sending by copies inside the store, and which of them the store cannot do.

    A shortcut may fail, the file may not: its content is sent at once. If that succeeds, the verb was at
    fault, and is left alone for a while. For any thread.
    """

    def __init__(self, store: ObjectStore, state: State, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._state = state
        self._now_ns = now_ns

    def works(self, verb: str) -> bool:
        """Return whether to try `verb` now. Raises StateError."""
        until_ns = int(self._state.learned(self._store.store_id, _CANNOT + verb) or 0)
        left_ns = until_ns - self._now_ns()
        return not 0 < left_ns <= _CANNOT_NS  # a longer time: the clock was set back

    def failed(self, verb: str, error: StoreError | None) -> None:
        """Note that `verb` failed (None: it did something else), but the content was sent without trouble."""
        if isinstance(error, PreconditionFailed) or (error is not None and error.status == 404):
            return  # it concerned only that object
        until_ns = self._now_ns() + _CANNOT_NS
        self._state.learn(self._store.store_id, _CANNOT + verb, str(until_ns))
        log.warning(
            "the store does not %s (%s): content is sent instead", verb, error or "it makes another part"
        )


class PartSender:
    """Sends and recognises parts.

    The calling thread reads the file, part by part and in order; the threads of `senders` only send. So a
    folder that does not answer stops only its own files, and no thread that other files need.
    """

    def __init__(
        self,
        store: ObjectStore,
        state: State,
        senders: Executor,
        slots: Slots,
        meter: Meter,
        shortcuts: Shortcuts,
    ) -> None:
        self._store = store
        self._shortcuts = shortcuts
        self._state = state
        self._senders = senders
        self._slots = slots
        self._meter = meter
        self._buffers = Buffers()
        self._lost: set[tuple[str, str]] = set()
        """Donors with one copy whose answer was lost; after the second, they are unfit."""
        self._witness = Witness(state.secret)
        self._unfit: set[tuple[str, str]] = set()
        """Key and ETag of donors that could not be copied from; emptied when it holds `_MOST_UNFIT`."""

    def kept(self, job: Job, checkpoint: Checkpoint, upload_id: str) -> dict[int, Part]:
        """Return the parts that the store has and that `parts.resume` or their ETags prove to be ours.

        If these keys may not list, or the store answers nonsense, these are the parts that it acknowledged:
        if it has lost one, it refuses to complete the upload.
        """
        try:
            with self._slots.hold(0), call("list of parts"):
                listed = self._store.list_parts(job.key, upload_id, len(job.digests.parts))
        except StoreError as error:
            if not is_denied(error) and error.status != 200:
                raise
            log.warning("%s: goes on with the acknowledged parts: %s", name_of(job.ref), error)
            listed = list(checkpoint.parts.values())
        if checkpoint.parts and not listed:
            raise UploadGone("the store lists none of the parts that it acknowledged")
        plan = parts.resume(checkpoint, listed, job.digests.parts)
        for note in plan.notes:
            log.info("%s: %s", name_of(job.ref), note)
        kept = {part.number: part for part in plan.kept}
        for part in plan.unproven:
            with self._slots.hold(part.size), self._buffers.lend(part.size) as buffer:
                adopted = self._adopt(job, part, buffer)
            if adopted is not None:
                self._state.checkpoints.add_part(checkpoint.id, adopted)
                kept[part.number] = adopted
        return kept

    def _adopt(self, job: Job, listed: Part, buffer: memoryview) -> Part | None:
        """Return a listed part without a record (sent before a death), if its ETag fits the local bytes."""
        body = self._read(job, parts.span(listed.number, job.stat.size, job.part_size), buffer)
        return self._recognised(listed, body)

    def _read(self, job: Job, span: Span, buffer: memoryview) -> memoryview:
        """Return the bytes of a part, read into `buffer`. Raises FileChanged if the fingerprint differs."""
        with self._meter.heartbeat.reading(job.ref.source):
            body = job.file.view(span.offset, buffer)
        if self._witness.half(body) != job.digests.parts[span.number - 1][:8]:
            raise FileChanged(f"part {span.number} was changed after syncd computed the file's digest")
        return body

    def check_wanted(self, job: Job) -> None:
        """Raise FilePaused or FileChanged if the file must not be sent now, or no longer."""
        if self._meter.is_held(job.ref):
            raise FilePaused("it is paused; its upload continues later")
        if not job.is_wanted():
            raise FileChanged("a pattern excludes it since a change of the configuration")

    def send(
        self,
        job: Job,
        checkpoint: Checkpoint,
        upload_id: str,
        spans: Iterable[Span],
        read: Read | None = None,
    ) -> Sent:
        """Send parts in parallel, a limited number at once; raise the first failure, also of `spans`."""
        with self._buffers.in_use():
            return self._send_all(job, checkpoint, upload_id, spans, read or self._read)

    def _send_all(
        self, job: Job, checkpoint: Checkpoint, upload_id: str, spans: Iterable[Span], read: Read
    ) -> Sent:
        sent: dict[int, Part] = {}
        copied: set[int] = set()
        running: dict[Future[tuple[Part, bool]], int] = {}
        queue = iter(spans)
        failure: BaseException | None = None
        span: Span | None = None
        while True:
            try:
                if failure is None and (span := next(queue, None)) is not None:
                    running[self._read_and_submit(job, checkpoint.id, upload_id, span, read)] = span.number
            except BaseException as raised:  # noqa: BLE001  raised below, when no sender needs the file
                failure = raised
            if not running:
                break
            ended = self._ended(running, everything=failure is not None, now=span is not None)
            for future in sorted(ended, key=running.__getitem__):
                number = running.pop(future)
                error = None if future.cancelled() else future.exception()
                if error is not None:
                    failure = failure or error
                elif not future.cancelled():
                    sent[number], without_sending = future.result()
                    copied.update((number,) if without_sending else ())
        if failure is not None:
            raise failure
        return Sent(sent, frozenset(copied))

    def _ended(self, running: Collection[Future[Any]], *, everything: bool, now: bool) -> set[Future[Any]]:
        """Return the futures that ended: by `now`, or as soon as one did, or `everything` when all did."""
        if everything:
            for future in running:
                future.cancel()
        elif now:
            return {future for future in running if future.done()}
        self._meter.heartbeat.rest()  # the senders have their own heartbeats
        ended, _ = wait(running, return_when=ALL_COMPLETED if everything else FIRST_COMPLETED)
        self._meter.heartbeat.step()
        return ended

    def _read_and_submit(
        self, job: Job, checkpoint_id: int, upload_id: str, span: Span, read: Read
    ) -> Future[tuple[Part, bool]]:
        """Wait for a slot, read and compare the part, and give it to a sender together with the slot."""
        held, given = self._slots.hold(span.size), ExitStack()
        try:
            given.enter_context(held)
            buffer = given.enter_context(self._buffers.lend(span.size))
            self.check_wanted(job)
            body = read(job, span, buffer)
            held.hand_over()
            future = self._senders.submit(self._send, job, checkpoint_id, upload_id, span, body, held, given)
        except BaseException:
            given.close()
            raise
        future.add_done_callback(lambda _: given.close())  # also if it is cancelled before it begins
        return future

    def _send(
        self,
        job: Job,
        checkpoint_id: int,
        upload_id: str,
        span: Span,
        body: Body,
        held: Held,
        given: ExitStack,
    ) -> tuple[Part, bool]:
        """Copy or send one part on a sender, and record it. Returns whether it was copied."""
        try:
            with given:
                held.take_over()
                with call("part"), self._meter.sending(job.ref, span.size):
                    part, copied = self._copied_or_sent(job, upload_id, span, body)
                part = replace(part, digest=job.digests.parts[span.number - 1])
            self._state.checkpoints.add_part(checkpoint_id, part)
            self._meter.carried(job.ref, span.size)
            return part, copied
        finally:
            self._meter.heartbeat.rest()

    def _copied_or_sent(self, job: Job, upload_id: str, span: Span, body: Body) -> tuple[Part, bool]:
        """Return the part, and whether the store copied it from the donor."""
        donor = job.donor
        if (
            donor is None
            or donor.name in self._unfit
            or span.number not in donor.places
            or not self._shortcuts.works(COPY_PARTS)
        ):
            return self._sent(job, upload_id, span, body), False
        failure: StoreError | None = None
        try:
            part = self._copied(job, upload_id, span, body, donor)
            if part is not None:
                return part, True
        except UploadGone:
            raise
        except StoreError as error:
            log.info("%s: its parts are sent, not copied: %s", name_of(job.ref), error)
            failure = error
        if isinstance(failure, StoreUnavailable) and failure.status is None and self._is_first_loss(donor):
            return self._sent(job, upload_id, span, body), False  # a lost answer says nothing about copies
        self._avoid(donor)
        part = self._sent(job, upload_id, span, body)
        self._shortcuts.failed(COPY_PARTS, failure)
        return part, False

    def _copied(self, job: Job, upload_id: str, span: Span, body: Body, donor: Donor) -> Part | None:
        """Return the part copied from the donor, if the store's ETag proves that these bytes were copied.

        The proof matters: some servers ignore the condition, and the donor may have been replaced.
        """
        first = donor.places[span.number]
        last = first + span.size - 1
        part = self._store.upload_part_copy(
            job.key, upload_id, span.number, donor.key, first, last, donor.etag
        )
        return self._recognised(part, body) if part.size == span.size else None

    def _is_first_loss(self, donor: Donor) -> bool:
        if donor.name in self._lost:
            return False
        self._lost = {donor.name} if len(self._lost) >= _MOST_UNFIT else {*self._lost, donor.name}
        return True

    def _avoid(self, donor: Donor) -> None:
        if len(self._unfit) >= _MOST_UNFIT:
            self._unfit.clear()
        self._unfit.add(donor.name)

    def _sent(self, job: Job, upload_id: str, span: Span, body: Body) -> Part:
        try:
            return self._store.upload_part(job.key, upload_id, span.number, body)
        except StoreRefused as refused:
            if refused.code != "NotImplemented":
                raise
            return self._sent_before(job, upload_id, span, body, refused)

    def _sent_before(self, job: Job, upload_id: str, span: Span, body: Body, refused: StoreRefused) -> Part:
        """Return the listed part. Some servers refuse a part that they have (its first answer was lost)."""
        for listed in self._store.list_parts(job.key, upload_id, span.number):
            if listed.number == span.number and listed.size == span.size:
                part = self._recognised(listed, body)
                if part is not None:
                    return part
        raise refused

    def _recognised(self, listed: Part, body: Body) -> Part | None:
        """Return the listed part, if its ETag is the MD5 (or, as in a directory, the XXH3) of `body`."""
        etag = listed.etag.strip('"').lower()
        if etag != fingerprint.digest(body).hex() and etag != md5_hex(body):  # this costs the most
            return None
        return Part(listed.number, listed.size, listed.etag, self._witness.of(body), crc32(body))


def content_type_of(path: str) -> str:
    """Return the content type for the file's extension; the content is not examined."""
    if path.endswith(FOLDER):
        return "application/x-directory"
    return _type_of(os.path.splitext(path)[1])


@lru_cache(1024)
def _type_of(extension: str) -> str:
    guessed, encoding = mimetypes.guess_type("file" + extension, strict=False)
    return guessed if guessed and encoding is None else "application/octet-stream"
