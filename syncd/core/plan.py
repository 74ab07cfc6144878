"""Decides what to do about one file, by comparing the observation with the record.

`needs_fingerprint` takes the cheap evidence, a stat, and says whether the content has to be read at all.
`decide` takes the proof, a fingerprint, and returns an inert action that the caller performs. Every answer
carries its reason, for the log and for the tests.

=====================================  ==================  ==============================================
observed                               recorded            action, reason
=====================================  ==================  ==============================================
absent                                 never               Nothing, gone before it was uploaded
absent                                 yes                 Delete, deleted locally; or Nothing, by policy
present                                never               Upload, new
same stat, same fingerprint            yes                 Nothing, unchanged
same stat, same fingerprint            yes, racy           Refresh, confirmed, same content
other stat, same fingerprint           yes                 Refresh, touched, same content
other fingerprint                      yes                 Upload, content changed
any content                            yes, elsewhere      Upload, destination changed
a directory                            as where absent
neither file nor directory             any                 Nothing, not a regular file
=====================================  ==================  ==============================================

Wherever the table says Upload and the store is known to hold the same content under another key, the action
is a Copy with the same reason: no byte that the store already has is sent again.

Whose an object is, where several machines may write under one prefix: `before_put` and `before_delete`.
An instance is one source on one machine. Its id travels with every object that it writes, and is made of what
outlives the state: the machine's id, and the name and folder of the source.

==================================  ===========================  ==========================================
the object                          is what is known here        is anything else
==================================  ===========================  ==========================================
names an instance of ours, or one   ours                         ours: replaced; deleted only in doubt, or
that this machine took over from                                 after taking over
names another instance              ours: equal content is       foreign: to delete or replace it has to
                                    adopted                      wait for the operator
names none (another program, or a   ours: equal content is       replaced, as nothing says whose it is;
syncd that wrote no ids yet)        adopted                      never deleted
==================================  ===========================  ==========================================

What is known here is the record of the file, and the content that is about to be sent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from syncd.core.model import (
    Destination,
    FileRef,
    FileStat,
    Fingerprint,
    Irregular,
    ObjectInfo,
    Observed,
    OnDelete,
    Recorded,
)
from syncd.core.paths import is_link_key, path_for

# ---- actions, inert, each with its reason; and what came of them ------------------------------------------


class Nothing(Struct, frozen=True):
    """Leave it as it is."""

    reason: str


class Refresh(Struct, frozen=True):
    """Same content, other stat: update the record, send nothing."""

    reason: str


class Upload(Struct, frozen=True):
    """Carry the content to the store."""

    reason: str


class Copy(Struct, frozen=True):
    """The store already has this content under another key: let it copy, send nothing."""

    twin: Recorded
    reason: str


class Delete(Struct, frozen=True):
    """Remove the object."""

    reason: str


class Adopt(Struct, frozen=True):
    """The store had the content under the key, and there was no record of it: nothing was sent."""

    reason: str


Action = Nothing | Refresh | Upload | Copy | Delete | Adopt


class Cause(Enum):
    """Why bytes of a file need not be sent."""

    RESUME = "resume"
    """An earlier try sent them."""
    TOUCH = "touch"
    """The file has another modification time and the recorded content."""
    COPY = "copy"
    """The store copies the content of another key."""
    DELTA = "delta"
    """The store copies parts of the object that is replaced, or of another one."""
    ADOPT = "adopt"
    """The store holds an object with this content that is not recorded."""
    APPEND = "append"
    """They are the part of a growing file that was sent before."""


class Outcome(NamedTuple):
    """The result for one file."""

    action: Action
    bytes_sent: int = 0
    saved: Mapping[Cause, int] = MappingProxyType({})
    """Bytes that were not sent."""
    look_again_seconds: float | None = None
    """The record is too young to be trusted: mark the file again after so long."""
    second_look: bool = False
    """The record cannot be trusted before a minute has passed; until then the file counts as done."""
    doubt_seconds: float | None = None
    """How long a request whose answer was lost may still take effect. Then the object has to be compared once
    more; until then the file counts as done."""
    size: int = 0
    """Of the file, in bytes."""
    wants_delete: bool = False
    """The object should be deleted, but the caller did not allow it."""
    links: tuple[FileRef, ...] = ()
    """Other names of a file that changed, of which the kernel told nothing: mark them."""

    @property
    def bytes_saved(self) -> int:
        """Of all causes."""
        return sum(self.saved.values())


# ---- the rules ---------------------------------------------------------------------------------------------

KEPT = Nothing("deletes are kept")
"""Of a recorded file that is gone."""

LATE_EFFECT_NS = 15 * 60 * 10**9
"""The longest that a store may take to answer: after that a lost request has no effect any more."""
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
RACY_WINDOW_NS = 2_000_000_000
"""A stat younger than this proves nothing, because clocks are coarse."""
MINUTE_NS = 60 * 10**9
DAY_NS = 24 * 60 * MINUTE_NS


def needs_fingerprint(stat: FileStat, recorded: Recorded | None, *, event: bool) -> str | None:
    """Why the content has to be read, or None: the stat alone proves that nothing changed.

    `event` is True when an event marked the path since it was recorded. Such a mark outweighs an equal stat:
    file systems with coarse timestamps, and stores through a memory map, change content and leave no trace.
    """
    if recorded is None:
        return "new"
    if stat != recorded.stat:
        return _difference(stat, recorded.stat)
    if recorded.racy:
        return "recorded too soon after a change to be sure"
    if event:
        return "marked since it was recorded"
    return None


def _difference(stat: FileStat, known: FileStat) -> str:
    """Name the strongest evidence of change between two unequal stats."""
    if stat.size != known.size:
        return "size changed"
    if stat.mtime_ns != known.mtime_ns:
        return "modification time changed"
    if (stat.device, stat.inode) != (known.device, known.inode):
        return "another file is in its place"
    return "change time moved"


def decide(
    observed: Observed | Irregular | None,
    recorded: Recorded | None,
    *,
    store_id: str,
    key: str,
    on_delete: OnDelete,
    twin: Recorded | None = None,
) -> Action:
    """The action that the truth table of this module gives.

    `observed` is None when the path is absent; `recorded` is None when it was never committed. `store_id` and
    `key` are where the file belongs now. `twin` is any recorded row with the same content: it is used only if
    its object is in the same store, has the same fingerprint and is under another key, so the caller may pass
    what it found without checking. Delete means the object under ``recorded.key``.
    """
    if isinstance(observed, Irregular) and not (observed.took_place and recorded is not None):
        return Nothing("not a regular file")
    if observed is None or isinstance(observed, Irregular):
        return _decide_absent(recorded, store_id=store_id, on_delete=on_delete)
    if recorded is None:
        return _carry(observed, "new", store_id, key, (twin,))
    if (recorded.store_id, recorded.key) != (store_id, key):
        return _carry(observed, "destination changed", store_id, key, (recorded, twin))
    if not _same(observed, recorded):
        return _carry(observed, "content changed", store_id, key, (twin,))
    if observed.stat != recorded.stat:
        return Refresh("touched, same content")
    if recorded.racy:
        # Otherwise the row would stay racy, and the file would be read again at every scan.
        return Refresh("confirmed, same content")
    return Nothing("unchanged")


def _decide_absent(recorded: Recorded | None, *, store_id: str, on_delete: OnDelete) -> Action:
    """The first two rows: nothing at the path."""
    if recorded is None:
        return Nothing("gone before it was uploaded")
    if on_delete is OnDelete.KEEP:
        return KEPT
    if recorded.store_id != store_id:
        # The policy is about this store, and only this store can be asked.
        return Nothing("deleted locally, but recorded in another store")
    return Delete("deleted locally")


def _carry(
    observed: Observed, reason: str, store_id: str, key: str, twins: tuple[Recorded | None, ...]
) -> Upload | Copy:
    """Copy from the first usable twin, else upload."""
    for twin in twins:
        if twin is not None and _is_usable(twin, observed, store_id, key):
            return Copy(twin, reason)
    return Upload(reason)


def _same(observed: Observed, recorded: Recorded) -> bool:
    return same_content(observed.fingerprint, observed.witness, recorded.fingerprint, recorded.witness)


def _is_usable(twin: Recorded, observed: Observed, store_id: str, key: str) -> bool:
    return (
        _same(observed, twin)
        and twin.store_id == store_id
        and twin.key != key
        and not twin.in_doubt
        # Every empty file is every other one's twin: a copy would save no byte and could fail.
        and observed.fingerprint.size > 0
        # A file that holds the words to which a link leads.
        and not is_link_key(twin.key)
        and not is_link_key(key)
    )


def owner_of(key: str, store_id: str, destinations: Iterable[Destination]) -> FileRef | None:
    """The file whose object lies under this key, by where the files of all sources go at present."""
    for destination in destinations:
        if destination.store_id == store_id:
            path = path_for(destination.prefix, key)
            if path is not None:
                return FileRef(destination.source, path)
    return None


# ---- whose an object is ----------------------------------------------------------------------------------


def machine_id(text: str) -> str:
    """The id that the text of a file like ``/etc/machine-id`` holds; empty: none that is set."""
    found = text.strip().lower()
    return found if _MACHINE_ID.fullmatch(found) and found.strip("0") else ""


def instance_id(secret: str, source: str, root: str) -> str:
    """The id of a source on the machine, or with the state, that has this `secret`.

    It does not reveal the secret: machine-id(5) asks for that.
    """
    text = f"syncd\0{source}\0{root}".encode(errors="surrogateescape")
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()[:32]


class Verdict(Enum):
    """What to do about the object that is where something is to be put or deleted."""

    GO = "go on"
    ADOPT = "it is what was to be put: record it, send nothing"
    KEEP = "another program put it there: leave it"
    WAIT = "another machine wrote it: the operator has to say that this one takes over"


def before_put(
    info: ObjectInfo | None,
    own: Collection[str],
    recorded: Recorded | None,
    content: Fingerprint,
    *,
    md5: bytes | None = None,
    proven: bool = False,
) -> Verdict:
    """Whether `content`, with this `md5` if known, may be put, or copied, where the store has `info`.

    `own` are the ids that count as this instance; `recorded` is the record of the object, if there is one.
    `proven` says that the object has this content by a digest of another program; it counts only where
    `is_to_prove`.
    """
    if info is None:
        return Verdict.GO
    if _has(info, content, md5):
        return Verdict.ADOPT
    if recorded is not None and recorded.fingerprint == content and _is(info, recorded):
        return Verdict.ADOPT  # the store drops metadata
    if proven and is_to_prove(info, recorded, content.size):
        return Verdict.ADOPT
    return Verdict.WAIT if is_foreign(info, own, recorded) else Verdict.GO


def is_to_prove(info: ObjectInfo, recorded: Recorded | None, size: int) -> bool:
    """Whether another program wrote the object, so that its digests decide if it has the content.

    They do for a file without a record, or with one that says nothing about the object.
    """
    by_other = info.digest is None and info.instance is None
    return (recorded is None or recorded.in_doubt) and by_other and info.size == size


def before_delete(info: ObjectInfo, own: Collection[str], recorded: Recorded, *, replaced: bool) -> Verdict:
    """Whether `info` may be deleted as the object that was recorded.

    `replaced` says that a request of ours may have replaced the object since, or a machine that this one took
    over from. Then an object of ours counts as what that left.
    """
    if is_foreign(info, own, recorded):
        return Verdict.WAIT
    may_be_ours = replaced and info.instance is not None and not is_belied(info, recorded)
    return Verdict.GO if may_be_ours or _is(info, recorded) else Verdict.KEEP


def is_others(info: ObjectInfo, own: Collection[str]) -> bool:
    """Whether another instance wrote the object, whatever is in it."""
    return info.instance is not None and info.instance not in own


def is_foreign(info: ObjectInfo, own: Collection[str], recorded: Recorded | None) -> bool:
    """Whether another instance wrote the object, and it is not what is recorded."""
    return is_others(info, own) and (recorded is None or not _is(info, recorded))


def is_belied(info: ObjectInfo, recorded: Recorded) -> bool:
    """Whether the object says that it has the recorded content, and its MD5 or its size show another one.

    Some programs, such as s3fs, keep metadata of ours with what they write.
    """
    return info.digest == recorded.fingerprint.digest and not _is(info, recorded)


def _is(info: ObjectInfo, recorded: Recorded) -> bool:
    """By its ETag, or by digest; and by its size: some servers make ETags of other things than content."""
    by_etag = bool(info.etag) and info.etag == recorded.etag and info.size == recorded.fingerprint.size
    md5 = bytes.fromhex(recorded.etag) if _MD5.fullmatch(recorded.etag) else None
    return by_etag or _has(info, recorded.fingerprint, md5)


def _has(info: ObjectInfo, content: Fingerprint, md5: bytes | None) -> bool:
    """By the digest in its metadata, unless its MD5 is known to be another one."""
    says_so = info.digest is not None and (info.digest, info.size) == content
    return says_so and (None in (md5, info.md5) or md5 == info.md5)


# ---- doubt and time --------------------------------------------------------------------------------------


def doubt_left_ns(recorded: Recorded | None, now_ns: int, window_ns: int = LATE_EFFECT_NS) -> int:
    """How much longer the request of ``recorded.recorded_ns`` may still be carried out.

    A request whose answer was lost may wait in a queue of the store, and remove or replace what was put
    there since. 0 when the row is not in doubt, is old, or the clock was put back since.
    """
    if recorded is None or not recorded.in_doubt or now_ns < recorded.recorded_ns:
        return 0
    return max(0, recorded.recorded_ns + window_ns - now_ns)


def same_content(one: Fingerprint, one_witness: bytes, other: Fingerprint, other_witness: bytes) -> bool:
    """Whether two contents are the same. Where the witness of one is unknown, the fingerprints have to do."""
    return one == other and (one_witness == other_witness or not (one_witness and other_witness))


def age_ns(stat: FileStat, now_ns: int) -> int | None:
    """How long ago the file changed last; None where its times lie in the future, and tell nothing.

    A clock that is ahead by less than a minute is that of a file server: the age is negative. A modification
    time that was set on purpose counts only if it is the later one: then the change time is wrong.
    """
    known = [time_ns for time_ns in (stat.mtime_ns, stat.ctime_ns) if time_ns <= now_ns + MINUTE_NS]
    return now_ns - max(known) if known else None


class Settling(NamedTuple):
    """Why a file is not read yet, and after how long to look again."""

    reason: str
    look_again_ns: int


def settling(stat: FileStat, now_ns: int, *, settle_ns: int, is_open: bool | None) -> Settling | None:
    """Why the file may be in the middle of a change; None: read it. With `settle_ns` 0 nothing waits.

    `is_open` says whether a program has it open for writing; None: unknown. The kernel sets the times before
    it copies the bytes, and sends the event afterwards. So a write that goes on shows in no later stat, and
    what is read during it is a mixture. Hence an open file has to rest for a minute, looked at ever more
    rarely. Then it is carried: many programs never close their files.
    """
    age = age_ns(stat, now_ns) if settle_ns else None
    if age is None:
        return None
    if age < settle_ns:
        return Settling("it changed a moment ago", settle_ns - age)
    if is_open and age < MINUTE_NS:
        return Settling(
            "it is open for writing, and changed less than a minute ago", min(MINUTE_NS - age, age)
        )
    return None


def carries_prefix(
    settling: Settling | None, age_ns: int | None, *, is_open: bool | None, overdue: bool
) -> bool | None:
    """Of a file that only grows: whether it is carried up to its last line, or all of it; None: it waits.

    All of it only if no program has it open for writing: else half a line may be the last. Where that is not
    known, a minute of rest has to do. A prefix needs no rest, because the bytes before the end of such a file
    stay as they are; it waits until it is `overdue`, so that not every line is a request.
    """
    if settling is None:
        is_young = age_ns is not None and age_ns < MINUTE_NS
        return is_young if is_open is None else is_open
    return True if overdue else None


def too_young_ns(stat: FileStat, now_ns: int, min_age_ns: int) -> int:
    """How long until the file's modification is `min_age_ns` ago; 0: it is.

    A modification time in the future says nothing; then the change time counts, as long as it says something.
    """
    known = [time_ns for time_ns in (stat.mtime_ns, stat.ctime_ns) if time_ns <= now_ns + MINUTE_NS]
    return max(0, known[0] + min_age_ns - now_ns) if known and min_age_ns else 0


def racy_window_ns(*, is_open: bool | None) -> int:
    """How old a stat has to be to prove anything, by whether the file was open for writing.

    A file that was open may be in the middle of a write, which no later stat would show, but none lasts for a
    day. Where it is not known whether it was open, a minute has to do.
    """
    if is_open is None:
        return MINUTE_NS
    return DAY_NS if is_open else RACY_WINDOW_NS


def is_racy(stat: FileStat, now_ns: int, window_ns: int = RACY_WINDOW_NS) -> bool:
    """Whether `stat` is too young to prove anything: another change in the same clock tick would not show.

    True when the modification or the change time is less than `window_ns` away from `now_ns`, or the change
    time is after it: the clock was put back since. A modification time far in the future proves as much
    as any other: it was set on purpose, and no write will hit it by chance. All in nanoseconds of the wall
    clock, `now_ns` taken when `stat` was, from the file system's own clock where the caller can.
    """
    fresh = now_ns - window_ns
    return stat.ctime_ns > fresh or fresh < stat.mtime_ns <= now_ns + window_ns


def may_hide_a_change(stat: FileStat, now_ns: int, window_ns: int = RACY_WINDOW_NS) -> bool:
    """Whether a file with this stat may have changed between two looks that show the same.

    That is so where the file system counts in whole seconds (its change times have no fraction) and the last
    change is less than `window_ns` away. All in nanoseconds, as in `is_racy`.
    """
    counts_seconds = stat.ctime_ns % 1_000_000_000 == 0
    return counts_seconds and now_ns - window_ns < stat.ctime_ns <= now_ns + window_ns
