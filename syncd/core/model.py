"""The nouns: frozen values that every package may use, without behaviour beyond arithmetic on themselves.

They are structs of msgspec: its classes are made thirty times as fast as dataclasses, which were a quarter of
what a command needs to start, and its values ten times. What is looked up by its place is a named tuple.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from msgspec import Struct, field
from msgspec.structs import astuple, replace

from syncd.core.backoff import FREE_LINE, Bandwidth


class Concealing(Struct, frozen=True):
    """A value with secrets: its ``repr`` leaves out the fields that `concealed` names."""

    concealed: ClassVar[frozenset[str]]

    def __repr__(self) -> str:
        names = (name for name in self.__struct_fields__ if name not in self.concealed)
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


class OnDelete(Enum):
    """What happens to an object when its file is gone."""

    KEEP = "keep"
    DELETE = "delete"


class Adoption(Enum):
    """What happens to an object of another program that is recorded for a file."""

    RECORD = "record"
    STAMP = "stamp"
    """It is copied onto itself, to get the metadata of ours."""


class Properties(Struct, frozen=True):
    """What an object carries for those who read it, as the configuration says; empty: nothing is said."""

    content_type: str = ""
    cache_control: str = ""
    content_encoding: str = ""
    content_disposition: str = ""
    storage_class: str = ""
    tags: tuple[tuple[str, str], ...] | None = None
    """None: nothing is said about tags, so a copy keeps those that there are."""

    @property
    def stamp(self) -> str:
        """Tells these properties from others; empty where there are none. It travels with the object."""
        said = replace(self, tags=self.tags or None)
        if said == Properties():
            return ""
        return hashlib.sha256(repr(astuple(said)).encode()).hexdigest()[:16]


class Attributes(Struct, frozen=True):
    """What a file has beside its content and its time. None and empty: not known."""

    mode: int | None = None
    """Permission bits, with setuid, setgid and the sticky bit."""
    uid: int | None = None
    gid: int | None = None
    user: str = ""
    """Name of the owner on the machine that wrote the object."""
    group: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    """Extended attributes by full name, surrogate-escaped, in the order of the names."""


class PatternPlaces(dict[tuple[str, str], str]):
    """Where each pattern is written, by its key and its text: ``file:line``.

    Two are always equal: a source is the same one when its lines have moved.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternPlaces)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]
        return 0


class Source(Struct, frozen=True):
    """A watched directory and where its files go."""

    name: str
    root: str
    """Absolute path, symbolic links resolved, surrogate-escaped."""
    store: str
    """Name of the store in the configuration."""
    prefix: str = ""
    """Put before every key; empty, or ends in ``/``."""
    include: tuple[str, ...] = ()
    """gitignore patterns; empty means everything."""
    exclude: tuple[str, ...] = ()
    settle_seconds: float = 2.0
    rescan_seconds: float = 3600.0
    on_delete: OnDelete = OnDelete.KEEP
    max_delete_files: int = 1000
    """With ``OnDelete.DELETE``: more vanished files than this at once wait for a confirmation."""
    max_delete_fraction: float = 0.25
    """The same as a share of the files that are recorded, from 0.0 to 1.0; the smaller bound counts."""
    ignore_case: bool = False
    """Upper and lower case are the same in patterns."""
    exclude_temporary: bool = False
    """What has a name of `syncd.core.patterns.TEMPORARY` is left out."""
    max_size: int = 0
    """Bytes: a larger file is left out; 0 is no limit."""
    min_age_seconds: float = 0.0
    """A file is not read before its modification is so long ago."""
    exclude_if_present: tuple[str, ...] = ()
    """A directory that holds a file of one of these names is left out, with all below it."""
    one_file_system: bool = False
    """Directories on another file system than the root are left out."""
    keeps_attributes: bool = False
    """Objects carry the attributes of their files."""
    copies_attributes: bool = False
    """Attributes that changed alone are brought to the object by a copy onto itself; else they wait."""
    append: tuple[str, ...] = ()
    """Patterns of files that only grow: carried as prefixes while they do; empty: no file is."""
    append_to_line: bool = True
    """Such a prefix ends with a line."""
    append_seconds: float = 60.0
    """How often a file that does not rest is carried."""
    records_links: bool = False
    """Symbolic links have objects; else they are left out."""
    records_folders: bool = False
    """Empty folders have objects; else they are left out."""
    records_full_folders: bool = False
    """And so have those with content, for their times and attributes."""
    objects: tuple[tuple[str, Properties], ...] = ()
    """Patterns, and the properties of the objects of files that match."""
    adopt: Adoption = Adoption.RECORD
    adopt_by_crc32: bool = False
    """A CRC-32 and the size prove that another program's object has the content, if it has nothing better."""
    audit_seconds: float = 0.0
    """In which time the daemon compares every object with its record; 0: it does not."""
    max_repair_files: int = 1000
    """If more objects than this are damaged, none is repaired without a person."""
    max_repair_fraction: float = 0.25
    """The same as a share of the recorded files; the smaller bound counts."""
    given: str = ""
    """Absolute path as it was configured, where that is a symbolic link or leads through one; else empty."""
    places: PatternPlaces = PatternPlaces()
    """Where each pattern is written, by its key and its text: ``file:line``."""


class TransferPolicy(Struct, frozen=True):
    """The bounds of all transfers of this machine, to whichever store."""

    concurrency: int = 32
    """Requests in flight, files and parts together."""
    part_size: int = 8 << 20
    """Bytes; raised by itself where a file would need too many parts."""
    bandwidth_limit: Bandwidth = FREE_LINE
    """Of all requests together."""
    max_attempts: int = 0
    """Tries for one file before it is parked until it changes; 0: without limit, with growing delays."""
    memory_limit: int = 48 << 20
    """Bytes of file content held in memory at once; one part always fits, whatever its size."""


class Destination(NamedTuple):
    """Where the files of a source go: the keys of one store that begin with a prefix."""

    source: str
    store_id: str
    prefix: str


class FileRef(NamedTuple):
    """Which file: the key of queue, state and log."""

    source: str
    path: str
    """Relative to the source's root, ``/`` between components, surrogate-escaped. One that ends with ``/`` is
    the folder itself, as long as nothing in it is carried.
    """


OLDEST_NS = -(1 << 31) * 10**9
"""December 1901, the oldest time that is kept: ext4 stores none before it. btrfs and tmpfs store any time."""
LATEST_NS = OLDEST_NS + (1 << 64) - 1
"""July 2486, the latest: what 64 bits of nanoseconds hold from `OLDEST_NS` on."""


class FileStat(NamedTuple):
    """Cheap evidence of change. Two equal stats of a file that had been quiet mean the same content.

    A time before `OLDEST_NS` or after `LATEST_NS` counts as that limit.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class LinkStat(FileStat):
    """The stat of a symbolic link that is carried as one. Its content is where it leads to."""

    __slots__ = ()


class FolderStat(FileStat):
    """The stat of a folder that is carried because nothing in it is. Its size counts as 0."""

    __slots__ = ()


class Irregular(Struct, frozen=True):
    """Something that is not a regular file: never opened, never uploaded, counted."""

    kind: str
    """``symbolic link``, ``directory``, ``fifo``, ``socket``, ``device``."""

    @property
    def took_place(self) -> bool:
        """Whether a file that had this path is gone.

        A directory cannot stand before a file. The others can be mounted over it, and a link may lead to it.
        """
        return self.kind == "directory"


class Fingerprint(NamedTuple):
    """Proof of change: the XXH3-128 digest of the content (16 bytes, big-endian) and its size in bytes."""

    digest: bytes
    size: int

    @property
    def hex(self) -> str:
        """The digest as ``xxh128sum`` prints it: 32 lower-case hex digits."""
        return self.digest.hex()


class Observed(NamedTuple):
    """A file as the disk has it now."""

    stat: FileStat
    fingerprint: Fingerprint
    witness: bytes = b""
    """A digest that cannot be steered without the state's secret; empty: unknown."""


OVERTAKEN = -1
"""Instead of a life: since this row was written, its key belonged to another file's destination."""


class Recorded(Struct, frozen=True):
    """A file as it was last committed: the store has acknowledged an object with this content."""

    stat: FileStat
    fingerprint: Fingerprint
    store_id: str
    """Identity of the destination (kind, endpoint, bucket), not its name in the configuration."""
    key: str
    etag: str
    """Empty while the row is in doubt: after a request to remove it, or after a put without an answer."""
    recorded_ns: int
    """Wall clock of the look at ``stat``, or since when the row is in doubt, nanoseconds."""
    racy: bool = False
    """The stat was too young to prove anything: fingerprint again at the next look."""
    life: int = 0
    """The number of the process that wrote this row; 0: it is not written yet, or older than the numbers;
    `OVERTAKEN`: another source may have written the object since."""
    witness: bytes = b""
    """As in `Observed`; empty until the file is read by a syncd that knows witnesses."""
    kept: bool = False
    """The file was deleted, and its object is kept: no scan reads the row."""

    def __eq__(self, other: object) -> bool:
        """Without `life`, which says who wrote the row, and not what."""
        return isinstance(other, Recorded) and Struct.__eq__(replace(self, life=other.life), other)

    __hash__ = Struct.__hash__

    @property
    def in_doubt(self) -> bool:
        """The object may be another one, or none: ask the store before relying on the row."""
        return not self.etag


class ObjectMeta(Struct, frozen=True):
    """The metadata of an object, to rebuild a lost state database and to let other programs check content."""

    fingerprint: Fingerprint
    mtime_ns: int
    token: str = ""
    """Random text of one upload: marks the object as ours after a lost answer."""
    content_type: str = "application/octet-stream"
    mode: int = 0o600
    """Permission bits of the file. Stores behind HTTP have permissions of their own and ignore this."""
    instance: str = ""
    """Which machine and source wrote the object: see `syncd.core.plan`."""
    properties: Properties = Properties()
    """What the configuration says beside the content type. Only its stamp is told again."""
    attributes: Attributes | None = None
    """None: the object is to carry none."""
    is_link: bool = False
    """The object stands for a symbolic link, and its content is where that leads to."""
    is_folder: bool = False
    """The object stands for a folder."""
    replaces: str | None = None
    """The ETag of the only object that this one may replace; empty: none; None: any. Not stored. Set where
    ``StoreLimits.has_conditions``: some stores ignore it."""
    allocated: int | None = None
    """Bytes that the file takes on its disk: fewer than its size if it has holes. None: unknown. Not kept."""
    others: tuple[tuple[str, str], ...] = ()
    """As in `ObjectInfo`, of the object that is copied onto itself."""


class ObjectInfo(Struct, frozen=True):
    """What the store says about an object. Fields that the object does not carry are None."""

    key: str
    size: int
    etag: str
    digest: bytes | None = None
    """The XXH3-128 digest from the object's metadata."""
    mtime_ns: int | None = None
    token: str | None = None
    crc32: int | None = None
    """CRC-32 of the whole object, where the store itself computes one."""
    crc64: int | None = None
    """CRC-64/NVME of the whole object, as what AWS's own programs send since 2025 has it."""
    foreign: bool = False
    """Another program wrote it: the digest is computed from the content, for want of metadata of ours."""
    md5: bytes | None = None
    """The MD5 of the content: the ETag, where the store says that it is one, or what another program says."""
    sha256: bytes | None = None
    """Of the whole, where the store keeps one."""
    mode: int | None = None
    """Permission bits, where the store keeps them."""
    instance: str | None = None
    """Which machine and source wrote it; None: another program, or a syncd that did not say so yet."""
    stored_ns: int | None = None
    """When the store got it, for an object without an mtime."""
    stamp: str = ""
    """`Properties.stamp` of what the object got when it was written; empty: nothing."""
    attributes: Attributes | None = None
    """None: it carries none."""
    is_link: bool = False
    """It says that it stands for a symbolic link."""
    others: tuple[tuple[str, str], ...] = ()
    """What another program gave it, by name: metadata, and headers of HTTP with a slash before the name."""


class Content(NamedTuple):
    """A range of an object's bytes, and what the answer that carried them says about the object."""

    info: ObjectInfo
    """May lack what only `head_object` tells; the ETag is empty where nothing cheap proves it."""
    body: bytes | bytearray | memoryview


class Receipt(NamedTuple):
    """The store's acknowledgement of an object."""

    key: str
    etag: str


class Part(Struct, frozen=True):
    """One part that a store has acknowledged.

    ``digest`` is the witness of the bytes that we sent, None where only the store's list is known; ``crc32``
    likewise, for stores that take a checksum of the whole at complete.
    """

    number: int
    size: int
    etag: str
    digest: bytes | None = None
    crc32: int | None = None
    stored_ns: int | None = None
    """When it arrived, by the store's clock in nanoseconds; only in a list, and None if that does not say."""


class UploadInfo(Struct, frozen=True):
    """An unfinished multipart upload that a store lists."""

    key: str
    upload_id: str
    initiated_ns: int | None = None


class Checkpoint(Struct, frozen=True):
    """The record by which an upload continues after a restart, written before the upload begins."""

    id: int
    ref: FileRef
    store_id: str
    key: str
    fingerprint: Fingerprint
    """Without digest as long as parts are sent ahead of it; never where it is `completing`."""
    stat: FileStat
    part_size: int
    token: str
    created_ns: int
    """By the store's clock, as far as it was known."""
    upload_id: str | None = None
    completing: bool = False
    """The complete request was sent; its answer may have been lost."""
    restarts: int = 0
    """How many uploads of this state of the file ended before this one, because the store refused them."""
    refused: str = ""
    """Which call the last try ended with, how it was refused, and after how many parts; empty: none was."""
    witness: bytes = b""
    """Of the content, as in `Observed`."""
    parts: Mapping[int, Part] = field(default_factory=lambda: MappingProxyType({}))


class Leftover(Struct, frozen=True):
    """An upload that will not be continued, and that could not be aborted yet."""

    ref: FileRef
    store_id: str
    key: str
    upload_id: str
    """Empty: the answer to create was lost, so that the store has to be asked which uploads there are."""
    begun_ns: int
    left_ns: int = 0
    """By the store's clock, Unix nanoseconds: create was sent between the two; 0: it is not known when."""


class LastScan(Struct, frozen=True):
    """The last scan of a whole source."""

    ended_ns: int | None = None
    """Wall clock; None: there was none yet."""
    drift: int = 0
    """Changes that no event had announced, of all scans."""
    unseen: str = ""
    """What it could not see, in words; empty: it saw everything."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind it left out."""


class Summary(Struct, frozen=True):
    """What is known of one source as a whole."""

    files: int = 0
    """Recorded ones."""
    size: int = 0
    """Of these, in bytes."""
    scan: LastScan = LastScan()
    failed: int = 0
    differing: int = 0
    """Objects that differed from their records at the last audit, and have not been repaired since."""
    audited_ns: int | None = None
    """When the last round of audits ended; None: none did."""
    audited: int = 0
    """Files of that round."""
    repaired: int = 0
    """Of them, those that were to be sent again."""


class Failure(Struct, frozen=True):
    """A file that could not be carried, and when it is tried again."""

    ref: FileRef
    error: str
    attempts: int
    next_attempt_ns: int
    """Wall clock, nanoseconds; 0: not before the file changes or the operator asks."""
    refusals: int = 0
    """How many of the attempts ended with a refusal of this state of the file."""
    refused: bytes = b""
    """Names that state of the file, and the settings of then; empty: the last attempt was no refusal."""


class RootIdentity(Struct, frozen=True):
    """Which directory a source's root was when it was last seen whole."""

    device: int
    inode: int
    volume: str = ""
    """What names the file system, as far as it was asked: another disk gets the device number of one that was
    unplugged, and the roots of all disks have the same inode."""

    def is_same(self, other: RootIdentity) -> bool:
        """Whether nothing that is known of the two tells them apart."""
        same_place = (self.device, self.inode) == (other.device, other.inode)
        return same_place and (self.volume.startswith(other.volume) or other.volume.startswith(self.volume))
