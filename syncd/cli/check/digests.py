"""Finds out what a store does with the digest of a body, and has the service remember it."""

from __future__ import annotations

import time
from contextlib import closing, suppress

from syncd.cli.check.probes import Bench
from syncd.cli.common import Reporter
from syncd.core.errors import StateError, StoreError
from syncd.daemon import control
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.storage.base import DIGESTS, Digests, Finding, ProbesDigests

_TAKES = "the store takes a body that is not what its digest says"
_FOUND = {
    Digests.CHECKED: (True, "a body that is not what its digest ({}) says is refused"),
    Digests.ETAG: (None, f"{_TAKES}; syncd compares the ETag of each upload with the MD5 of what it sent"),
    Digests.SIZE: (None, f"{_TAKES}, and its ETags do not tell; syncd asks for the size after each upload"),
}


def examine(bench: Bench, name: str, state_dir: str, report: Reporter) -> None:
    """Report what the store does with digests; the state gets to know it where that is news.

    Nothing is reported where requests carry no digests.
    """
    store = bench.store
    if not isinstance(store, ProbesDigests):
        return
    try:
        found = store.probe_digests(bench.place + "digests")
    except StoreError as error:
        report("digests", None, f"it could not be found out whether the store checks them: {error}")
        return
    if found is None:
        return
    passed, detail = _FOUND[found.digests]
    detail = detail.format(found.check)
    trouble = _remember(name, store.store_id, found, state_dir)
    report("digests", passed, f"{detail} (not remembered: {trouble})" if trouble else detail)


def _remember(name: str, store_id: str, found: Finding, state_dir: str) -> str:
    """Tell the daemon, or write it into the state where none runs. Returns why that was not possible.

    That a store checks the usual digest is no news where nothing else is known.
    """
    try:
        known = Finding.of("")
        with suppress(StateError), closing(State.open_read_only(state_dir)) as state:
            known = Finding.of(state.learned(store_id, DIGESTS) or "")
        same = known.check == found.check or (found.is_usual and not known.check)
        if known.digests is found.digests and same:
            return ""
        request = {"command": "learn-digests", "store": name, "found": str(found)}
        answer = control.ask(state_dir, request)
        if answer is not None:
            return str(answer.get("error", ""))
        State.open_read_only(state_dir).close()  # a check makes no state
        lock = StateLock.acquire(state_dir)
        try:
            with closing(State.open(state_dir, now_ns=time.time_ns)) as state:
                state.learn(store_id, DIGESTS, str(found))
        finally:
            lock.release()
    except (StateError, OSError, ValueError) as error:
        return f"{error}; run `syncd check` again later"
    return ""
