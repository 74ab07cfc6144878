"""The digests of a file are those of others, and a file that changes while it is read has none."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.core import plan
from syncd.core.errors import FileChanged, Stopped
from syncd.core.model import Fingerprint
from syncd.sources import files, fingerprint, mounts
from syncd.sources.fingerprint import Digests, Witness
from tests.support import collisions
from tests.support.waiting import running

MIB = 1 << 20
DEADLINE_SECONDS = 60.0
WITNESS = Witness(b"secret")

pytestmark = pytest.mark.usefixtures("no_descriptor_left_open")


def never() -> bool:
    return False


def xxh128sum(*files: Path) -> list[bytes]:
    """What the program of that name prints, as bytes."""
    if shutil.which("xxh128sum") is None:
        pytest.skip("CANNOT BE TESTED HERE: there is no xxh128sum; it comes with the package xxhash")
    printed = subprocess.run(["xxh128sum", *files], capture_output=True, check=True, timeout=60).stdout
    return [bytes.fromhex(line.lstrip(b"\\")[:32].decode()) for line in printed.splitlines()]


def computed(root_fd: int, path: str, part_size: int) -> Digests:
    with files.open_file(root_fd, path) as file:
        return fingerprint.compute(file, file.stat().size, part_size, never, WITNESS)


# ---- digests ----------------------------------------------------------------------------------------------

SIZES = [0, 1, 16, 17, 240, 241, MIB - 1, MIB, MIB + 1, 3 * MIB, 5 * MIB + 12345]


def test_fingerprints_are_those_of_xxh128sum(root: Path, root_fd: int) -> None:
    """For files of many sizes the digest is what the program ``xxh128sum`` prints."""
    files = [root / f"{size:08}" for size in SIZES]
    for size, file in zip(SIZES, files, strict=True):
        file.write_bytes(random.Random(size).randbytes(size))

    expected = xxh128sum(*files)

    assert [computed(root_fd, f.name, 2 * MIB).fingerprint.digest for f in files] == expected
    assert [fingerprint.digest(f.read_bytes()) for f in files] == expected


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(size=st.integers(0, 3 * MIB), part_size=st.sampled_from([1000, 65536, MIB - 1, MIB, MIB + 1, 4 * MIB]))
def test_blocks_are_digested_on_their_grid(root: Path, root_fd: int, size: int, part_size: int) -> None:
    """Each block has the digest of its own bytes, whatever size and part size; the whole that of all."""
    content = random.Random(size).randbytes(size)
    (root / "file").write_bytes(content)

    digests = computed(root_fd, "file", part_size)

    blocks = [content[offset : offset + part_size] for offset in range(0, size, part_size)]
    assert digests.parts == tuple(map(WITNESS.of, blocks))
    assert digests.witness == WITNESS.of(content)
    assert (
        digests.fingerprint == fingerprint.of_bytes(content) == Fingerprint(fingerprint.digest(content), size)
    )


@pytest.mark.parametrize("memory", [False, True])
def test_holes_are_digested_and_not_read(root: Path, memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way data came into a sparse file, and although none of it is on the disk yet."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if memory else root) as directory:
        path, size = Path(directory) / "sparse", 64 * MIB + 5
        with path.open("w+b") as file:
            file.truncate(size)
            os.pwrite(file.fileno(), b"written", 9 * MIB - 3)
            os.posix_fallocate(file.fileno(), 20 * MIB, 2 * MIB)
            os.pwrite(file.fileno(), b"in what was allocated", 21 * MIB)
            with mmap.mmap(file.fileno(), size) as mapped:
                mapped[33 * MIB] = 1
            os.pwrite(file.fileno(), b"end", size - 3)
        content = path.read_bytes()
        reads: list[int] = []
        read_into = files.OpenFile.read_into

        def counted(self: files.OpenFile, offset: int, view: memoryview) -> None:
            reads.append(offset // MIB)
            read_into(self, offset, view)

        monkeypatch.setattr(files.OpenFile, "read_into", counted)
        root_fd = os.open(directory, os.O_RDONLY)
        try:
            digests = computed(root_fd, "sparse", 8 * MIB)
        finally:
            os.close(root_fd)
        assert digests.fingerprint == fingerprint.of_bytes(content)
        assert digests.witness == WITNESS.of(content)
        if mounts.type_of(path.stat().st_dev) in ("ext4", "tmpfs", "xfs"):
            assert set(reads) <= {8, 9, 20, 21, 33, 64}
        else:
            assert len(reads) == 65


def test_any_kind_of_buffer_has_the_same_fingerprint() -> None:
    """bytes, bytearray and memoryview of the same bytes are the same content."""
    content = bytes(range(256)) * 5

    bodies = [content, bytearray(content), memoryview(b"x" + content)[1:]]

    assert {fingerprint.of_bytes(body) for body in bodies} == {fingerprint.of_bytes(content)}


# ---- witnesses -------------------------------------------------------------------------------------------


def test_a_witness_is_that_of_one_secret() -> None:
    """The same secret makes the same witness after a restart, another secret another one."""
    for content in (b"", b"x", bytes(100_000)):
        made = [Witness(secret).of(content) for secret in (b"secret", b"secret", b"other", b"")]
        assert made[0] == made[1] == WITNESS.of(memoryview(content))
        assert len(set(made)) == 3
        assert {len(each) for each in made} == {16}


def test_a_witness_in_pieces_is_that_of_the_whole(root: Path, root_fd: int) -> None:
    """However the content is cut, by parts and leaves; and its first half can be had alone."""
    content = random.Random(7).randbytes(2 * MIB + 12_345)
    (root / "file").write_bytes(content)
    expected = WITNESS.of(content)
    for part_size in (MIB, 2 * MIB, 4 * MIB, 999, MIB + 1, len(content)):
        assert computed(root_fd, "file", part_size).witness == expected
    assert WITNESS.half(content) == expected[:8]


def test_content_made_to_collide_has_two_witnesses() -> None:
    """Anybody can write two files with one XXH3-128, since its secret is public."""
    one, other = collisions.public_pair()
    assert fingerprint.digest(one) == fingerprint.digest(other)
    for number in range(100):
        witness = Witness(b"%d" % number)
        assert witness.of(one) != witness.of(other)


def test_content_made_to_collide_under_many_seeds_has_two_witnesses() -> None:
    """A secret seed alone is worth 13 bits: this pair collides under one seed in 8,000."""
    one, other = collisions.pair_for_many_seeds()
    seeds = random.Random(1)
    tries = [seeds.getrandbits(64) for _ in range(60_000)]
    collided = [
        seed for seed in tries if xxhash.xxh3_128_digest(one, seed) == xxhash.xxh3_128_digest(other, seed)
    ]
    assert collided
    for number in range(5_000):
        witness = Witness(b"%d" % number)
        assert witness.of(one) != witness.of(other)


def test_hashing_stops_when_asked(root: Path, root_fd: int) -> None:
    """A large file is given up between two reads."""
    (root / "file").write_bytes(bytes(4 * MIB))
    asked: list[int] = []

    def third_time() -> bool:
        asked.append(1)
        return len(asked) == 3

    with files.open_file(root_fd, "file") as file, pytest.raises(Stopped):
        fingerprint.compute(file, 4 * MIB, 4 * MIB, third_time, WITNESS)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("size", "difference"), [(0, 1), *((size, by) for size in (5, MIB, MIB + 5) for by in (-1, 1))]
)
def test_another_size_than_expected_is_a_change(root: Path, root_fd: int, size: int, difference: int) -> None:
    """A file that is a byte shorter or longer than its stat said is not fingerprinted."""
    (root / "file").write_bytes(bytes(size + difference))

    with files.open_file(root_fd, "file") as file, pytest.raises(FileChanged):
        fingerprint.compute(file, size, MIB, never, WITNESS)


# ---- reading ----------------------------------------------------------------------------------------------


def test_a_file_that_shrinks_while_it_is_read(root: Path, root_fd: int) -> None:
    """Truncation between two reads is a FileChanged, not a short block and not a signal."""
    path = root / "file"
    path.write_bytes(bytes(8 * MIB))

    def shrink() -> bool:
        os.truncate(path, 3 * MIB)
        return False

    with files.open_file(root_fd, "file") as file, pytest.raises(FileChanged, match="shortened"):
        fingerprint.compute(file, 8 * MIB, 4 * MIB, shrink, WITNESS)


def test_a_file_that_grows_while_it_is_read(root: Path, root_fd: int) -> None:
    """Bytes that are appended while the file is read are noticed."""
    path = root / "file"
    path.write_bytes(bytes(2 * MIB))

    def grow() -> bool:
        with path.open("ab") as more:
            more.write(b"more")
        return False

    with files.open_file(root_fd, "file") as file, pytest.raises(FileChanged, match="grew beyond"):
        fingerprint.compute(file, 2 * MIB, 4 * MIB, grow, WITNESS)


def has_fine_clock(directory: Path) -> bool:
    """Whether two writes with a look in between never have the same stamps (since Linux 6.13)."""
    stamps = []
    for _ in range(200):
        (directory / "probe").write_bytes(b"x")
        stamps.append((directory / "probe").stat().st_mtime_ns)
    return len(set(stamps)) == 200


REWRITE = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY)
print("rewriting", flush=True)
number = 0
while True:
    number = (number + 1) % 256
    for block in range(16):
        os.pwrite(file, bytes([number]) * 65536, block * 65536)
"""


def test_torn_reads_show_in_the_stat(root: Path, root_fd: int) -> None:
    """While a file is rewritten in place, a fingerprint of something that the file never was has unequal
    stats around it; where clocks are too coarse for that, the stat behind it is racy. Not always: the kernel
    moves the times before it copies, and a writer that loses its processor in between is seen by no stat. For
    those a file has to rest before it is read."""
    fine = has_fine_clock(root)
    path = root / "file"
    path.write_bytes(bytes(MIB))
    states = {  # what the file really is between two writes
        fingerprint.digest(
            bytes([new]) * (65536 * blocks) + bytes([(new - 1) % 256]) * (65536 * (16 - blocks))
        )
        for new in range(256)
        for blocks in range(16)
    }
    torn = noticed = 0
    deadline = time.monotonic() + DEADLINE_SECONDS
    with running(REWRITE, path):
        while torn < 20 and time.monotonic() < deadline:
            with files.open_file(root_fd, "file") as file:
                before = file.stat()
                content = fingerprint.compute(file, MIB, 4096, never, WITNESS).fingerprint
                after = file.stat()
            if content.digest not in states:
                torn += 1
                noticed += before != after or (not fine and plan.is_racy(after, time.time_ns()))

    assert torn == 20
    assert noticed >= 18
