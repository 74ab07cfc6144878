"""A file is found without following links, and read whole and exactly."""

from __future__ import annotations

import grp
import os
import pwd
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from syncd.core import plan
from syncd.core.errors import FileChanged, FileUnreadable, FileVanished
from syncd.core.model import LATEST_NS, OLDEST_NS, Attributes, FileStat, Irregular, LinkStat
from syncd.sources import directories, files, fingerprint, mounts
from syncd.sources.files import file_stat
from syncd.state import queries
from tests.support import mounting
from tests.unit.sources.test_fingerprint import DEADLINE_SECONDS, WITNESS, never, running

pytestmark = pytest.mark.usefixtures("no_descriptor_left_open")


def test_a_range_is_read_exactly(root: Path, root_fd: int) -> None:
    """Any range gives exactly its bytes, in any order; the end of the file is no range."""
    content = random.Random(1).randbytes(100_000)
    (root / "file").write_bytes(content)

    with files.open_file(root_fd, "file") as file:
        for offset, size in ((0, 100_000), (99_999, 1), (5, 7), (0, 0), (100_000, 0)):
            assert file.read(offset, size) == content[offset : offset + size]
        for offset, size in ((0, 100_001), (99_999, 2), (100_000, 1), (500_000, 1)):
            with pytest.raises(FileChanged, match="shortened"):
                file.read(offset, size)


def test_a_file_is_cut_after_its_last_line(root: Path, root_fd: int) -> None:
    """What follows may grow and change; what is before may not: it is the first of it that shows that."""
    (root / "log").write_bytes(b"one\ntwo\nhalf" + bytes(600_000))
    (root / "none").write_bytes(bytes(600_000))

    with files.open_file(root_fd, "log") as file, files.open_file(root_fd, "none") as none:
        assert not none.cut(600_000, to_line=True)
        assert not file.cut(file.opened.size, to_line=True, least=9)
        assert none.stat() == none.opened  # nothing was cut
        assert not file.is_cut
        assert file.cut(file.opened.size, to_line=True, least=8)
        assert file.is_cut
        with (root / "log").open("ab") as more:
            more.write(b"more\n")
        assert file.stat() == file.opened
        assert file.opened.size == 8
        file.check_end(8)
        assert file.is_at(files.look(root_fd, "log"))
        assert not file.is_at(files.look(root_fd, "none"))
        for content in (b"one", b"new\ntwo\nand more"):
            (root / "log").write_bytes(content)
            with pytest.raises(FileChanged, match="emptied or rewritten"):
                file.stat()
        assert none.cut(5, to_line=False)
        assert none.opened.size == 5


def test_what_the_kernel_gives_in_pieces_is_put_together(
    root: Path, root_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read may return less than was asked for (2 GiB at most, less on network file systems)."""
    content = random.Random(2).randbytes(20_000)
    (root / "file").write_bytes(content)
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 999), offset))
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: preadv(fd, [views[0][:777]], offset))

    with files.open_file(root_fd, "file") as file:
        assert file.read(5, 19_995) == content[5:]
        assert fingerprint.compute(file, 20_000, 7_000, never, WITNESS).fingerprint == fingerprint.of_bytes(
            content
        )
        assert file.whole() == content
        with pytest.raises(FileChanged, match="shortened to 20000 bytes"):
            file.read(5, 19_996)


def test_the_descriptor_stays_with_its_file(root: Path, root_fd: int) -> None:
    """After a rename over its name the open file still gives the old bytes, and its stat tells: another
    ctime, while the name leads to another inode."""
    (root / "file").write_bytes(b"old")
    with files.open_file(root_fd, "file") as file:
        before = file.stat()
        (root / "new").write_bytes(b"new")
        os.rename(root / "new", root / "file")

        assert file.read(0, 3) == b"old"
        assert file.stat() != before
        now = files.look(root_fd, "file")
        assert isinstance(now, FileStat)
        assert now.inode != before.inode


def test_an_input_output_error_is_told(root_fd: int) -> None:
    """What the system cannot read is a FileUnreadable with the system's reason."""
    proc_fd = directories.open_root(f"/proc/{os.getpid()}")
    try:
        with files.open_file(proc_fd, "mem") as memory:  # nothing is mapped at address 0
            with pytest.raises(FileUnreadable, match="Input/output error"):
                memory.read(0, 10)
            with pytest.raises(FileUnreadable, match="Input/output error"):
                fingerprint.compute(memory, 10, 10, never, WITNESS)
            with pytest.raises(FileUnreadable, match="Input/output error"):
                memory.check_end(0)
    finally:
        os.close(proc_fd)


READINGS: list[Callable[[files.OpenFile], object]] = [
    lambda file: fingerprint.compute(file, file.opened.size, 1 << 20, never, WITNESS).fingerprint,
    lambda file: fingerprint.of_bytes(file.whole()),
]
"""Of all of a file: leaf by leaf, or at once where it fits one request."""


@pytest.mark.parametrize(
    ("size", "content", "refusal"),
    [
        (0, b"more", "more"),
        (4, b"more than that", "more"),
        (4096, b"less", "less"),
        (0, b"", ""),
        (4, b"just", ""),
    ],
)
def test_a_size_that_is_not_true_is_refused(
    root: Path, root_fd: int, size: int, content: bytes, refusal: str
) -> None:
    """procfs says 0 and sysfs says 4096 for any content; a file that really changed is another thing."""
    (root / "file").write_bytes(content)
    with files.open_file(root_fd, "file") as file:
        file.opened = said = file.opened._replace(size=size)
        with patch.object(file, "stat", return_value=said) if refusal else nullcontext():
            if refusal:
                for read in READINGS:
                    with pytest.raises(FileUnreadable, match=f"{refusal} content than its size says"):
                        read(file)
            else:
                assert [read(file) for read in READINGS] == [fingerprint.of_bytes(content)] * 2


def test_a_file_that_grew_or_shrank_has_changed(root: Path, root_fd: int) -> None:
    """It is looked at again, once it is quiet."""
    for after in (b"", b"1234567"):
        (root / "file").write_bytes(b"12345")
        with files.open_file(root_fd, "file") as file:
            (root / "file").write_bytes(after)
            for read in READINGS:
                with pytest.raises(FileChanged):
                    read(file)


# ---- who may write ---------------------------------------------------------------------------------------

HOLDERS = {
    "nobody": ("", False),
    "a reader": ("f = open(p, 'rb')", False),
    "a private map": ("f = open(p, 'rb'); m = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE)", False),
    "a writer": ("f = open(p, 'r+b')", True),
    "one that appends": ("f = open(p, 'ab')", True),
    "a shared map": ("f = open(p, 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()", True),
}


@contextmanager
def holding(path: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has run this code on the file `p`, and ends when its input is closed."""
    script = f"import mmap, sys; p = sys.argv[1]; {code}\nprint('holds', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        yield holder
        holder.communicate(timeout=60)


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_kernel_says_whether_a_program_can_write(root: Path, root_fd: int, holder: str) -> None:
    """Through a descriptor or a map, as long as it has either; and asking leaves nothing behind."""
    code, expected = HOLDERS[holder]
    (root / "file").write_bytes(b"content")
    with files.open_file(root_fd, "file") as file:
        with holding(root / "file", code):
            assert [file.is_open_for_writing() for _ in range(2)] == [expected, expected]
        assert file.is_open_for_writing() is False
        os.close(os.open(root / "file", os.O_WRONLY | os.O_NONBLOCK))  # refused while there is a lease


def test_it_is_not_known_of_the_files_of_others(root: Path, root_fd: int) -> None:
    """Without CAP_LEASE the kernel tells only the owner."""
    if os.geteuid() != 0:
        pytest.skip("CANNOT BE TESTED HERE: another user is needed, and so root")
    (root / "file").write_bytes(b"content")
    with files.open_file(root_fd, "file") as file, holding(root / "file", "f = open(p, 'ab')"):
        os.seteuid(65534)
        try:
            assert file.is_open_for_writing() is None
        finally:
            os.seteuid(0)


def test_it_is_not_known_where_the_server_decides(
    root: Path, root_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and SMB refuse a lease also where there is no writer."""
    (root / "file").write_bytes(b"content")
    monkeypatch.setattr(mounts, "type_of", lambda device: "nfs4")
    with files.open_file(root_fd, "file") as file, holding(root / "file", "f = open(p, 'ab')"):
        assert file.is_open_for_writing() is None


def test_a_program_that_breaks_the_lease_does_not_kill_us(root: Path) -> None:
    """The kernel sends a signal to the holder of a lease; SIGIO would end the process."""
    (root / "file").write_bytes(b"content")
    script = """if True:
        import fcntl, os, sys
        from syncd.sources import directories, files
        ask = fcntl.fcntl
        keep = lambda fd, command, value: 0 if value == fcntl.F_UNLCK else ask(fd, command, value)
        files.fcntl.fcntl = keep
        root = directories.open_root(sys.argv[1])
        with files.open_file(root, "file") as file:
            assert file.is_open_for_writing() is False
            try:
                os.open(sys.argv[1] + "/file", os.O_WRONLY | os.O_NONBLOCK)
            except BlockingIOError:
                print("broken, and alive")
    """
    done = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("broken, and alive\n", "", 0)


def test_a_missing_right_is_told(root: Path, root_fd: int) -> None:
    """A file or a directory that we may not open is unreadable, not gone."""
    if os.geteuid() != 0:
        pytest.skip("CANNOT BE TESTED HERE: becoming another user needs root")
    (root / "closed").mkdir(mode=0o700)
    (root / "closed" / "file").write_bytes(b"secret")
    (root / "secret").write_bytes(b"secret")
    (root / "secret").chmod(0)
    os.seteuid(65534)
    try:
        for path in ("secret", "closed/file"):
            with pytest.raises(FileUnreadable, match="denied"):
                files.open_file(root_fd, path)
        assert isinstance(files.look(root_fd, "secret"), FileStat)
        with pytest.raises(FileUnreadable, match="denied"):
            files.look(root_fd, "closed/file")
    finally:
        os.seteuid(0)


def test_a_closed_file_is_closed(root: Path, root_fd: int) -> None:
    """Closing twice is fine; reading afterwards is an error of ours."""
    (root / "file").write_bytes(b"x")
    file = files.open_file(root_fd, "file")
    file.close()
    file.close()

    with pytest.raises(FileUnreadable):
        file.read(0, 1)
    with pytest.raises(FileUnreadable):
        file.stat()


def irregular_things(directory: Path) -> dict[str, str]:
    """One of each that is no regular file: name to kind."""
    (directory / "directory").mkdir()
    (directory / "target").write_bytes(b"x")
    (directory / "link").symlink_to("target")
    (directory / "broken").symlink_to("nowhere")
    (directory / "loop").symlink_to("loop")
    os.mkfifo(directory / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(directory / "socket"))
    listener.close()
    kinds = {
        "directory": "directory",
        "link": "symbolic link",
        "broken": "symbolic link",
        "loop": "symbolic link",
        "fifo": "fifo",
        "socket": "socket",
    }
    if os.geteuid() == 0:
        os.mknod(directory / "null", 0o600 | 0o020000, os.makedev(1, 3))
        kinds["null"] = "device"
    return kinds


def test_what_is_no_regular_file_is_named_and_never_opened(root: Path, root_fd: int) -> None:
    """Links, fifos, sockets, devices and directories are told apart; opening one fails at once."""
    for name, kind in irregular_things(root).items():
        assert files.look(root_fd, name) == Irregular(kind)
        with pytest.raises(FileChanged, match="no longer a regular file"):
            files.open_file(root_fd, name)


def test_a_waiting_writer_does_not_notice_us(root: Path, root_fd: int) -> None:
    """A fifo is not even opened: a program that waits for a reader goes on waiting."""
    os.mkfifo(root / "fifo")
    writer = threading.Thread(target=lambda: os.close(os.open(root / "fifo", os.O_WRONLY)))
    writer.start()
    try:
        for _ in range(100):  # by one of them he has come to where he waits
            with pytest.raises(FileChanged):
                files.open_file(root_fd, "fifo")
            writer.join(0.005)
        assert writer.is_alive()
    finally:
        reader = os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        writer.join(DEADLINE_SECONDS)
        os.close(reader)
    assert not writer.is_alive()


def test_a_stat_is_that_of_the_file(root: Path, root_fd: int) -> None:
    """Device, inode, size and both times, by path and by descriptor, for any name."""
    directory = root / os.fsdecode(b"d\xff\n") / "e"
    directory.mkdir(parents=True)
    file = directory / os.fsdecode("\u00e9".encode("latin-1"))
    file.write_bytes(b"12345")
    found = file.stat()
    expected = FileStat(found.st_dev, found.st_ino, 5, found.st_mtime_ns, found.st_ctime_ns)

    path = os.path.relpath(file, root)
    assert files.look(root_fd, path) == expected
    with files.open_file(root_fd, path) as opened:
        assert opened.stat() == expected
        assert opened.read(0, 5) == b"12345"


@pytest.mark.parametrize(
    "time_ns", [-(2**33) * 10**9, OLDEST_NS, -1, LATEST_NS, LATEST_NS + 1, 19_900_000_000 * 10**9]
)
def test_a_time_out_of_range_counts_as_the_limit(time_ns: int) -> None:
    """As the state keeps it, so that the file is as recorded at the next look."""
    numbers = SimpleNamespace(st_dev=1, st_ino=2, st_size=3, st_mtime_ns=time_ns, st_ctime_ns=time_ns)
    stat = files.file_stat(numbers)  # type: ignore[arg-type]
    expected = min(max(time_ns, OLDEST_NS), LATEST_NS)
    assert stat == (1, 2, 3, expected, expected)
    assert queries.unfold_time(queries.fold(stat.mtime_ns)) == expected


def test_what_is_not_there_is_absent(root: Path, root_fd: int) -> None:
    """A missing name, a missing directory, a file or a link in place of a directory: nothing is there."""
    (root / "file").write_bytes(b"x")
    (root / "real").mkdir()
    (root / "real" / "x").write_bytes(b"x")
    (root / "link").symlink_to("real")

    for path in ("missing", "missing/x", "file/x", "link/x", "real/x/y"):
        assert files.look(root_fd, path) is None
        with pytest.raises(FileVanished):
            files.open_file(root_fd, path)


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../secret", "a/../../secret", "/etc/passwd", "a//b", "a\0b"]
)
def test_no_path_leads_out_of_the_root(root: Path, root_fd: int, path: str) -> None:
    """A path that is none of a file below the root is refused, whatever it would lead to."""
    (root / "a").mkdir()
    (root.parent / "secret").write_bytes(b"secret")

    with pytest.raises(FileUnreadable, match="not the name"):
        files.look(root_fd, path)
    with pytest.raises(FileUnreadable, match="not the name"):
        files.open_file(root_fd, path)


def stat_of(root_fd: int, name: str) -> FileStat:
    found = files.look(root_fd, name)
    assert isinstance(found, FileStat)
    return found


def test_a_restored_mtime_does_not_hide_a_change(root: Path, root_fd: int) -> None:
    """Same size and the old mtime put back: the ctime tells."""
    file = root / "file"
    file.write_bytes(b"before")
    before = stat_of(root_fd, "file")
    file.write_bytes(b"after!")
    os.utime(file, ns=(before.mtime_ns, before.mtime_ns))
    after = stat_of(root_fd, "file")

    assert (after.size, after.mtime_ns, after.inode) == (before.size, before.mtime_ns, before.inode)
    assert after != before


def test_an_inode_that_is_used_again_does_not_hide_a_change(root: Path, root_fd: int) -> None:
    """Deleted and made again with the same size and mtime, even in the same inode: another stat."""
    for number in range(50):
        file = root / "file"
        file.write_bytes(b"%06d" % number)
        os.utime(file, ns=(1, 1))
        before = stat_of(root_fd, "file")
        file.unlink()
        file.write_bytes(b"%06d" % (number + 1))
        os.utime(file, ns=(1, 1))

        assert stat_of(root_fd, "file") != before


def test_coarse_clocks_hide_changes_only_from_young_stats(tmp_path: Path) -> None:
    """On a file system that counts in seconds a change leaves no trace, but then its stat is racy."""
    image = mounting.ext4_image(tmp_path / "disk", 8, "-I", "128")
    with mounting.image(image, tmp_path / "mnt") as at:
        root_fd = directories.open_root(str(at))
        try:
            for number in range(20):
                (at / "file").write_bytes(b"before %03d" % number)
                before = stat_of(root_fd, "file")
                with (at / "file").open("r+b") as file:
                    file.write(b"after! ")
                after, now_ns = stat_of(root_fd, "file"), time.time_ns()
                if before == after:  # no second began in between
                    break
            assert before == after
            assert plan.is_racy(after, now_ns)
        finally:
            os.close(root_fd)


SWAP_FILE = """
import os, sys
os.chdir(sys.argv[1])
print("swapping", flush=True)
while True:
    os.symlink("../secret", "new")
    os.rename("new", "file")
    os.mkfifo("new")
    os.rename("new", "file")
    with open("new", "w") as file:
        file.write("public")
    os.rename("new", "file")
"""


def test_what_takes_a_files_place_is_never_read(root: Path, root_fd: int) -> None:
    """A file that turns into a link and a fifo and back, thousands of times: its content, or an error."""
    (root / "file").write_bytes(b"public")
    (root.parent / "secret").write_bytes(b"SECRET")
    told = {b"public": 0, b"": 0}
    with running(SWAP_FILE, root):
        for turn in range(500_000):
            content = b""
            with suppress(FileVanished, FileChanged), files.open_file(root_fd, "file") as file:
                content = file.read(0, 6)
            told[content] += 1
            if turn >= 5_000 and all(told.values()):
                break

    assert min(told.values()) > 0, "the race was not run: one of the two was never seen"


@pytest.mark.parametrize(
    ("directories", "mode", "expected"),
    [
        ((0o755, 0o755), 0o644, 0o644),
        ((0o755, 0o755), 0o600, 0o600),
        ((0o755, 0o700), 0o644, 0o600),
        ((0o700, 0o755), 0o664, 0o600),
        ((0o755, 0o750), 0o644, 0o640),
        ((0o750, 0o705), 0o644, 0o600),
        ((0o711, 0o755), 0o644, 0o644),
        ((0o755, 0o754), 0o666, 0o660),
        ((0o755, 0o755), 0o640, 0o640),
        ((0o755, 0o755), 0o604, 0o604),
    ],
)
def test_who_may_read_a_file_is_decided_by_all_above_it(
    root: Path, root_fd: int, directories: tuple[int, int], mode: int, expected: int
) -> None:
    """A file that all may read is private in a folder that is; the root of the source counts, too."""
    (root / "a").mkdir()
    (root / "a" / "file").touch()
    for path, bits in zip((root, root / "a", root / "a" / "file"), (*directories, mode), strict=True):
        path.chmod(bits)
    with files.open_file(root_fd, "a/file") as file:
        assert file.mode == expected


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another group takes root")


@needs_root
@pytest.mark.parametrize(
    ("mode", "expected"), [(0o640, 0o600), (0o644, 0o644), (0o604, 0o600), (0o664, 0o644), (0o660, 0o600)]
)
def test_the_rights_of_another_group_are_not_carried(
    root: Path, root_fd: int, mode: int, expected: int
) -> None:
    """A copy has the group of this process, whose members are other people."""
    (root / "file").touch()
    os.chown(root / "file", -1, 12345)
    (root / "file").chmod(mode)
    with files.open_file(root_fd, "file") as file:
        assert file.mode == expected


@needs_root
def test_a_directory_of_another_group_lets_only_that_one_pass(root: Path, root_fd: int) -> None:
    (root / "a").mkdir()
    (root / "a" / "file").touch()
    (root / "a" / "file").chmod(0o644)
    os.chown(root / "a", -1, 12345)
    (root / "a").chmod(0o750)
    with files.open_file(root_fd, "a/file") as file:
        assert file.mode == 0o600


def _with_acl(path: Path) -> bytes:
    """A file that its group may not read, and user 12345 may; returns the list."""
    path.touch()
    path.chmod(0o600)
    entries = [
        (1, 6, 0xFFFFFFFF),
        (2, 4, 12345),
        (4, 0, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    ]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", value)
    except OSError as error:
        pytest.skip(f"CANNOT BE TESTED HERE: no access control lists: {error}")
    return value


def test_attributes_are_those_of_the_file(root: Path, root_fd: int) -> None:
    """But for what a directory store or rclone gave a copy of one of ours."""
    path = root / "file"
    path.touch()
    path.chmod(0o4711)
    for name in (b"user.b", b"user.a\xff", b"user.syncd", b"user.syncd-xxh128", b"user.syncdrome"):
        os.setxattr(path, name, name[::-1])
    found, me = path.stat(), pwd.getpwuid(os.geteuid())
    with files.open_file(root_fd, "file") as file:
        assert file.attributes() == Attributes(
            0o4711,
            found.st_uid,
            found.st_gid,
            me.pw_name,
            grp.getgrgid(found.st_gid).gr_name,
            (("user.a\udcff", b"\xffa.resu"), ("user.b", b"b.resu"), ("user.syncdrome", b"emordcnys.resu")),
        )


def test_an_owner_without_a_name_is_a_number(
    root: Path, root_fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files outlive the accounts that made them."""
    (root / "file").touch()

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    files._user_name.cache_clear()
    with files.open_file(root_fd, "file") as file:
        assert (file.attributes().user, file.attributes().uid) == ("", os.geteuid())
    files._user_name.cache_clear()


def test_an_access_control_list_comes_along_and_its_mask_does_not(root: Path, root_fd: int) -> None:
    """The group bits of the mode show the mask: without the list they would let in who may not."""
    value = _with_acl(root / "file")
    with files.open_file(root_fd, "file") as file:
        found = file.attributes()
    assert (found.mode, found.xattrs) == (0o600, (("system.posix_acl_access", value),))


def test_the_mask_of_an_access_control_list_is_no_right_of_the_group(root: Path, root_fd: int) -> None:
    """Where other users may read, the group bits show what the list allows at most."""
    _with_acl(root / "file")
    assert (root / "file").stat().st_mode & 0o777 == 0o640
    with files.open_file(root_fd, "file") as file:
        assert file.mode == 0o600


def test_a_link_is_read_as_where_it_leads_to_and_never_followed(root: Path, root_fd: int) -> None:
    """Only where links are wanted; its stat is the link's own."""
    (root / "link").symlink_to(os.fsdecode(b"/etc/\xff"))
    stat = os.stat(root / "link", follow_symlinks=False)
    assert files.look(root_fd, "link") == Irregular("symbolic link")
    seen = files.look(root_fd, "link", links=True)
    assert isinstance(seen, LinkStat)
    with pytest.raises(FileChanged):
        files.open_file(root_fd, "link")
    with files.open_file(root_fd, "link", links=True) as file:
        assert file.opened == file.stat() == seen == file_stat(stat)
        assert file.read(0, seen.size) == b"/etc/\xff"
        told = fingerprint.compute(file, seen.size, 4, never, WITNESS)
        assert told.fingerprint == fingerprint.of_bytes(b"/etc/\xff")
        assert (file.is_open_for_writing(), file.links()) == (False, 1)
        found = file.attributes()
        assert (found.mode, found.uid, found.xattrs) == (None, stat.st_uid, ())
        file.check_end(seen.size)
    (root / "link").unlink()
    (root / "link").touch()
    assert not isinstance(files.look(root_fd, "link", links=True), LinkStat)
