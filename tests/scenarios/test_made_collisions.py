"""Two contents that are made to have one XXH3-128, by anybody who may write into a folder, stay two."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import FileChanged, StoreUnavailable
from syncd.core.plan import Copy, Nothing, Refresh, Upload
from syncd.sources import fingerprint
from syncd.state.state import State
from syncd.transfer.audit import verify
from tests.support.collisions import SIZE as PART
from tests.support.collisions import public_pair
from tests.support.rig import Rig

ONE, OTHER = public_pair()
LARGE = 6 * PART
ONE_LARGE, OTHER_LARGE = public_pair(at=2 * PART, size=LARGE)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, part_size=PART)
    age(rig)
    yield rig
    rig.close()


def age(rig: Rig) -> None:
    """Files are old, so that their records prove something."""
    rig.now_ns = lambda: time.time_ns() + 120 * 10**9


def stored(rig: Rig, name: str = "a") -> bytes:
    return rig.fake.objects[f"p/{name}"].data


def test_the_pairs_have_one_public_digest() -> None:
    """Also by blocks: otherwise nothing here is a test."""
    for one, other in ((ONE, OTHER), (ONE_LARGE, OTHER_LARGE)):
        assert one != other
        for at in range(0, len(one), PART):
            blocks = one[at : at + PART], other[at : at + PART]
            assert fingerprint.digest(blocks[0]) == fingerprint.digest(blocks[1])
        assert fingerprint.of_bytes(one) == fingerprint.of_bytes(other)


@pytest.mark.parametrize(("one", "other"), [(ONE, OTHER), (ONE_LARGE, OTHER_LARGE)], ids=["put", "parts"])
def test_a_twin_by_the_public_digest_is_sent(rig: Rig, one: bytes, other: bytes) -> None:
    """Only what is the same by its witness is copied inside the store."""
    for name, content, action in (("a", one, Upload), ("b", other, Upload), ("c", one, Copy)):
        rig.write(name, content)
        assert isinstance(rig.sync(name).action, action)
        assert stored(rig, name) == content
        rig.state.flush()


@pytest.mark.parametrize(("one", "other"), [(ONE, OTHER), (ONE_LARGE, OTHER_LARGE)], ids=["put", "parts"])
def test_an_edit_is_no_touch(rig: Rig, one: bytes, other: bytes) -> None:
    """The content is sent, or of a large file the part that changed."""
    rig.write("a", one)
    rig.sync("a")
    before = rig.fake.bytes_received
    rig.write("a", other)
    assert isinstance(rig.sync("a").action, Upload)
    assert stored(rig) == other
    assert rig.fake.bytes_received - before == PART


def test_an_upload_that_was_interrupted_is_not_continued_with_other_content(rig: Rig) -> None:
    """The parts that have arrived are those of the other content."""
    rig.write("a", ONE_LARGE)
    rig.fake.fail("complete_multipart_upload", StoreUnavailable("down"), times=None)
    with pytest.raises(StoreUnavailable):
        rig.sync("a")
    rig.fake.heal()
    rig.write("a", OTHER_LARGE)
    rig.restart()
    age(rig)
    rig.sync("a")
    assert stored(rig) == OTHER_LARGE


def test_a_change_between_fingerprint_and_sending_is_noticed(rig: Rig) -> None:
    """Also where no stamp tells of it."""
    rig.write("a", ONE_LARGE)
    real = rig.engine._carrier.digests

    def compute(*values: Any) -> fingerprint.Digests:
        digests = real(*values)
        with (rig.folder / "a").open("r+b") as file:
            file.write(OTHER_LARGE)
        return digests

    rig.engine._carrier.digests = compute  # type: ignore[method-assign]
    opened = rig.engine._carrier._act

    def act(job: Any) -> Any:
        job.file.stat = lambda: job.stat
        return opened(job)

    rig.engine._carrier._act = act  # type: ignore[method-assign]
    with pytest.raises(FileChanged):
        rig.sync("a")
    assert "p/a" not in rig.fake.objects


def test_verify_finds_an_edit_that_no_stat_shows(rig: Rig) -> None:
    """With `read` the witness of the file is compared, not only its public digest."""
    rig.write("a", ONE)
    rig.sync("a")
    (rig.folder / "a").write_bytes(OTHER)
    recorded = rig.state.recorded(rig.ref("a"))
    assert recorded is not None
    found = [
        each.what
        for differences in verify(rig.source, rig.state, rig.store, read=True, threads=1)
        for each in differences
    ]
    assert found == ["the file has changed since"]


# ---- where a witness is not known -------------------------------------------------------------------------


def without_witnesses(rig: Rig) -> None:
    """As a syncd that knew none has left the state."""
    rig.close()
    with closing(sqlite3.connect(rig.state_dir / "state.db")) as connection:
        connection.execute("UPDATE files SET witness = NULL")
        connection.commit()
    rig.open()
    age(rig)


def test_an_older_record_gets_its_witness_when_its_file_is_read(rig: Rig) -> None:
    """Nothing is sent for it, neither when it is looked at nor when it is touched; then it is known."""
    rig.write("a", ONE)
    rig.sync("a")
    for act, action in ((lambda: None, Nothing), (lambda: os.utime(rig.folder / "a"), Refresh)):
        without_witnesses(rig)
        act()
        sent = rig.fake.bytes_received
        assert isinstance(rig.sync("a").action, action)
        assert rig.fake.bytes_received == sent
        recorded = rig.state.recorded(rig.ref("a"))
        assert recorded is not None
        assert recorded.witness == rig.engine._carrier._witness.of(ONE)

    rig.write("a", OTHER)
    assert isinstance(rig.sync("a").action, Upload)
    assert stored(rig) == OTHER


def test_the_secret_belongs_to_the_state(tmp_path: Path) -> None:
    """All who open the state share it, others cannot read it, and a new state has another one."""
    secrets = []
    for name in ("one", "one", "other"):
        with closing(State.open(str(tmp_path / name), now_ns=time.time_ns)) as state:
            secrets.append(state.secret)
    with closing(State.open_read_only(str(tmp_path / "one"))) as state:
        secrets.append(state.secret)
    assert [len(secret) for secret in secrets] == [32] * 4
    assert secrets[0] == secrets[1] == secrets[3] != secrets[2]
    assert (tmp_path / "one" / "state.db").stat().st_mode & 0o077 == 0
