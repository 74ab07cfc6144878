"""The commands that only look: verify, uploads, check, status."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.cli import reports
from syncd.cli.one_pass import Overrides
from syncd.cli.sync import sync
from syncd.config import load as config
from syncd.core.errors import AccessRefused, StateError, StoreRefused, StoreUnavailable
from syncd.core.model import Checkpoint, ObjectMeta, Source
from syncd.daemon import control
from syncd.daemon.control import ControlServer
from syncd.sources.fingerprint import of_bytes
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from syncd.transfer import audit as verify
from syncd.transfer import orphans as uploads
from tests.support.rig import Rig

# ---- verify, on a store in memory -------------------------------------------------------------------------


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.engine._now_ns = lambda: time.time_ns() + 10**10  # type: ignore[method-assign]  # nothing is young
    yield rig
    rig.close()


def carry(rig: Rig, *names: str) -> None:
    for name in names:
        rig.write(name, b"c-" + name.encode())
        rig.sync(name)


def differences(rig: Rig, *, read: bool = False) -> dict[str, tuple[str, bool]]:
    found = {}
    for each in verify.verify(rig.source, rig.state, rig.store, read=read, threads=2):
        found.update({item.ref.path: (item.what, item.serious) for item in each})
    return found


def test_what_is_as_recorded_has_no_difference(rig: Rig) -> None:
    """Each file is told of once."""
    carry(rig, "a", "b", "c")
    assert list(verify.verify(rig.source, rig.state, rig.store, read=True, threads=2)) == [[], [], []]


def test_a_missing_object_is_serious(rig: Rig) -> None:
    """The store does not hold what we said that it holds."""
    carry(rig, "a", "b")
    del rig.fake.objects["p/a"]
    assert differences(rig) == {"a": ("the object is missing", True)}


def test_an_object_of_another_size_is_serious(rig: Rig) -> None:
    """With both sizes."""
    carry(rig, "a")
    rig.fake.tamper("p/a", b"longer than before")
    assert differences(rig) == {"a": ("the object has 18 bytes, recorded are 3", True)}


def test_an_object_of_another_content_is_serious(rig: Rig) -> None:
    """Its metadata says another fingerprint."""
    carry(rig, "a", "b")
    rig.fake.objects["p/a"] = replace(rig.fake.objects["p/b"], data=b"c-b")
    assert differences(rig) == {"a": ("the object has another fingerprint", True)}


def test_an_object_without_our_metadata_and_with_another_etag_is_serious(rig: Rig) -> None:
    """Somebody else wrote it, and nothing proves what it is."""
    carry(rig, "a")
    real = rig.fake.head_object

    def stripped(key: str) -> Any:
        info = real(key)
        assert info is not None
        return replace(info, digest=None, etag="another")

    rig.fake.head_object = stripped  # type: ignore[method-assign]
    assert differences(rig) == {"a": ("the object was written by somebody else", True)}


def test_an_object_that_was_written_anew_with_the_same_content_is_a_note(rig: Rig) -> None:
    """Some servers change the ETag of an object by themselves."""
    carry(rig, "a")
    rig.fake.objects["p/a"].etag = "another"
    assert differences(rig) == {"a": ("the object was written anew, with the same fingerprint", False)}


def test_an_object_that_the_store_does_not_tell_of_is_serious_and_stops_nothing(rig: Rig) -> None:
    """One forbidden key does not end the comparison."""
    carry(rig, "a", "b")
    rig.fake.fail("head_object", StoreRefused("no", status=403), when=lambda call: call.key == "p/a")
    assert differences(rig) == {"a": ("the store does not tell: no (403)", True)}


def test_a_store_that_cannot_be_used_ends_the_comparison_at_once(rig: Rig) -> None:
    """Not after as many requests as there are files."""
    carry(rig, *(f"f{number}" for number in range(200)))
    rig.fake.reset_counters()
    rig.fake.fail("head_object", AccessRefused("bad key"), times=None)
    with pytest.raises(AccessRefused):
        differences(rig)
    assert rig.fake.calls["head_object"] < 200


@pytest.mark.parametrize("change", ["gone", "changed", "directory", "unreadable"])
def test_a_file_that_went_on_living_is_a_note(rig: Rig, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon will see it; the store is as recorded."""
    carry(rig, "a")
    path = rig.folder / "a"
    if change == "changed":
        path.write_bytes(b"other")
    elif change != "unreadable":
        path.unlink()
    if change == "directory":
        path.mkdir()
    if change == "unreadable":
        path.write_bytes(b"other")

        def refuse(root_fd: int, path: str) -> None:
            raise verify.FileError("permission denied")

        monkeypatch.setattr("syncd.sources.files.open_file", refuse)
    words = {
        "gone": "the file is gone, its object is kept",
        "changed": "the file has changed since",
        "directory": "the file is now a directory",
        "unreadable": "the file cannot be read: permission denied",
    }
    assert differences(rig, read=change == "unreadable") == {"a": (words[change], False)}


def test_content_that_changed_without_a_trace_is_found_by_reading(rig: Rig) -> None:
    """Bit rot, or a store through a memory map: serious, since no scan will ever see it."""
    carry(rig, "a")
    path = rig.folder / "a"
    before = path.stat()
    path.write_bytes(b"c-B")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    now = path.stat()
    rig.state.commit(rig.ref("a"), replace(row, stat=row.stat._replace(ctime_ns=now.st_ctime_ns)))
    assert differences(rig) == {}
    assert differences(rig, read=True) == {"a": ("the file's content changed, but not its stat", True)}


def test_a_record_about_another_store_is_a_note(rig: Rig) -> None:
    """After a change of the configuration, before the next scan."""
    carry(rig, "a")
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    rig.state.commit(rig.ref("a"), replace(row, store_id="s3:elsewhere"))
    assert differences(rig) == {"a": ("its object is in another store: s3:elsewhere", False)}


def test_without_the_root_the_store_is_compared_all_the_same(rig: Rig) -> None:
    """A disk that is not there is no reason not to look at the backup."""
    carry(rig, "a", "b")
    del rig.fake.objects["p/b"]
    rig.folder.rename(rig.folder.with_name("away"))
    found = differences(rig)
    assert found["b"] == ("the object is missing", True)
    assert "cannot be opened" in found[""][0]
    assert set(found) == {"", "b"}


def test_more_files_than_a_page_are_all_compared(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exactly once."""
    monkeypatch.setattr(verify, "_PAGE", 3)
    names = [f"f{number}" for number in range(10)]
    carry(rig, *names)
    rig.fake.objects.clear()
    assert sorted(differences(rig)) == names


def test_objects_that_no_record_knows_are_notes(rig: Rig) -> None:
    """Of files that are long gone, or of somebody else; what another source owns is not among them."""
    carry(rig, "a")
    meta = rig.fake.objects["p/a"].meta
    for key in ("p/lost", "p/inner/x", "p/\x00odd", "q/elsewhere"):
        rig.fake.put_object(key, b"x", meta)
    inner = Source("inner", "/y", "store", prefix="p/inner/")
    found = list(verify.unknown(rig.source, rig.state, rig.store, [rig.source, inner]))
    assert [each.ref.path for each in found] == ["p/\x00odd", "lost"]
    assert not any(each.serious for each in found)


# ---- unfinished uploads -----------------------------------------------------------------------------------


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
    found = list(uploads.orphans("nas", rig.store, sources, rig.state))
    assert [(each.store, each.upload.upload_id) for each in found] == [("nas", lost)]
    assert [each.key for each in uploads.ours(rig.state)] == ["p/big", "p/beginning"]


# ---- with a configuration ---------------------------------------------------------------------------------


class Home:
    """A configuration on a directory store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("watched", "mirror"):
            (root / name).mkdir()
        source = {"name": "docs", "path": "./watched", "store": "mirror", "settle": "100ms"}
        self.content: dict[str, Any] = {
            "state_dir": "./state",
            "stores": {"mirror": {"type": "dir", "path": "./mirror"}},
            "sources": [source],
            "transfer": {"concurrency": 2},
        }

    @property
    def settings(self) -> config.Settings:
        file = self.root / "config.yaml"
        file.write_text(yaml.safe_dump(self.content))
        return config.load(str(file), {})

    def sync(self) -> int:
        return sync(self.settings, Overrides(), threading.Event(), terminal=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_verify_counts_and_tells(home: Home) -> None:
    """Every difference as it is found, and how many there were of which kind."""
    for name in ("a", "b", "c"):
        (home.root / "watched" / name).write_text(name)
    assert home.sync() == 0
    (home.root / "mirror" / "a").unlink()
    (home.root / "mirror" / "stray").write_text("x")
    (home.root / "watched" / "b").write_text("changed")
    told: list[dict[str, Any]] = []
    assert reports.verify(home.settings, read=False, tell=told.append) == {
        "files": 3,
        "serious": 1,
        "notes": 2,
    }
    assert sorted((row["path"], row["serious"]) for row in told) == [
        ("a", True),
        ("b", False),
        ("stray", False),
    ]
    json.dumps(told)


def test_uploads_lists_and_aborts(home: Home) -> None:
    """Orphans stay until somebody says that they should go."""
    store = DirStore(DirSettings(str(home.root / "mirror")))
    upload_id = store.create_multipart_upload("lost", ObjectMeta(of_bytes(b""), 0))
    for abort in (False, True):
        outcome = reports.uploads(home.settings, abort=abort)
        assert outcome["ours"] == []
        (orphan,) = outcome["orphans"]
        assert (orphan["store"], orphan["upload_id"], orphan["aborted"]) == ("mirror", upload_id, abort)
    assert reports.uploads(home.settings, abort=True)["orphans"] == []


def test_check_passes_where_everything_is_right(home: Home) -> None:
    """And leaves nothing in the store."""
    found: list[tuple[str, bool | None]] = []
    code = reports.check(
        home.settings, lambda name, passed, detail: found.append((name, passed)), thorough=False
    )
    assert code == 0
    assert ("mirror: writable", True) in found
    assert [path for path in os.listdir(home.root / "mirror") if path != ".syncd"] == []


def test_check_says_what_is_wrong_with_a_store_by_its_exit_code(home: Home) -> None:
    """A directory that is not there is a store that cannot be reached."""
    settings = home.settings
    (home.root / "mirror").rmdir()
    found: list[tuple[str, bool | None, str]] = []
    assert reports.check(settings, lambda *row: found.append(row), thorough=False) == 69
    assert any(name == "store mirror" and passed is False for name, passed, _ in found)


def test_the_status_comes_from_the_daemon_where_one_answers(home: Home) -> None:
    """Else from the state; and a daemon that answers nonsense is told of."""
    os.makedirs(home.settings.state_dir)
    assert not reports.current(home.settings).daemon.running
    empty: dict[str, Any] = {"sources": [], "in_flight": [], "failures": [], "totals": {}}
    server = ControlServer(home.settings.state_dir, lambda request: {"daemon": {"running": True}, **empty})
    server.start()
    assert reports.current(home.settings).daemon.running
    server.stop()
    server = ControlServer(home.settings.state_dir, lambda request: {"daemon": {"running": True}})
    server.start()
    assert "cannot be read" in str(reports.current(home.settings).daemon.error)
    server.stop()
    server = ControlServer(home.settings.state_dir, lambda request: {"error": "busy"})
    server.start()
    daemon = reports.current(home.settings).daemon
    assert (daemon.running, daemon.error) == (False, "busy")
    server.stop()


def test_a_daemon_that_hangs_does_not_hang_who_asks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the state answers instead."""
    os.makedirs(home.settings.state_dir)
    release = threading.Event()

    def hang(request: dict[str, Any]) -> dict[str, Any]:
        release.wait(30)
        return {}

    server = ControlServer(home.settings.state_dir, hang)
    server.start()
    monkeypatch.setattr(control, "_SECONDS", 0.2)
    assert "timed out" in str(reports.current(home.settings).daemon.error)
    release.set()
    monkeypatch.setattr(control, "_SECONDS", 30.0)
    server.stop()


def test_one_file_is_found_by_its_path(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative, through a link to its directory; and one of nobody's is nobody's."""
    (home.root / "watched" / "d").mkdir()
    (home.root / "watched" / "d" / "a").write_text("x")
    (home.root / "link").symlink_to(home.root / "watched" / "d")
    assert home.sync() == 0
    monkeypatch.chdir(home.root)
    for path in (str(home.root / "watched/d/a"), "watched/d/../d/a", "link/a"):
        found = reports.of_path(home.settings, path)
        assert found is not None
        assert (found["path"], found["recorded"]["size"]) == ("d/a", 1)
    assert reports.of_path(home.settings, "mirror/d/a") is None


def test_a_state_that_may_not_be_read_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an empty answer."""
    settings = home.settings

    def refuse(directory: str, now_ns: object) -> None:
        raise StateError("the state directory cannot be read")

    monkeypatch.setattr(reports.once, "state_for_reading", refuse)
    with pytest.raises(StateError):
        reports.current(settings)
