"""Frozen values that every package may use, without behaviour beyond arithmetic on themselves.

They are structs of msgspec. Its classes are made thirty times as fast as dataclasses, which took a quarter of
the time in which a command starts, and its values ten times. What is looked up by place is a named tuple.
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
    """What happens to another program's object that is recorded for a file."""

    RECORD = "record"
    STAMP = "stamp"
    """It is copied onto itself, to get syncd's metadata."""


class Properties(Struct, frozen=True):
    """What an object carries for its readers, from the configuration; empty: nothing is configured."""

    content_type: str = ""
    cache_control: str = ""
    content_encoding: str = ""
    content_disposition: str = ""
    storage_class: str = ""
    tags: tuple[tuple[str, str], ...] | None = None
    """None: nothing is configured about tags, so a copy keeps those that exist."""

    @property
    def stamp(self) -> str:
        """Return a text that tells these properties from others; empty: there are none. Objects carry it."""
        said = replace(self, tags=self.tags or None)
        if said == Properties():
            return ""
        return hashlib.sha256(repr(astuple(said)).encode()).hexdigest()[:16]


class Attributes(Struct, frozen=True):
    """What a file has besides its content and its time. None or empty: unknown."""

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

    Two are always equal: a source stays the same when its lines move.
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
    """With ``OnDelete.DELETE``: if more files than this vanish at once, deletions wait for a confirmation."""
    max_delete_fraction: float = 0.25
    """The same as a share of the recorded files, from 0.0 to 1.0; the smaller bound counts."""
    ignore_case: bool = False
    """Upper and lower case are the same in patterns."""
    exclude_temporary: bool = False
    """Entries with names of `syncd.core.patterns.TEMPORARY` are left out."""
    max_size: int = 0
    """Bytes: a larger file is left out; 0: no limit."""
    min_age_seconds: float = 0.0
    """A file is read only when it was modified at least so long ago."""
    exclude_if_present: tuple[str, ...] = ()
    """A directory that holds a file of one of these names is left out, with everything below it."""
    one_file_system: bool = False
    """Directories on another file system than the root are left out."""
    keeps_attributes: bool = False
    """Objects carry the attributes of their files."""
    copies_attributes: bool = False
    """If only attributes changed, the object is copied onto itself to get them; otherwise they wait."""
    append: tuple[str, ...] = ()
    """Patterns of files that only grow: they are carried as prefixes while they do; empty: no file is."""
    append_to_line: bool = True
    """Such a prefix ends with a line."""
    append_seconds: float = 60.0
    """How often a file that does not rest is carried."""
    records_links: bool = False
    """Symbolic links have objects; otherwise they are left out."""
    records_folders: bool = False
    """Empty folders have objects; otherwise they are left out."""
    records_full_folders: bool = False
    """So do folders with content, for their times and attributes."""
    objects: tuple[tuple[str, Properties], ...] = ()
    """Patterns, and the properties of the objects of files that match."""
    adopt: Adoption = Adoption.RECORD
    adopt_by_crc32: bool = False
    """A CRC-32 and the size prove another program's object if it has nothing better."""
    audit_seconds: float = 0.0
    """How long the daemon takes to compare every object with its record; 0: it does not."""
    max_repair_files: int = 1000
    """If more objects than this are damaged, none is repaired without the operator."""
    max_repair_fraction: float = 0.25
    """The same as a share of the recorded files; the smaller bound counts."""
    given: str = ""
    """Absolute path as configured, if it is a symbolic link or leads through one; otherwise empty."""
    places: PatternPlaces = PatternPlaces()
    """Where each pattern is written, by its key and its text: ``file:line``."""


class TransferPolicy(Struct, frozen=True):
    """The bounds of all transfers of this machine, to all stores."""

    concurrency: int = 32
    """Requests in flight, files and parts together."""
    part_size: int = 8 << 20
    """Bytes; raised automatically if a file would need too many parts."""
    bandwidth_limit: Bandwidth = FREE_LINE
    """The limit of all requests together."""
    max_attempts: int = 0
    """Tries for one file before it waits until it changes; 0: no limit, with growing delays."""
    memory_limit: int = 48 << 20
    """Bytes of file content held in memory at once; one part always fits, whatever its size."""


class Destination(NamedTuple):
    """Where the files of a source go: the keys of one store that begin with a prefix."""

    source: str
    store_id: str
    prefix: str


class FileRef(NamedTuple):
    """The name of a file, for queue, state and log."""

    source: str
    path: str
    """Relative to the source's root, ``/`` between components, surrogate-escaped. A ``/`` at the end marks
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
    """The stat of a symbolic link that is carried as a link. Its content is its target."""

    __slots__ = ()


class FolderStat(FileStat):
    """The stat of a folder that is carried because nothing in it is. Its size counts as 0."""

    __slots__ = ()


class Irregular(Struct, frozen=True):
    """Something that is not a regular file: never opened, never uploaded, only counted."""

    kind: str
    """``symbolic link``, ``directory``, ``fifo``, ``socket``, ``device``."""

    @property
    def took_place(self) -> bool:
        """Return whether a file that had this path is gone.

        A directory cannot hide a file. The others can be mounted over it, and a link may lead to it.
        """
        return self.kind == "directory"


class Fingerprint(NamedTuple):
    """Proof of change: the XXH3-128 digest of the content (16 bytes, big-endian) and its size in bytes."""

    digest: bytes
    size: int

    @property
    def hex(self) -> str:
        """Return the digest as ``xxh128sum`` prints it: 32 lower-case hex digits."""
        return self.digest.hex()


class Observed(NamedTuple):
    """A file as it is on the disk now."""

    stat: FileStat
    fingerprint: Fingerprint
    witness: bytes = b""
    """A digest that cannot be steered without the state's secret; empty: unknown."""


OVERTAKEN = -1
"""A special `life`: since the row was written, its key belonged to another file's destination."""


class Recorded(Struct, frozen=True):
    """A file as it was last committed: the store has acknowledged an object with this content."""

    stat: FileStat
    fingerprint: Fingerprint
    store_id: str
    """Identity of the destination (kind, endpoint, bucket), not its name in the configuration."""
    key: str
    etag: str
    """Empty while the row is in doubt: after a request to delete it, or a put without an answer."""
    recorded_ns: int
    """Wall clock in nanoseconds of the look at ``stat``, or since when the row is in doubt."""
    racy: bool = False
    """The stat was too young to prove anything: read the content again at the next look."""
    life: int = 0
    """The number of the process that wrote this row; 0: not yet written, or older than the numbers;
    `OVERTAKEN`: another source may have written the object since."""
    witness: bytes = b""
    """As in `Observed`; empty until a syncd that knows witnesses reads the file."""
    kept: bool = False
    """The file was deleted, and its object is kept: scans do not read the row."""

    def __eq__(self, other: object) -> bool:
        """Ignores `life`, which says who wrote the row."""
        return isinstance(other, Recorded) and Struct.__eq__(replace(self, life=other.life), other)

    __hash__ = Struct.__hash__

    @property
    def in_doubt(self) -> bool:
        """Return whether the object may be another or missing: ask the store before relying on the row."""
        return not self.etag


class ObjectMeta(Struct, frozen=True):
    """The metadata of an object, to rebuild a lost state database and to let other programs check content."""

    fingerprint: Fingerprint
    mtime_ns: int
    token: str = ""
    """Random text of one upload: after a lost answer it shows that the object is ours."""
    content_type: str = "application/octet-stream"
    mode: int = 0o600
    """Permission bits of the file. Stores behind HTTP have their own permissions and ignore this."""
    instance: str = ""
    """Which machine and source wrote the object: see `syncd.core.plan`."""
    properties: Properties = Properties()
    """What is configured besides the content type. Only its stamp is read back."""
    attributes: Attributes | None = None
    """None: the object is to carry none."""
    is_link: bool = False
    """The object stands for a symbolic link, and its content is the target."""
    is_folder: bool = False
    """The object stands for a folder."""
    replaces: str | None = None
    """The ETag of the only object that this one may replace; empty: none; None: any. Not stored. Set only
    with ``StoreLimits.has_conditions``, because some stores ignore it."""
    allocated: int | None = None
    """Bytes that the file takes on disk: fewer than its size if it has holes. None: unknown. Not stored."""
    others: tuple[tuple[str, str], ...] = ()
    """As in `ObjectInfo`, for an object that is copied onto itself."""


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
    """CRC-32 of the whole object, if the store itself computes one."""
    crc64: int | None = None
    """CRC-64/NVME of the whole object, which AWS's own programs have sent since 2025."""
    foreign: bool = False
    """Another program wrote it: without metadata of ours, the digest is computed from the content."""
    md5: bytes | None = None
    """The MD5 of the content: the ETag if the store says that it is one, or another program's statement."""
    sha256: bytes | None = None
    """Of the whole object, if the store keeps one."""
    mode: int | None = None
    """Permission bits, if the store keeps them."""
    instance: str | None = None
    """Which machine and source wrote it; None: another program, or a syncd that did not record it."""
    stored_ns: int | None = None
    """When the store received it, for an object without an mtime."""
    stamp: str = ""
    """The `Properties.stamp` with which the object was written; empty: none."""
    attributes: Attributes | None = None
    """None: it carries none."""
    is_link: bool = False
    """Its metadata says that it stands for a symbolic link."""
    others: tuple[tuple[str, str], ...] = ()
    """What another program gave it, by name: metadata, and HTTP headers with a slash before the name."""


class Content(NamedTuple):
    """A range of an object's bytes, and what the answer with them says about the object."""

    info: ObjectInfo
    """May lack what only `head_object` returns; the ETag is empty if nothing cheap proves it."""
    body: bytes | bytearray | memoryview


class Receipt(NamedTuple):
    """The store's acknowledgement of an object."""

    key: str
    etag: str


class Part(Struct, frozen=True):
    """One part that a store has acknowledged.

    ``digest`` is the witness of the bytes that were sent, None if only the store's list is known; so is
    ``crc32``, for stores that take a checksum of the whole at complete.
    """

    number: int
    size: int
    etag: str
    digest: bytes | None = None
    crc32: int | None = None
    stored_ns: int | None = None
    """When it arrived, by the store's clock in nanoseconds; only in a list, None if that has no time."""


class UploadInfo(Struct, frozen=True):
    """An unfinished multipart upload that a store lists."""

    key: str
    upload_id: str
    initiated_ns: int | None = None


class Checkpoint(Struct, frozen=True):
    """The record from which an upload continues after a restart, written before the upload begins."""

    id: int
    ref: FileRef
    store_id: str
    key: str
    fingerprint: Fingerprint
    """Without a digest while parts are sent before it is known; never so while `completing`."""
    stat: FileStat
    part_size: int
    token: str
    created_ns: int
    """By the store's clock, as far as known."""
    upload_id: str | None = None
    completing: bool = False
    """The complete request was sent; its answer may have been lost."""
    restarts: int = 0
    """How many uploads of this state of the file ended before, because the store refused them."""
    refused: str = ""
    """The call with which the last try ended, how it was refused, and after how many parts; empty: none."""
    witness: bytes = b""
    """The witness of the content, as in `Observed`."""
    parts: Mapping[int, Part] = field(default_factory=lambda: MappingProxyType({}))


class Leftover(Struct, frozen=True):
    """An upload that will not continue, and that could not be aborted yet."""

    ref: FileRef
    store_id: str
    key: str
    upload_id: str
    """Empty: the answer to create was lost, so the store has to list its uploads."""
    begun_ns: int
    left_ns: int = 0
    """By the store's clock, Unix nanoseconds: create was sent between the two; 0: unknown."""


class LastScan(Struct, frozen=True):
    """The last scan of a whole source."""

    ended_ns: int | None = None
    """Wall clock; None: never."""
    drift: int = 0
    """Changes that no event had announced, in all scans."""
    unseen: str = ""
    """What it could not see, in words; empty: it saw everything."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind it left out."""


class Summary(Struct, frozen=True):
    """What is known of one source as a whole."""

    files: int = 0
    """Recorded files."""
    size: int = 0
    """Their size in bytes."""
    scan: LastScan = LastScan()
    failed: int = 0
    differing: int = 0
    """Objects that differed from their records at the last audit, and have not been repaired since."""
    audited_ns: int | None = None
    """When the last round of audits ended; None: never."""
    audited: int = 0
    """The files of that round."""
    repaired: int = 0
    """Those of them that had to be sent again."""


class Failure(Struct, frozen=True):
    """A file that could not be carried, and when it is tried again."""

    ref: FileRef
    error: str
    attempts: int
    next_attempt_ns: int
    """Wall clock, nanoseconds; 0: only when the file changes or the operator asks."""
    refusals: int = 0
    """How many of the attempts ended with a refusal of this state of the file."""
    refused: bytes = b""
    """Identifies that state of the file and the settings; empty: the last attempt was not refused."""


class RootIdentity(Struct, frozen=True):
    """Which directory a source's root was when a scan last saw it whole."""

    device: int
    inode: int
    volume: str = ""
    """Identifies the file system, as far as it was asked: another disk may get the device number of one that
    was unplugged, and the roots of all disks have the same inode."""

    def is_same(self, other: RootIdentity) -> bool:
        """Return whether nothing known tells the two apart."""
        same_place = (self.device, self.inode) == (other.device, other.inode)
        return same_place and (self.volume.startswith(other.volume) or other.volume.startswith(self.volume))
