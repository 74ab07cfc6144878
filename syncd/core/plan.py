"""Decides what to do about one file, by comparing the observation with the record.

`needs_fingerprint` takes the cheap evidence, a stat, and says whether the content has to be read. `decide`
takes the proof, a fingerprint, and returns an action that the caller performs. Every answer carries its
reason, for the log and for the tests.

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

Where the table says Upload and the store is known to hold the same content under another key, the action is a
Copy with the same reason: no byte that the store already has is sent again.

`before_put` and `before_delete` decide whose an object is if several machines write under one prefix. An
instance is one source on one machine. Its id travels with every object that it writes. It is made of what
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
    """Do nothing."""

    reason: str


class Refresh(Struct, frozen=True):
    """Only the stat differs: update the record, send nothing."""

    reason: str


class Upload(Struct, frozen=True):
    """Send the content to the store."""

    reason: str


class Copy(Struct, frozen=True):
    """The store has this content under another key: have it copy that, send nothing."""

    twin: Recorded
    reason: str


class Delete(Struct, frozen=True):
    """Remove the object."""

    reason: str


class Adopt(Struct, frozen=True):
    """The store had the content under the key without a record of it: nothing was sent."""

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
    """They belong to the start of a growing file, which was sent before."""


class Outcome(NamedTuple):
    """The result for one file."""

    action: Action
    bytes_sent: int = 0
    saved: Mapping[Cause, int] = MappingProxyType({})
    """Bytes that were not sent."""
    look_again_seconds: float | None = None
    """The record is too young to be trusted: mark the file again after this time."""
    second_look: bool = False
    """The record cannot be trusted before a minute has passed; until then the file counts as done."""
    doubt_seconds: float | None = None
    """How long a request without an answer may still take effect. Then the object has to be compared once
    more; until then the file counts as done."""
    size: int = 0
    """Of the file, in bytes."""
    wants_delete: bool = False
    """The object should be deleted, but the caller did not allow it."""
    links: tuple[FileRef, ...] = ()
    """Other names of a file that changed, without an event for them: mark them."""

    @property
    def bytes_saved(self) -> int:
        """Return the sum of all causes."""
        return sum(self.saved.values())


# ---- the rules ---------------------------------------------------------------------------------------------

KEPT = Nothing("deletes are kept")
"""For a recorded file that is gone."""

LATE_EFFECT_NS = 15 * 60 * 10**9
"""The longest that a store may take to answer: later, a lost request has no effect."""
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_MD5 = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
RACY_WINDOW_NS = 2_000_000_000
"""A stat younger than this proves nothing, because clocks are coarse."""
MINUTE_NS = 60 * 10**9
DAY_NS = 24 * 60 * MINUTE_NS


def needs_fingerprint(stat: FileStat, recorded: Recorded | None, *, event: bool) -> str | None:
    """Return why the content has to be read; None: the stat alone proves that nothing changed.

    `event` is True when an event marked the path since it was recorded. An event outweighs an equal stat: on
    file systems with coarse timestamps, and through a memory map, content can change and leave no trace.
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
    """Return the strongest evidence of change between two unequal stats."""
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
    """Return the action that the truth table of this module gives.

    `observed` is None when the path is absent; `recorded` is None when it was never committed. `store_id` and
    `key` are where the file belongs now. `twin` is any recorded row with the same content. It is used only if
    its object is in the same store, has the same fingerprint and is under another key, so the caller need not
    check. Delete means the object under ``recorded.key``.
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
        # Otherwise the row would stay racy, and every scan would read the file again.
        return Refresh("confirmed, same content")
    return Nothing("unchanged")


def _decide_absent(recorded: Recorded | None, *, store_id: str, on_delete: OnDelete) -> Action:
    """Decide the first two rows: nothing is at the path."""
    if recorded is None:
        return Nothing("gone before it was uploaded")
    if on_delete is OnDelete.KEEP:
        return KEPT
    if recorded.store_id != store_id:
        # The policy is about this store, and syncd can ask no other.
        return Nothing("deleted locally, but recorded in another store")
    return Delete("deleted locally")


def _carry(
    observed: Observed, reason: str, store_id: str, key: str, twins: tuple[Recorded | None, ...]
) -> Upload | Copy:
    """Copy from the first usable twin, or else upload."""
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
        # A file of this name may hold the target of a link.
        and not is_link_key(twin.key)
        and not is_link_key(key)
    )


def owner_of(key: str, store_id: str, destinations: Iterable[Destination]) -> FileRef | None:
    """Return the file whose object lies under this key at present; None: no source puts one there."""
    for destination in destinations:
        if destination.store_id == store_id:
            path = path_for(destination.prefix, key)
            if path is not None:
                return FileRef(destination.source, path)
    return None


# ---- whose an object is ----------------------------------------------------------------------------------


def machine_id(text: str) -> str:
    """Return the id in the text of a file like ``/etc/machine-id``; empty: none is set."""
    found = text.strip().lower()
    return found if _MACHINE_ID.fullmatch(found) and found.strip("0") else ""


def instance_id(secret: str, source: str, root: str) -> str:
    """Return the id of a source on the machine, or with the state, that has this `secret`.

    It does not reveal the secret, as machine-id(5) demands.
    """
    text = f"syncd\0{source}\0{root}".encode(errors="surrogateescape")
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()[:32]


class Verdict(Enum):
    """What to do about an object where content is to be put, or that is to be deleted."""

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
    """Decide whether `content`, with this `md5` if known, may be put or copied where the store has `info`.

    `own` are the ids that count as this instance; `recorded` is the record of the object, if there is one.
    `proven` says that a digest of another program shows this content; it counts only if `is_to_prove`.
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
    """Return whether another program wrote the object, so that its digests decide if it has the content.

    They do for a file without a record, or with one that is in doubt.
    """
    by_other = info.digest is None and info.instance is None
    return (recorded is None or recorded.in_doubt) and by_other and info.size == size


def before_delete(info: ObjectInfo, own: Collection[str], recorded: Recorded, *, replaced: bool) -> Verdict:
    """Decide whether `info` may be deleted as the object that was recorded.

    `replaced` says that one of our requests, or a machine that this one took over from, may have replaced the
    object since. Then an object of ours may be deleted.
    """
    if is_foreign(info, own, recorded):
        return Verdict.WAIT
    may_be_ours = replaced and info.instance is not None and not is_belied(info, recorded)
    return Verdict.GO if may_be_ours or _is(info, recorded) else Verdict.KEEP


def is_others(info: ObjectInfo, own: Collection[str]) -> bool:
    """Return whether another instance wrote the object, whatever its content."""
    return info.instance is not None and info.instance not in own


def is_foreign(info: ObjectInfo, own: Collection[str], recorded: Recorded | None) -> bool:
    """Return whether another instance wrote the object, and it is not the recorded one."""
    return is_others(info, own) and (recorded is None or not _is(info, recorded))


def is_belied(info: ObjectInfo, recorded: Recorded) -> bool:
    """Return whether the object claims the recorded content, but its MD5 or its size contradicts that.

    Some programs, such as s3fs, keep our metadata with content of theirs.
    """
    return info.digest == recorded.fingerprint.digest and not _is(info, recorded)


def _is(info: ObjectInfo, recorded: Recorded) -> bool:
    """By ETag and size, because some servers make ETags of other things than content; or by digest."""
    by_etag = bool(info.etag) and info.etag == recorded.etag and info.size == recorded.fingerprint.size
    md5 = bytes.fromhex(recorded.etag) if _MD5.fullmatch(recorded.etag) else None
    return by_etag or _has(info, recorded.fingerprint, md5)


def _has(info: ObjectInfo, content: Fingerprint, md5: bytes | None) -> bool:
    """By the digest in its metadata, unless both MD5s are known and differ."""
    says_so = info.digest is not None and (info.digest, info.size) == content
    return says_so and (None in (md5, info.md5) or md5 == info.md5)


# ---- doubt and time --------------------------------------------------------------------------------------


def doubt_left_ns(recorded: Recorded | None, now_ns: int, window_ns: int = LATE_EFFECT_NS) -> int:
    """Return how much longer the request of ``recorded.recorded_ns`` may still take effect (nanoseconds).

    A request whose answer was lost may wait in a queue of the store, and remove or replace what was put
    there since. 0: the row is not in doubt, it is old, or the clock was put back since.
    """
    if recorded is None or not recorded.in_doubt or now_ns < recorded.recorded_ns:
        return 0
    return max(0, recorded.recorded_ns + window_ns - now_ns)


def same_content(one: Fingerprint, one_witness: bytes, other: Fingerprint, other_witness: bytes) -> bool:
    """Return whether two contents are the same. If a witness is unknown, the fingerprints decide."""
    return one == other and (one_witness == other_witness or not (one_witness and other_witness))


def age_ns(stat: FileStat, now_ns: int) -> int | None:
    """Return how long ago the file last changed; None: its times lie in the future and say nothing.

    A clock that is ahead by less than a minute is a file server's: the age is negative. A modification time
    that was set on purpose counts only if it is the later one: then the change time is wrong.
    """
    known = [time_ns for time_ns in (stat.mtime_ns, stat.ctime_ns) if time_ns <= now_ns + MINUTE_NS]
    return now_ns - max(known) if known else None


class Settling(NamedTuple):
    """Why a file is not read yet, and after how long to look again."""

    reason: str
    look_again_ns: int


def settling(stat: FileStat, now_ns: int, *, settle_ns: int, is_open: bool | None) -> Settling | None:
    """Return why the file may be in the middle of a change; None: read it. With `settle_ns` 0 none waits.

    `is_open` says whether a program has it open for writing; None: unknown. The kernel sets the times before
    it copies the bytes, and sends the event afterwards. So a write in progress shows in no later stat, and a
    read during it yields a mixture. Therefore an open file has to rest for a minute; the looks at it become
    rarer. Then it is carried, because many programs never close their files.
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
    """Return whether a growing file is carried up to its last line, or whole (False); None: it waits.

    It is carried whole only if no program has it open for writing: otherwise half a line may be the last. If
    that is unknown, a minute of rest is enough. A prefix needs no rest, because its bytes do not change; it
    waits until it is `overdue`, so that not every line costs a request.
    """
    if settling is None:
        is_young = age_ns is not None and age_ns < MINUTE_NS
        return is_young if is_open is None else is_open
    return True if overdue else None


def too_young_ns(stat: FileStat, now_ns: int, min_age_ns: int) -> int:
    """Return how long until the file's modification is `min_age_ns` ago; 0: it is.

    If the modification time is in the future, the change time counts, unless it is in the future, too.
    """
    known = [time_ns for time_ns in (stat.mtime_ns, stat.ctime_ns) if time_ns <= now_ns + MINUTE_NS]
    return max(0, known[0] + min_age_ns - now_ns) if known and min_age_ns else 0


def racy_window_ns(*, is_open: bool | None) -> int:
    """Return how old a stat has to be to prove anything (nanoseconds).

    A file that was open may be in the middle of a write, which no later stat shows, but no write lasts for a
    day. If it is unknown whether the file was open (None), a minute is enough.
    """
    if is_open is None:
        return MINUTE_NS
    return DAY_NS if is_open else RACY_WINDOW_NS


def is_racy(stat: FileStat, now_ns: int, window_ns: int = RACY_WINDOW_NS) -> bool:
    """Return whether `stat` is too young to prove anything: a change in the same clock tick does not show.

    True when the modification or the change time is less than `window_ns` away from `now_ns`, or the change
    time is after it: the clock was put back since. A modification time far in the future is good evidence: it
    was set on purpose, and no write hits it by chance. All in nanoseconds of the wall clock, with `now_ns`
    taken when `stat` was, from the file system's own clock if possible.
    """
    fresh = now_ns - window_ns
    return stat.ctime_ns > fresh or fresh < stat.mtime_ns <= now_ns + window_ns


def may_hide_a_change(stat: FileStat, now_ns: int, window_ns: int = RACY_WINDOW_NS) -> bool:
    """Return whether a file with this stat may have changed between two looks that show the same.

    It may if the file system counts in whole seconds (its change times have no fraction) and the last change
    is less than `window_ns` away. All in nanoseconds, as in `is_racy`.
    """
    counts_seconds = stat.ctime_ns % 1_000_000_000 == 0
    return counts_seconds and now_ns - window_ns < stat.ctime_ns <= now_ns + window_ns
