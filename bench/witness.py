"""What witnesses cost: their share of the processor time and of the wall clock of a first pass.

    python bench/witness.py [--mib 1024] [--files 5000]

Carries one file of that size, then so many files of 4 KiB, to the sink and to a directory, in this process,
and adds up the processor time of every call that makes a witness. Each block of a large file needs a
digest in any case, by which it is compared when it is read again: the secret adds the second half.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import peers
from peers import Task
from servers import Sink

from syncd.cli.sync import run_once
from syncd.config import load as config
from syncd.pipeline.context import real_clock
from syncd.sources import fingerprint
from syncd.state.state import State
from syncd.transfer import carrier
from syncd.transfer.upload import part_sender


class Meter:
    """Processor seconds by thread."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[list[float]] = []

    def timed(self, call: Any) -> Any:
        def measured(*arguments: Any) -> Any:
            before = time.thread_time()
            try:
                return call(*arguments)
            finally:
                self._cell()[0] += time.thread_time() - before

        return measured

    def _cell(self) -> list[float]:
        if not hasattr(self._own, "cell"):
            self._own.cell = [0.0]
            self._all.append(self._own.cell)
        return self._own.cell

    def take(self) -> float:
        """Since the last time."""
        total = sum(cell[0] for cell in self._all)
        for cell in self._all:
            cell[0] = 0.0
        return total


METER, SECOND = Meter(), Meter()
"""Of all calls, and of those that make second halves."""


class TimedWitness(fingerprint.Witness):
    """Only calls from outside are timed."""

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        plain = fingerprint.Witness(secret)
        for verb in ("half", "joined"):
            setattr(self, verb, METER.timed(getattr(plain, verb)))
        self._second = SECOND.timed(lambda body: fingerprint._of_leaves(plain._begun[1], memoryview(body)))

    def of(self, body: Any) -> bytes:
        return self.half(body) + bytes(self._second(body))


def first_pass(scratch: Path, path: Path, sink: Sink, *, mirror: bool) -> tuple[float, float, float, float]:
    """Wall and processor seconds of the pass, those that witnesses took, and of these the second halves."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    peers.syncd(Task(path, sink, "witness/", scratch))
    file = scratch / "config.yaml"
    if mirror:
        folder = path.parent if path.is_file() else path
        (scratch / "mirror").mkdir()
        file.write_text(
            f"state_dir: {scratch}/state\nstores: {{bench: {{type: dir, path: {scratch}/mirror}}}}\n"
            f'sources: [{{name: bench, path: "{folder}", store: bench, settle: 0}}]\n'
        )
    settings = config.load(str(file), {})
    clock = real_clock()
    with closing(State.open(settings.state_dir, now_ns=clock.now_ns)) as state:
        METER.take(), SECOND.take()
        wall, cpu = time.perf_counter(), time.process_time()
        done = run_once(settings, state, clock, should_stop=lambda: False, tick=lambda pipeline: None)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert done.pipeline.tally.failed == 0, done.pipeline.tally
    second = SECOND.take()
    return wall, cpu, METER.take() + second, second


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=5000)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    carrier.Witness = part_sender.Witness = TimedWitness  # type: ignore[misc,attr-defined]
    with tempfile.TemporaryDirectory(prefix="syncd-witness-") as name:
        root = Path(name)
        large, small = root / "large", root / "small"
        large.mkdir()
        small.mkdir()
        with (large / "file.bin").open("wb") as file:
            for _ in range(arguments.mib):
                file.write(os.urandom(1 << 20))
        for number in range(arguments.files):
            (small / f"{number}").write_bytes(os.urandom(4096))
        sink = Sink(root)
        try:
            for what, path in ((f"{arguments.mib} MiB", large), (f"{arguments.files} x 4 KiB", small)):
                for store in ("sink", "directory"):
                    wall, cpu, own, second = first_pass(
                        root / "scratch", path, sink, mirror=store == "directory"
                    )
                    print(
                        f"{what:>16} to the {store:<9}  wall {wall:6.2f} s  CPU {cpu:6.2f} s  witnesses "
                        f"{own:6.3f} s: {own / cpu:5.1%} of the CPU, {own / wall:5.1%} of the wall clock; "
                        f"second halves {second / cpu:5.1%}, {second / wall:5.1%}",
                        flush=True,
                    )
        finally:
            sink.stop()


if __name__ == "__main__":
    main()
