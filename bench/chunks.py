"""What boundaries that follow the content would save when large files change, beside blocks of one size.

    pip install numpy; apt-get install e2fsprogs ffmpeg sqlite3
    python bench/chunks.py [--mib 100] [--dir DIR] [--only KIND ...]

Makes files of several kinds with the programs that make them, lets these change them, and counts how many
bytes of the new file an upload would have to send: parts can be copied from the old object where they are the
same, at the same place for blocks, at any place for chunks. No part may be smaller than the store's smallest.
The last figures are of what syncd does (`syncd.sources.chunks`): a second look for parts of 5 MiB where
blocks of 8 MiB spare less than half; and how many MB/s one processor cuts.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import mailbox
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from syncd.core import parts
from syncd.sources.chunks import Cutter
from syncd.sources.fingerprint import READ_SIZE, Witness

BOS, S3, BLOCK = 100 << 10, 5 << 20, 8 << 20
"""The smallest parts that the stores take, and the size of syncd's parts."""
S3_BITS, BOS_BITS, PIECE = 21, 17, 1 << 18
"""Of the hash that decides about a boundary: a chunk has about 2 MiB or 128 KiB beyond the least."""
Change = tuple[str, Path]
"""What was done, and the file as it is then."""
_GEAR = np.random.default_rng(1).integers(0, 1 << 32, 256, dtype=np.uint32)


# ---- what would be sent ----------------------------------------------------------------------------------


def blocks_sent(old: Path, new: Path, size: int) -> int:
    """Bytes of the new file in blocks that are not those of the old one at the same place."""
    with old.open("rb") as before, new.open("rb") as after:
        pairs = iter(lambda: (after.read(size), before.read(size)), (b"", b""))
        return sum(len(now) for now, then in pairs if now != then)


Chunks = list[tuple[bytes, int]]


def chunks_sent(old: Chunks, new: Chunks) -> int:
    """Bytes of the new file in chunks that the old one has nowhere."""
    known = {digest for digest, _ in old}
    return sum(size for digest, size in new if digest not in known)


def parts_sent(old: Chunks, new: Chunks, smallest: int) -> int:
    """The same where chunks that follow each other in both files are one part, and none is too small.

    What is sent between two copies takes what it lacks from the next; a copy that is too small is sent.
    """
    there = dict(
        zip(accumulate((size for _, size in old), initial=0), (each for each, _ in old), strict=False)
    )
    places = {digest: at for at, digest in there.items()}
    runs: list[tuple[int, int]] = []  # where it ends in the old file (-1: it is not there), and its size
    for digest, size in new:
        at = runs[-1][0] if runs and there.get(runs[-1][0]) == digest else places.get(digest, -1)
        if runs and (runs[-1][0] == at or (at == runs[-1][0] == -1)):
            runs[-1] = (at + size if at >= 0 else -1, runs[-1][1] + size)
        else:
            runs.append((at + size if at >= 0 else -1, size))
    total = open_part = 0
    for end, size in runs:
        lacks = smallest - open_part if open_part else 0
        if end < 0 or size - max(0, lacks) < smallest:
            total, open_part = total + size, open_part + size
        else:
            total, open_part = total + max(0, lacks), 0
    return total


def second_look_sent(old: bytes, new: Path, by_blocks: int) -> tuple[int, int]:
    """Bytes to send to S3 if the old file was cut into chunks as the new one is now; and bytes per second."""
    size, began = new.stat().st_size, time.process_time()
    now = cut(new)
    speed = size / (time.process_time() - began)
    if 2 * by_blocks <= size:
        return by_blocks, int(speed)
    there = parts.moved(old, now, size, S3)
    moved = size - sum(parts.span(number, size, S3).size for number in there)
    return min(by_blocks, moved), int(speed)


def cut(path: Path) -> bytes:
    """The chunks of syncd."""
    cutter = Cutter(Witness(bytes(32)), BLOCK)
    with path.open("rb") as file:
        while piece := file.read(READ_SIZE):
            cutter.update(memoryview(piece))
    return cutter.ended()


def chunks(path: Path) -> tuple[Chunks, Chunks]:
    """Digest and size of each chunk, with the smallest that S3 takes and with that of BOS.

    A chunk ends at the first boundary after the smallest size, if one is near.
    """
    content = path.read_bytes()
    fine = _boundaries(content, BOS_BITS)
    return _cut(content, _boundaries(content, S3_BITS), S3, S3_BITS), _cut(content, fine, BOS, BOS_BITS)


def _cut(content: bytes, boundaries: np.ndarray, smallest: int, bits: int) -> Chunks:
    ends, start = [0], 0
    while start < len(content):
        first = int(np.searchsorted(boundaries, start + smallest))
        found = int(boundaries[first]) if first < len(boundaries) else len(content)
        start = min(found, start + 2 * smallest + (4 << bits), len(content))
        ends.append(start)
    return [(hashlib.sha256(content[begin:end]).digest(), end - begin) for begin, end in pairwise(ends)]


def _boundaries(content: bytes, bits: int) -> np.ndarray:
    """Where the gear hash of the last bytes has `bits` zeros at its lower end."""
    data, found = np.frombuffer(content, dtype=np.uint8), []
    for at in range(0, len(data), PIECE):
        first = max(0, at - bits)
        gear = _GEAR[data[first : at + PIECE]]
        total, shifted = gear.copy(), gear.copy()
        for age in range(1, bits):
            np.left_shift(shifted[:-1], 1, out=shifted[:-1])
            shifted = shifted[:-1]
            total[age:] += shifted
        hits = np.flatnonzero(total & np.uint32((1 << bits) - 1) == 0) + first + 1
        found.append(hits[hits > at])
    return np.concatenate(found)


# ---- files, and what their programs do to them -----------------------------------------------------------


def run(*command: str | Path, **more: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True, **more)  # type: ignore[call-overload]


def tree(work: Path, size: int) -> Path:
    """Real files: what this machine has of documents and headers, up to `size` bytes."""
    root, total = work / "tree", 0
    for path in sorted([*Path("/usr/include").rglob("*"), *Path("/usr/share/doc").rglob("*")]):
        if path.is_file() and not path.is_symlink() and total < size:
            target = root / path.relative_to("/usr")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            total += path.stat().st_size
    return root


def copied(path: Path) -> Path:
    other = path.with_name("new-" + path.name)
    shutil.copyfile(path, other)
    return other


def disk_image(work: Path, size: int, chance: random.Random) -> Iterator[Change]:
    root, image = tree(work, size), work / "disk.img"
    run("mke2fs", "-q", "-t", "ext4", "-d", root, image, f"{(size >> 20) * 3 // 2}M")
    yield "", image
    new, names = copied(image), chance.sample([path for path in root.rglob("*") if path.is_file()], 40)
    script = work / "commands"
    script.write_text(
        "".join(f"rm /{path.relative_to(root)}\n" for path in names[:20])
        + "".join(f"write {path} /copy-{number}\n" for number, path in enumerate(names[20:]))
    )
    run("debugfs", "-w", "-f", script, new)
    yield "20 files deleted, 20 written", new


def database(work: Path, size: int, chance: random.Random) -> Iterator[Change]:
    path = work / "data.sqlite"
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, name TEXT, text TEXT)")
        base.execute("CREATE INDEX by_name ON notes (name)")
        rows = size // 1100
        for number in range(rows):
            row = f"name {chance.random()}", chance.randbytes(500).hex()
            base.execute("INSERT INTO notes VALUES (?, ?, ?)", (number, *row))
    yield "", path
    new = copied(path)
    with closing(sqlite3.connect(new)) as base, base:
        for number in chance.sample(range(rows), 200):
            base.execute("UPDATE notes SET text = ? WHERE id = ?", (chance.randbytes(500).hex(), number))
            base.execute("DELETE FROM notes WHERE id = ?", (chance.randrange(rows),))
    yield "200 rows updated, 200 deleted", new
    with closing(sqlite3.connect(new)) as base:
        base.execute("VACUUM")
    yield "the same, then VACUUM", new


def archive(work: Path, size: int, chance: random.Random) -> Iterator[Change]:
    root, path = tree(work, size), work / "tree.tar"
    run("tar", "--sort=name", "-cf", path, "-C", root, ".")
    yield "", path
    for found in chance.sample([each for each in root.rglob("*") if each.is_file()], 10):
        with found.open("ab") as file:
            file.write(chance.randbytes(3000))
    new = path.with_name("new.tar")
    run("tar", "--sort=name", "-cf", new, "-C", root, ".")
    yield "10 files grew by 3 kB", new


def log(work: Path, size: int, chance: random.Random) -> Iterator[Change]:
    path = work / "app.log"
    logger = logging.getLogger("app")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

    def write(most: int) -> None:
        while handler.stream.tell() < most:
            number = chance.getrandbits(64)
            logger.info("GET /items/%d?page=%d 200 %d bytes", number, number % 97, number % 10**6)

    write(size)
    yield "", path
    old = copied(path)
    os.replace(path, work / "grown")
    os.replace(old, path)
    write(size + (1 << 20))
    yield "1 MiB appended", work / "grown"
    with (work / "grown").open("rb") as file, (work / "trimmed").open("wb") as rest:
        file.seek(size // 10)
        file.readline()
        shutil.copyfileobj(file, rest)
    yield "and the oldest tenth dropped", work / "trimmed"


def mail(work: Path, size: int, chance: random.Random) -> Iterator[Change]:
    path, total = work / "mbox", 0
    with closing(mailbox.mbox(path)) as box:
        while total < size:
            length = min(int(chance.lognormvariate(9, 1.5)), 2 << 20)
            body = chance.randbytes(length * 3 // 8).hex("\n", 36)
            box.add(f"From: a@example.org\nSubject: {chance.random()}\n\n{body}\n")
            total += len(body)
    yield "", path
    new = copied(path)
    with closing(mailbox.mbox(new)) as box:
        for key in chance.sample(box.keys(), 20):
            box.remove(key)
        box.flush()
    yield "20 messages deleted", new


def video(work: Path, size: int, chance: random.Random) -> Iterator[Change]:
    path, new = work / "video.mp4", work / "new.mp4"
    quiet = "ffmpeg", "-y", "-loglevel", "error"
    seconds = size / (1 << 20)  # at 8 Mbit/s
    source = f"testsrc2=size=640x360:rate=25:duration={seconds},noise=alls=40:allf=t"
    run(*quiet, "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M",
        "-minrate", "8M", "-maxrate", "8M", "-bufsize", "8M", "-movflags", "+faststart", path)  # fmt: skip
    yield "", path
    copy = "-c", "copy", "-movflags", "+faststart"
    run(*quiet, "-i", path, *copy, "-metadata", "title=Another title of this film", new)
    yield "another title", new
    run(*quiet, "-ss", "10", "-i", path, *copy, new)
    yield "the first 10 s cut off", new


KINDS: dict[str, Callable[[Path, int, random.Random], Iterator[Change]]] = {
    "disk image (ext4)": disk_image,
    "database (SQLite)": database,
    "archive (tar)": archive,
    "log": log,
    "mail (mbox)": mail,
    "video (mp4)": video,
}


def main() -> int:
    """Print a table: MiB to send by blocks and by chunks, and the share of the file that chunks save."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--mib", type=int, default=100)
    options.add_argument("--dir", help="where to make the files; default: a temporary directory")
    options.add_argument("--only", nargs="*", default=[*KINDS], help="which of the kinds, by their names")
    given = options.parse_args()
    print("| file | change | MiB | blocks of 8 MiB | 5 MiB | 100 KiB | chunks from 5 MiB | 100 KiB |", end="")
    print(" chunks from 100 KiB in parts from 5 MiB | saved, 5 MiB | 100 KiB | both |", end="")
    print(" second look | saved | MB/s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    saved: list[tuple[float, ...]] = []
    for kind, make in ((kind, KINDS[kind]) for kind in given.only):
        with tempfile.TemporaryDirectory(dir=given.dir) as work:
            made = make(Path(work), given.mib << 20, random.Random(1))
            _, old = next(made)
            before, ours = chunks(old), cut(old)
            for change, new in made:
                size, now = new.stat().st_size, chunks(new)
                blocks = [blocks_sent(old, new, each) for each in (BLOCK, S3, BOS)]
                chunked = [chunks_sent(*pair) for pair in zip(before, now, strict=True)]
                chunked.append(parts_sent(before[1], now[1], S3))
                second, speed = second_look_sent(ours, new, blocks[0])
                won = [(blocks[at] - chunked[which]) / size for which, at in ((0, 1), (1, 2), (2, 1))]
                won.append((blocks[0] - second) / size)
                saved.append(tuple(won))
                *figures, looked = [f"{each / (1 << 20):.1f}" for each in (size, *blocks, *chunked, second)]
                *shares, share = [f"{each:.0%}" for each in won]
                print(
                    "|",
                    " | ".join([kind, change, *figures, *shares, looked, share, str(speed // 10**6)]),
                    "|",
                    flush=True,
                )
    middle = [f"{statistics.median(each):.0%}" for each in zip(*saved, strict=True)]
    print(
        f"median of what chunks save of a file beside blocks of the same smallest size: {', '.join(middle)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
