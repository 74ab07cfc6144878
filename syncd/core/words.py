"""The word of a file: one word that says how a path stands, and the reason behind it. Pure.

=============  ==============================================================================================
stored         the store has this content
settling       it changed a moment ago, and has to be quiet first
pending        it is to be sent, and waits
uploading      a worker has it
failed         it could not be sent
excluded       a rule of its source leaves it out
skipped        it is no regular file
gone           it was deleted here, and an object is recorded
unknown        nothing can be said: nothing is there, or it cannot be looked at
unwatched      it differs from what is recorded, and only a scan will notice
=============  ==============================================================================================
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from syncd.core import plan
from syncd.core.backoff import seconds_left
from syncd.core.model import Failure, FileStat, Irregular, OnDelete, Recorded
from syncd.core.paths import one_line, printable

if TYPE_CHECKING:
    from syncd.core.patterns import Verdict

RESTLESS_SECONDS = 60.0
"""A file that has kept changing for so long is reported: it is not uploaded, and the operator must know."""

BY_OTHER = "another program wrote the object"
"""The start of a difference that only `--overwrite` repairs."""


class Queued(Struct, frozen=True):
    """What a queue knows about a dirty file. Seconds count from now."""

    in_work: bool
    """A worker has it."""
    due_seconds: float
    """Until a worker may take it; negative: it is due."""
    deferred: bool = False
    """Its last attempt failed."""
    restless_seconds: float | None = None
    """How long events have kept it from becoming quiet."""


class Facts(Struct, frozen=True, kw_only=True):
    """What is known about one path of a source."""

    now_ns: int
    verdict: Verdict
    source_waits: str = ""
    """Why the source's directory cannot be trusted or opened; empty: it can."""
    unseen: str = ""
    """Why the path could not be looked at; empty: `seen` is valid."""
    seen: FileStat | Irregular | None = None
    near: str = ""
    """If nothing is there: a name beside it that differs only in case or in how accents are written."""
    recorded: Recorded | None = None
    difference: str | None = None
    """What tells the file from its record; None: they agree."""
    failure: Failure | None = None
    unlike: str = ""
    """What the last audit found wrong with its object, unless that was repaired since."""
    arrived: tuple[int, int] | None = None
    """The bytes of an unfinished upload that have arrived, and all."""
    bytes_per_second: float | None = None
    """How fast it is sent, if known."""
    settle_seconds: float = 0.0
    min_age_seconds: float = 0.0
    on_delete: OnDelete = OnDelete.KEEP
    running: bool = False
    """A daemon answers. Only then are the next fields known."""
    queued: Queued | None = None
    store_waits: str = ""
    """Why nothing is sent at the moment; empty: files are sent."""
    unwatched: str = ""
    """Why no event will report a change here; empty: one will."""
    deletes_wait: str = ""
    """Why deletions of the source wait for the operator."""


class Word(NamedTuple):
    """One of the words above, and the reason."""

    word: str
    reason: str


def word_of(facts: Facts) -> Word:
    """Return how the path stands. Certain facts come first, then what the disk shows, then the queue."""
    if not facts.verdict.wanted:
        return Word("excluded", f"{facts.verdict}{_object_stays(facts)}")
    if facts.source_waits:
        return Word("unknown", f"the source waits: {facts.source_waits}")
    if facts.unseen:
        told = f"it cannot be accessed: {facts.unseen}"
        return Word("failed", _failed(facts.failure)) if facts.failure else Word("unknown", told)
    if isinstance(facts.seen, Irregular) and not (facts.seen.took_place and facts.recorded):
        return Word("skipped", _irregular(facts))
    in_work = facts.queued is not None and facts.queued.in_work
    if facts.failure is not None and not in_work:
        return Word("failed", _failed(facts.failure))
    if facts.seen is None or isinstance(facts.seen, Irregular):
        return _absent(facts)
    if in_work:
        told = _share(facts.arrived, facts.bytes_per_second) if facts.arrived else "it is being read"
        return Word("uploading", told)
    return _present(facts, facts.seen)


def _present(facts: Facts, seen: FileStat) -> Word:
    """Return the word of a file that no worker has."""
    if facts.queued is None and facts.difference is None and facts.recorded is not None:
        if facts.unlike:
            return Word("failed", f"the last audit found: {facts.unlike} ({_mended_by(facts.unlike)})")
        return Word("stored", _stored(facts.recorded))
    if young_ns := plan.too_young_ns(seen, facts.now_ns, int(facts.min_age_seconds * 1e9)):
        left = human_seconds(young_ns / 1e9)
        return Word("settling", f"{_why(facts)}; it is younger than `min_age`, and is read in {left}")
    if facts.queued is not None:
        return _waiting(facts, facts.queued, seen)
    why = _why(facts)
    if facts.unwatched:
        return Word("unwatched", f"{why}; the next scan finds it, because no event does: {facts.unwatched}")
    if not facts.running:
        return Word("pending", f"{why}; the next pass picks it up, no daemon runs{_arrived(facts)}")
    if _quiet_seconds(facts, seen) < facts.settle_seconds:
        return Word("settling", f"changed {human_seconds(_quiet_seconds(facts, seen))} ago")
    return Word("pending", f"{why}; {facts.store_waits or 'the next scan picks it up'}{_arrived(facts)}")


def _waiting(facts: Facts, queued: Queued, seen: FileStat) -> Word:
    why = f"{_why(facts)}; " if facts.difference else ""
    if queued.due_seconds <= 0 or queued.deferred:
        if facts.store_waits:
            return Word("pending", f"{why}{facts.store_waits}{_arrived(facts)}")
        when = f"it is tried again in {human_seconds(queued.due_seconds)}"
        when = when if queued.deferred and queued.due_seconds > 0 else "it waits for a worker"
        return Word("pending", f"{why}{when}{_arrived(facts)}")
    told = f"changed {human_seconds(_quiet_seconds(facts, seen))} ago"
    told += f", it is read in {human_seconds(queued.due_seconds)} if it stays quiet"
    if queued.restless_seconds is not None and queued.restless_seconds >= RESTLESS_SECONDS:
        told += f"; not quiet for {human_seconds(queued.restless_seconds)} (a log? see `mode: append`)"
    return Word("settling", told)


def queue_word(queued: Queued, error: str, share: tuple[int, int] | None, store_waits: str) -> Word:
    """Return how a dirty file stands, from the queue alone. `error` is its last one; empty: none failed."""
    if queued.in_work:
        return Word("uploading", _share(share) if share else "it is being read")
    again = f"again in {human_seconds(queued.due_seconds)}" if queued.due_seconds > 0 else "again now"
    if error:
        return Word("failed", store_waits if error in store_waits else f"{error}; {store_waits or again}")
    if queued.due_seconds > 0 and not queued.deferred:
        told = f"it is read in {human_seconds(queued.due_seconds)} if it stays quiet"
        return Word("settling", told)
    return Word("pending", store_waits or (again if queued.deferred else "it waits for a worker"))


def _absent(facts: Facts) -> Word:
    if facts.recorded is None:
        near = f"; `{printable(facts.near)}` is there, and only looks the same" if facts.near else ""
        return Word("unknown", f"there is no such file, and nothing is recorded{near}")
    key = printable(facts.recorded.key)
    went = "it was deleted here" if facts.seen is None else "a directory took its place"
    if facts.on_delete is OnDelete.KEEP:
        return Word("gone", f"{went}; its object {key} is kept")
    if facts.deletes_wait:
        waits = f"waits for your confirmation: {facts.deletes_wait}"
        return Word("gone", f"{went}; the deletion of its object {key} {waits}")
    if facts.store_waits:
        return Word("gone", f"{went}; its object {key} is deleted later: {facts.store_waits}")
    when = "will be deleted by the next pass, if `max_delete` allows it"
    when = "is deleted soon, after files that may be copied from it" if facts.running else when
    return Word("gone", f"{went}; its object {key} {when}")


def _irregular(facts: Facts) -> str:
    assert isinstance(facts.seen, Irregular)
    if facts.seen.kind != "directory":
        return f"a {facts.seen.kind}{_object_stays(facts)}"
    told = "a directory: syncd uploads the files in it"
    return f"{told}; only scans notice changes in it: {facts.unwatched}" if facts.unwatched else told


def _object_stays(facts: Facts) -> str:
    return f"; its object {printable(facts.recorded.key)} stays" if facts.recorded is not None else ""


def _stored(recorded: Recorded) -> str:
    content = recorded.fingerprint
    told = f"as {printable(recorded.key)} since {iso(recorded.recorded_ns)}"
    told += f", {human(content.size)}, xxh128 {content.hex[:8]}"
    doubt = "; syncd will check its object once more"
    return told + doubt if recorded.in_doubt else told


def _failed(failure: Failure) -> str:
    again = f"again {iso(failure.next_attempt_ns)}" if failure.next_attempt_ns else "again when it changes"
    return f"{failure.error} ({counted(failure.attempts, 'attempt')}, {again})"


def _why(facts: Facts) -> str:
    return facts.difference or "new"


def _arrived(facts: Facts) -> str:
    return f"; {_share(facts.arrived)} have arrived" if facts.arrived and facts.arrived[0] else ""


def _share(arrived: tuple[int, int], rate: float | None = None) -> str:
    told = f"{human(arrived[0])} of {human(arrived[1])}"
    left = seconds_left([(arrived[1] - arrived[0], rate)])
    return f"{told}, {human(rate)}/s, {human_seconds(left)} left" if rate and left is not None else told


def _quiet_seconds(facts: Facts, seen: FileStat) -> float:
    return max(0.0, (facts.now_ns - max(seen.mtime_ns, seen.ctime_ns)) / 1e9)


def details(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what `syncd explain` says about a file, from the answer of its verb: headings and lines."""
    for heading, text in _details(found):
        yield heading, one_line(text)  # the ETag is the store's


def _details(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rule, disk, recorded = found["rule"], found["disk"], found["recorded"]
    where = f" ({rule['where']})" if rule["where"] else ""
    at = f"; it matches {rule['matches']}" if rule["matches"] not in (None, found["path"]) else ""
    yield "path", f"{found['source']}:{found['path']}"
    yield "key", f"{printable(found['key'])} in store {found['store']}"
    yield "rule", f"{'included' if rule['wanted'] else 'left out'}: {rule['text']}{where}{at}"
    yield "disk", f"{human(disk['size'])}, modified {disk['modified']}" if disk else found["there"]
    if recorded:
        what = f"{human(recorded['size'])}, xxh128 {recorded['xxh128']}"
        what += f", ETag {recorded['etag']}" if recorded["etag"] else ", in doubt"
        yield "recorded", f"{printable(recorded['key'])} since {recorded['since']}: {what}"
    else:
        yield "recorded", "nothing"
    if unfinished := found["unfinished"]:
        share = f"{human(unfinished['bytes_done'])} of {human(unfinished['bytes_total'])}"
        yield "upload", f"{share} have arrived"
    if failure := found["failure"]:
        yield "failure", f"{failure['error']} (attempts: {failure['attempts']})"
    yield "next", found["next"]


# ---- numbers for people ---------------------------------------------------------------------------------


_PLURALS = {"is": "are", "was": "were", "has": "have", "directory": "directories", "watch": "watches"}
"""Irregular plurals of verbs and nouns."""


def counted(count: int, noun: str, verb: str = "", form: str = "") -> str:
    """Return a number and a noun, with a verb that agrees: ``1 file is``, ``2 files are``.

    Noun and verb are in the singular; `form` formats the number, as in format().
    """
    if count != 1:
        *adjectives, last = noun.split(" ")
        noun = " ".join([*adjectives, _PLURALS.get(last, f"{last}s")])
        verb = _PLURALS.get(verb, verb.removesuffix("s"))
    return f"{count:{form}} {noun} {verb}".rstrip()


def done_words(outcome: plan.Outcome) -> str:
    """Return what was done with a file whose object was made, found or removed, and why."""
    action = outcome.action
    if isinstance(action, plan.Delete):
        return f"deleted: {action.reason}"
    if isinstance(action, plan.Copy):
        return f"copied inside the store: {action.reason}"
    if isinstance(action, plan.Adopt):
        return f"adopted: {action.reason}; the store had {counted(outcome.size, 'byte')}"
    sent = f"{counted(outcome.bytes_sent, 'byte')} sent"
    if outcome.bytes_saved:
        sent += f", {outcome.bytes_saved} were there"
    return f"uploaded: {action.reason}; {sent}"


def left_out(counts: Mapping[str, int]) -> str:
    """Return how many were left out, by kind: ``2 files over max_size, 1 symbolic link``."""
    told = []
    for kind, count in counts.items():
        noun, *behind = _BEHIND.split(kind, maxsplit=1)
        told.append(counted(count, noun) + "".join(behind))
    return ", ".join(told)


_BEHIND = re.compile("( (?:over|with|on|made|younger) )")
"""Separates a noun from what follows it."""


def human(size: float) -> str:
    """Return a size in bytes in a unit for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def paused_words(until_ns: int) -> str:
    """Return how long a pause of the operator lasts; 0: without end."""
    end = f"until {iso(until_ns)}" if until_ns else "until it is resumed"
    return f"by the operator, {end}"


def differ_words(objects: int, found: Sequence[str]) -> str:
    """Return how many objects differ since the last audit, and what to do; empty: none."""
    if not objects:
        return ""
    what = counted(objects, "object", "differs")
    named = f" ({found[0]})" if found else ""
    mends = "syncd verify --repair sends damaged files again"
    if any(BY_OTHER in each for each in found):
        mends += ", with --overwrite also those that another program replaced"
    return f"{what} from the records{named}; {mends}"


def _mended_by(difference: str) -> str:
    replaced = "`syncd verify --repair --overwrite` replaces it"
    return replaced if BY_OTHER in difference else "see `syncd verify --repair`"


def iso(time_ns: int | None) -> str | None:
    """Return the time in ISO 8601, UTC, to the second; None for None."""
    if time_ns is None:
        return None
    moment = dt.datetime.fromtimestamp(time_ns // 10**9, dt.UTC)
    return moment.isoformat().replace("+00:00", "Z")
