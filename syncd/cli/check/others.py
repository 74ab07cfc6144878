"""Finds out for `syncd check` whether another machine writes under the prefixes of the sources."""

from __future__ import annotations

from collections.abc import Sequence

from syncd.cli import common
from syncd.cli.common import Reporter
from syncd.core.errors import StateError, StoreRefused, is_denied
from syncd.core.model import Source
from syncd.core.paths import printable
from syncd.core.plan import instance_id
from syncd.daemon import process
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.transfer import audit
from syncd.transfer.in_doubt import Foreigners


def check(store: ObjectStore, state_dir: str, sources: Sequence[Source], report: Reporter) -> None:
    """Look at a few objects of each of these sources of one store. Raises StoreError."""
    try:
        with common.open_state(state_dir) as state:
            _compare(store, state, sources, report)
    except StateError as error:
        report("other machines", None, f"not looked for: {error}")


def _compare(store: ObjectStore, state: State, sources: Sequence[Source], report: Reporter) -> None:
    foreigners = Foreigners(store.store_id, state)
    secret = process.machine_id() or state.instance_id
    own = foreigners.own(*(instance_id(secret, source.name, source.root) for source in sources))
    for source in sources:
        foreigners.recall(source.name)
        name = f"other machines at {source.name}"
        if waits := foreigners.waits(source.name):
            report(name, False, waits)
            continue
        try:
            found = audit.of_others(source, state, store, own)
        except StoreRefused as refused:
            if not is_denied(refused):
                raise
            continue  # these keys may not list or look
        for info, is_foreign in sorted(found, key=lambda each: not each[1])[:1]:
            report(name, False if is_foreign else None, _words(printable(info.key), is_foreign, source.name))


def _words(key: str, is_foreign: bool, source: str) -> str:
    advice = "if that machine still works there, give one of the two another prefix"
    if not is_foreign:
        return f"another machine wrote {key}; {advice}"
    end = f"if this one is to take over: syncd sync --take-over {source}"
    return f"another machine wrote {key}, and not what is recorded here; {advice}; {end}"
