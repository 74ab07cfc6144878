"""Ten sources and five stores, two of which are always in trouble: do the others notice?

    python -m tests.torture.chaos --minutes 60

Two daemons run side by side, so that both have the same machine at the same time: one whose stores are all
well, and one of whose stores a directory hangs (a file system whose server answers nothing), and a bucket
refuses connections, is full, and is slow, in turn. Programs write the same files for both. Measured is how
long a file takes from its rename into the folder until it is in the store, for the sources whose stores are
well in both. Fails where the median beside the trouble is more than 1.5 times that without. Needs root.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.process import Syncd, bos_store
from tests.support.bos_faults import Fault
from tests.support.bos_server import BosServer
from tests.support.fault_proxy import FaultProxy
from tests.support.mounting import silent

MOST_RATIO = 1.5
TROUBLES = ("refuses", "is full", "is slow", "fails")
_NAMES = 40
"""Different files of a source: each is written again and again."""
_SIZES = ((0.7, 1 << 10, 64 << 10), (0.27, 64 << 10, 1 << 20), (0.03, 9 << 20, 12 << 20))
"""How often, and from how many to how many bytes."""
_OVERDUE_SECONDS = 120.0
"""A file that takes longer counts with so much, and its source goes on."""


@dataclass
class Written:
    """The last state of a file, until it is seen in the store."""

    at: float
    size: int


@dataclass
class Side:
    """One of the two daemons: its sources, and how long their files took."""

    name: str
    syncd: Syncd
    sizes: dict[str, Callable[[str], int | None]]
    """By source whose store is well: the size of the object under a key."""
    delays: list[float] = field(default_factory=list)
    overdue: int = 0
    under_way: dict[tuple[str, str], Written] = field(default_factory=dict)

    def write(self, source: str, name: str, content: bytes) -> None:
        """Replace a file by a rename, unless its last state is still under way."""
        if (source, name) in self.under_way:
            return
        draft = self.syncd.root / "drafts" / f"{source}-{name}"
        draft.write_bytes(content)
        draft.rename(self.syncd.root / source / name)
        if source in self.sizes:
            self.under_way[source, name] = Written(time.monotonic(), len(content))

    def look(self) -> None:
        """Note which files have arrived."""
        now = time.monotonic()
        for (source, name), written in list(self.under_way.items()):
            took = now - written.at
            if self.sizes[source](f"{source}/{name}") == written.size or took > _OVERDUE_SECONDS:
                self.overdue += took > _OVERDUE_SECONDS
                self.delays.append(took)
                del self.under_way[source, name]

    def line(self) -> str:
        """The figures so far, and what the process has grown to."""
        process = self.syncd.process
        assert process is not None
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        about = {name: int(value.split()[0]) for name, _, value in (each.partition(":\t") for each in lines)
                 if name in ("VmRSS", "Threads")}  # fmt: skip
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
        parts = statistics.quantiles(self.delays, n=20) if len(self.delays) > 1 else [0.0] * 19
        return (
            f"{self.name}: {len(self.delays)} files, median {parts[9]:.3f} s, 95 % in {parts[18]:.2f} s, "
            f"{self.overdue} late; {about['VmRSS'] >> 10} MiB, {about['Threads']} threads, {files} open files"
        )


def main() -> int:
    """Run it, print a line each minute, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--per-second", type=float, default=5.0, help="files for each daemon")
    parser.add_argument("--phase", type=float, default=45.0, help="seconds of each trouble of the bucket")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncd-chaos-") as place, ExitStack() as last:
        calm = _side(Path(place) / "calm", last, asked.phase, in_trouble=False)
        chaos = _side(Path(place) / "chaos", last, asked.phase, in_trouble=True)
        return _run(calm, chaos, asked.minutes * 60.0, asked.per_second)


def _run(calm: Side, chaos: Side, seconds: float, per_second: float) -> int:
    chance = random.Random(1)
    began = time.monotonic()
    next_line = next_write = began
    sources = [f"s{number}" for number in range(10)]
    while (now := time.monotonic()) < began + seconds:
        if now >= next_write:
            next_write = now + chance.expovariate(per_second)
            source, name = chance.choice(sources), f"f{chance.randrange(_NAMES)}"
            content = chance.randbytes(_size(chance))
            for side in chance.sample((calm, chaos), 2):
                side.write(source, name, content)
        for side in (calm, chaos):
            side.look()
        if now >= next_line:
            next_line = now + 60.0
            print(f"{(now - began) / 60.0:4.0f} min  {calm.line()}\n          {chaos.line()}", flush=True)
        time.sleep(0.005)
    print(f"          {calm.line()}\n          {chaos.line()}")
    ratio = statistics.median(chaos.delays) / statistics.median(calm.delays)
    print(
        f"the median beside two stores in trouble is {ratio:.2f} times that without; {MOST_RATIO} is allowed"
    )
    return 0 if ratio <= MOST_RATIO and not chaos.overdue else 1


def _size(chance: random.Random) -> int:
    shares, least, most = zip(*_SIZES, strict=True)
    (kind,) = chance.choices(range(len(_SIZES)), shares)
    return chance.randrange(least[kind], most[kind])


def _side(root: Path, last: ExitStack, phase_seconds: float, *, in_trouble: bool) -> Side:
    """Five stores, each with two sources, and the daemon; the last two stores may be in trouble."""
    for name in ("drafts", "dir0", "dir1", "dir2", *(f"s{number}" for number in range(10))):
        (root / name).mkdir(parents=True)
    well = last.enter_context(BosServer(root / "bos0", buckets=["photos"]))
    other = last.enter_context(BosServer(root / "bos1", buckets=["photos"]))
    proxy, phase = FaultProxy(("127.0.0.1", other.port)), ""
    if in_trouble:
        last.enter_context(silent(root / "dir2"))

        def choose(number: int, head: Any) -> str | None:
            return {"refuses": "refused", "fails": "500"}.get(phase)

        proxy = FaultProxy(("127.0.0.1", other.port), choose)
        over = threading.Event()

        def change() -> None:
            nonlocal phase
            for number in range(1 << 30):
                phase = TROUBLES[number % len(TROUBLES)]
                other.faults.clear()
                if phase == "is full":
                    other.faults.add(Fault("error", times=-1, status=403, code="QuotaExceeded"))
                if phase == "is slow":
                    other.faults.add(Fault("slow_read", times=-1, seconds=2.0))
                if over.wait(phase_seconds):
                    return

        thread = threading.Thread(target=change, name="troubles")
        thread.start()
        last.callback(thread.join)
        last.callback(over.set)
    last.enter_context(proxy)
    stores = {
        **{f"dir{number}": {"type": "dir", "path": f"./dir{number}"} for number in range(3)},
        "bos0": bos_store(well, "photos"),
        "bos1": bos_store(other, "photos", proxy.port),
    }
    names = ["dir0", "dir1", "bos0", "dir2", "bos1"] * 2
    sources = [
        {
            "name": f"s{number}",
            "path": f"./s{number}",
            "store": store,
            "prefix": f"s{number}/",
            "settle": "100ms",
        }
        for number, store in enumerate(names)
    ]

    def in_bucket(key: str) -> int | None:
        found = well.disk.buckets["photos"].objects.get(key)
        return None if found is None else found.size

    def in_directory(store: str) -> Callable[[str], int | None]:
        def size(key: str) -> int | None:
            try:
                return (root / store / key).stat().st_size
            except OSError:
                return None

        return size

    sizes = {
        f"s{number}": in_bucket if store == "bos0" else in_directory(store)
        for number, store in enumerate(names)
        if store in ("dir0", "dir1", "bos0")
    }
    syncd = Syncd(root, stores, sources)
    last.callback(syncd.close)
    syncd.start()
    return Side("chaos" if in_trouble else "calm ", syncd, sizes)


if __name__ == "__main__":
    sys.exit(main())
