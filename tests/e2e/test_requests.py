"""What each thing costs in requests, counted by a server: `docs/performance.md` has the same figures.

As a program it prints the table for any installed version: ``python -m tests.e2e.test_requests SYNCD``.
"""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.e2e import process
from tests.e2e.process import Syncd, bos_store
from tests.support.bos_server import BosServer

PAGE = Path(__file__).parents[2] / "docs/performance.md"
PART = 5 << 20
MANY = 60
LARGE = random.Random(1).randbytes(4 * PART - 1)

WORDS = {
    "PutObject": "put", "HeadObject": "HEAD", "DeleteObject": "delete", "CopyObject": "copy",
    "ListObjects": "list", "InitiateMultipartUpload": "create", "UploadPart": "part",
    "UploadPartCopy": "part copy", "CompleteMultipartUpload": "complete", "ListParts": "list parts",
    "GetObject": "get", "AbortMultipartUpload": "abort", "ListMultipartUploads": "list uploads",
}  # fmt: skip


def many(folder: Path, change: Callable[[Path], object]) -> None:
    for number in range(MANY):
        change(folder / f"many/{number:04}")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def middle(path: Path) -> None:
    """Change a byte in the second of four parts."""
    with path.open("r+b") as file:
        file.seek(PART + 5)
        byte = file.read(1)[0]
        file.seek(PART + 5)
        file.write(bytes([byte ^ 1]))


STEPS: dict[str, Callable[[Path], object]] = {
    "the first pass of all, with one small file": lambda folder: write(folder / "stays", b"here"),
    "a new small file": lambda folder: write(folder / "small", b"one"),
    "a pass in which nothing changed": lambda folder: None,
    "a small file that changed": lambda folder: write(folder / "small", b"other"),
    "a file that was touched": lambda folder: os.utime(folder / "small", (1e9, 1e9)),
    "a file that was renamed": lambda folder: (folder / "small").rename(folder / "renamed"),
    "a file that was deleted": lambda folder: (folder / "renamed").unlink(),
    "a new file of four parts": lambda folder: write(
        folder / "large", random.Random(1).randbytes(4 * PART - 1)
    ),
    "one of its parts changed": lambda folder: middle(folder / "large"),
    f"{MANY} new small files": lambda folder: many(folder, lambda path: write(path, path.name.encode())),
    f"{MANY} files of one folder deleted": lambda folder: many(folder, Path.unlink),
}


def counted(root: Path) -> dict[str, str]:
    """The requests of each step, in the order of their number."""
    (root / "watched").mkdir()
    told = {}
    with BosServer(root / "bos") as server:
        source = {"name": "docs", "path": "./watched", "store": "bos", "prefix": "p/", "settle": "1ms"}
        source |= {"on_delete": "delete", "max_delete": 1000}
        syncd = Syncd(root, {"bos": bos_store(server, "photos")}, [source], transfer={"part_size": "5MiB"})
        for name, step in STEPS.items():
            step(root / "watched")
            before = len(server.log)
            syncd.command("sync")
            found = Counter(WORDS[seen.op] for seen in server.log[before:])
            told[name] = ", ".join(
                f"{number} {word}"
                for word, number in sorted(found.items(), key=lambda each: (each[1], each[0]))
            )
    return told


def test_the_table_of_requests_is_what_a_server_counts(tmp_path: Path) -> None:
    """In the documents are the figures of today: a change that costs a file a request more has to say so."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    table = {name: now.replace("none", "") for name, _, now in rows if name in STEPS}
    assert table == counted(tmp_path)


def main(command: Sequence[str]) -> None:
    """Print the table of another version."""
    process.SYNCD = tuple(command)  # type: ignore[assignment,misc]
    with tempfile.TemporaryDirectory() as directory:
        for name, requests in counted(Path(directory)).items():
            print(f"| {name} | {requests or 'none'} |")


if __name__ == "__main__":
    main(sys.argv[1:])
