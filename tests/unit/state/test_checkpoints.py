"""Each step of an upload is remembered, and its checkpoint goes with what it was for."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import CheckpointGone, react
from syncd.core.model import Failure, FileRef, Fingerprint, Part
from syncd.state.state import State
from tests.unit.state.test_state import OTHER, RECORDED, REF, checkpoint, seen_outside


def test_a_checkpoint_grows_step_by_step(state: State) -> None:
    """Each step of an upload is told again: intent, id, parts in order, completing."""
    known = checkpoint()
    unread = Fingerprint(b"", known.fingerprint.size)
    begun = state.checkpoints.begin(replace(known, fingerprint=unread, witness=b""))
    assert state.checkpoints.find(REF) == begun

    state.checkpoints.set_upload_id(begun.id, "upload-1")
    parts = {2: Part(2, 7, "e2", b"d" * 16, 2**32 - 1), 1: Part(1, 5, "e1")}
    for part in parts.values():
        state.checkpoints.add_part(begun.id, part)
    state.checkpoints.add_part(begun.id, Part(1, 5, "e1 again", b"x" * 16, 0))
    state.checkpoints.set_completing(begun.id, known.fingerprint, b"w" * 16)

    parts[1] = Part(1, 5, "e1 again", b"x" * 16, 0)
    expected = replace(
        known, id=begun.id, upload_id="upload-1", completing=True, parts=parts, witness=b"w" * 16
    )
    assert state.checkpoints.find(REF) == expected
    assert state.checkpoints.all() == [expected]
    assert list(state.checkpoints.all()[0].parts) == [1, 2]


def test_commit_takes_checkpoint_parts_and_failure_along(tmp_path: Path, state: State) -> None:
    """The recorded row goes in, and everything unfinished about the file out, in one transaction."""
    begun = state.checkpoints.begin(checkpoint())
    state.checkpoints.add_part(begun.id, Part(1, 5, "e1"))
    other = state.checkpoints.begin(checkpoint(FileRef("photos", "other")))
    state.failures.record(Failure(REF, "timed out", 3, 99))
    state.flush()
    before = state.commits

    state.commit(REF, RECORDED, checkpoint_id=begun.id)

    assert state.commits == before + 1
    assert state.recorded(REF) == RECORDED
    assert state.checkpoints.all() == [other]
    assert state.failures.page() == []
    assert seen_outside(tmp_path / "state", "SELECT * FROM parts") == []


def test_a_worker_of_an_earlier_configuration_loses_its_upload(state: State) -> None:
    """Two stores may have one file in work after a reload: the later one counts, the other's is aborted."""
    earlier = state.checkpoints.begin(replace(checkpoint(), store_id=OTHER, key="k"))
    state.checkpoints.set_upload_id(earlier.id, "u")
    later = state.checkpoints.begin(checkpoint())
    assert state.checkpoints.all() == [later]
    assert [(each.key, each.upload_id) for each in state.checkpoints.leftovers(OTHER)] == [("k", "u")]
    with pytest.raises(CheckpointGone):
        state.checkpoints.add_part(earlier.id, Part(1, 5, "late"))
    assert react(CheckpointGone("gone"), 1, 0.5).again


def test_ids_of_checkpoints_are_never_used_again(state: State) -> None:
    """A late word about a dropped checkpoint cannot reach a younger one."""
    first = state.checkpoints.begin(checkpoint())
    state.checkpoints.drop(first.id)
    second = state.checkpoints.begin(checkpoint())

    assert second.id > first.id
    with pytest.raises(CheckpointGone, match=f"no checkpoint {first.id}"):
        state.checkpoints.set_upload_id(first.id, "late")
    with pytest.raises(CheckpointGone):
        state.checkpoints.add_part(first.id, Part(1, 5, "late"))
    state.checkpoints.drop(first.id)
    assert state.checkpoints.all() == [second]


def test_a_checkpoint_can_begin_with_parts(state: State) -> None:
    """An adopted upload brings its id and parts along."""
    begun = state.checkpoints.begin(replace(checkpoint(), upload_id="u", parts={3: Part(3, 1, "e")}))

    assert state.checkpoints.find(REF) == begun
    assert begun.parts == {3: Part(3, 1, "e")}
