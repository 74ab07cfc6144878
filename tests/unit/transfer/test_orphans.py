"""Unfinished uploads: which are ours, and which nothing here knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.core.errors import StoreUnavailable
from syncd.core.model import Checkpoint
from syncd.transfer import orphans
from tests.support.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_orphans_are_what_no_checkpoint_knows(rig: Rig) -> None:
    """Ours is spared by its id, one that is just beginning by its key, and nobody's is told twice."""
    rig.fake.fail("upload_part", StoreUnavailable("down"), times=None)
    rig.write("big", bytes(60))
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    rig.fake.heal()
    meta = next(iter(rig.fake.uploads.values())).meta
    lost = rig.fake.create_multipart_upload("p/lost", meta)
    rig.fake.create_multipart_upload("p/beginning", meta)
    rig.fake.create_multipart_upload("elsewhere/x", meta)
    (ours,) = rig.state.checkpoints()
    rig.state.begin(
        Checkpoint(
            0, rig.ref("beginning"), ours.store_id, "p/beginning", ours.fingerprint, ours.stat, 8, "t", 0
        )
    )
    sources = [rig.source, replace(rig.source, name="again")]
    found = list(orphans.orphans("nas", rig.store, sources, rig.state))
    assert [(each.store, each.upload.upload_id) for each in found] == [("nas", lost)]
    assert [each.key for each in orphans.ours(rig.state)] == ["p/big", "p/beginning"]
