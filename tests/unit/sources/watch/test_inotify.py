"""The kernel's interface: watches by descriptor, records as they come, lines that raise its limits."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.sources.watch import inotify
from syncd.sources.watch.inotify import Inotify, Record, parse


def watch(kernel: Inotify, path: Path, mask: int = inotify.CONTENT) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return kernel.add(fd, mask)
    finally:
        os.close(fd)


def packed(record: Record, padding: int) -> bytes:
    name = record.name + b"\0" * padding
    return struct.pack("iIII", record.watch, record.mask, record.cookie, len(name)) + name


records = st.builds(
    Record,
    watch=st.integers(-1, 2**31 - 1),
    mask=st.integers(0, 2**32 - 1),
    cookie=st.integers(0, 2**32 - 1),
    name=st.binary(max_size=255).map(lambda name: name.replace(b"\0", b"").replace(b"/", b"")),
)


@given(st.lists(st.tuples(records, st.integers(0, 15))))
def test_records_are_parsed_as_the_kernel_packs_them(each: list[tuple[Record, int]]) -> None:
    """Whatever is in one read comes out: any numbers, any name, any padding."""
    data = b"".join(packed(record, padding) for record, padding in each)

    assert parse(data) == [record for record, _ in each]


def test_created_and_written_file(kernel: Inotify, tmp_path: Path) -> None:
    """A new file makes created, modified and closed records with its name, under the directory's watch."""
    number = watch(kernel, tmp_path)
    (tmp_path / "file").write_text("x")

    assert [(r.watch, r.mask, r.name) for r in kernel.read()] == [
        (number, mask, b"file") for mask in (inotify.CREATE, inotify.MODIFY, inotify.CLOSE_WRITE)
    ]  # fmt: skip


def test_nothing_to_read_is_an_empty_list(kernel: Inotify) -> None:
    """Reading never waits."""
    assert kernel.read() == []


def test_reading_and_listing_make_no_records(kernel: Inotify, tmp_path: Path) -> None:
    """The mask asks for nothing that our own looking causes."""
    (tmp_path / "file").write_text("x")
    watch(kernel, tmp_path)
    os.listdir(tmp_path)
    (tmp_path / "file").read_text()
    (tmp_path / "file").stat()

    assert kernel.read() == []


def test_the_same_directory_has_the_same_number(kernel: Inotify, tmp_path: Path) -> None:
    """Wherever it has been moved: that is how a directory is recognized."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, other = watch(kernel, tmp_path / "a"), watch(kernel, tmp_path / "b")
    (tmp_path / "a").rename(tmp_path / "c")

    assert (watch(kernel, tmp_path / "c"), first == other) == (first, False)


def test_added_mask_keeps_what_is_asked_for_already(kernel: Inotify, tmp_path: Path) -> None:
    """With MASK_ADD looking at a root as at any directory does not take its special records away."""
    (tmp_path / "a").mkdir()
    number = watch(kernel, tmp_path / "a", inotify.ROOT)
    watch(kernel, tmp_path / "a", inotify.CONTENT | inotify.MASK_ADD)
    (tmp_path / "a").rename(tmp_path / "b")

    assert [(r.watch, r.mask) for r in kernel.read()] == [(number, inotify.MOVE_SELF)]


def test_removed_watch_is_ignored_once(kernel: Inotify, tmp_path: Path) -> None:
    """Ending a watch makes one last record; ending it again is not an error."""
    number = watch(kernel, tmp_path)

    assert [kernel.remove(number), kernel.remove(number)] == [True, False]
    assert [(r.watch, r.mask) for r in kernel.read()] == [(number, inotify.IGNORED)]


def test_file_cannot_be_watched_as_a_directory(kernel: Inotify, tmp_path: Path) -> None:
    """A directory that has become a file is refused."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        watch(kernel, tmp_path / "file")


def test_both_halves_of_a_rename_share_a_cookie(kernel: Inotify, tmp_path: Path) -> None:
    """The kernel tells which arrival belongs to which departure."""
    (tmp_path / "a").touch()
    watch(kernel, tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    left, came = kernel.read()

    assert (left.mask, came.mask) == (inotify.MOVED_FROM, inotify.MOVED_TO)
    assert left.cookie == came.cookie != 0


def test_long_queue_is_read_in_pieces(kernel: Inotify, tmp_path: Path) -> None:
    """More than fits one answer comes with the next ones, complete and in order."""
    watch(kernel, tmp_path)
    names = [f"{number:0200}".encode() for number in range(2_000)]
    for name in names:
        os.close(
            os.open(os.path.join(os.fsencode(tmp_path), name), os.O_CREAT)
        )  # opened to read: no close record
    answers = []
    while answer := kernel.read():
        answers.append(answer)

    assert [record.name for answer in answers for record in answer] == names
    assert len(answers) > 1


def test_closed_instance_is_gone(tmp_path: Path) -> None:
    """After `close` there is no descriptor, and closing again is harmless."""
    before = set(os.listdir("/proc/self/fd"))
    kernel = Inotify()
    watch(kernel, tmp_path)
    kernel.close()
    kernel.close()

    assert kernel.fileno() == -1
    assert set(os.listdir("/proc/self/fd")) == before


def test_kernel_errors_arrive_as_os_errors(kernel: Inotify) -> None:
    """What the kernel refuses carries its number."""
    with pytest.raises(OSError, match="No such file") as caught:
        kernel.add(999_999, inotify.CONTENT)

    assert caught.value.errno == errno.ENOENT


SYSTEM, NAMESPACE = "fs.inotify.max_user_watches", "user.max_inotify_watches"


@pytest.mark.parametrize(
    ("system", "namespace", "missing", "limit", "remedy"),
    [
        (8192, 8192, 1, 8192, {SYSTEM: 16384}),
        (65536, 65536, 1, 65536, {SYSTEM: 81920}),
        (8192, 8192, 100_000, 8192, {SYSTEM: 139264}),
        (8192, 2**31 - 1, 1, 8192, {SYSTEM: 16384}),
        (1 << 20, 1000, 500, 1000, {NAMESPACE: 8192}),
        (10_000, 1000, 20_000, 1000, {SYSTEM: 32768, NAMESPACE: 32768}),
        (8192, None, 1, 8192, {SYSTEM: 16384}),
        (None, None, 10_000, None, {SYSTEM: 16384}),
    ],
)
def test_advice_names_the_limit_that_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: int | None,
    namespace: int | None,
    missing: int,
    limit: int | None,
    remedy: dict[str, int],
) -> None:
    """The smaller of the system's and the user namespace's, and every one that would still be too small."""
    for name, value in ((SYSTEM, system), (NAMESPACE, namespace)):
        path = tmp_path.joinpath(*name.split("."))
        path.parent.mkdir(parents=True)
        path.write_text("odd" if value is None else f"{value}\n")
    monkeypatch.setattr(inotify, "_LIMITS", str(tmp_path))

    assert inotify.watch_limit() == limit
    settings = " ".join(f"{name}={value}" for name, value in remedy.items())
    assert inotify.watches_remedy(missing) == f"sysctl {settings}"


@pytest.mark.parametrize("missing", [1, 1_000, 5_000_000])
def test_advice_makes_room_for_what_is_missing(missing: int) -> None:
    """On this machine: the line names a setting that exists, and a number that is more than enough."""
    match = re.match(r"sysctl ([a-z._]+)=(\d+)", inotify.watches_remedy(missing))

    assert match is not None
    now = int(Path("/proc/sys", *match[1].split(".")).read_text())
    assert int(match[2]) >= now + missing


def test_advice_for_instances_is_more_than_now() -> None:
    """The line names a setting that exists, and a larger number."""
    match = re.fullmatch(r"sysctl ([a-z._]+)=(\d+)", inotify.instances_remedy())

    assert match is not None
    assert int(match[2]) > int(Path("/proc/sys", *match[1].split(".")).read_text())
