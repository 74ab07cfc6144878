"""The state of things in sentences, and in words of a few kinds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from syncd.core.words import counted, human, human_seconds
from syncd.daemon.status import DaemonStatus, LiveSource, SourceReport, Status


class Says(Struct, frozen=True):
    """A sentence about the state of things: `kind` is ``ok``, ``busy``, ``rest`` or ``bad``."""

    kind: str
    word: str
    sentence: str


def sayings(status: Status, *, names: bool) -> Iterator[Says]:
    """Yield all sentences, the most urgent first; if nothing is wrong, the last one says so."""

    def why(reason: str | None) -> str:  # it may name a path
        return f": {reason}" if names and reason else ""

    if status.daemon.health != "ok":
        yield Says("bad", "not healthy", f"Something is wrong with the daemon{why(status.daemon.health)}.")
    yield from _stopping(status.daemon)
    for store in status.stores:
        if store.trouble:
            yield Says("bad", "store away", f"Nothing can be sent to {store.name}{why(store.trouble)}.")
    for source in status.sources:
        live = source.live or LiveSource()
        if live.waiting_for:
            yield Says("bad", "source away", f"The source {source.name} waits{why(live.waiting_for)}.")
        if live.waits_for_take_over:
            yield Says("bad", "waits for you", f"The source {source.name} waits for your confirmation.")
    if failed := sum(source.files.failed for source in status.sources):
        yield Says("bad", "failed", f"{files_words(failed)} could not be sent; everything else continues.")
    if differing := sum(source.differing for source in status.sources):
        count = count_words(differing, "object")
        yield Says("bad", "damaged", f"The last audit found differences in {count}.")
    yield from _parked(status.sources)
    yield from _paused(status)
    yield from _usual(status)


def _stopping(daemon: DaemonStatus) -> Iterator[Says]:
    if daemon.stopping_seconds is not None:
        longest = human_seconds(daemon.stopping_seconds)
        told = f"The daemon is stopping; it first sends known changes, for at most {longest}."
        yield Says("rest", "stopping", told)


def _parked(sources: Sequence[SourceReport]) -> Iterator[Says]:
    for source in sources:
        if source.live is not None and source.live.deletes_parked:
            count = count_words(source.live.deletes_parked, "deletion")
            yield Says("bad", "waits for you", f"Please confirm {count} in {source.name}.")


def _paused(status: Status) -> Iterator[Says]:
    troubles = {store.trouble for store in status.stores}
    for store, reason in status.daemon.stores_paused.items():
        if reason not in troubles:
            yield Says("rest", "paused", f"Sending to {store} is paused {reason}.")
    for source in status.sources:
        if source.paused:
            yield Says("rest", "paused", f"The source {source.name} is paused {source.paused}.")


def _usual(status: Status) -> Iterator[Says]:
    sources = status.sources
    waiting = sum(source.files.pending + source.files.in_flight for source in sources)
    if waiting:
        yield Says("busy", "uploading" if status.in_flight else "pending", _on_their_way(status, waiting))
    fresh = [source.name for source in sources if source.last_scan is None]
    if fresh:
        yield Says("busy", "starting", f"The first scan of {_listed(fresh)} has not ended yet.")
    if not sources:
        yield Says("rest", "nothing to do", "No source is configured, so there is nothing to send.")
    recorded = sum(source.files.recorded for source in sources)
    size = sum(source.bytes.recorded for source in sources)
    yield Says("ok", "in sync", f"Everything is in the store: {files_words(recorded)}, {human(size)}.")


def _on_their_way(status: Status, waiting: int) -> str:
    daemon = status.daemon
    pace = [f"{human(daemon.bytes_per_second)}/s"] if daemon.bytes_per_second else []
    pace += [f"{human_seconds(daemon.seconds_left)} left"] if daemon.seconds_left is not None else []
    verb = "is" if waiting == 1 else "are"
    if not status.in_flight and (daemon.stores_paused or any(source.paused for source in status.sources)):
        return f"{files_words(waiting)} {'waits' if waiting == 1 else 'wait'}."
    what = "on the way" if status.in_flight else "about to be sent"
    return f"{files_words(waiting)} {verb} {what}{': ' if pace else ''}{', '.join(pace)}."


_KINDS = {
    "stored": "ok",
    "uploading": "busy",
    "pending": "busy",
    "unknown": "busy",
    "paused": "rest",
    "failed": "bad",
}


def kind_of(source: SourceReport) -> str:
    """Return the kind of the word of a source."""
    live = source.live or LiveSource()
    is_stopped = live.waiting_for or live.waits_for_take_over or live.deletes_parked
    return "bad" if is_stopped else _KINDS[source.word]


def files_words(count: int) -> str:
    """Return the number of files in words."""
    return count_words(count, "file")


def count_words(count: int, noun: str) -> str:
    """Return a count in words; `noun` is in the singular."""
    return counted(count, noun, form=",")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
