"""`syncd uploads`: unfinished uploads are listed, and orphans aborted."""

from __future__ import annotations

import json
import time

from syncd.cli.uploads import list_uploads
from syncd.core.model import Checkpoint, FileRef, FileStat, ObjectMeta, Part
from syncd.sources.fingerprint import of_bytes
from syncd.state.state import State
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.unit.cli.home import Home


def test_uploads_are_listed_and_orphans_aborted(home: Home) -> None:
    """For people and for programs; orphans stay until the operator says that they should go."""
    assert home.run("uploads").stdout == "no unfinished uploads\n"
    upload_id = DirStore(DirSettings(str(home.mirror))).create_multipart_upload(
        "lost", ObjectMeta(of_bytes(b""), 0)
    )
    assert "orphan  mirror:lost" in home.run("uploads").stdout
    found = json.loads(home.run("uploads", "--json").stdout)
    (orphan,) = found["orphans"]
    assert (orphan["store"], orphan["upload_id"], orphan["aborted"]) == ("mirror", upload_id, False)
    assert found["ours"] == []
    assert "(aborted)" in home.run("uploads", "--abort-orphans").stdout
    assert home.run("uploads").stdout == "no unfinished uploads\n"


def test_ours_are_listed_with_how_far_they_came(home: Home) -> None:
    """From the state: nothing is asked of the store for them."""
    state = State.open(home.settings.state_dir, now_ns=time.time_ns)
    stat = FileStat(device=1, inode=2, size=9, mtime_ns=0, ctime_ns=0)
    fingerprint = of_bytes(b"123456789")
    upload = state.begin(Checkpoint(0, FileRef("docs", "a"), "dir:x", "a", fingerprint, stat, 5, "t", 0))
    state.add_part(upload.id, Part(1, 5, "etag"))
    state.close()
    assert "ours    docs:a: 5 of 9 bytes" in home.run("uploads").stdout
    (ours,) = list_uploads(home.settings, abort=True)["ours"]
    assert (ours["key"], ours["bytes_done"], ours["bytes_total"]) == ("a", 5, 9)
