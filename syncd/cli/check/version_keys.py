"""Finds out, and records, whether a BOS bucket takes keys under ``v1/`` in the vendor's spelling."""

from __future__ import annotations

from syncd.cli import common
from syncd.cli.check import memory, probes
from syncd.cli.common import Reporter
from syncd.config.load import Settings
from syncd.core.errors import StoreError
from syncd.storage.base import DOUBLED, VERSION_KEYS
from syncd.storage.bos.bucket import begins_with_version
from syncd.storage.settings import BosSettings

_SENT = "sent as the vendor's Java SDK sends them; `syncd retry` sends those that were refused"
_REFUSED = "refused; give the source another prefix"


def examine(settings: Settings, name: str, report: Reporter) -> bool:
    """Put and list an object below ``v1/``, if a source has that prefix, or none and maybe such a folder.

    Return whether such keys work. Raises StoreError if the store cannot be opened.
    """
    prefixes = {source.prefix for source in settings.sources if source.store == name} or {""}
    below = {prefix or "v1/" for prefix in prefixes if not prefix or begins_with_version(prefix)}
    if not isinstance(settings.stores[name], BosSettings) or not below:
        return False
    with common.open_store(settings, name, version_keys=lambda store_id: DOUBLED) as store:
        bench = probes.Bench(store, min(below), report)
        try:
            passed, found = probes.version_keys(bench)
        except StoreError as error:
            report("keys in v1/", None, f"syncd could not find out how the store handles them: {error}")
            return False
        finally:
            left = bench.clean()
    if left:
        found += f"; remove by hand: {', '.join(left)}"
    state = DOUBLED if passed else ""
    if trouble := memory.remember(name, store.store_id, VERSION_KEYS, state, settings.state_dir):
        found += f" (not remembered: {trouble})"
    report("keys in v1/", passed, f"{_SENT if passed else _REFUSED}: {found}")
    return bool(passed)
