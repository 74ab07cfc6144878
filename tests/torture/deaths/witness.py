"""Stands between the engine and the real store and state, and looks on: is the order of effects kept?

Whatever dies above it, these hold at every call that gets through: the intent is in the state before the
store hears of an upload, its id before a part goes, each part and "completing" before it is completed; an
object is there, as it is said to be, before its row is. What was under a key at any time is kept for those
who check it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from syncd.core.model import Checkpoint, FileRef, Leftover, ObjectInfo, Recorded
from syncd.core.parts import StoreLimits
from syncd.sources.fingerprint import of_bytes
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from tests.torture.deaths.places import BELIEVED

_CHANGES = ("put_object", "copy_object", "complete_multipart_upload", "delete_object")
_PARTS = ("upload_part", "upload_part_copy", "complete_multipart_upload")


class Witness:
    """An `ObjectStore` that counts the bytes sent, and remembers what was under each key that changed."""

    def __init__(self, real: ObjectStore, state: Callable[[], State]) -> None:
        self._real = real
        self._state = state
        self._lock = threading.Lock()
        self.bytes_sent = 0
        self.seen: dict[str, list[bytes | None]] = {}

    @property
    def store_id(self) -> str:
        return self._real.store_id

    @property
    def limits(self) -> StoreLimits:
        """Parts of a few bytes, whatever the store thinks; what it can do is the store's."""
        real = self._real.limits
        return replace(
            BELIEVED,
            computes_crc32=real.computes_crc32,
            has_conditions=real.has_conditions,
            completes_with_meta=real.completes_with_meta,
        )

    def content(self, key: str) -> bytes | None:
        """What is under a key now."""
        info = self._real.head_object(key)
        if info is None:
            return None
        return self._real.get_object(key, 0, info.size - 1).body if info.size else b""

    def head(self, key: str) -> ObjectInfo | None:
        """The object, read by a request that is not counted."""
        return self._real.head_object(key)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        return (lambda *args: self._call(name, attribute, *args)) if callable(attribute) else attribute

    def _call(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        if name == "create_multipart_upload":
            self._begun(args[0])
        if name in _PARTS:
            checkpoint = self._known(args[1])
            if name == "complete_multipart_upload" and checkpoint is not None:
                assert checkpoint.completing, "completed without a word of it in the state"
                assert checkpoint.fingerprint.digest, "completed, and the state does not know what it holds"
                recorded = {number: part.etag for number, part in checkpoint.parts.items()}
                assert recorded == {part.number: part.etag for part in args[2]}, "a part without its record"
        if name in ("put_object", "upload_part"):
            with self._lock:
                self.bytes_sent += len(args[1] if name == "put_object" else args[3])
        answer = real(*args)
        if name in _CHANGES:
            key = args[1] if name == "copy_object" else args[0]
            self.seen.setdefault(key, []).append(self.content(key))
        return answer

    def _begun(self, key: str) -> None:
        begun = [each.key for each in self._state().checkpoints.all() if each.upload_id is None]
        begun += [each.key for each in self._left() if not each.upload_id]
        assert key in begun, "an upload was asked for, and the state does not know of it"

    def _known(self, upload_id: str) -> Checkpoint | None:
        """Its checkpoint; None: it is recorded as one to be aborted, unless it succeeds."""
        known = {each.upload_id: each for each in self._state().checkpoints.all()}
        left = {each.upload_id for each in self._left()}
        assert upload_id in known.keys() | left, "a part was sent of an upload whose id is not in the state"
        return known.get(upload_id)

    def _left(self) -> list[Leftover]:
        return self._state().checkpoints.leftovers(self.store_id)


class Clerk:
    """A `State` whose rows are compared with the store before they are written."""

    def __init__(self, real: State, witness: Witness) -> None:
        self._real = real
        self._witness = witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def commit(self, ref: FileRef, recorded: Recorded, **more: Any) -> None:
        """Invariant 1: a recorded row describes an object the store has acknowledged."""
        info = self._witness.head(recorded.key)
        assert info is not None, f"{ref.path} is to be recorded, and there is no object"
        content = self._witness.content(recorded.key)
        assert of_bytes(content or b"") == recorded.fingerprint, (
            f"{ref.path} is to be recorded with a content that its object does not have"
        )
        assert recorded.in_doubt or info.etag == recorded.etag, (
            f"{ref.path} is to be recorded with an ETag that is not the object's"
        )
        self._real.commit(ref, recorded, **more)
