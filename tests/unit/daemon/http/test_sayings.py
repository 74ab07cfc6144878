"""One sentence says how things are."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from syncd.daemon.http.sayings import kind_of, sayings
from syncd.daemon.status import (
    ByteCounts,
    DaemonStatus,
    FileCounts,
    InFlight,
    LiveSource,
    SourceReport,
    Status,
    StoreReport,
    WatchStatus,
)

TOTALS = {"bytes_sent": 3 << 30, "bytes_saved": 1 << 20, "requests": 4321}
HOUR = [0] * 50 + [5 << 20] * 4 + [0] * 6
DAEMON = DaemonStatus(True, 42, 60.0, "ok", bytes_by_minute=HOUR)
LIVE = LiveSource(watch=WatchStatus("events", 3))


def source(
    name: str = "camera", *, stored: int = 0, pending: int = 0, failed: int = 0, **more: Any
) -> SourceReport:
    found = SourceReport(
        name,
        f"/srv/{name}",
        "nas",
        FileCounts(stored, pending, 0, failed),
        ByteCounts(stored << 10, 0),
        "2026-11-29T09:31:07Z",
        0,
        live=LIVE,
    )
    return replace(found, **more)


def status(*sources: SourceReport, **more: Any) -> Status:
    return replace(Status(DAEMON, sources, [], [], TOTALS), **more)


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        (status(), "rest", "No source is configured, so there is nothing to send."),
        (status(source(stored=2048)), "ok", "Everything is in the store: 2,048 files, 2.0 MiB."),
        (status(source(pending=1)), "busy", "1 file is about to be sent."),
        (
            status(
                source(pending=2),
                in_flight=[InFlight("camera", "a", 1, 2)],
                daemon=replace(DAEMON, bytes_per_second=1 << 20, seconds_left=75),
            ),
            "busy",
            "2 files are on the way: 1.0 MiB/s, 1 min 15 s left.",
        ),
        (status(source(last_scan=None)), "busy", "The first scan of camera has not ended yet."),
        (
            status(source(pending=3, paused="by the operator, until it is resumed")),
            "rest",
            "The source camera is paused by the operator, until it is resumed.",
        ),
        (
            status(
                source(pending=3),
                daemon=replace(DAEMON, stores_paused={"nas": "by the operator, until noon"}),
            ),
            "rest",
            "Sending to nas is paused by the operator, until noon.",
        ),
        (
            status(source(live=replace(LIVE, deletes_parked=12, deletes_reason="too many"))),
            "bad",
            "Please confirm 12 deletions in camera.",
        ),
        (status(source(failed=1)), "bad", "1 file could not be sent; everything else continues."),
        (
            status(source(live=replace(LIVE, waits_for_take_over="another machine wrote here"))),
            "bad",
            "The source camera waits for your confirmation.",
        ),
        (
            status(source(live=replace(LIVE, waiting_for="the root is missing"))),
            "bad",
            "The source camera waits: the root is missing.",
        ),
        (status(source(differing=2)), "bad", "The last audit found differences in 2 objects."),
        (
            status(source(failed=1), daemon=replace(DAEMON, stopping_seconds=75)),
            "rest",
            "The daemon is stopping; it first sends known changes, for at most 1 min 15 s.",
        ),
        (
            status(source(failed=1), stores=[StoreReport("nas", "no key (403)")]),
            "bad",
            "Nothing can be sent to nas: no key (403).",
        ),
        (
            status(source(failed=1), daemon=replace(DAEMON, health="the watcher sees no events")),
            "bad",
            "Something is wrong with the daemon: the watcher sees no events.",
        ),
    ],
)
def test_one_sentence_says_how_things_are(given: Status, kind: str, told: str) -> None:
    """The most urgent thing, with a colour that is never all there is."""
    says = next(sayings(given, names=True))
    assert (says.kind, says.sentence) == (kind, told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (source(stored=1), "ok"),
        (source(failed=1), "bad"),
        (source(last_scan=None), "busy"),
        (source(pending=1, failed=1), "busy"),
        (source(files=FileCounts(0, 0, 1, 0)), "busy"),
        (source(pending=1, paused="by the operator"), "rest"),
        (source(live=replace(LIVE, deletes_parked=1)), "bad"),
        (source(live=replace(LIVE, waits_for_take_over="x")), "bad"),
        (source(pending=1, live=replace(LIVE, waiting_for="gone")), "bad"),
    ],
)
def test_a_word_is_of_a_kind(given: SourceReport, told: str) -> None:
    """What keeps a source from going on comes before what it does."""
    assert kind_of(given) == told


def test_without_names_no_reason_is_given() -> None:
    """But that there is trouble."""
    daemon = replace(DAEMON, health="/srv is full", stores_paused={"nas": "no /mnt"})
    away = source(live=replace(LIVE, waiting_for="no /srv"))
    given = status(away, daemon=daemon, stores=[StoreReport("nas", "no /mnt")])
    assert [each.sentence for each in sayings(given, names=False) if each.kind != "ok"] == [
        "Something is wrong with the daemon.",
        "Nothing can be sent to nas.",
        "The source camera waits.",
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_paused_only_waits(count: int) -> None:
    """It is not about to be sent."""
    paused = replace(DAEMON, stores_paused={"nas": "by the operator, until noon"})
    said = [each.sentence for each in sayings(status(source(pending=count), daemon=paused), names=True)]
    assert ("1 file waits." if count == 1 else "2 files wait.") in said
