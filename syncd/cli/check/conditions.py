"""Finds out whether a store replaces an object on a condition, and records it."""

from __future__ import annotations

from msgspec.structs import replace

from syncd.cli import common
from syncd.cli.check import memory
from syncd.cli.check.probes import Bench, ProbeResult
from syncd.cli.common import Reporter
from syncd.core.errors import PreconditionFailed, StoreError
from syncd.storage.base import CONDITIONS, HONOURED, IGNORED, ObjectStore

_ONE, _OTHER = b"one object", b"another"


def examine(store: ObjectStore, name: str, prefix: str, state_dir: str, report: Reporter) -> None:
    """Replace objects under `prefix` on conditions that hold, and that do not."""
    bench = Bench(store, prefix, report)
    try:
        passed, detail = _try(bench)
    except StoreError as error:
        report("conditions", None, f"syncd could not find out whether the store honours them: {error}")
        return
    finally:
        left = bench.clean()
    if left:
        detail += f"; remove by hand: {', '.join(left)}"
    found = HONOURED if passed else IGNORED
    usual = HONOURED if store.limits.has_conditions else IGNORED
    if found != (common.learned(state_dir, store.store_id, name=CONDITIONS) or usual):
        trouble = memory.remember(name, store.store_id, CONDITIONS, found, state_dir)
        detail += f" (not remembered: {trouble})" if trouble else ""
    report("conditions", passed, detail)


def _try(bench: Bench) -> ProbeResult:
    """Test that a put and a complete replace the object that they name, and no other."""
    for verb, make in (("put", _make_by_put), ("complete", _make_by_parts)):
        key = bench.key(f"conditional {verb}")
        if not make(bench, key, _ONE, ""):
            return None, f"a {verb} of a new object is refused if there may be none before"
        for wrong in ("", "0" * 32):
            if make(bench, key, _OTHER, wrong):
                return None, f"the condition of a {verb} is ignored: syncd sends none"
        info = bench.store.head_object(key)
        if info is None or not make(bench, key, _OTHER, info.etag):
            return None, f"a {verb} is refused though its condition holds"
        if difference := bench.differs(key, _OTHER):
            return None, difference
        info = bench.store.head_object(key)
        bench.store.delete_object(key)
        if info is None or make(bench, key, _ONE, info.etag):
            return None, f"the condition of a {verb} is ignored where there is no object: syncd sends none"
    return True, "put and complete replace the object that they name, and no other"


def _make_by_put(bench: Bench, key: str, body: bytes, replaces: str) -> bool:
    """Return False if the condition is refused."""
    try:
        bench.store.put_object(key, body, replace(bench.meta(body), replaces=replaces))
    except PreconditionFailed:
        return False
    return True


def _make_by_parts(bench: Bench, key: str, body: bytes, replaces: str) -> bool:
    """The same; abort a refused upload."""
    upload = bench.begin(key.removeprefix(bench.place), body)
    part = bench.part(upload, 1, body)
    try:
        bench.complete(replace(upload, meta=replace(upload.meta, replaces=replaces)), [part])
    except PreconditionFailed:
        return False
    return True
