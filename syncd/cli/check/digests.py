"""Finds out what a store does with the digest of a body, and records it."""

from __future__ import annotations

from contextlib import suppress

from syncd.cli import common
from syncd.cli.check import memory
from syncd.cli.check.probes import Bench
from syncd.cli.common import Reporter
from syncd.core.errors import StoreError
from syncd.storage.base import DIGESTS, Digests, Finding, ProbesDigests

_TAKES = "the store accepts a body that does not match its digest"
_FOUND = {
    Digests.CHECKED: (True, "the store refuses a body that does not match its digest ({})"),
    Digests.ETAG: (None, f"{_TAKES}; syncd compares the ETag of each upload with the MD5 of what it sent"),
    Digests.SIZE: (None, f"{_TAKES}, and its ETags are not MD5s; syncd asks for the size after each upload"),
}


def examine(bench: Bench, name: str, state_dir: str, report: Reporter) -> None:
    """Report what the store does with digests; record it if new.

    Reports nothing if requests carry no digests.
    """
    store = bench.store
    if not isinstance(store, ProbesDigests):
        return
    try:
        found = store.probe_digests(bench.place + "digests")
    except StoreError as error:
        report("digests", None, f"syncd could not find out whether the store checks them: {error}")
        return
    if found is None:
        return
    passed, detail = _FOUND[found.digests]
    detail = detail.format(found.check)
    trouble = _remember(name, store.store_id, found, state_dir)
    report("digests", passed, f"{detail} (not remembered: {trouble})" if trouble else detail)


def _remember(name: str, store_id: str, found: Finding, state_dir: str) -> str:
    """Record what is new; return why that failed.

    That a store checks the usual digest is not new if nothing else is known.
    """
    known = Finding(Digests.CHECKED)
    with suppress(ValueError):  # of a newer version
        known = Finding.of(common.learned(state_dir, store_id, name=DIGESTS))
    same = known.check == found.check or (found.is_usual and not known.check)
    if known.digests is found.digests and same:
        return ""
    return memory.remember(name, store_id, DIGESTS, str(found), state_dir)
