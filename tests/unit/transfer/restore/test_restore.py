"""Objects come back as the files that they were, or with a reason; nothing outside the folder is touched."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from pathlib import Path
from shutil import which
from threading import Event

import pytest
import xxhash

from syncd.core.errors import AccessRefused, StoreUnavailable
from syncd.core.model import Attributes, Fingerprint, ObjectMeta
from syncd.core.paths import key_for
from syncd.core.restoring import DRAFT, Overwrite
from syncd.storage.base import ObjectStore
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from syncd.transfer.restore import restore as restoring
from syncd.transfer.restore.wanted import listed
from tests.support.faults import Call
from tests.support.store import FakeStore
from tests.support.waiting import wait_until
from tests.unit.transfer.restore.restoring import MTIME_NS, PART, content, put, reasons, restore, tree

SECOND = 10**9
EMPTY = Fingerprint(xxhash.xxh3_128_digest(b""), 0)


FILES: dict[bytes, bytes] = {
    b"plain.txt": b"hello",
    b"empty": b"",
    b"exactly a part": content(PART),
    b"large": content(5 * PART + 1234),
    b"sparse": bytes(3 * PART) + content(PART) + bytes(4 * PART),
    b"all zeros": bytes(9 * PART),
    b"not \xff\xfe UTF-8/\xe9": b"latin",
    "naïve-Ω-文件/🎞️.mov".encode(): b"film",
    "e\u0301".encode(): b"combining",
    "\u00e9".encode(): b"composed",
    "\u201bFF".encode(): b"quoted",
    b"\xe2\x80": b"half a character",
    b"new\nline\ttab\x1b": b"odd",
    b"  spaces  /+%2F?#&": b"odd",
    b"deep/" * 40 + b"file": b"deep",
    b"n" * 255: b"long",
    b"..dots/...": b"dots",
    b"A": b"upper",
    b"a": b"lower",
}


def fill(folder: Path, store: ObjectStore) -> None:
    """The same files in a folder, and in a store."""
    for number, (name, body) in enumerate(FILES.items()):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body)
        mtime_ns = MTIME_NS + number * SECOND
        os.utime(path, ns=(mtime_ns, mtime_ns))
        put(store, key_for("", os.fsdecode(name)), body, mtime_ns)


def test_what_was_carried_comes_back(store: ObjectStore, to: Path, tmp_path: Path) -> None:
    """Names of every kind, empty, large and sparse files, times: another program finds no difference.

    A second restore finds everything there, and asks for no content.
    """
    there = tmp_path / "there"
    there.mkdir()
    fill(there, store)
    report = restore(store, to)
    assert report.failures == []
    assert report.counts["restored"] == len(FILES)
    assert report.bytes_restored == sum(map(len, FILES.values()))
    if which("rsync"):
        command = [
            "rsync",
            "-ntrlXc",
            "--omit-dir-times",
            "--delete",
            "--itemize-changes",
            f"{there}/",
            f"{to}/",
        ]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == ""
    assert tree(to) == tree(there)

    again = restore(store, to)
    assert (again.counts["already_there"], again.counts["restored"]) == (len(FILES), 0)
    if isinstance(store, FakeStore):
        assert store.bytes_served <= report.bytes_restored


def test_holes_come_back(store: ObjectStore, to: Path) -> None:
    """Blocks of zeros take no space, in a small file and in parts of a large one."""
    bodies = {"small": bytes(PART), "large": bytes(20 * PART) + b"x" + bytes(20 * PART)}
    for name, body in bodies.items():
        put(store, name, body)
    assert restore(store, to).failures == []
    for name, body in bodies.items():
        assert (to / name).read_bytes() == body
        assert (to / name).stat().st_blocks * 512 <= PART + 4096


def test_modes_come_back_where_the_store_has_them(to: Path, tmp_path: Path) -> None:
    """Permission bits alone: neither setuid nor setgid, nor the sticky bit."""
    (tmp_path / "store").mkdir()
    store = DirStore(DirSettings(str(tmp_path / "store")))
    put(store, "private", b"x", mode=0o600)
    put(store, "program", b"x", mode=0o7751)
    put(store, "large", content(3 * PART), mode=0o444)
    assert restore(store, to).failures == []
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in to.iterdir()}
    assert modes == {"private": 0o600, "program": 0o751, "large": 0o444}


def test_a_file_has_the_mode_of_a_new_one_where_the_store_has_none(to: Path) -> None:
    """As any other program would make it, under the umask."""
    store = FakeStore()
    put(store, "a", b"x")
    before = os.umask(0o027)
    try:
        restore(store, to)
    finally:
        os.umask(before)
    assert stat.S_IMODE((to / "a").stat().st_mode) == 0o640


# ---- hostile keys -----------------------------------------------------------------------------------------

HOSTILE = {
    "../outside": "component ..",
    "a/../../outside": "component ..",
    "..": "component ..",
    "./a": "component .",
    "/etc/passwd": "absolute",
    "a//b": "empty component",
    "folder/": "empty component",
    "nul\0byte": "NUL",
    "\ud800 alone": "not text",
    "n" * 256: "File name too long",
    "x/" + "n" * 300 + "/y": "File name too long",
    "link/inside": "in the way of the folder",
    "link": "a symbolic link of this name",
    "dangling": "a symbolic link of this name",
    "file/below": "in the way of the folder",
    "taken": "a folder of this name",
    "fifo": "a fifo of this name",
    f"{DRAFT}1234.part": "unfinished",
    "\u201bquote": "another key has the same name",
}
HOSTILE |= {
    above * "x/" + name + below * "/y": "absolute path" if not (above or name) and below else why
    for name, why in (
        ("..", "component .."),
        (".", "component ."),
        ("", "empty component"),
        ("a\0", "NUL"),
        ("\ud800", "not text"),
        ("l" * 256, "File name too long"),
    )
    for above in range(4)
    for below in range(4)
    if name or above or below
}
assert len(HOSTILE) > 100


def test_hostile_keys_are_named_and_the_rest_goes_on(to: Path, tmp_path: Path) -> None:
    """Each has a reason; nothing outside the folder is written, read through or followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    to.mkdir()
    (to / "link").symlink_to(outside)
    (to / "dangling").symlink_to(outside / "made")
    (to / "file").write_bytes(b"file")
    (to / "taken" / "below").mkdir(parents=True)
    os.mkfifo(to / "fifo")
    store = FakeStore(page_size=5)
    for key in (*HOSTILE, "good", "z/good", "\u201b\u201bquote"):
        store.objects[key] = _object(b"content")
    for overwrite in Overwrite:
        report = restore(store, to, overwrite=overwrite)
        found = reasons(report)
        assert found.keys() == HOSTILE.keys()
        assert {key: found[key] for key, part in HOSTILE.items() if part not in found[key]} == {}
        assert report.counts["restored"] + report.counts["already_there"] == 3
    assert list(outside.iterdir()) == []
    assert sorted(os.listdir(tmp_path)) == ["outside", "to"]
    assert (to / "z" / "good").read_bytes() == b"content"
    assert (to / "\u201bquote").read_bytes() == b"content"
    assert (to / "file").read_bytes() == b"file"
    assert not [path for path in to.rglob("*") if path.name.startswith(DRAFT)]


def _object(body: bytes) -> object:
    scratch = FakeStore()
    put(scratch, "x", body)
    return scratch.objects["x"]


def test_no_key_whatever_it_is_leads_out_of_the_folder(to: Path, tmp_path: Path) -> None:
    """Hundreds of keys made of what is dangerous: each becomes a file below the folder, or has a reason."""
    chance = random.Random(16)
    pieces = ["..", ".", "", "a", "A", "b", "\x00", "\n", "‛", "‛FF", "\u202e", "-rf", "~", " ", "n" * 256]
    keys = {
        chance.choice(["", "/", "//"]) + "/".join(chance.choices(pieces, k=chance.randint(1, 5)))
        for _ in range(400)
    } - {""}
    store = FakeStore()
    for key in keys:
        store.objects[key] = _object(key.encode())
    report = restore(store, to)
    files = [path for path in to.rglob("*") if path.is_file()]
    assert sorted(os.listdir(tmp_path)) == ["to"]
    # How many there are depends on whether a file or a folder of its name comes first.
    assert report.counts["restored"] == len(files) > 10
    assert report.counts["restored"] + report.counts["failed"] == len(keys)
    assert {path.read_bytes().decode() for path in files} | {entry.key for entry in report.failures} == keys
    assert all(entry.reason for entry in report.failures)


@pytest.mark.parametrize("order", [("a", "a/b"), ("a/b", "a")])
def test_of_a_file_and_a_folder_of_one_name_one_is_reported(to: Path, order: tuple[str, str]) -> None:
    """A bucket may hold both, a file system cannot; the first comes back, the other is named."""
    store = FakeStore()
    for key in order:
        put(store, key, key.encode())
    items = sorted(listed(store, "", "", ""), key=lambda item: order.index(item.info.key))
    report = restore(store, to, items, concurrency=1)
    assert list(reasons(report)) == [order[1]]
    assert (to / order[0]).read_bytes() == order[0].encode()


def test_marks_of_folders_become_folders(to: Path) -> None:
    """As consoles make them; the mark of the restored folder itself makes nothing."""
    store = FakeStore()
    for key in ("p/", "p/empty/", "p/full/", "p/full/file", "p/deep/er/"):
        put(store, key, b"x" if key.endswith("file") else b"")
    would = restore(store, to, listed(store, "p/", "", ""), dry_run=True)
    assert sorted(entry.path for entry in would.planned) == ["deep/er", "empty", "full", "full/file"]
    report = restore(store, to, listed(store, "p/", "", ""))
    again = restore(store, to, listed(store, "p/", "", ""), dry_run=True)
    assert (again.planned, again.counts["folders"]) == ([], 4)
    assert tree(to) == {"empty": None, "full": None, "full/file": b"x", "deep": None, "deep/er": None}
    assert (report.counts["folders"], report.counts["restored"]) == (4, 1)


def test_folders_get_what_they_had_when_all_is_there(to: Path) -> None:
    """Rights that would keep files out, too; by a second restore, where the first was killed. One with files
    that was there, and has rights of its own, keeps them.
    """
    store = FakeStore()
    for key, mode in (("closed/", 0o500), ("sticky/", 0o3777), ("full/", 0o500), ("own/", 0o500)):
        meta = ObjectMeta(EMPTY, MTIME_NS, is_folder=True, attributes=Attributes(mode))
        store.put_object(key, b"", meta)
    for key in ("full/file", "full/below/file", "own/file"):
        put(store, key, b"x")
    (to / "own").mkdir(parents=True)
    (to / "own").chmod(0o770)
    (to / "own" / "mine").touch()
    expected = {"closed": 0o500, "sticky": 0o1777, "full": 0o500, "own": 0o770}
    for killed in (False, True, False):
        if killed:
            (to / "full").chmod(0o777 & ~umask())
            os.utime(to / "full")
        assert restore(store, to, listed(store, "", "", "")).failures == []
        found = {name: (to / name).stat() for name in expected}
        assert {name: stat.S_IMODE(each.st_mode) for name, each in found.items()} == expected
        assert [name for name, each in found.items() if each.st_mtime_ns != MTIME_NS] == ["own"]


def umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


# ---- files that are there ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overwrite", "seconds", "replaced"),
    [
        (Overwrite.NEVER, -100, False),
        (Overwrite.NEVER, 100, False),
        (Overwrite.OLDER, -100, True),
        (Overwrite.OLDER, 0, False),
        (Overwrite.OLDER, 100, False),
        (Overwrite.ALWAYS, 100, True),
        (Overwrite.ALWAYS, 0, True),
    ],
)
@pytest.mark.parametrize(("size", "there"), [(5, 5), (5, 6), (3 * PART, 3 * PART), (3 * PART, 5)])
def test_a_file_that_differs_is_replaced_only_when_told(
    to: Path, overwrite: Overwrite, seconds: int, replaced: bool, size: int, there: int
) -> None:
    """`older` compares its mtime with the object's. The same size and time do not prove the same content."""
    to.mkdir()
    store = FakeStore()
    put(store, "a", content(size))
    old = content(there, seed=1)
    (to / "a").write_bytes(old)
    mtime_ns = MTIME_NS + seconds * SECOND
    os.utime(to / "a", ns=(mtime_ns, mtime_ns))
    report = restore(store, to, overwrite=overwrite)
    assert report.failures == []
    assert report.counts["kept"] == (not replaced)
    assert (to / "a").read_bytes() == (content(size) if replaced else old)
    assert (to / "a").stat().st_mtime_ns == (MTIME_NS if replaced else mtime_ns)


def test_a_dry_run_says_what_a_restore_would_do_and_writes_nothing(store: ObjectStore, to: Path) -> None:
    """Not even the folder."""
    put(store, "a", b"x")
    put(store, "sub/b", content(3 * PART))
    report = restore(store, to, dry_run=True)
    assert sorted((entry.path, entry.size) for entry in report.planned) == [("a", 1), ("sub/b", 3 * PART)]
    assert not to.exists()
    restore(store, to)
    report = restore(store, to, dry_run=True)
    assert (report.planned, report.counts["already_there"]) == ([], 2)


# ---- going on ---------------------------------------------------------------------------------------------


def test_a_store_that_is_away_ends_the_restore(to: Path) -> None:
    """After several objects in a row, not after all of them."""
    store = FakeStore()
    for number in range(100):
        put(store, f"{number:03}", b"x")
    store.fail("get_object", StoreUnavailable("away"), times=None)
    report = restore(store, to)
    assert isinstance(report.gave_up, StoreUnavailable)
    assert restoring.MOST_OUTAGES <= store.calls["get_object"] < 50


def test_a_store_that_answers_now_and_then_does_not_end_the_restore(to: Path) -> None:
    """Only objects in a row count."""
    store = FakeStore()
    for number in range(60):
        put(store, f"{number:03}", b"x")
    store.fail("get_object", StoreUnavailable("away"), times=None, when=lambda call: call.nth % 3 > 0)
    report = restore(store, to, concurrency=1)
    assert (report.gave_up, report.counts["restored"], report.counts["failed"]) == (None, 20, 40)


def test_refused_keys_end_the_restore_at_once(to: Path) -> None:
    """Nothing will work with them."""
    store = FakeStore()
    for number in range(100):
        put(store, f"{number:03}", b"x")
    store.fail("get_object", AccessRefused("bad key"), times=None)
    report = restore(store, to)
    assert isinstance(report.gave_up, AccessRefused)
    assert store.calls["get_object"] < 50


def test_a_listing_that_fails_is_no_end_of_it(to: Path) -> None:
    """What was listed is restored, and the report has the error."""
    store = FakeStore(page_size=2)
    for key in "abcd":
        put(store, key, b"x")
    store.fail("list_objects", StoreUnavailable("away"), nth=2)
    report = restore(store, to)
    assert isinstance(report.gave_up, StoreUnavailable)
    assert sorted(tree(to)) == ["a", "b"]


def test_a_stop_leaves_no_half_file(to: Path) -> None:
    """The draft of a large object stays for the next restore; nothing else."""
    store = FakeStore()
    put(store, "a", content(40 * PART))
    put(store, "b", b"x")
    stopping = Event()
    store.before("get_object", lambda call: stopping.set() if call.nth == 9 else None)
    report = restore(store, to, stopping=stopping)
    assert report.interrupted
    assert report.failures == []
    assert [name for name in os.listdir(to) if not name.startswith(DRAFT)] in ([], ["b"])
    assert restore(store, to).failures == []
    assert sorted(os.listdir(to)) == ["a", "b"]


def put_link(store: ObjectStore, key: str, target: bytes) -> None:
    content = Fingerprint(xxhash.xxh3_128_digest(target), len(target))
    store.put_object(key, target, ObjectMeta(content, MTIME_NS, is_link=True))


def test_links_come_back_and_are_never_followed(store: ObjectStore, to: Path, tmp_path: Path) -> None:
    """Whatever they lead to; what is there counts, and another link stays unless it may be replaced."""
    put_link(store, "d/link.rclonelink", b"../\xff")
    put_link(store, "out.rclonelink", os.fsencode(tmp_path))
    put(store, "d/file", b"x")
    assert restore(store, to).counts["restored"] == 3
    assert os.readlink(os.fsencode(to / "d" / "link")) == b"../\xff"
    assert (to / "d" / "link").lstat().st_mtime_ns == MTIME_NS
    assert restore(store, to).counts["already_there"] == 3
    if not isinstance(store, DirStore):  # which holds no file behind a link
        put(store, "out/file", b"x")
        assert "in the way" in reasons(restore(store, to))["out/file"]
        (to / "out").unlink()
        for _ in range(2):  # whatever comes first, and when it is there
            report = restore(store, to)
            assert list(reasons(report)) == ["out"]
            assert "files of a folder of this name" in reasons(report)["out"]
            assert (to / "out" / "file").read_bytes() == b"x"
        store.delete_object("out/file")
        (to / "out" / "file").unlink()
        (to / "out").rmdir()
        assert restore(store, to).counts["restored"] == 1
    assert not (tmp_path / "file").exists()
    (to / "d" / "link").unlink()
    (to / "d" / "link").symlink_to("other")
    assert restore(store, to).counts["kept"] == 1
    assert restore(store, to, overwrite=Overwrite.ALWAYS, dry_run=True).counts["restored"] == 1
    assert os.readlink(to / "d" / "link") == "other"
    assert restore(store, to, overwrite=Overwrite.ALWAYS).counts["restored"] == 1
    assert os.readlink(os.fsencode(to / "d" / "link")) == b"../\xff"
    (to / "out").unlink()
    (to / "out").mkdir()
    assert "not a symbolic link" in reasons(restore(store, to))["out"]


def test_what_no_link_can_lead_to_comes_back_as_a_file(to: Path) -> None:
    """Anybody may have made the object; whatever follows it is restored."""
    store = FakeStore()
    put_link(store, "a.rclonelink", b"some\0where")
    put_link(store, "b.rclonelink", b"there")
    assert restore(store, to).counts["restored"] == 2
    assert (to / "a.rclonelink").read_bytes() == b"some\0where"
    assert os.readlink(to / "b") == "there"
    assert restore(store, to).counts["already_there"] == 2


def test_a_file_from_when_links_were_not_carried_comes_back_as_a_file(store: ObjectStore, to: Path) -> None:
    """It has the key of a link, and does not say that it is one."""
    put(store, "a.rclonelink", b"content")
    put(store, "b\u201b.rclonelink", b"content")
    assert restore(store, to).counts["restored"] == 2
    assert tree(to) == {"a.rclonelink": b"content", "b.rclonelink": b"content"}


def test_small_files_have_their_names_before_a_large_one_is_there(to: Path) -> None:
    """They wait for each other, to become durable together; a large file may take hours."""
    store = FakeStore()
    put(store, "large", content(5 * PART))
    put(store, "small", b"x")
    arrived: list[bool] = []

    def wait(call: Call) -> None:
        if call.key == "large" and not arrived:
            wait_until("the small file has its name", lambda: (to / "small").exists())
            arrived.append(True)

    store.before("get_object", wait)
    restore(store, to)
    assert arrived
    assert tree(to) == {"large": content(5 * PART), "small": b"x"}
