"""What the daemon costs while nothing happens, and how soon it is ready: prints one JSON object.

    python bench/idle.py [--files 10000] [--seconds 60]

Makes a folder with so many files and a directory store in a temporary place, starts `syncd run` on them twice
(the first start carries all files, the second finds nothing to do), waits until it is idle, and reads from
/proc what the process used in the time given: processor, switches, system calls for input and output, memory.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SYNCD = (sys.executable, "-m", "syncd")
DEADLINE_SECONDS = 600.0
CONFIG = """\
state_dir: ./state
stores: {mirror: {type: dir, path: ./mirror}}
sources: [{name: bench, path: ./watched, store: mirror, settle: 1s}]
"""


def make_files(folder: Path, count: int) -> None:
    """Small files, a hundred in each directory."""
    for number in range(count):
        directory = folder / f"d{number // 100}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number % 100}").write_bytes(b"%d\n" % number * 100)


def until_ready(listener: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Wait for READY=1, as systemd does."""
    listener.settimeout(1.0)
    said = b""
    while b"READY=1" not in said.split(b"\n"):
        with suppress(TimeoutError):
            said = listener.recv(65536)
        if process.poll() is not None:
            raise SystemExit("the daemon ended; its log says why")


def status(config: Path) -> dict[str, Any]:
    """`syncd status --json`."""
    command = [*SYNCD, "status", "--json", "-c", str(config)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer


def until_idle(config: Path, files: int) -> None:
    """Wait until every file is recorded and a scan has ended."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        source = status(config)["sources"][0]
        counts = source["files"]
        if (
            counts["recorded"] == files
            and source["last_scan"]
            and not counts["pending"] + counts["in_flight"]
        ):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"never idle: {source}")
        time.sleep(0.5)


def note_pings(listener: socket.socket, pings: list[float]) -> None:
    """When the daemon feeds its watchdog (monotonic seconds), until the listener is closed."""
    with suppress(OSError):
        while True:
            with suppress(TimeoutError):
                if b"WATCHDOG=1" in listener.recv(65536).split(b"\n"):
                    pings.append(time.monotonic())


@contextmanager
def daemon(
    root: Path, pings: list[float] | None = None, watchdog_seconds: float = 180.0
) -> Iterator[tuple[int, float]]:
    """A running daemon: its pid, and the seconds until it said that it is ready.

    With `pings` it has a watchdog, and the times at which it feeds that are added.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, (root / "log").open("ab") as log:
        address = root / "notify"
        address.unlink(missing_ok=True)
        listener.bind(str(address))
        environ = {**os.environ, "NOTIFY_SOCKET": str(address)}
        if pings is not None:
            environ["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))
        began = time.monotonic()
        process = subprocess.Popen(
            [*SYNCD, "run", "-c", str(root / "config.yaml")], env=environ, stdout=log, stderr=log
        )
        try:
            until_ready(listener, process)
            if pings is not None:
                threading.Thread(target=note_pings, args=(listener, pings), daemon=True).start()
            yield process.pid, time.monotonic() - began
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def usage(pid: int) -> dict[str, float]:
    """Counters of all threads of the process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    used = {"cpu_seconds": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")}
    names = {"voluntary_ctxt_switches": "voluntary_switches", "nonvoluntary_ctxt_switches": "other_switches"}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in names:
                used[names[name]] = used.get(names[name], 0) + int(value)
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("syscr", "syscw", "read_bytes", "write_bytes"):
            used[name] = int(value)
    return used


def memory(pid: int) -> dict[str, float]:
    """Resident memory now and at its highest, in MiB, and the number of threads."""
    wanted = {"VmRSS": "rss_mib", "VmHWM": "peak_rss_mib"}
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in wanted:
            found[wanted[name]] = round(int(value.split()[0]) / 1024, 1)
        elif name == "Threads":
            found["threads"] = int(value)
    return found


def measure(files: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as directory:
        root = Path(directory)
        (root / "watched").mkdir()
        (root / "mirror").mkdir()
        (root / "config.yaml").write_text(CONFIG)
        make_files(root / "watched", files)
        with daemon(root) as (pid, first_ready):
            began = time.monotonic()
            until_idle(root / "config.yaml", files)
            carried = time.monotonic() - began
            after_work = memory(pid)
        with daemon(root) as (pid, second_ready):
            until_idle(root / "config.yaml", files)
            time.sleep(5)  # what follows the scan (commits, the last watch) is not idleness yet
            before = usage(pid)
            time.sleep(seconds)
            after = usage(pid)
            resident = memory(pid)
    idle = {name: round(after[name] - before[name], 3) for name in before}
    return {
        "files": files,
        "ready_seconds": {"first": round(first_ready, 3), "second": round(second_ready, 3)},
        "first_carry_seconds": round(carried, 1),
        "idle": {"seconds": seconds, **idle},
        "memory": resident,
        "memory_after_first_carry": after_work,
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.files, arguments.seconds), indent=1))


if __name__ == "__main__":
    main()
