"""The exceptions of syncd, and the one reaction that each deserves.

A class exists only where the reaction to it differs. Any other exception is a bug in syncd: `react` has it
reported with its traceback and retried late, so that other files go on.

::

    SyncdError
    ├── ConfigError            print every problem, exit 78; the running configuration stays
    ├── FileError              one file; all others go on
    │   ├── FileVanished       mark dirty: the next look will plan it as absent
    │   ├── FileChanged        mark dirty: let it settle again
    │   │   └── FileWaits      another file goes first: mark dirty
    │   ├── FilePaused         mark dirty: the operator paused its source or store
    │   ├── FileUnreadable     defer with backoff, report
    │   └── FileUnwritable     of a restore: report, go on with the next
    ├── StoreError             one request
    │   ├── StoreUnavailable   repeat in place, then defer (timeout, reset, 502, 503, 429)
    │   │   ├── ConnectionLost the connection broke: an answer may have been lost
    │   │   └── StoreFailed    perhaps at this one thing only (500)
    │   ├── UploadGone         ask for the object, then restart the upload
    │   ├── PartCorrupt        send the part again
    │   ├── PartsRefused       what was sent cannot be completed
    │   ├── ObjectSpoiled      another object was made of the parts: restart the upload
    │   ├── PreconditionFailed the object is not the one that we meant: look again
    │   └── StoreRefused       this object: defer long, report (403 for one key, key too long)
    │       ├── QuotaExceeded  no content is taken: deletions go on
    │       └── AccessRefused  the whole store: pause it, say it once, probe (bad key, no such bucket)
    ├── Stopped                syncd is asked to stop: unwind, keep every checkpoint
    └── StateError             stop the daemon: without memory we do not act
        ├── CheckpointGone     mark dirty: another worker has the file
        └── StateRefused       exit 78: a restart will not help, the operator has to
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TypedDict, Unpack

from msgspec import Struct

from syncd.core.backoff import Schedule, delay
from syncd.core.model import FileStat
from syncd.core.paths import one_line


class SyncdError(Exception):
    """Base of everything that syncd raises on purpose."""


class Problem(Struct, frozen=True):
    """One mistake in a configuration file, in the words that its author needs."""

    where: str
    """``file:line``, or only the file if no line is to blame."""
    key: str
    """Dotted path of the key, such as ``stores.nas.path``; empty for the file as a whole."""
    found: str
    expected: str

    def __str__(self) -> str:
        key = f" {self.key}:" if self.key else ""
        return f"{self.where}:{key} found {self.found}; expected {self.expected}"


class ConfigError(SyncdError):
    """The configuration cannot be used; carries every problem that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class FileError(SyncdError):
    """One file could not be carried; the message says why, without the path."""


class FileVanished(FileError):
    """Nothing is at the path any more."""


class FileChanged(FileError):
    """The file changed while it was read, or may have changed.

    ``quiet_seconds`` is how long it has to be quiet before another attempt is useful; 0: as long as
    before any attempt.
    """

    def __init__(self, message: str, quiet_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.quiet_seconds = quiet_seconds


class FileWaits(FileChanged):
    """Another file goes first; this one did not change."""


class KeyBusy(FileError):
    """Another thread of this process works on the object under the file's key."""


class FilePaused(FileError):
    """The operator paused the source or the store while the file was sent; its upload is kept."""


class FileUnreadable(FileError):
    """The file exists, but the operating system does not let syncd read it."""


class FileUnwritable(FileError):
    """A file cannot be written where it is to be restored. With ``every_file``, no other can be either."""

    def __init__(self, message: str, *, every_file: bool = False) -> None:
        super().__init__(message)
        self.every_file = every_file


class RootChanged(FileUnreadable):
    """The source's root is another directory than before: it says nothing about any file."""


class StoreFacts(TypedDict, total=False):
    """What a `StoreError` may know."""

    status: int | None
    """The HTTP status."""
    code: str
    """The store's own word for the error."""
    request_id: str
    """What the store's support asks for."""
    hint: str
    """What the operator can do about it."""


class StoreError(SyncdError):
    """A request to a store failed. It has the `StoreFacts` as attributes.

    Each text from the store is one printable line here, because it reaches logs and terminals.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(one_line(message))
        self.call = ""
        """Which call of an upload failed: ``part``, ``list of parts`` or ``complete``."""
        self.seen: FileStat | None = None
        """The state of the file that was refused."""
        self.sends = 0
        """How often this process has sent this content in vain."""
        self.status = status
        self.code = one_line(code)
        self.request_id = one_line(request_id)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        facts = [str(self.status) if self.status else "", self.code]
        detail = " ".join(fact for fact in facts if fact)
        text = super().__str__()
        if detail:
            text += f" ({detail})"
        if self.request_id:
            text += f" [request {self.request_id}]"
        if self.hint:
            text += f"; {self.hint}"
        return text


class StoreUnavailable(StoreError):
    """The store did not do it, or it is unknown whether it did.

    ``outcome_unknown`` is True when the request may have taken effect (the answer was lost). Then ask the
    store before relying on either outcome. ``retry_after_seconds`` is what the store asks for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        outcome_unknown: bool = False,
        retry_after_seconds: float | None = None,
        **facts: Unpack[StoreFacts],
    ) -> None:
        super().__init__(message, **facts)
        self.outcome_unknown = outcome_unknown
        self.retry_after_seconds = retry_after_seconds


class ConnectionLost(StoreUnavailable):
    """The peer closed or reset the connection, perhaps after an answer that was lost."""


class StoreFailed(StoreUnavailable):
    """The store tried and failed. It may be broken as a whole, or fail at this object or upload alone."""


class UploadGone(StoreError):
    """The store knows no multipart upload by this id: completed, aborted or expired."""


class PartCorrupt(StoreError):
    """The body arrived damaged: its digest was refused, or the ETag does not match its bytes."""


class PartsRefused(StoreError):
    """The store does not complete the upload from these parts.

    ``too_small`` is True when it says that parts are below its minimum size.
    """

    def __init__(self, message: str, *, too_small: bool = False, **facts: Unpack[StoreFacts]) -> None:
        super().__init__(message, **facts)
        self.too_small = too_small


class ObjectSpoiled(StoreError):
    """The upload is over, and the store made another object of its parts than the intended one."""


class PreconditionFailed(StoreError):
    """A condition of the request (if-match, if-none-match) does not hold."""


class StoreRefused(StoreError):
    """The store understood the request and refused it, for this object."""


class QuotaExceeded(StoreRefused):
    """The store takes no content, or less: a quota is used up, or a disk is full. Deletions work."""


class PutsWait(SyncdError):
    """Content waits for a quota or its turn: nothing was read or sent. Try again after `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class NoRoom(PutsWait):
    """The file is large, and no more large files may be under way."""


class TooYoung(PutsWait):
    """The file is younger than its source's ``min_age``."""


class AccessRefused(StoreRefused):
    """The store refuses every request: keys, clock, region or bucket are wrong.

    ``credentials`` is True when keys or tokens are to blame (exit code 77).
    """

    def __init__(self, message: str, *, credentials: bool = True, **facts: Unpack[StoreFacts]) -> None:
        super().__init__(message, **facts)
        self.credentials = credentials


class Stopped(SyncdError):
    """The daemon is shutting down; nothing is wrong."""


class StateError(SyncdError):
    """The state database cannot be used, so syncd must not act."""


class CheckpointGone(StateError):
    """After a change of the configuration another worker has the file, and ended this upload."""


class StateRefused(StateError):
    """The state was written by a newer syncd, or other users can write to it; it is left as it is."""


BUSY = frozenset({429, 503})
"""Statuses with which a store asks for fewer requests; they say nothing about this one."""


def kind(error: BaseException) -> str:
    """Return one of a few words for what failed, for counting."""
    if isinstance(error, StoreUnavailable) and error.status in BUSY:
        return "throttled"
    return next((word for kind, word in _KINDS.items() if isinstance(error, kind)), "other")


_KINDS: dict[type[BaseException], str] = {
    QuotaExceeded: "quota",
    AccessRefused: "auth",
    StoreRefused: "refused",
    StoreUnavailable: "unavailable",
    PartCorrupt: "integrity",
    PartsRefused: "integrity",
    ObjectSpoiled: "integrity",
    FileUnreadable: "unreadable",
    StateError: "state",
}
KINDS = (*dict.fromkeys(_KINDS.values()), "throttled", "other")
"""The words of `kind`."""


# ---- remedies ---------------------------------------------------------------------------------------------

RENAME = "rename the file, or exclude it"
TOO_LARGE = "exclude the file, or set max_size"
MISTAKE = "this is a mistake of syncd: please report it"
VERIFY = "`syncd verify` says what is missing or damaged"
TRY_ALL = "`syncd check --thorough` says what works there"
_PERMISSION = "give the user that syncd runs as permission there"
OS_REMEDIES = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: "mount it read-write",
    errno.ENOSPC: "free some space in that file system",
    errno.EDQUOT: "free some space, or raise the quota of the user that syncd runs as",
    errno.EEXIST: "something else has this name; move it away, or choose another name",
    errno.ESTALE: "the network file system no longer knows it; if this persists, mount it again",
    errno.EIO: "the disk or the network file system failed; see the kernel's log",
    errno.EMFILE: "raise the limit on open files (LimitNOFILE)",
    errno.ENFILE: "raise the kernel's limit on open files (sysctl fs.file-max)",
    errno.ENAMETOOLONG: f"the name is too long for the file system; {RENAME}",
}
"""What the operator can do about an error of the operating system, by its number."""


def os_words(error: OSError) -> str:
    """Return what the operating system says, and the remedy."""
    said, remedy = error.strerror or str(error), OS_REMEDIES.get(error.errno or 0)
    return f"{said}; {remedy}" if remedy else said


# ---- reactions ------------------------------------------------------------------------------------------

FILE_SCHEDULE = Schedule(base_seconds=5.0, cap_seconds=600.0)
"""For a file that the operating system does not let syncd read."""
STORE_SCHEDULE = Schedule(base_seconds=2.0, cap_seconds=300.0)
"""For a request that failed, after the retries in place."""
REFUSED_SECONDS = 60.0
"""The delay before the second attempt of a file that the store refuses."""
DENIED_SECONDS = 2.0
"""The same after a 403: clouds answer so in passing, and their own tools retry at once."""
REFUSED_SCHEDULE = Schedule(base_seconds=3600.0, cap_seconds=86400.0)
"""For a file that was refused twice: only time, the operator or a change of the file can help."""
QUOTA_SCHEDULE = Schedule(base_seconds=60.0, cap_seconds=3600.0)
"""For all files after `QUOTA_FILES` different ones met a quota."""
DISK_SCHEDULE = Schedule(base_seconds=2.0, cap_seconds=60.0)
"""The same if the disk of a directory store is full: a retry uses no line."""
PASSING_SCHEDULE = Schedule(base_seconds=60.0, cap_seconds=3600.0)
"""For content that twice met something that passes: a conflict, a clock, a slow connection."""
BUSY_SCHEDULE = Schedule(base_seconds=2.0, cap_seconds=3600.0)
"""For content that the store did not take because it was busy, or that a broken connection cut off."""
QUOTA_FILES = 3
KEY_BUSY_SECONDS = 5.0
"""The delay before the next attempt of a file whose key another thread holds."""
PAUSE_SECONDS = 60.0
"""How often to probe a store that refuses every request."""

LONGEST_WISH_SECONDS = 3600.0
"""A longer ``Retry-After`` counts as this."""


class Reaction(Struct, frozen=True):
    """What to do after a file failed."""

    again: bool = False
    """Nothing is wrong: mark the file dirty and let it settle, for ``defer_seconds`` if given."""
    defer_seconds: float = 0.0
    hold: bool = False
    """Events do not hasten it, because the file is not the cause."""
    record: bool = False
    """`status` shows the failure, and it counts as an attempt."""
    refused: bool = False
    """Nothing is sent for this state of the file until then."""
    store_failed: bool = False
    """Counts against the store: after several different files in a row it is left alone for a while."""
    pause_seconds: float = 0.0
    """How long to pause the whole store, at once."""
    stop: bool = False
    """Stop the daemon: without the state syncd must not act."""
    bug: bool = False
    """Not an error of syncd's own: log the traceback."""


def is_unclear(error: BaseException) -> bool:
    """Return whether the fault may lie in the file or in the store; a neutral question tells."""
    return isinstance(error, StoreUnavailable | AccessRefused)


def may_be_the_stores(error: StoreError) -> bool:
    """Return whether a refused file may need only other keys, room, or a store that works again."""
    return isinstance(error, AccessRefused | QuotaExceeded | StoreUnavailable) or error.status == 403


def way(error: BaseException) -> str:
    """Return what errors have in common if different files fail in the same way."""
    if not isinstance(error, StoreError):
        return type(error).__name__
    return "no answer" if error.status is None else f"{error.status} {error.code}"


def react(
    error: BaseException, attempts: int, chance: float, *, refusals: int = 0, store_answers: bool = False
) -> Reaction:
    """Return the reaction to `error`, failure number `attempts` (from 1) of its file in a row.

    `refusals` is how many of the earlier ones were refusals. `store_answers` says that the store answered a
    neutral question after an error that `is_unclear`.
    """
    if isinstance(error, FileChanged):
        return Reaction(again=True, defer_seconds=error.quiet_seconds)
    if isinstance(error, FileVanished | FilePaused):
        return Reaction(again=True)
    if isinstance(error, KeyBusy | CheckpointGone):
        return Reaction(again=True, defer_seconds=KEY_BUSY_SECONDS)
    if isinstance(error, FileError):
        return Reaction(defer_seconds=_late(attempts, chance, FILE_SCHEDULE), record=True)
    if isinstance(error, StateError):
        return Reaction(defer_seconds=1.0, hold=True, stop=True)
    if isinstance(error, StoreError):
        return _react_to_store(error, attempts, chance, refusals, store_answers=store_answers)
    return Reaction(
        defer_seconds=_late(attempts, chance, STORE_SCHEDULE),
        hold=True,
        record=True,
        bug=not _is_ours(error),
    )


def _react_to_store(
    error: StoreError, attempts: int, chance: float, refusals: int, *, store_answers: bool
) -> Reaction:
    """Blame the smallest thing that may be at fault: a file before the store as a whole."""
    if isinstance(error, StoreUnavailable):
        wish = min(error.retry_after_seconds or 0.0, LONGEST_WISH_SECONDS)
        schedule = STORE_SCHEDULE
        if error.sends:
            is_busy = error.status is None or error.status in BUSY
            schedule = BUSY_SCHEDULE if is_busy or error.sends == 1 else PASSING_SCHEDULE
        seconds = max(wish, _late(attempts, chance, schedule))
        if not (store_answers and error.status is not None and error.outcome_unknown):
            pause = 0.0 if store_answers else wish
            return Reaction(
                defer_seconds=seconds, hold=True, record=True, store_failed=True, pause_seconds=pause
            )
    elif isinstance(error, QuotaExceeded) and error.status is None:
        return Reaction(defer_seconds=_late(attempts, chance, STORE_SCHEDULE), hold=True, record=True)
    elif isinstance(error, AccessRefused) and not store_answers:
        return Reaction(defer_seconds=1.0, hold=True, pause_seconds=PAUSE_SECONDS)
    refusals = max(refusals, error.sends - 1)
    is_denial = error.status == 403 and not isinstance(error, AccessRefused)
    seconds = (DENIED_SECONDS if is_denial else REFUSED_SECONDS) * (0.5 + chance / 2)
    if refusals:
        seconds = _late(refusals, chance, REFUSED_SCHEDULE)
    return Reaction(defer_seconds=seconds, record=True, refused=True, store_failed=is_unclear(error))


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("syncd.")


def _late(attempts: int, chance: float, schedule: Schedule) -> float:
    """Return the seconds to wait, with jitter only in the upper half, so that no retry comes at once."""
    return delay(attempts, 0.5 + chance / 2, schedule)


def may_be_the_uploads(error: StoreError) -> bool:
    """Return whether a call of an upload may have failed because of the upload itself.

    Keys, place, quota, clock, throttling and connections have nothing to do with it.
    """
    others = AccessRefused | QuotaExceeded | StoreUnavailable
    return not isinstance(error, others) or isinstance(error, StoreFailed)


def is_denied(error: StoreError) -> bool:
    """Return whether these keys may not do this one thing, as opposed to nothing at all.

    A bucket's policy may allow sending but not listing or aborting. No file has to wait for that.
    """
    if isinstance(error, AccessRefused):
        denies = error.status == 403 and error.code in ("", "AccessDenied", "Forbidden")
        return denies and error.credentials  # otherwise a proxy on the way forbids it
    return isinstance(error, StoreRefused)


def words_of(error: BaseException) -> str:
    """Return the error's message, or its class if it has none."""
    return str(error) or type(error).__name__


def cause_of(error: BaseException) -> str:
    """Return the part of the message that many files share: without request ids and the like."""
    if isinstance(error, StoreError):
        return f"{type(error).__name__} {error.status} {error.code}"
    return words_of(error)
