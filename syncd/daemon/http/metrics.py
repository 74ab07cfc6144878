"""`/metrics`: the `Status` in the text format of Prometheus. Counters begin at zero with the daemon."""

from __future__ import annotations

import datetime as dt
import math
import os
import resource
import time
from collections.abc import Iterable, Mapping
from typing import get_args

import syncd
from syncd.core.errors import KINDS
from syncd.core.plan import Action, Cause
from syncd.daemon.live import Measured
from syncd.daemon.status import LiveSource, SourceReport, Status, StoreReport
from syncd.sources.watch import inotify
from syncd.transfer.pace.progress import Durations

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Prometheus sees no rise in a counter that first appears as 1, so all that may appear start at 0.
_ACTIONS = tuple(action.__name__.lower() for action in get_args(Action))
_CAUSES = tuple(cause.value for cause in Cause)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
Samples = Iterable[tuple[Mapping[str, str], float | None]]
"""Labels and value; None is left out."""


class _Text:
    """Collects families."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def gauge(self, name: str, meaning: str, samples: Samples) -> None:
        self._family(name, "gauge", meaning, samples)

    def counter(self, name: str, meaning: str, samples: Samples) -> None:
        self._family(name, "counter", meaning, samples)

    def histogram(
        self, name: str, meaning: str, samples: Iterable[tuple[Mapping[str, str], Durations]]
    ) -> None:
        self._family(name, "histogram", meaning, ())
        for labels, measured in samples:
            counts, total = list(measured.counts), 0
            for bound, count in zip((*measured.bounds, math.inf), counts, strict=True):
                total += count
                self._sample(f"{name}_bucket", {**labels, "le": _number(bound)}, total)
            self._sample(f"{name}_sum", labels, measured.sum_seconds)
            self._sample(f"{name}_count", labels, total)

    def _family(self, name: str, kind: str, meaning: str, samples: Samples) -> None:
        self.lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for labels, value in samples:
            if value is not None:
                self._sample(name, labels, value)

    def _sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        self.lines.append(f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}")


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else f"{value:.15g}"


def render(status: Status, measured: Measured, *, lives: bool, started_seconds: float) -> bytes:
    """Return the answer. `lives` is what ``/livez`` says; `started_seconds` counts from the epoch."""
    text = _Text()
    _daemon(text, status, lives=lives)
    _process(text, started_seconds)
    _files(text, status.sources)
    live = [(source.name, source.live) for source in status.sources if source.live is not None]
    _sources(text, status.sources, live)
    held = status.daemon.stores_paused.keys() - {store.name for store in status.stores if store.trouble}
    text.gauge(
        "syncd_source_paused",
        "Whether the source or its store is paused, by the operator or the timetable.",
        (
            ({"source": source.name}, float(source.paused is not None or source.store in held))
            for source in status.sources
        ),
    )
    _watching(text, status.sources, live)
    _activity(text, live)
    _stores(text, status.stores, measured)
    text.histogram(
        "syncd_file_delay_seconds",
        "From the first notice of a change until the object was there.",
        (({"source": name}, each) for name, each in measured.delays.items()),
    )
    return "\n".join([*text.lines, ""]).encode("utf-8", "backslashreplace")


def _daemon(text: _Text, status: Status, *, lives: bool) -> None:
    text.gauge("syncd_build_info", "Which syncd this is.", [({"version": syncd.__version__}, 1)])
    healthy = lives and status.daemon.health == "ok"
    text.gauge("syncd_healthy", "Whether every part of the daemon works.", [({}, float(healthy))])
    limit = status.daemon.bandwidth_limit
    text.gauge(
        "syncd_bandwidth_limit_bytes_per_second",
        "What may be sent to all stores together now.",
        [({}, math.inf if limit is None else limit)],
    )


def _process(text: _Text, started_seconds: float) -> None:
    text.gauge(
        "process_start_time_seconds", "When the daemon started, since the epoch.", [({}, started_seconds)]
    )
    text.counter("process_cpu_seconds_total", "Processor time.", [({}, time.process_time())])
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[1])
    text.gauge("process_resident_memory_bytes", "Resident memory.", [({}, pages * resource.getpagesize())])
    text.gauge("process_open_fds", "Open descriptors.", [({}, len(os.listdir("/proc/self/fd")))])
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text.gauge("process_max_fds", "Descriptors that may be open.", [({}, most)])


def _files(text: _Text, sources: Iterable[SourceReport]) -> None:
    text.gauge(
        "syncd_files",
        "Files: stored ones are recorded, also those of which a newer state waits.",
        (
            ({"source": source.name, "state": state}, count)
            for source in sources
            for state, count in (
                ("stored", source.files.recorded),
                ("pending", source.files.pending),
                ("uploading", source.files.in_flight),
                ("failed", source.files.failed),
            )
        ),
    )
    text.gauge(
        "syncd_files_bytes",
        "Bytes of files; of those that are uploading, what is left.",
        (
            ({"source": source.name, "state": state}, count)
            for source in sources
            for state, count in (("stored", source.bytes.recorded), ("uploading", source.bytes.pending))
        ),
    )
    text.gauge(
        "syncd_objects_differing",
        "Objects that differed from their records at the last audit, and have not been repaired since.",
        (({"source": source.name}, source.differing) for source in sources),
    )
    text.gauge(
        "syncd_last_audit_timestamp_seconds",
        "When the daemon last ended a round of comparing all objects; absent when it did not yet.",
        (({"source": source.name}, _timestamp(source.last_audit)) for source in sources),
    )


def _sources(text: _Text, sources: Iterable[SourceReport], live: list[tuple[str, LiveSource]]) -> None:
    text.gauge(
        "syncd_source_up",
        "Whether the folder is there and can be read.",
        (({"source": name}, float(not each.waiting_for)) for name, each in live),
    )
    text.gauge(
        "syncd_pending_oldest_timestamp_seconds",
        "Since when the file waits that waits the longest and has not failed; absent when none waits.",
        (({"source": name}, _timestamp(each.oldest_pending)) for name, each in live),
    )
    text.gauge(
        "syncd_last_upload_timestamp_seconds",
        "When the last object was made; absent when none was since the start.",
        (({"source": name}, _timestamp(each.last_upload)) for name, each in live),
    )
    text.gauge(
        "syncd_last_scan_timestamp_seconds",
        "When the last scan of the whole source ended.",
        (({"source": source.name}, _timestamp(source.last_scan)) for source in sources),
    )
    text.gauge(
        "syncd_rescan_interval_seconds",
        "How often the whole source is to be scanned.",
        (({"source": name}, each.rescan_seconds) for name, each in live),
    )
    text.gauge(
        "syncd_deletes_parked",
        "Deletions that wait for the operator.",
        (({"source": name}, each.deletes_parked) for name, each in live),
    )
    text.gauge(
        "syncd_files_never_quiet",
        "Files that keep changing, and so are not read.",
        (({"source": name}, len(each.never_quiet)) for name, each in live),
    )


def _watching(text: _Text, sources: Iterable[SourceReport], live: list[tuple[str, LiveSource]]) -> None:
    watches = [({"source": name}, each.watch) for name, each in live if each.watch]
    text.gauge("syncd_watches", "Watched folders.", ((labels, watch.watches) for labels, watch in watches))
    text.gauge(
        "syncd_watches_limit",
        "Folders that all programs of this user may watch together; absent when that is not known.",
        [({}, inotify.watch_limit())],
    )
    text.gauge(
        "syncd_unwatched_folders",
        "Folders in which only a scan notices changes.",
        ((labels, len(watch.unwatched)) for labels, watch in watches),
    )
    text.counter(
        "syncd_watch_overflows_total",
        "How often the kernel dropped events.",
        ((labels, watch.overflows) for labels, watch in watches),
    )
    text.counter(
        "syncd_drift_files_total",
        "Changed files that no event had announced, since the state began.",
        (({"source": source.name}, source.drift) for source in sources),
    )


def _stores(text: _Text, stores: Iterable[StoreReport], measured: Measured) -> None:
    text.gauge(
        "syncd_store_up",
        "Whether the store takes what is sent.",
        (({"store": store.name}, float(store.trouble is None)) for store in stores),
    )
    text.counter(
        "syncd_requests_total",
        "Requests over HTTP, by the class of the answer's status; none: there was no answer.",
        (
            ({"store": store, "operation": operation, "outcome": outcome}, count)
            for store, answers in measured.answers.items()
            for (operation, outcome), count in answers.items()
        ),
    )
    text.histogram(
        "syncd_request_seconds",
        "How long requests over HTTP took, until the answer was there or did not come.",
        (
            ({"store": store, "operation": operation}, each)
            for store, durations in measured.durations.items()
            for operation, each in durations.items()
        ),
    )


def _activity(text: _Text, live: list[tuple[str, LiveSource]]) -> None:
    text.counter(
        "syncd_actions_total",
        "Files that were looked at, by what was done.",
        (
            ({"source": name, "action": action}, count)
            for name, each in live
            for action, count in (dict.fromkeys(_ACTIONS, 0) | dict(each.actions)).items()
        ),
    )
    text.counter(
        "syncd_failures_total",
        "Attempts that failed, by class.",
        (
            ({"source": name, "class": kind}, count)
            for name, each in live
            for kind, count in (dict.fromkeys(KINDS, 0) | dict(each.failures)).items()
        ),
    )
    text.counter(
        "syncd_sent_bytes_total", "Bytes sent.", (({"source": name}, each.bytes_sent) for name, each in live)
    )
    text.counter(
        "syncd_saved_bytes_total",
        "Bytes that did not have to be sent, by the cause.",
        (
            ({"source": name, "cause": cause}, size)
            for name, each in live
            for cause, size in (dict.fromkeys(_CAUSES, 0) | dict(each.saved)).items()
        ),
    )


def _timestamp(moment: str | None) -> float | None:
    return None if moment is None else dt.datetime.fromisoformat(moment).timestamp()
