"""One run of a program, measured from outside; a series of runs, interleaved."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """What one run of a program cost, by the kernel's accounting of it and of its children."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    """Resident memory of the largest single process."""
    requests: int | None = None
    bytes_received: int | None = None
    """As the server counted them, where it counts."""


class RunFailed(RuntimeError):
    """A program that was to be measured did not do its work."""


def run(command: Sequence[str], *, environ: Mapping[str, str], log: Path, ok: tuple[int, ...] = (0,)) -> Run:
    """Run a program to its end; what it prints goes to `log`."""
    figures = log.with_suffix(".figures")
    launch = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")), str(figures)]
    with log.open("wb") as output:
        ended = subprocess.run(
            [*launch, *command],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if ended.returncode not in ok:
        tail = log.read_text(errors="replace")[-1000:]
        raise RunFailed(f"{' '.join(command)} ended with {ended.returncode}:\n{tail}")
    wall, cpu, kib = map(float, figures.read_text().split())
    return Run(wall, cpu, kib / 1024)


@dataclass(frozen=True)
class Result:
    """All runs of one program in one scenario."""

    name: str
    runs: tuple[Run, ...]
    remark: str = ""

    def median(self, figure: str) -> float:
        """The median of a figure over all runs; not a number where nothing counted it."""
        found = [getattr(one, figure) for one in self.runs if getattr(one, figure) is not None]
        return statistics.median(found) if found else float("nan")

    def as_json(self) -> dict[str, object]:
        """The raw figures."""
        return {"name": self.name, "remark": self.remark, "runs": [asdict(one) for one in self.runs]}


def interleaved(
    contestants: Mapping[str, Callable[[], Run]], rounds: int, tell: Callable[[str], None]
) -> list[Result]:
    """Every contestant once a round, in turn, so that a machine that slows down slows all of them.

    One that fails is told about, drops out, and says so in the result.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    failed: dict[str, str] = {}
    for number in range(rounds):
        order = list(contestants)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            if name in failed:
                continue
            try:
                one = contestants[name]()
            except (RunFailed, OSError) as error:
                failed[name] = str(error)
                tell(f"  {name}: FAILED: {error}")
                continue
            runs[name].append(one)
            tell(f"  {name}: {one.wall_seconds:.2f} s, cpu {one.cpu_seconds:.2f} s, {one.peak_mib:.0f} MiB")
    return [Result(name, tuple(found), failed.get(name, "")) for name, found in runs.items()]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    release = os.uname()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": models[0] if models else release.machine,
        "memory_gib": round(pages / (1 << 30)),
        "kernel": f"{release.sysname} {release.release}",
        "load_at_start": [round(load, 1) for load in os.getloadavg()],
    }
