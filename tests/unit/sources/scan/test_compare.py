"""A scan tells what differs between disk and records, and takes nothing for gone that it could not see."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core import paths, patterns
from syncd.core.errors import StateError
from syncd.core.model import FileRef, FileStat, Fingerprint, Irregular, Recorded, RootIdentity, Source
from syncd.sources import entries
from syncd.sources.root import check_root
from syncd.sources.scan import compare, walk
from syncd.sources.scan.compare import ScanReport
from syncd.state.state import State
from tests.support import mounting
from tests.support.waiting import running

DEADLINE_SECONDS = 60.0
STORE = "store"
PREFIX = "pre/"
CONTENT = Fingerprint(b"c" * 16, 5)


@dataclass
class Told:
    """What a scan tells, kept."""

    found: dict[str, tuple[FileStat, Recorded | None]] = field(default_factory=dict)
    absent: dict[str, Recorded] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: list[tuple[str, int]] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    report: ScanReport = field(default_factory=lambda: ScanReport(0, 0, 0, 0, {}, 0, False, "not run"))


class Sink:
    """Nothing may be told twice, except of names that change during the scan."""

    def __init__(self, *, twice: bool = False) -> None:
        self.told = Told()
        self._twice = twice

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        assert self._twice or ref.path not in self.told.found
        self.told.found[ref.path] = (stat, recorded)

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        assert ref.path not in self.told.absent
        self.told.absent[ref.path] = recorded

    def skipped(self, ref: FileRef, reason: str) -> None:
        self.told.skipped[ref.path] = reason

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        assert source == "s"
        self.told.unreadable.append((path, error.errno or 0))

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        self.told.hidden.append(path)


class Tree:
    """A source with its state."""

    def __init__(self, root: Path, state: State) -> None:
        self.root = root
        self.state = state
        self.source = Source("s", str(root), "store", PREFIX)

    def write(self, *names: str | bytes) -> None:
        for name in names:
            path = self.root / os.fsdecode(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")

    def scan(
        self,
        *,
        subtree: str = "",
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        should_stop: Callable[[], bool] = lambda: False,
        prefix: str = PREFIX,
        store_id: str = STORE,
        sink: Sink | None = None,
        keeps_folders: bool = False,
    ) -> Told:
        sink = sink or Sink()
        sink.told.report = compare.scan(
            replace(self.source, prefix=prefix),
            patterns.Rules(
                include,
                exclude,
                temporary=self.source.exclude_temporary,
                folders=self.source.records_folders,
                full_folders=self.source.records_full_folders,
            ),
            self.state,
            sink,
            subtree=subtree,
            should_stop=should_stop,
            store_id=store_id,
            keeps_folders=keeps_folders,
        )
        return sink.told

    def record(self, *names: str, **changes: object) -> None:
        """As an upload would: what is on the disk now counts as recorded."""
        for name in names:
            found = os.stat(self.root / name, follow_symlinks=False)
            stat = FileStat(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            recorded = Recorded(stat, CONTENT, STORE, paths.key_for(PREFIX, name), "etag", 1)
            recorded = replace(recorded, **changes)  # type: ignore[arg-type]
            self.state.commit(FileRef("s", name), recorded, durable=False)
        self.state.flush()

    def record_all(self) -> None:
        """Everything that a scan finds."""
        self.record(*self.scan().found)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "root").mkdir()
    state = State.open(str(tmp_path / "state"), now_ns=time.time_ns)
    state.learn("x", "y", "z")  # SQLite opens its log with the first write
    before = len(os.listdir("/proc/self/fd"))
    yield Tree(tmp_path / "root", state)
    assert len(os.listdir("/proc/self/fd")) <= before
    state.close()


NOTHING: tuple[dict[str, object], ...] = ({}, {})


# ---- what differs -----------------------------------------------------------------------------------------


def test_everything_new_is_found(tree: Tree) -> None:
    """Files that were never recorded are found with their stat, at any depth and with any name."""
    names = ["a", "a.b/c", "d/e/f", "\udcff/\udcfe\n", "é/ü", "‛"]
    tree.write(*names)

    told = tree.scan()

    assert sorted(told.found) == sorted(names)
    for name, (stat, recorded) in told.found.items():
        found = os.stat(tree.root / name)
        assert stat == FileStat(found.st_dev, found.st_ino, 5, found.st_mtime_ns, found.st_ctime_ns)
        assert recorded is None
    assert told.report == ScanReport(6, 6, 6, 0, {}, 0, complete=True, doubt=None)


def test_nothing_is_told_of_what_is_as_recorded(tree: Tree) -> None:
    """After everything was recorded a scan tells nothing, whatever the names are."""
    tree.write("a", "a.b", "b/x", "b.c", "b0", b"\xff/\xfe", "é", "‛", "b/c/d", "b/c.d")
    tree.record_all()

    told = tree.scan()

    assert (told.found, told.absent) == NOTHING
    assert told.report == ScanReport(10, 4, 0, 0, {}, 0, complete=True, doubt=None)


CHANGES: dict[str, Callable[[Path], object]] = {
    "size": lambda path: path.write_bytes(b"123456"),
    "content": lambda path: path.write_bytes(b"54321"),
    "mtime": lambda path: os.utime(path, ns=(1, 1)),
    "mode, so ctime": lambda path: path.chmod(0o600),
    "inode": lambda path: (shutil.copy2(path, f"{path}.new"), os.rename(f"{path}.new", path)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_stat_is_found(tree: Tree, change: str) -> None:
    """A file whose size, times or inode differ from its record is found, with the record; its neighbours
    are not."""
    tree.write("a", "b", "c/d", "e")
    tree.record_all()
    recorded = tree.state.recorded(FileRef("s", "c/d"))
    CHANGES[change](tree.root / "c" / "d")

    told = tree.scan()

    assert list(told.found) == ["c/d"]
    assert told.found["c/d"][1] == recorded
    assert told.absent == {}


@pytest.mark.parametrize(
    "changes",
    [{"racy": True}, {"store_id": "another"}, {"key": "pre/x"}, {"key": "else/b"}],
    ids=["racy", "another store", "another key", "another prefix"],
)
def test_a_record_that_proves_nothing_is_found(tree: Tree, changes: dict[str, object]) -> None:
    """A racy record, or one of another destination, is no proof that nothing is to be done."""
    tree.write("a", "b", "c")
    tree.record("a", "b", "c")
    tree.record("b", **changes)

    told = tree.scan()

    assert list(told.found) == ["b"]
    assert told.found["b"][1] == tree.state.recorded(FileRef("s", "b"))


def test_another_destination_finds_everything(tree: Tree) -> None:
    """With another store or another prefix every file is found."""
    tree.write("a", "b/\udcff")
    tree.record_all()

    assert sorted(tree.scan(store_id="another").found) == ["a", "b/\udcff"]
    assert sorted(tree.scan(prefix="").found) == ["a", "b/\udcff"]


def test_numbers_beyond_63_bits_are_compared(tree: Tree) -> None:
    """A file of the year 2400, whose time SQLite cannot hold as it is, is as recorded."""
    tree.write("a")
    os.utime(tree.root / "a", ns=(1, 13_569_465_600 * 10**9))
    if os.stat(tree.root / "a").st_mtime_ns != 13_569_465_600 * 10**9:
        pytest.skip("CANNOT BE TESTED HERE: the file system stores no such time")
    tree.record_all()

    assert (tree.scan().found, tree.scan().absent) == NOTHING


def test_gone_files_are_absent(tree: Tree) -> None:
    """Deleted files and everything in deleted directories are told with their records, in order."""
    tree.write("a", "b/1", "b/2", "c/d/1", "c/d/2", "c/e", "f")
    tree.record_all()
    shutil.rmtree(tree.root / "c" / "d")
    shutil.rmtree(tree.root / "b")
    (tree.root / "f").unlink()
    gone = ["b/1", "b/2", "c/d/1", "c/d/2", "f"]
    records = {name: tree.state.recorded(FileRef("s", name)) for name in gone}

    told = tree.scan()

    assert list(told.absent) == gone
    assert told.absent == records
    assert told.found == {}
    assert told.report == ScanReport(2, 2, 0, 5, {}, 0, complete=True, doubt=None)


def test_more_records_than_a_page_holds(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of records follow each other without a gap, whatever their size."""
    names = [f"d{n % 7}/f{n}" for n in range(40)] + [f"g{n}" for n in range(10)]
    tree.write(*names)
    tree.record_all()
    for name in names[::3]:
        (tree.root / name).unlink()
    shutil.rmtree(tree.root / "d3")
    tree.write("d5/new", "h")
    gone = sorted({*names[::3], *(name for name in names if name.startswith("d3/"))})

    for page in (1, 2, 3, 7, 50):
        monkeypatch.setattr(compare, "PAGE", page)
        told = tree.scan(exclude=("d2/",))
        assert list(told.found) == ["d5/new", "h"]
        assert list(told.absent) == [name for name in gone if not name.startswith("d2/")]


def test_what_is_no_regular_file_is_skipped_and_counted(tree: Tree) -> None:
    """Links (also to directories, and broken), fifos, sockets and devices are told by kind, never opened."""
    tree.write("real/file")
    (tree.root / "to file").symlink_to("real/file")
    (tree.root / "to directory").symlink_to("real")
    (tree.root / "loop").symlink_to("loop")
    os.mkfifo(tree.root / "real" / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(tree.root / "socket"))
    listener.close()

    told = tree.scan()

    assert list(told.found) == ["real/file"]
    assert told.skipped == {
        "loop": "symbolic link",
        "real/fifo": "fifo",
        "socket": "socket",
        "to directory": "symbolic link",
        "to file": "symbolic link",
    }
    assert told.report.skipped == {"symbolic link": 3, "fifo": 1, "socket": 1}
    assert told.report.complete


def test_links_that_are_carried_are_found_until_they_are_recorded(tree: Tree) -> None:
    """Wherever they lead to, and under their own keys: a file in the place of a link is another matter."""
    tree.write("real/file")
    (tree.root / "to file").symlink_to("real/file")
    (tree.root / "to directory").symlink_to("real")
    tree.source = replace(tree.source, records_links=True)
    told = tree.scan()
    assert sorted(told.found) == ["real/file", "to directory", "to file"]
    assert (told.report.skipped, told.report.files) == ({}, 3)
    for name in ("to directory", "to file"):
        tree.record(name, key=paths.key_for(PREFIX, name, is_link=True))
    tree.record("real/file")
    assert list(tree.scan().found) == []
    (tree.root / "to file").unlink()
    tree.write("to file")
    assert list(tree.scan().found) == ["to file"]
    (tree.root / "to directory").unlink()
    assert list(tree.scan().absent) == ["to directory"]


def test_folders_that_are_carried_are_found_until_they_are_recorded(tree: Tree) -> None:
    """Those of which nothing else is carried. One that gets content is absent, and so is one that is gone."""
    for name in ("a", "a-b", "above/below", "filled", "gone", "odd \udcff", "only/x"):
        (tree.root / name).mkdir(parents=True)
    tree.write("only/x.tmp", "full/file", "a.txt")
    rules = {"exclude": ("*.tmp", "x/")}
    assert sorted(tree.scan(**rules).found) == ["a.txt", "full/file"]
    tree.source = replace(tree.source, records_folders=True)
    folders = ["a-b/", "a/", "above/below/", "filled/", "gone/", "odd \udcff/", "only/"]
    assert sorted(tree.scan(**rules).found) == sorted(["a.txt", "full/file", *folders])
    tree.record("a.txt", "full/file")
    root_fd = os.open(tree.root, os.O_PATH)
    for name in folders:
        tree.record(name, stat=entries.look(root_fd, name))
    os.close(root_fd)
    assert tree.scan(**rules).found == {} == tree.scan(**rules).absent
    (tree.root / "gone").rmdir()
    tree.write("filled/file", "a.txt2")
    (tree.root / "above" / "below").rmdir()
    told = tree.scan(**rules)
    assert sorted(told.found) == ["a.txt2", "above/", "filled/file"]
    assert sorted(told.absent) == ["above/below/", "filled/", "gone/"]
    assert sorted(tree.scan(subtree="filled", **rules).absent) == ["filled/"]
    assert sorted(tree.scan(subtree="above", **rules).found) == ["above/"]
    assert tree.scan(exclude=("*.tmp", "x/", "gone/", "filled", "above")).absent == {}
    tree.source = replace(tree.source, records_full_folders=True)
    told = tree.scan(**rules)
    assert [name for name in sorted(told.found) if name.endswith("/")] == [
        "above/", "filled/", "full/",
    ]  # fmt: skip
    assert sorted(told.absent) == ["above/below/", "gone/"]
    tree.source = replace(tree.source, records_folders=False, records_full_folders=False)
    assert tree.scan(**rules).absent == {}


def test_a_file_that_became_a_directory_is_absent(tree: Tree) -> None:
    """And what is new in it is found. In whose place a link is, may lie behind it: that one is skipped."""
    tree.write("a", "b", "c/x")
    tree.record_all()
    (tree.root / "a").unlink()
    (tree.root / "a").symlink_to("b")
    (tree.root / "b").unlink()
    tree.write("b/new")
    shutil.rmtree(tree.root / "c")
    tree.write("c")

    told = tree.scan()

    assert sorted(told.found) == ["b/new", "c"]
    assert list(told.absent) == ["b", "c/x"]
    assert told.skipped == {"a": "symbolic link"}


# ---- rules ------------------------------------------------------------------------------------------------


def test_unwanted_files_are_not_told(tree: Tree) -> None:
    """Neither found when new, nor absent when gone, nor counted when irregular."""
    tree.write("keep.txt", "drop.tmp", "gone.tmp", "cache/x", "cache/y/z", "cachex")
    tree.record_all()
    for name in ("gone.tmp", "cache/x"):
        (tree.root / name).unlink()
    tree.write("cache/new", "more.tmp", "more.txt")
    (tree.root / "link.tmp").symlink_to("x")

    told = tree.scan(exclude=("*.tmp", "cache/"))

    assert list(told.found) == ["more.txt"]
    assert told.absent == {}
    assert told.skipped == {}
    assert tree.scan(include=("*.txt",)).absent == {}


def test_what_other_rules_leave_out_is_counted_by_rule_and_never_absent(tree: Tree) -> None:
    """A marker, a size and temporary names: as excluded files, whether they were recorded before or not."""
    tree.write("keep", "cache/a", "cache/d/b", "large", "t.tmp", "left/a")
    tree.record_all()
    (tree.root / "large").write_bytes(bytes(100))
    for name in ("cache/a", "t.tmp"):
        (tree.root / name).unlink()
    (tree.root / "cache/.nobackup").touch()
    tree.write("cache/new", "new.tmp")
    tree.source = replace(tree.source, exclude_if_present=(".nobackup",), max_size=10, exclude_temporary=True)

    told = tree.scan()

    assert told.found == {}
    assert told.absent == {}
    assert told.report.skipped == {
        "directory with .nobackup": 1,
        "file over max_size": 1,
        "temporary file": 1,
    }
    assert told.report.complete
    for subtree in ("cache", "cache/d", "cache/new"):
        assert tree.scan(subtree=subtree).report.files == 0
    (tree.root / "cache/.nobackup").unlink()
    (tree.root / "large").unlink()  # it was recorded when it was small
    told = tree.scan()
    assert [*told.found] == ["cache/new"]
    assert [*told.absent] == ["cache/a", "large"]


def test_a_marker_in_the_root_leaves_everything_out(tree: Tree) -> None:
    """And deletes nothing."""
    tree.write("a", "d/b")
    tree.record_all()
    (tree.root / "a").unlink()
    tree.write("c", ".nobackup")
    tree.source = replace(tree.source, exclude_if_present=(".nobackup",))
    told = tree.scan()
    assert (told.found, told.absent) == ({}, {})
    assert told.report.skipped == {"directory with .nobackup": 1}


# ---- a part of the source ---------------------------------------------------------------------------------


def test_a_subtree_tells_only_of_itself(tree: Tree) -> None:
    """Changes outside of the subtree are not told, whatever sorts beside it."""
    tree.write("a", "b.x", "b/1", "b/2", "b/c/3", "b0", "z")
    tree.record_all()
    for name in ("a", "b.x", "b/1", "b/c/3", "b0", "z"):
        (tree.root / name).unlink()
    tree.write("b/new", "b.new", "new")

    told = tree.scan(subtree="b")

    assert (list(told.found), list(told.absent)) == (["b/new"], ["b/1", "b/c/3"])
    assert list(tree.scan(subtree="b/c").absent) == ["b/c/3"]


def test_a_subtree_that_is_a_file_or_gone(tree: Tree) -> None:
    """The subtree may turn out to be a file, or not to be there: then that is told."""
    tree.write("a/1", "a/2", "b", "c")
    tree.record_all()
    shutil.rmtree(tree.root / "a")
    tree.write("a")
    (tree.root / "b").unlink()

    replaced = tree.scan(subtree="a")
    assert (list(replaced.found), list(replaced.absent)) == (["a"], ["a/1", "a/2"])
    assert list(tree.scan(subtree="b").absent) == ["b"]
    assert (tree.scan(subtree="c").found, tree.scan(subtree="c").absent) == NOTHING
    assert (tree.scan(subtree="a", exclude=("a",)).found) == {}
    (tree.root / "c").unlink()
    tree.write("c/new")
    turned = tree.scan(subtree="c")
    assert (list(turned.found), list(turned.absent)) == (["c/new"], ["c"])
    assert tree.scan(subtree="c/d/e").report.complete


# ---- the root ---------------------------------------------------------------------------------------------


def remember_root(tree: Tree) -> RootIdentity:
    identity, doubt = check_root(tree.source, None, has_records=False)
    assert identity is not None
    assert doubt is None
    tree.state.set_root_identity("s", identity)
    return identity


def root_removed(tree: Tree) -> None:
    shutil.rmtree(tree.root)


def root_emptied(tree: Tree) -> None:
    shutil.rmtree(tree.root / "a")


def root_replaced(tree: Tree) -> None:
    os.rename(tree.root, tree.root.with_name("aside"))
    tree.root.mkdir()
    tree.write("a/1")


def root_is_a_file(tree: Tree) -> None:
    shutil.rmtree(tree.root)
    tree.root.write_bytes(b"")


def root_is_a_link(tree: Tree) -> None:
    root_replaced(tree)
    shutil.rmtree(tree.root)
    tree.root.with_name("elsewhere").mkdir()
    (tree.root.with_name("elsewhere") / "x").write_bytes(b"x")
    tree.root.symlink_to("elsewhere")


ROOTS: dict[Callable[[Tree], None], str] = {
    root_removed: "missing",
    root_emptied: "empty",
    root_replaced: "another directory",
    root_is_a_file: "missing",
    root_is_a_link: "symbolic link",
}


@pytest.mark.parametrize("happened", ROOTS, ids=lambda happened: happened.__name__)
def test_a_doubtful_root_tells_nothing(tree: Tree, happened: Callable[[Tree], None]) -> None:
    """Missing, newly empty, replaced: the doubt is named, and nothing is found or absent."""
    tree.write("a/1", "a/2")
    tree.record_all()
    identity = remember_root(tree)
    assert tree.scan().report.complete
    happened(tree)

    told = tree.scan()

    assert ROOTS[happened] in str(told.report.doubt)
    assert not told.report.complete
    assert (told.found, told.absent, told.report.absent) == ({}, {}, 0)
    assert ROOTS[happened] in str(check_root(tree.source, identity, has_records=True)[1])


def test_an_empty_root_is_fine_where_nothing_is_recorded(tree: Tree) -> None:
    """A source that never had a file is empty without a doubt."""
    remember_root(tree)

    assert tree.scan().report == ScanReport(0, 1, 0, 0, {}, 0, complete=True, doubt=None)


def test_a_root_that_goes_away_during_the_scan(tree: Tree) -> None:
    """What was there at the beginning and not at the end leaves a doubt, and nothing absent."""
    tree.write("a/1", "a/2", "b/1")
    tree.record_all()
    remember_root(tree)
    (tree.root / "a" / "1").unlink()

    class Remover(Sink):
        def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
            os.rename(tree.root, tree.root.with_name("moved away"))

    tree.write("b/new")
    told = tree.scan(sink=Remover())

    assert told.report.doubt == "the root is missing"
    assert told.absent == {}


def test_an_unmounted_root_is_a_doubt(tree: Tree) -> None:
    """The bare mount point is another directory than the root was, though it is not empty."""
    tree.write("left on the mount point")
    with mounting.tmpfs(tree.root, "1m"):
        tree.write("a", "b")
        tree.record_all()
        remember_root(tree)
        assert tree.scan().report.complete

    told = tree.scan()

    assert "another device" in str(told.report.doubt)
    assert (told.found, told.absent) == NOTHING


@pytest.mark.parametrize("removed", [False, True])
def test_an_unmounted_folder_is_not_deleted_files(tree: Tree, removed: bool) -> None:
    """Where a file system was mounted inside of the source and is not any more, nothing below is absent, even
    if the mount point is gone too; deletions elsewhere are still told."""
    tree.write("a", "b", "mnt/deep/below")
    tree.record_all()
    remember_root(tree)
    with mounting.tmpfs(tree.root / "mnt" / "deep", "1m"):
        tree.write("mnt/deep/x", "mnt/deep/y/z")
        tree.record("mnt/deep/x", "mnt/deep/y/z")
        told = tree.scan()
        assert told.found == {}
        assert told.unreadable == [("mnt/deep", errno.ENODEV)]  # what is hidden below the mount
    (tree.root / "b").unlink()
    if removed:
        shutil.rmtree(tree.root / "mnt")

    told = tree.scan()

    assert list(told.absent) == ["b"] + (["mnt/deep/below"] if removed else [])
    places = {path for path, number in told.unreadable if number == errno.ENODEV}
    assert places == {"mnt/deep", "mnt/deep/y"}
    assert not told.report.complete
    assert told.report.doubt is None


def test_a_mount_point_that_was_empty_for_a_while_hides_nothing(tree: Tree) -> None:
    """The bare one is an empty folder; when its disk is back, that is over, and no deletion waits for it."""
    tree.source = replace(tree.source, records_folders=True)
    tree.write("a")
    (tree.root / "mnt").mkdir()
    tree.record("a")
    root_fd = os.open(tree.root, os.O_PATH)
    tree.record("mnt/", stat=entries.look(root_fd, "mnt/"))
    os.close(root_fd)
    with mounting.tmpfs(tree.root / "mnt", "1m"):
        tree.write("mnt/x")
        told = tree.scan()
        assert (list(told.absent), list(told.found), told.unreadable) == (["mnt/"], ["mnt/x"], [])
        assert told.report.complete


# ---- what cannot be read ----------------------------------------------------------------------------------

DIRECTORIES = ["a", "a/b", "a/b/c", "d", "d/e"]


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE])
@pytest.mark.parametrize("bad", DIRECTORIES)
@pytest.mark.parametrize("where", ["open", "list", "list half"])
def test_a_directory_that_cannot_be_read_taints_what_is_below(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, error: int, bad: str, where: str
) -> None:
    """For every directory and every error: it is told once, nothing below is absent, and all else is seen."""
    gone = {f"{directory}/gone" for directory in DIRECTORIES}
    tree.write(*gone, *(f"{directory}/stays" for directory in DIRECTORIES), "gone", "z")
    tree.record_all()
    for name in (*gone, "gone"):
        (tree.root / name).unlink()
    tree.write(*(f"{directory}/new" for directory in DIRECTORIES))
    target = str(tree.root / bad)
    really_open, really_list = os.open, os.scandir

    def failing_open(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None and os.path.join(_path_of(dir_fd), os.fsdecode(path)) == target:
            raise OSError(error, os.strerror(error))
        return really_open(path, flags, mode, dir_fd=dir_fd)

    class HalfList:
        def __init__(self, descriptor: int) -> None:
            self._real = really_list(descriptor)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return self._entries()

        def __exit__(self, *_: object) -> None:
            self._real.close()

        def _entries(self) -> Iterator[os.DirEntry[str]]:
            yield next(self._real)
            raise OSError(error, os.strerror(error))

    def failing_list(descriptor: int) -> object:
        if _path_of(descriptor) != target:
            return really_list(descriptor)
        if where == "list":
            raise OSError(error, os.strerror(error))
        return HalfList(descriptor)

    if where == "open":
        monkeypatch.setattr(os, "open", failing_open)
    else:
        monkeypatch.setattr(os, "scandir", failing_list)
    told = tree.scan()
    monkeypatch.undo()

    below = {name for name in gone if name.startswith(f"{bad}/")}
    assert set(told.absent) == gone - below | {"gone"}
    assert set(told.found) == {f"{d}/new" for d in DIRECTORIES if not f"{d}/".startswith(f"{bad}/")}
    assert told.unreadable == [(bad, error)]
    assert told.report.errors == 1
    assert not told.report.complete
    assert told.report.doubt is None


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_directory_without_rights_is_told(tree: Tree, mode: int) -> None:
    """What another user may not list, or list but not look into, is unreadable and says nothing."""
    if os.geteuid() != 0:
        pytest.skip("CANNOT BE TESTED HERE: becoming another user needs root")
    tree.write("a/1", "a/b/2", "c/1", "c/2")
    tree.record_all()
    (tree.root / "c" / "1").unlink()
    (tree.root / "a" / "1").unlink()
    for above in (tree.root, *tree.root.parents):  # the way to the tree is open to everybody
        if above == Path(tempfile.gettempdir()):
            break
        above.chmod(0o755)
    (tree.root / "a").chmod(mode)
    os.seteuid(65534)
    try:
        told = tree.scan()
    finally:
        os.seteuid(0)

    assert ("a", errno.EACCES) in told.unreadable or ("a/b", errno.EACCES) in told.unreadable
    assert list(told.absent) == ["c/1"]
    assert told.found == {}
    assert not told.report.complete


def test_an_error_at_one_file_is_told_and_no_absence(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be looked at is there, whatever else is wrong with it."""
    tree.write("a/1", "a/2", "a/3")
    tree.record_all()
    (tree.root / "a" / "3").unlink()
    really = os.stat

    def failing(path: str | bytes | int, **more: object) -> os.stat_result:
        if path == b"2":
            raise OSError(errno.EIO, "Input/output error")
        return really(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", failing)
    told = tree.scan()
    monkeypatch.undo()

    assert told.unreadable == [("a", errno.EIO)]
    assert (list(told.found), list(told.absent)) == ([], ["a/3"])


# ---- while others work ------------------------------------------------------------------------------------


FLIP = """
import os, sys
os.chdir(sys.argv[1])
print("flipping", flush=True)
while True:
    for name in ("flip1", "flip2", "flip3"):
        os.mkdir("new")
        open("new/inside", "w").close()
        os.rename(name, "old")
        os.rename("new", name)
        os.unlink("old")
        open("new", "w").close()
        os.rename(name, "old")
        os.rename("new", name)
        os.unlink("old/inside")
        os.rmdir("old")
"""


def test_types_that_flip_during_the_scan_are_no_errors(tree: Tree) -> None:
    """Files that turn into directories and back, thousands of times, are no error, and their neighbours are
    neither found nor absent."""
    steady = [f"{name}{suffix}" for name in ("flip1", "flip2", "flip3") for suffix in (".x", "0", "-/y")]
    tree.write("flip1", "flip2", "flip3", *steady)
    tree.record(*steady)
    with running(FLIP, tree.root):
        for _ in range(400):
            told = tree.scan(sink=Sink(twice=True))
            assert told.unreadable == []
            assert not (set(told.found) | set(told.absent)) & set(steady)
            assert set(told.found) <= {
                *(f"flip{n}{end}" for n in (1, 2, 3) for end in ("", "/inside")),
                "new", "new/inside", "old", "old/inside",
            }  # fmt: skip


LINK = """
import os, sys
os.chdir(sys.argv[1])
print("swapping", flush=True)
while True:
    os.rename("folder", "aside")
    os.symlink("../outside", "folder")
    os.unlink("folder")
    os.rename("aside", "folder")
"""


def test_a_swapped_link_leads_no_scan_outside(tree: Tree) -> None:
    """While a folder is swapped for a link to another tree, nothing of that tree is ever told."""
    tree.write("folder/file", "b")
    outside = tree.root.with_name("outside")
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "secret").write_bytes(b"s")
    (outside / "secret").write_bytes(b"s")
    inside = 0
    with running(LINK, tree.root):
        for _ in range(1500):
            told = tree.scan()
            assert not [name for name in told.found if "secret" in name]
            inside += "folder/file" in told.found

    assert inside > 0


def test_a_scan_that_is_asked_to_stop_concludes_nothing(tree: Tree) -> None:
    """It ends soon, is not complete, and nothing is absent; whenever it is asked."""
    tree.write(*(f"d{n}/f{m}" for n in range(5) for m in range(3)))
    tree.record_all()
    for n in range(5):
        (tree.root / f"d{n}" / "f1").unlink()
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    whole = tree.scan(should_stop=count)
    assert len(whole.absent) == 5
    for moment in range(1, asked + 1):
        left = [moment]

        def now(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] == 0

        told = tree.scan(should_stop=now)
        assert (told.report.complete, told.report.doubt) == (False, None)
        assert len(told.absent) < 5


def test_an_error_of_the_state_ends_the_scan(tree: Tree) -> None:
    """Without memory nothing is concluded: the error is the caller's."""
    tree.write("a")
    tree.state.close()

    with pytest.raises(StateError):
        tree.scan()


# ---- deep and large ---------------------------------------------------------------------------------------


class _Counting(Sink):
    """Keeps nothing but a number."""

    gone = 0

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        self.gone += 1


def peak_of_a_scan(tree: Tree, files: int) -> int:
    """Bytes that Python holds at most during a scan of `files` recorded files, 100 in a directory; every
    tenth is missing. The files are links to a few, which are quicker to make."""
    top = tree.root / str(files)
    top.mkdir()
    for number in range(files // 100):
        (top / f"{number:05}").mkdir()
        one = top / f"{number - number % 300:05}" / "10"
        for name in range(10, 100):
            if number % 300 or name > 10:
                os.link(one, top / f"{number:05}" / f"{name:02}")
            else:
                one.touch()
    for number in range(files // 100):
        tree.record(f"{files}/{number - number % 300:05}/10")
        recorded = tree.state.recorded(FileRef("s", f"{files}/{number - number % 300:05}/10"))
        assert recorded is not None
        for name in range(100):
            path = f"{files}/{number:05}/{name:02}"
            tree.state.commit(FileRef("s", path), replace(recorded, key=PREFIX + path), durable=False)
    tree.state.flush()
    for number in range(files // 100):  # as if what is missing had been removed
        (top / f"{number:05}" / "x").touch()
        (top / f"{number:05}" / "x").unlink()
    sink = _Counting()
    tracemalloc.start()
    try:
        told = tree.scan(subtree=top.name, sink=sink)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (told.report.files, told.report.found, sink.gone) == (files * 9 // 10, 0, files // 10)
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tree(tree: Tree) -> None:
    """A scan of 36,000 recorded files needs hardly more memory than one of 6,000."""
    small = peak_of_a_scan(tree, 6_000)
    large = peak_of_a_scan(tree, 36_000)
    print(f"peak: {small:,} bytes for 6,000 files, {large:,} bytes for 36,000")
    shutil.rmtree(tree.root)  # the test's own files; not kept for later runs

    assert large < 1.5 * small + (1 << 20)
    assert large < 16 << 20


# ---- against a model --------------------------------------------------------------------------------------

SEGMENTS = ["a", "b", "a.b", "a0", "A", "\udcff", "é"]
relative_paths = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    there=st.sets(relative_paths, max_size=12),
    recorded=st.sets(relative_paths, max_size=12),
    page=st.sampled_from([1, 2, 5, 100]),
)
def test_found_and_absent_are_the_differences(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, there: set[str], recorded: set[str], page: int
) -> None:
    """For any set of files and any set of records: what is not recorded is found, what is recorded and not
    there is absent, and nothing else is told."""
    for entry in list(tree.root.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for path, _ in tree.state.recorded_page("s", None, 1000):
        tree.state.forget(FileRef("s", os.fsdecode(path)), durable=False)
    files = {name for name in there if not any(other.startswith(f"{name}/") for other in there)}
    tree.write("keep the root from being empty", *files)
    tree.record("keep the root from being empty", *(files & recorded))
    stat = FileStat(os.stat(tree.root).st_dev, 1, 1, 1, 1)
    for name in recorded - files:
        tree.state.commit(
            FileRef("s", name),
            Recorded(stat, CONTENT, STORE, paths.key_for(PREFIX, name), "e", 1),
            durable=False,
        )
    monkeypatch.setattr(compare, "PAGE", page)
    for size in ("_RUN", "_PIECE", "_IN_HAND"):
        monkeypatch.setattr(walk, size, page)

    told = tree.scan()

    assert set(told.found) == files - recorded
    assert set(told.absent) == recorded - files
    assert told.report.complete


def test_the_words_for_what_is_skipped_are_those_of_the_model(tree: Tree) -> None:
    """Reasons are the kinds of `Irregular`."""
    (tree.root / "x").symlink_to("y")

    assert tree.scan().skipped == {"x": Irregular("symbolic link").kind}
