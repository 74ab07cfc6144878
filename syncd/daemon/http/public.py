"""What a reader without the token may see: only numbers and fixed words.

Reasons are left out, because they may name a path. A new field of the `Status` is hidden until listed here.
"""

from __future__ import annotations

from typing import Any

from syncd.daemon.status import SourceReport, Status, StoreReport


def to_json(status: Status) -> dict[str, Any]:
    """Return the status that needs no token; keys mean what they mean in `Status.to_json`."""
    daemon = status.daemon
    return {
        "daemon": {
            "running": daemon.running,
            "health": "ok" if daemon.health == "ok" else "not ok",
            "uptime_seconds": daemon.uptime_seconds,
            "bytes_per_second": daemon.bytes_per_second,
            "seconds_left": daemon.seconds_left,
            "bandwidth_limit": daemon.bandwidth_limit,
            "bytes_by_minute": list(daemon.bytes_by_minute),
        },
        "sources": [_source(source) for source in status.sources],
        "stores": [_store(store) for store in status.stores],
        "totals": {key: status.totals.get(key, 0) for key in ("bytes_sent", "bytes_saved", "requests")},
    }


def _source(source: SourceReport) -> dict[str, Any]:
    files, live = source.files, source.live
    return {
        "name": source.name,
        "store": source.store,
        "state": source.word,
        "files": {
            "recorded": files.recorded,
            "pending": files.pending,
            "in_flight": files.in_flight,
            "failed": files.failed,
        },
        "bytes": {"recorded": source.bytes.recorded, "pending": source.bytes.pending},
        "last_scan": source.last_scan,
        "drift": source.drift,
        "oldest_pending": live.oldest_pending if live else None,
        "last_upload": live.last_upload if live else None,
        "deletes_parked": live.deletes_parked if live else 0,
    }


def _store(store: StoreReport) -> dict[str, Any]:
    return {"name": store.name, "up": store.trouble is None, "requests": store.requests}
