"""Unfinished uploads: which are ours, and which nothing here knows."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from syncd.core.errors import StoreUnavailable
from syncd.core.model import Checkpoint, RootIdentity, UploadInfo
from syncd.transfer.upload import orphans
from tests.support.rig import Rig


def test_orphans_are_what_no_checkpoint_knows(rig: Rig) -> None:
    """Ours is spared by its id, one that is just beginning by its key, and none is told twice."""
    rig.fake.fail("upload_part", StoreUnavailable("down"), times=None)
    rig.write("big", bytes(60))
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    rig.fake.heal()
    meta = next(iter(rig.fake.uploads.values())).meta
    lost = rig.fake.create_multipart_upload("p/lost", meta)
    rig.fake.create_multipart_upload("p/beginning", meta)
    rig.fake.create_multipart_upload("elsewhere/x", meta)
    (ours,) = rig.state.checkpoints.all()
    rig.state.checkpoints.begin(
        Checkpoint(
            0, rig.ref("beginning"), ours.store_id, "p/beginning", ours.fingerprint, ours.stat, 8, "t", 0
        )
    )
    sources = [rig.source, replace(rig.source, name="again")]
    rig.state.set_root_identity("docs", RootIdentity(1, 2))
    (found,) = orphans.orphans("nas", rig.store, sources[:1], rig.state, older_seconds=0)
    assert (found.store, found.upload.upload_id, found.spared) == ("nas", lost, "")
    (found,) = orphans.orphans("nas", rig.store, sources, rig.state, older_seconds=0)
    assert "does not know the source again" in found.spared  # it may be that one's
    (found,) = orphans.orphans("nas", rig.store, sources[:1], rig.state, older_seconds=0, shared=["docs"])
    assert "another machine" in found.spared  # where each of two would abort what the other sends for days
    assert [each.key for each in orphans.ours(rig.state)] == ["p/big", "p/beginning"]


@pytest.mark.parametrize(
    ("initiated_ns", "foreign", "spared"),
    [
        (99, False, ""),
        (100, False, ""),
        (101, False, "began too recently"),
        (10**18, False, "began too recently"),
        (None, False, "does not say when"),
        (99, True, "does not know the source docs"),
        (None, True, "does not know the source docs"),
    ],
)
def test_what_may_be_at_work_is_spared(initiated_ns: int | None, foreign: bool, spared: str) -> None:
    """Too young, of unknown age, or known perhaps to another state: each of them alone is enough."""
    said = orphans.why_spared(UploadInfo("k", "u", initiated_ns), "docs", 100, foreign=foreign)
    assert spared in said
    assert bool(said) == bool(spared)
