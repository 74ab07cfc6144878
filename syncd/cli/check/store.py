"""`syncd check`: is a store reachable and writable, and does it keep what its documents promise.

`basic` costs four small requests. `thorough` makes, probes and removes objects of its own under the prefix,
about 50 MB of traffic, and answers what documents leave open: the smallest part that is taken, what a
repeated complete is told, whether conditions and checksums are honoured. It works on every store, by the
protocol alone.
"""

from __future__ import annotations

from syncd.cli.check import multipart as uploads
from syncd.cli.check import objects
from syncd.cli.check.bench import Bench, Outcome, Report
from syncd.core.errors import StoreError, StoreRefused
from syncd.storage.base import ObjectStore

PROBES = (
    ("metadata", objects.metadata),
    ("empty object", objects.empty),
    ("odd names", objects.odd_names),
    ("ranges", objects.ranges),
    ("overwriting", objects.overwrite),
    ("missing objects", objects.absent),
    ("copy", objects.copy),
    ("conditional copy", objects.conditional_copy),
    ("multipart upload", uploads.multipart),
    ("resume with a gap", uploads.resume),
    ("replacing a part", uploads.replace_part),
    ("complete twice", uploads.complete_twice),
    ("abort", uploads.abort),
    ("wrong parts", uploads.wrong_parts),
    ("wrong checksum", uploads.wrong_checksum),
    ("smallest part", uploads.smallest_part),
    ("part copy", uploads.part_copy),
)
"""What `thorough` asks, in order, each with the name under which it is reported."""


def basic(store: ObjectStore, prefix: str, report: Report) -> None:
    """Put, look at and delete one tiny object under `prefix`.

    Raises StoreUnavailable and AccessRefused, which are about the store as a whole; what concerns only this
    object is reported.
    """
    bench = Bench(store, prefix, report)
    try:
        bench.run("reachable", _reachable)
        bench.run("writable", _writable)
    except StoreError:
        bench.clean()
        raise


def thorough(store: ObjectStore, prefix: str, report: Report) -> None:
    """`basic`, then every probe. Everything made is removed, also when a probe fails.

    Raises StoreUnavailable and AccessRefused as soon as they happen.
    """
    basic(store, prefix, report)
    bench = Bench(store, prefix, report)
    try:
        for name, probe in PROBES:
            bench.run(name, probe)
    finally:
        left = bench.clean()
        detail = f"remove by hand: {', '.join(left)}" if left else "nothing is left"
        report("cleaned up", not left, detail)


def _reachable(bench: Bench) -> Outcome:
    found = bench.store.head_object(bench.key("nothing"))
    return found is None, bench.store.store_id


def _writable(bench: Bench) -> Outcome:
    body = b"syncd check"
    key, _ = bench.put("writable", body)
    difference = bench.differs(key, body)
    refused = bench.refusal(lambda: bench.store.delete_object(key), StoreRefused)
    if refused is not None:
        return None, f"writable, but {key} cannot be deleted (only on_delete: delete needs that): {refused}"
    return difference is None, difference or "an object was put, found and deleted"
