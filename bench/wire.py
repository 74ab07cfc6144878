"""What goes over the wire after ordinary things happened to a file: syncd beside rclone and aws s3 sync.

    python -m bench.wire --out table.md          # against a Ceph gateway; ten minutes
    python -m bench.wire --scale 0.01            # small files, to see whether it works here

A proxy between each program and the server counts what programs send: heads and bodies of requests. Each
program works on a folder and a prefix of its own, with the options that send the least: `rclone sync
--track-renames`, `aws s3 sync`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # as where a script of this folder is started

import peers  # beside this script, like the next
from servers import BUCKET, Ceph

from tests.support.fault_proxy import FaultProxy  # `servers` has made the tests importable

MIB = 1 << 20
PROGRAMS = ("syncd", "rclone", "aws")
PIECE = 4 * MIB
BY_RCLONE = "the bucket was filled by rclone"


@dataclass(frozen=True)
class Sizes:
    """Bytes and numbers, for a whole run or a part of it."""

    plain: int
    large: int
    files: int

    @classmethod
    def of(cls, scale: float) -> Sizes:
        return cls(max(1, int(100 * scale)) * MIB, max(20, int(1024 * scale)) * MIB, int(10_000 * scale))


def fill(path: Path, size: int, seed: str) -> None:
    """A file that nothing can compress or find elsewhere."""
    chance = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for at in range(0, size, PIECE):
            file.write(chance.randbytes(min(PIECE, size - at)))


def begin(root: Path, sizes: Sizes) -> None:
    """What is there before anything happens."""
    for name in ("touched", "renamed", "copied", "donor", "appended", "moved"):
        fill(root / f"{name}.bin", sizes.plain, name)
    fill(root / "changed.bin", sizes.large, "changed")
    for number in range(sizes.files):
        fill(root / "folder" / f"{number // 100:03}" / f"{number:05}.bin", 4096, str(number))


def change(path: Path) -> None:
    """One MiB in the middle gets another content."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // MIB * MIB)
        file.write(random.Random("other").randbytes(MIB))


def touch(root: Path) -> None:
    os.utime(root / "touched.bin")


def rename(root: Path) -> None:
    (root / "renamed.bin").rename(root / "another name.bin")


def rename_folder(root: Path) -> None:
    (root / "folder").rename(root / "another folder")


def copy(root: Path) -> None:
    shutil.copyfile(root / "copied.bin", root / "copy.bin")


def copy_and_change(root: Path) -> None:
    shutil.copyfile(root / "donor.bin", root / "changed copy.bin")
    change(root / "changed copy.bin")


def change_large(root: Path) -> None:
    change(root / "changed.bin")


def append(root: Path) -> None:
    with (root / "appended.bin").open("ab") as file:
        file.write(random.Random("more").randbytes(MIB))


def insert(root: Path) -> None:
    """What was there moves on."""
    content = (root / "moved.bin").read_bytes()
    (root / "moved.bin").write_bytes(b"a few bytes\n" + content)


def nothing(root: Path) -> None:
    """The folder is as it was."""


def rows(sizes: Sizes) -> list[tuple[str, Callable[[Path], None]]]:
    """What happens, in words and in deeds. The last two are about what a program remembers."""
    plain, large = f"{sizes.plain // MIB} MiB", f"{sizes.large // MIB} MiB"
    large = "1 GiB" if sizes.large == 1 << 30 else large
    return [
        (f"a file of {plain} is touched", touch),
        (f"a file of {plain} is renamed", rename),
        (f"a folder of {sizes.files:,} files of 4 KiB is renamed", rename_folder),
        (f"a file of {plain} is copied", copy),
        (f"a file of {plain} is copied, and 1 MiB of the copy changed", copy_and_change),
        (f"1 MiB of {large} is changed", change_large),
        (f"1 MiB is appended to {plain}", append),
        (f"a few bytes are inserted at the beginning of {plain}", insert),
        ("the same once more", insert),
        ("the program's own state is lost", nothing),
        (BY_RCLONE, nothing),
    ]


@dataclass
class Behind:
    """The server as a program sees it that talks to the proxy."""

    name: str
    port: int
    access_key: str
    secret_key: str
    remembers: bool = True

    def counted(self) -> None:
        """The proxy does."""

    def empty(self) -> None:
        """Takes no notice: the measurement never calls it."""

    def stop(self) -> None:
        """It is the server that stops."""


def command(program: str, task: peers.Task) -> peers.Command:
    """How the program brings the bucket in line with the folder."""
    if program == "syncd":
        return peers.syncd(task)
    found = peers.find(program)
    if found is None:
        raise SystemExit(f"there is no {program}: see bench/README.md")
    place = f"{BUCKET}/{task.prefix}"
    if program == "aws":
        asked = ["--endpoint-url", task.endpoint, "s3", "sync", "--quiet", str(task.path), f"s3://{place}"]
        return [found, *asked], {**task.environ(), "AWS_CONFIG_FILE": os.devnull}
    return [
        found, "--config", os.devnull, "sync", str(task.path), f":s3:{place}", "--track-renames",
        "--s3-provider", "Ceph", "--s3-endpoint", task.endpoint, "--s3-env-auth", "--s3-no-check-bucket",
        "--s3-region", peers.REGION,
    ], task.environ()  # fmt: skip


class Line:
    """The way of one program to the server, through a proxy that counts."""

    def __init__(self, proxy: FaultProxy, server: Ceph, root: Path, scratch: Path) -> None:
        self._proxy = proxy
        self._behind = Behind(server.name, proxy.port, server.access_key, server.secret_key)
        self._root = root
        self._scratch = scratch

    def sent(self, program: str, prefix: str) -> int:
        """Bytes that the program sends to bring what is under the prefix in line with the folder."""
        before = self._proxy.bytes_sent
        asked, environ = command(program, peers.Task(self._root, self._behind, prefix, self._scratch))
        done = subprocess.run(asked, env=dict(environ), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{program} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return self._proxy.bytes_sent - before

    def forget(self) -> None:
        """The program's configuration and state are gone."""
        shutil.rmtree(self._scratch)
        self._scratch.mkdir()


def measure(line: Line, program: str, root: Path, sizes: Sizes, tell: Callable[[str], object]) -> list[int]:
    """One column of the table."""
    begin(root, sizes)
    tell(f"{program}: {line.sent(program, f'{program}/'):,} bytes to begin with")
    found, prefix = [], f"{program}/"
    for words, happens in rows(sizes):
        happens(root)
        if happens is nothing:
            line.forget()
        if words == BY_RCLONE:
            prefix = f"{program}-again/"
            line.sent("rclone", prefix)
        found.append(line.sent(program, prefix))
        tell(f"{program}: {words}: {found[-1]:,}")
    return found


def human(size: int) -> str:
    """So that figures can be compared at a glance."""
    return f"{size / MIB:,.1f} MiB" if size >= MIB // 10 else f"{size / 1024:,.1f} KiB"


def tell(words: str) -> None:
    """What goes on, beside the table."""
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes; 1 is what the table says")
    parser.add_argument("--out", type=Path, help="where the table is written")
    asked = parser.parse_args()
    sizes, columns = Sizes.of(asked.scale), {}
    with tempfile.TemporaryDirectory(prefix="syncd-wire-") as place:
        (Path(place) / "ceph").mkdir()
        server = Ceph(Path(place) / "ceph")
        try:
            for program in PROGRAMS:
                scratch = Path(place) / program / "scratch"
                scratch.mkdir(parents=True)
                with FaultProxy(("127.0.0.1", server.port)) as proxy:  # one: to syncd it is the store
                    root = scratch.with_name("tree")
                    columns[program] = measure(Line(proxy, server, root, scratch), program, root, sizes, tell)
                shutil.rmtree(scratch.parent)
                server.empty()
        finally:
            server.stop()
    lines = ["| what happened | bytes sent | rclone | aws s3 sync |", "|---|---|---|---|"]
    for number, (words, _) in enumerate(rows(sizes)):
        lines.append("| " + " | ".join([words, *(human(columns[each][number]) for each in PROGRAMS)]) + " |")
    table = "\n".join(lines) + "\n"
    print(table)
    if asked.out:
        asked.out.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
