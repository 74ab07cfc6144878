"""`syncd uploads`: unfinished uploads are listed, and orphans aborted."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import NoReturn

import pytest

from syncd.cli.uploads import list_uploads
from syncd.core.errors import AccessRefused, StoreError, StoreRefused, StoreUnavailable
from syncd.core.model import Checkpoint, FileRef, FileStat, Leftover, ObjectMeta, Part
from syncd.sources.fingerprint import of_bytes
from syncd.state.state import State
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.unit.cli.home import Home


def _lost(home: Home, *, hours_ago: float) -> str:
    """An upload that no checkpoint knows."""
    began_ns = time.time_ns() - int(hours_ago * 3600e9)
    store = DirStore(DirSettings(str(home.mirror)), now_ns=lambda: began_ns)
    return store.create_multipart_upload("lost", ObjectMeta(of_bytes(b""), 0))


def test_uploads_are_listed_and_old_orphans_aborted(home: Home) -> None:
    """For people and for programs; orphans stay until the operator says that they should go."""
    home.run("sync")
    assert home.run("uploads").stdout == "no unfinished uploads\n"
    upload_id = _lost(home, hours_ago=25)
    assert "orphan  mirror:lost" in home.run("uploads").stdout
    found = json.loads(home.run("uploads", "--json").stdout)
    (orphan,) = found["orphans"]
    assert (orphan["store"], orphan["upload_id"], orphan["aborted"]) == ("mirror", upload_id, False)
    assert found["ours"] == []
    assert "(aborted)" in home.run("uploads", "--abort-orphans").stdout
    assert home.run("uploads").stdout == "no unfinished uploads\n"


@pytest.mark.parametrize(
    ("hours_ago", "older_than", "aborted"),
    [(23, None, False), (25, None, True), (23, "22h", True), (25, "26h", False), (0, "0", True)],
)
def test_an_orphan_has_to_be_old_enough(
    home: Home, hours_ago: float, older_than: str | None, aborted: bool
) -> None:
    """What began lately may be another program's that is at work."""
    home.run("sync")
    _lost(home, hours_ago=hours_ago)
    option = () if older_than is None else ("--older-than", older_than)
    said = home.run("uploads", "--abort-orphans", *option)
    assert said.exit_code == 0
    assert ("(aborted)" in said.stdout) == aborted
    assert ("(not ours; spared: it began too recently)" in said.stdout) == (not aborted)
    assert ("lost" in home.run("uploads").stdout) == (not aborted)


def test_without_a_state_nothing_is_aborted(home: Home) -> None:
    """Every upload would look like an orphan, also those of the service whose state is elsewhere."""
    _lost(home, hours_ago=1000)
    said = home.run("uploads", "--abort-orphans")
    assert said.exit_code == 78
    assert "nothing is aborted: there is no state in" in said.stderr
    assert "STATE_DIRECTORY" in said.stderr
    assert "lost" in home.run("uploads").stdout


def test_a_state_that_never_saw_the_source_aborts_nothing(home: Home) -> None:
    """It is there, and yet not the one that knows these uploads."""
    State.open(home.settings.state_dir, now_ns=time.time_ns).close()
    _lost(home, hours_ago=1000)
    said = home.run("uploads", "--abort-orphans")
    assert "does not know the source docs" in said.stdout
    assert "lost" in home.run("uploads").stdout


def test_an_age_needs_its_unit(home: Home) -> None:
    """As in the configuration."""
    said = home.run("uploads", "--abort-orphans", "--older-than", "1")
    assert said.exit_code == 2
    assert "a duration with its unit" in said.stderr


def test_ours_are_listed_with_how_far_they_came(home: Home) -> None:
    """From the state: nothing is asked of the store for them."""
    state = State.open(home.settings.state_dir, now_ns=time.time_ns)
    stat = FileStat(device=1, inode=2, size=9, mtime_ns=0, ctime_ns=0)
    fingerprint = of_bytes(b"123456789")
    upload = state.checkpoints.begin(
        Checkpoint(0, FileRef("docs", "a"), "dir:x", "a", fingerprint, stat, 5, "t", 0)
    )
    state.checkpoints.add_part(upload.id, Part(1, 5, "etag"))
    state.close()
    assert "ours    docs:a: 5 of 9 bytes" in home.run("uploads").stdout
    (ours,) = list_uploads(home.settings, {}, abort=True, older_than_seconds=0.0)["ours"]
    assert (ours["key"], ours["bytes_done"], ours["bytes_total"]) == ("a", 5, 9)


def test_an_upload_that_had_a_part_lately_is_spared(home: Home) -> None:
    """Another program may send a large file for days."""
    home.run("sync")
    upload_id = _lost(home, hours_ago=100)
    store = DirStore(DirSettings(str(home.mirror)))
    store.upload_part("lost", upload_id, 1, b"x" * (5 << 20))
    said = home.run("uploads", "--abort-orphans")
    assert "(not ours; spared: a part of it arrived lately)" in said.stdout
    assert "lost" in home.run("uploads").stdout
    assert "(aborted)" in home.run("uploads", "--abort-orphans", "--older-than", "0").stdout


def test_a_store_that_cannot_list_uploads_hides_nothing_that_is_known_here(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours, and what is left to be aborted; the exit code says that there may be more."""
    home.run("sync")
    with closing(State.open(home.settings.state_dir, now_ns=time.time_ns)) as state:
        store_id = DirStore(DirSettings(str(home.mirror))).store_id
        state.checkpoints.leave(Leftover(FileRef("docs", "big"), store_id, "big", "id", 1, 2))

    for error, code in (
        (StoreRefused("the store cannot do this", status=501), 3),
        (StoreUnavailable("no connection"), 69),
        (AccessRefused("wrong keys"), 77),
    ):

        def refuse(*_: object, error: StoreError = error) -> NoReturn:
            raise error

        monkeypatch.setattr(DirStore, "list_multipart_uploads", refuse)
        said = home.run("uploads")
        assert said.exit_code == code
        assert "left    mirror:big: to be aborted" in said.stdout
        assert f"store mirror: its uploads cannot be listed: {error}" in said.stderr
