"""What tests of single steps ask of an engine, and do to it."""

from __future__ import annotations

from typing import Any

from syncd.core.model import (
    Attributes,
    ObjectMeta,
    Properties,
)
from syncd.sources.fingerprint import of_bytes
from tests.support.rig import Rig
from tests.support.store import FakeStore

SAID = Properties(cache_control="no-cache")


def overwrite(store: FakeStore, key: str, data: bytes) -> None:
    """As another program would, with a client of its own."""
    store.put_object(key, data, ObjectMeta(of_bytes(data), mtime_ns=0))


def later(rig: Rig, name: str, seconds: float) -> None:
    """Let it be so long after the file's last change."""
    changed_ns = (rig.folder / name).stat().st_ctime_ns
    rig.now_ns = lambda: changed_ns + round(seconds * 1e9)


def is_racy(rig: Rig, name: str) -> bool:
    recorded = rig.state.recorded(rig.ref(name))
    assert recorded is not None
    return recorded.racy


def restamped(rig: Rig, name: str = "a", **more: Any) -> tuple[bool, str]:
    return rig.engine.stamper.restamp(rig.ref(name), dry_run=more.get("dry_run", False))


def attributes_of(rig: Rig, name: str = "a") -> Attributes | None:
    return rig.fake.objects[f"p/{name}"].meta.attributes
