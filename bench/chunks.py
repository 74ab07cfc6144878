"""What the second look at a changed file saves (`syncd.sources.chunks`), beside blocks at fixed places.

    apt-get install e2fsprogs ffmpeg sqlite3
    python bench/chunks.py [--mib 100] [--dir DIR] [--only KIND ...]

Makes files of several kinds with the programs that make them, lets these change them, and counts how many
bytes of the new file an upload has to send: with blocks of 8 MiB alone, and after a second look for parts of
5 MiB, which syncd takes if the blocks spare less than half. Prints also how many MB/s one processor cuts.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path

from syncd.core import parts
from syncd.sources.chunks import Cutter
from syncd.sources.fingerprint import READ_SIZE, Witness

S3, BLOCK = 5 << 20, 8 << 20
"""The smallest part that S3 takes, and the size of syncd's parts."""
Change = tuple[str, Path]
"""What was done, and the file as it is then."""


# ---- what would be sent ----------------------------------------------------------------------------------


def blocks_sent(old: Path, new: Path) -> int:
    """Bytes of the new file in blocks that are not those of the old one at the same place."""
    with old.open("rb") as before, new.open("rb") as after:
        pairs = iter(lambda: (after.read(BLOCK), before.read(BLOCK)), (b"", b""))
        return sum(len(now) for now, then in pairs if now != then)


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
    """Print a table: MiB to send by blocks and after a second look, and what share of the file that saves."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--mib", type=int, default=100)
    options.add_argument("--dir", help="where to make the files; default: a temporary directory")
    options.add_argument("--only", nargs="*", default=[*KINDS], help="which of the kinds, by their names")
    given = options.parse_args()
    print("| file | change | MiB | blocks | second look | saved | MB/s |")
    print("|---|---|---|---|---|---|---|")
    saved: list[float] = []
    for kind in given.only:
        with tempfile.TemporaryDirectory(dir=given.dir) as work:
            made = KINDS[kind](Path(work), given.mib << 20, random.Random(1))
            _, old = next(made)
            before = cut(old)
            for change, new in made:
                size, blocks = new.stat().st_size, blocks_sent(old, new)
                looked, speed = second_look_sent(before, new, blocks)
                saved.append((blocks - looked) / size)
                figures = " | ".join(f"{each / (1 << 20):.1f}" for each in (size, blocks, looked))
                print(f"| {kind} | {change} | {figures} | {saved[-1]:.0%} | {speed // 10**6} |", flush=True)
    print(f"median of what the second look saves of a file: {statistics.median(saved):.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
