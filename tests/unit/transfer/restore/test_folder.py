"""Nothing is written outside of the folder, nor where it must not be, whatever stands in the way."""

from __future__ import annotations

import errno
import os
import resource
import tracemalloc
from contextlib import closing, suppress
from pathlib import Path

import pytest

from syncd.core.errors import FileUnwritable
from syncd.core.model import Attributes
from syncd.core.parts import Span
from syncd.core.restoring import DRAFT, Overwrite, Proof
from syncd.transfer.restore import attributes
from syncd.transfer.restore import draft as drafts
from syncd.transfer.restore import folder as folders
from syncd.transfer.restore.digest import digest_of_body
from syncd.transfer.restore.draft import name_of_draft
from syncd.transfer.restore.folder import Folder
from syncd.transfer.restore.restore import LARGE_AT_ONCE
from syncd.transfer.restore.wanted import listed
from tests.support.faults import Call
from tests.support.mounting import formatted, tmpfs
from tests.support.rig import open_paths
from tests.support.store import FakeStore
from tests.unit.transfer.restore.restoring import MTIME_NS, PART, content, put, reasons, restore, tree


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "mount"),
    [
        (("mkntfs", "-F", "-Q"), ("lowntfs-3g", "-o", "ignore_case")),
        (("mkfs.vfat",), ("mount", "-t", "vfat", "-o", "utf8=1")),
        (("mkfs.exfat",), ("mount.exfat-fuse",)),
    ],
)
def test_two_keys_that_are_one_name_on_this_file_system_are_told_apart(
    tmp_path: Path, make: tuple[str, ...], mount: tuple[str, ...]
) -> None:
    """Where case means nothing, the second key is reported: it never replaces what the first became.

    All else comes back there, and is recognised.
    """
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 64 << 20)
    with formatted(disk, tmp_path / "mnt", make, mount) as at:
        store = FakeStore()
        bodies = {
            "PHOTO.JPG": b"upper",
            "large": content(5 * PART) + bytes(4 * PART),
            "sub/file": b"x",
            "e": b"",
        }
        for key, body in {**bodies, "photo.jpg": b"lower"}.items():
            put(store, key, body)
        for overwrite in (Overwrite.ALWAYS, Overwrite.NEVER):
            report = restore(store, at / overwrite.value, overwrite=overwrite, concurrency=1)
            assert reasons(report) == {
                "photo.jpg": "another key has the same name here: restore this one to another folder"
            }
            found = tree(at / overwrite.value)  # one of the file systems lists what it was told in lower case
            assert {name.lower(): body for name, body in found.items() if body is not None} == {
                name.lower(): body for name, body in bodies.items()
            }
        again = restore(
            store, at / "always", [item for item in listed(store, "", "", "") if item.path in bodies]
        )
        assert again.counts["already_there"] == len(bodies)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_file_that_another_key_became_is_never_replaced(
    to: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """The first key has the name, also before its file is there: the others are reported."""
    monkeypatch.setattr(folders, "_ignores", lambda root: (True, False))
    store = FakeStore()
    for key in ("Sub/A", "a", "Sub/a", "sub/a", "A"):
        put(store, key, key.encode())
    items = list(listed(store, "", "", ""))
    report = restore(store, to, items, overwrite=Overwrite.ALWAYS, concurrency=concurrency)
    assert len(reasons(report)) == 3
    assert set(reasons(report).values()) == {
        "another key has the same name here: restore this one to another folder"
    }
    files = [path.relative_to(to) for path in to.rglob("*") if path.is_file()]
    assert {str(path) for path in files} | set(reasons(report)) == {item.path for item in items}


def test_a_file_is_the_same_only_if_it_is_the_one_that_was_looked_at(to: Path) -> None:
    """Another inode, or a later change, is another file, whatever its content."""
    to.mkdir()
    (to / "a").write_bytes(b"same")
    proof = Proof("crc32", digest_of_body(b"same", "crc32"))
    with closing(Folder(os.path.realpath(to), {}, create=False)) as folder:
        seen = folder.look("a")
        assert seen is not None
        assert folder.has("a", seen, proof)
        assert not folder.has("a", seen._replace(identity=(0, 0, 0)), proof)
        assert not folder.has("gone/a", seen, proof)


def test_this_file_system_tells_names_apart(to: Path) -> None:
    """The probe finds nothing where case and accents count, and leaves nothing behind."""
    with closing(Folder(os.path.realpath(to), {}, create=True)) as folder:
        assert folder._ignores == (False, False)
    assert os.listdir(to) == []


def test_a_link_that_takes_the_place_of_a_folder_is_not_followed(to: Path, tmp_path: Path) -> None:
    """However late: each file looks at every component again."""
    (tmp_path / "outside").mkdir()
    store = FakeStore()
    for name in ("sub/a", "sub/b", "sub/c"):
        put(store, name, b"x")

    def swap(call: Call) -> None:
        if call.nth == 2:
            (to / "sub").rename(tmp_path / "moved")
            (to / "sub").symlink_to(tmp_path / "outside")

    store.before("get_object", swap)
    report = restore(store, to, concurrency=1)
    assert report.counts["restored"] == 1
    assert sorted(reasons(report)) == ["sub/b", "sub/c"]
    assert os.listdir(tmp_path / "outside") == []


def test_a_file_that_changes_before_it_is_replaced_is_kept(to: Path) -> None:
    """What was decided about it was about another file."""
    to.mkdir()
    store = FakeStore()
    for name in ("a", "b"):
        put(store, name, b"stored")
    (to / "a").write_bytes(b"old")

    def change(call: Call) -> None:
        (to / call.key).write_bytes(b"written in between")

    store.before("get_object", change)
    report = restore(store, to, overwrite=Overwrite.ALWAYS)
    assert sorted(reasons(report)) == ["a", "b"]
    assert {path.read_bytes() for path in to.iterdir()} == {b"written in between"}
    assert sorted(os.listdir(to)) == ["a", "b"]


@pytest.mark.parametrize("now", ["file", "link", "nothing"])
def test_a_link_that_changes_before_it_is_replaced_is_kept(to: Path, now: str) -> None:
    """As a file is; nothing of ours is left beside it, nor what a restore that died there left."""
    to.mkdir()
    (to / "a").symlink_to("old")
    (to / name_of_draft("", "a")).symlink_to("left")
    with closing(Folder(os.path.realpath(to), {}, create=True)) as folder:
        existing = folder.look_link("a")
        (to / "a").unlink()
        if now == "file":
            (to / "a").write_text("mine")
        elif now == "link":
            (to / "a").symlink_to("mine")
        with pytest.raises(FileUnwritable):
            folder.link("a", b"new", existing, (None, Attributes()))
        assert os.listdir(to) == ([] if now == "nothing" else ["a"])
        if now == "link":
            folder.link("a", b"new", folder.look_link("a"), (None, Attributes()))
            assert (to / "a").readlink() == Path("new")


def test_a_file_that_cannot_be_read_is_kept(to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its own mode wants it, after the first restore: the second one has nothing to complain of."""
    store = FakeStore()
    put(store, "a", b"closed")
    restore(store, to)
    really = os.open

    def refuses(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if path == "a" and not flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "no")
        return really(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuses)
    report = restore(store, to)
    assert (report.counts["kept"], report.counts["failed"]) == (1, 0)


def test_a_folder_that_takes_no_attributes_is_named(to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others get theirs."""

    def refuses(fd: int, wanted: Attributes, mode: int, *, special: bool) -> list[str]:
        if wanted.uid == 1:
            raise PermissionError(errno.EPERM, "no")
        return []

    monkeypatch.setattr(folders, "give", refuses)
    with closing(Folder(os.path.realpath(to), {}, create=True)) as folder:
        for name, uid in (("refused", 1), ("taken", 2)):
            folder.make(name, (10**18, Attributes(uid=uid)))
        folder.furnish()
        assert list(folder.incomplete) == ["refused"]
    assert (to / "taken").stat().st_mtime_ns == 10**18


def test_an_object_that_is_said_to_be_huge_takes_no_memory(to: Path) -> None:
    """What a store says of sizes costs nothing before a part has come."""
    to.mkdir()
    tracemalloc.start()
    with (
        closing(Folder(str(to), {}, create=True)) as folder,
        folder.draft("a", name_of_draft("", "a")) as draft,
    ):
        draft.prepare(1 << 42, 1 << 20, bytes(16))
        assert not draft.has(Span(1, 0, 1 << 20))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


@pytest.mark.slow
def test_a_full_disk_ends_the_restore_and_leaves_no_half_file(tmp_path: Path) -> None:
    """It is not tried for each of the other files; what was restored is whole."""
    store = FakeStore()
    for number in range(40):
        put(store, f"{number:02}", content(100_000, number))
    with tmpfs(tmp_path / "small", "1m") as small:
        report = restore(store, small / "to", concurrency=1)
        assert isinstance(report.gave_up, FileUnwritable)
        assert "No space left" in str(report.gave_up)
        assert 1 <= report.counts["failed"] <= LARGE_AT_ONCE
        found = {name: body for name, body in tree(small / "to").items() if not name.startswith(DRAFT)}
        assert found == {name: content(100_000, int(name)) for name in found}
        assert len(found) == report.counts["restored"] > 0


def test_a_link_of_any_name_is_made_and_replaced(to: Path) -> None:
    """Also of one that is no UTF-8."""
    name, facts = "link \udcff", (MTIME_NS, Attributes())
    with closing(Folder(os.path.realpath(to), {}, create=True)) as folder:
        for target in (b"first", b"second"):
            folder.link(name, target, folder.look_link(name), facts)
    assert os.readlink(to / name) == "second"
    assert os.listdir(to) == [name]


@pytest.mark.parametrize("error", ["EACCES", "ENOSPC"])
def test_an_error_of_the_file_system_is_of_one_file_or_of_all(to: Path, error: str) -> None:
    """A folder that may not be written concerns its files; a full disk everything."""
    number = getattr(errno, error)

    def refuse() -> None:
        with folders._ERRORS_OF_OURS:
            raise OSError(number, os.strerror(number))

    with pytest.raises(FileUnwritable, match=os.strerror(number)) as refusal:
        refuse()
    assert refusal.value.every_file is (error == "ENOSPC")


@pytest.mark.parametrize(
    ("error", "words", "stays"),
    [
        (errno.EINVAL, "the name that this file system does not take", False),
        (errno.EILSEQ, "this file system does not take the name", False),
        (errno.ENOSPC, "free some space", True),
    ],
)
def test_a_name_that_the_file_system_does_not_take_leaves_nothing(
    to: Path, monkeypatch: pytest.MonkeyPatch, error: int, words: str, stays: bool
) -> None:
    """As FAT takes no question mark; the rest goes on. What a full disk stopped stays for the next time."""
    store = FakeStore()
    for name in ("large?", "small", *(f"{number}?" for number in range(9))):
        put(store, name, content(3 * PART) if name == "large?" else b"x")
    monkeypatch.setattr(attributes, "give", lambda *_, **__: ["mode: refused"])
    rename = drafts._rename_new

    def named(directory: int, old: str, new: str) -> None:
        if "?" in new:
            raise OSError(error, os.strerror(error))
        rename(directory, old, new)

    monkeypatch.setattr(drafts, "_rename_new", named)
    incomplete: dict[str, str] = {}
    close = Folder.close

    def closed(folder: Folder) -> None:
        incomplete.update(folder.incomplete)
        close(folder)

    monkeypatch.setattr(Folder, "close", closed)
    report = restore(store, to, [*listed(store, "", "", "")][::-1], concurrency=1)
    assert words in reasons(report)["large?"]
    assert incomplete.keys() <= {"small"}, "what has no name is not half restored"
    found = tree(to)
    assert found.pop("small") == b"x"
    assert [name.startswith(DRAFT) for name in found] == [True] * stays


def test_a_file_that_is_larger_than_may_be_leaves_nothing_and_the_rest_goes_on(to: Path) -> None:
    """As with 4 GiB on FAT."""
    store = FakeStore()
    put(store, "large", content(30 * PART))
    put(store, "small", b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * PART, hard))
    try:
        report = restore(store, to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "allows no file so large" in reasons(report)["large"]
    assert tree(to) == {"small": b"x"}


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_file_system_without_links_is_named(to: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """FAT refuses them as if it were a matter of permission."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "symlink", refuse)
    with (
        closing(Folder(str(to), {}, create=True)) as folder,
        pytest.raises(FileUnwritable, match="no symbolic"),
    ):
        folder.link("link", b"target", None, (None, Attributes()))


def test_a_failed_restore_leaves_no_descriptor_open_even_if_its_draft_stays(
    to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full or read-only by now may not let the draft go either: the other files need the
    descriptors.
    """

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    facts, outcomes = (MTIME_NS, Attributes()), []
    with closing(Folder(os.path.realpath(to), {}, create=True)) as folder:
        folder.write_soon("in/a", DRAFT + "a", b"x", None, facts, outcomes.append)
        folder.settle()
        before = open_paths()  # with that of the folder's last directory
        with monkeypatch.context() as disk:
            disk.setattr(os, "unlink", refuse)
            for failing in ("write", "finish", "sync", "place"):
                disk.setattr(drafts.Draft, failing, refuse)
                with suppress(FileUnwritable):
                    folder.write_soon(f"in/{failing}", DRAFT + failing, b"x", None, facts, outcomes.append)
                    folder.settle()
                assert open_paths() == before
    assert "a" in os.listdir(to / "in")
