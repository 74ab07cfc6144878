"""Another program changes an object and keeps the metadata, as s3fs does: they say what the object was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import OnDelete
from syncd.transfer import audit
from tests.support.rig import Rig

EDITS = pytest.mark.parametrize("edit", [b"CONTENT", b"longer content"])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("a", b"content")
    rig.sync("a")
    yield rig
    rig.close()


@EDITS
@pytest.mark.parametrize("reconciling", [False, True])
def test_what_it_wrote_is_not_deleted(rig: Rig, edit: bytes, reconciling: bool) -> None:
    """Also where the records are in doubt: no request of ours leaves such an object."""
    rig.fake.edit("p/a", edit)
    (rig.folder / "a").unlink()
    if reconciling:
        rig.restart()
        rig.know(reconciling=True)
    rig.sync("a", delete_allowed=True)
    assert rig.fake.objects["p/a"].data == edit


@EDITS
def test_it_is_not_adopted_where_the_state_was_lost(rig: Rig, edit: bytes) -> None:
    """The content of the file is compared with the MD5, not only with the digest that is told."""
    rig.fake.edit("p/a", edit)
    rig.close()
    shutil.rmtree(rig.state_dir)
    rig.open()
    rig.know(reconciling=True)
    rig.sync("a")
    assert rig.fake.objects["p/a"].data == b"content"


@EDITS
def test_verify_tells_and_repairs_only_with_overwrite(rig: Rig, edit: bytes) -> None:
    """It is another program's object, and nothing that the store has damaged."""
    rig.fake.edit("p/a", edit)
    found = [
        each
        for some in audit.verify(rig.source, rig.state, rig.store, read=False, threads=1)
        for each in some
    ]
    assert [(each.serious, each.foreign, each.damaged) for each in found] == [(True, True, False)]
