"""What was committed without waiting for the disk: to be asked before the database is."""

from __future__ import annotations

import threading

from syncd.core.model import FileRef, Fingerprint, Recorded


class Unwritten:
    """Recorded files that the database does not show yet; None for those that were forgotten."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: dict[FileRef, Recorded | None] = {}
        self._refs: dict[tuple[str, Fingerprint], FileRef] = {}

    def add(self, ref: FileRef, recorded: Recorded | None) -> None:
        """`recorded` holds for `ref` from now on."""
        with self.lock:
            self.files[ref] = recorded
            if recorded is not None:
                self._refs[recorded.store_id, recorded.fingerprint] = ref

    def twins(self, store_id: str, fingerprint: Fingerprint) -> list[tuple[FileRef, Recorded]]:
        """One that has this content, if there is one; the caller holds the lock."""
        ref = self._refs.get((store_id, fingerprint))
        recorded = self.files.get(ref) if ref is not None else None
        if ref is None or recorded is None:
            return []
        same = recorded.store_id == store_id and recorded.fingerprint == fingerprint
        return [(ref, recorded)] if same else []

    def settled(self, ref: FileRef, recorded: Recorded | None) -> None:
        """It is on the disk, or has failed for good: the database tells from now on."""
        with self.lock:
            if ref in self.files and self.files[ref] is recorded:
                del self.files[ref]
            if recorded is not None and self._refs.get((recorded.store_id, recorded.fingerprint)) == ref:
                del self._refs[recorded.store_id, recorded.fingerprint]
