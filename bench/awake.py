"""How soon the daemon answers while it carries many small files: prints one JSON object.

    python -m bench.awake [--files 200000] [--store sink|dir] [--concurrency 32] [--delay 0.01]

Makes so many files of 4 KiB in a temporary place, starts `syncd run` on them, and asks its control socket ten
times a second, until every file is recorded: one question that costs nothing (`health`), and the one that
people ask (`status`). With --delay the sink answers late. It asks from this process, so that the time is that
of the daemon's threads, not of a command's start.

Beside that, every second it writes and closes a file in another watched folder, and asks about it until the
daemon has heard of it: `event` is the time from the close to that answer, so that it has one question in it.
`ping` is the time between two messages to the watchdog.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.idle import daemon, memory, usage
from bench.servers import Sink
from syncd.daemon import control

_EVERY_SECONDS = 0.1
_PATIENCE_SECONDS = 60.0
CONFIG = """\
state_dir: ./state
stores: {{bench: {store}}}
sources:
  - {{name: bench, path: ./watched, store: bench, prefix: bench/, settle: 1s}}
  - {{name: events, path: ./events, store: bench, prefix: events/, settle: 1h}}
transfer: {{concurrency: {concurrency}}}
log: {{level: warning}}
"""


def make_files(folder: Path, count: int) -> None:
    """Files of 4 KiB that all differ, a thousand in each directory."""
    for number in range(count):
        directory = folder / f"d{number // 1000}"
        if number % 1000 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number % 1000}").write_bytes(b"%08d" % number * 512)


@contextmanager
def store(kind: str, root: Path, delay: float) -> Iterator[str]:
    """The entry of a store in the configuration."""
    if kind == "dir":
        (root / "mirror").mkdir()
        yield "{type: dir, path: ./mirror}"
        return
    sink = Sink(root, delay)
    try:
        keys = f"access_key_id: {sink.access_key}, secret_access_key: {sink.secret_key}"
        where = f"endpoint: http://127.0.0.1:{sink.port}, region: us-east-1, bucket: bench, path_style: true"
        yield f"{{type: s3, {where}, {keys}}}"
    finally:
        sink.stop()


def ask(state: Path, command: str, **more: str) -> tuple[float, dict[str, Any]]:
    """Seconds until the answer, and the answer."""
    began = time.perf_counter()
    answer = control.ask(str(state), {"command": command, **more}, _PATIENCE_SECONDS)
    if answer is None:
        raise SystemExit("the daemon is gone")
    return time.perf_counter() - began, answer


def hear(root: Path, number: int) -> float:
    """Seconds from the close of another file until the daemon says that it has heard of it."""
    path = root / "events" / f"file{number}"
    path.write_bytes(b"%d" % number)
    closed = time.perf_counter()
    while ask(root / "state", "file", path=str(path))[1]["state"] != "settling":
        if time.perf_counter() - closed > _PATIENCE_SECONDS:
            raise SystemExit(f"the daemon does not hear of {path}")
    return time.perf_counter() - closed


def watch(root: Path, files: int) -> dict[str, list[float]]:
    """The latencies until everything is recorded."""
    found: dict[str, list[float]] = {"health": [], "status": [], "event": []}
    for turn in itertools.count():
        for command in ("health", "status"):
            seconds, answer = ask(root / "state", command)
            found[command].append(seconds)
            time.sleep(_EVERY_SECONDS / 2)
        if turn % 10 == 0:
            found["event"].append(hear(root, turn))
        if answer["sources"][0]["files"]["recorded"] >= files:
            return found
    raise AssertionError("unreachable")


def shape(latencies: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ranked = sorted(latencies)
    at = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ranked[min(len(ranked) - 1, int(len(ranked) * share))], 1)
        for name, share in at.items()
    }


def measure(files: int, kind: str, concurrency: int, delay: float) -> dict[str, Any]:
    """All figures of one pass."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as directory:
        root = Path(directory)
        make_files(root / "watched", files)
        (root / "events").mkdir()
        pings: list[float] = []
        with store(kind, root, delay) as entry:
            (root / "config.yaml").write_text(CONFIG.format(store=entry, concurrency=concurrency))
            with daemon(root, pings) as (pid, _):
                began = time.monotonic()
                found = watch(root, files)
                wall = time.monotonic() - began
                found["ping"] = [after - before for before, after in itertools.pairwise(pings)]
                return {
                    "store": kind,
                    "files": files,
                    "delay_seconds": delay,
                    "concurrency": concurrency,
                    "wall_seconds": round(wall, 2),
                    "cpu_seconds": round(usage(pid)["cpu_seconds"], 2),
                    "questions": len(found["health"]),
                    "mean_ms": {
                        name: round(1000 * statistics.fmean(times), 1) for name, times in found.items()
                    },
                    "milliseconds": {name: shape(times) for name, times in found.items()},
                    "memory": memory(pid),
                }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--store", choices=("sink", "dir"), default="sink")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer of the sink")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.files, arguments.store, arguments.concurrency, arguments.delay)))


if __name__ == "__main__":
    main()
