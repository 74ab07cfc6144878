"""A large file and its parts, for the tests of multipart uploads."""

from __future__ import annotations

import pytest

from syncd.core.errors import (
    StoreUnavailable,
)
from tests.support.rig import Rig
from tests.support.store import FakeStore

CONTENT = bytes(range(256))[:61]  # seven full parts and a short one


PARTS = 8


def sent_parts(store: FakeStore) -> list[int]:
    return sorted(call.number for call in store.log if call.verb == "upload_part")


def interrupted(rig: Rig, *, after: int) -> None:
    """Leave an upload of `big` with parts up to number `after` acknowledged, as a cut connection would."""
    rig.write("big", CONTENT)
    rig.fake.fail("upload_part", StoreUnavailable("cut"), times=None, when=lambda call: call.number > after)
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    rig.fake.heal()
    rig.fake.reset_counters()
