"""How time and memory grow with the work: a chart, and the figures as JSON.

    python bench/growth.py [--files 1000 10000 100000 1000000] [--sizes 1 16 256 4096 16384] [--out docs]

Empty files in growing number, then one file of growing size (in MiB), each carried to the sink by
`syncd sync`; the files once more when nothing has changed. Every point is the median of several runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import peers
from measure import Run, machine, run
from peers import Task
from servers import Sink


@dataclass(frozen=True)
class Series:
    """One line: its name and its points."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One diagram with logarithmic axes."""

    title: str
    across: str
    up: str
    lines: list[Series]


def median(runs: list[Run]) -> Run:
    """The run in the middle, by time."""
    return sorted(runs, key=lambda one: one.wall_seconds)[len(runs) // 2]


def files(root: Path, sink: Sink, count: int, rounds: int) -> tuple[Run, Run]:
    """A first pass over so many empty files, and a second one."""
    tree = root / f"empty-{count}"
    for number in range(count):
        directory = tree / f"d{number // 1000:04}"
        if number % 1000 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        os.close(os.open(directory / f"f{number:07}", os.O_CREAT | os.O_WRONLY, 0o644))
    first, second = [], []
    for _ in range(rounds if count < 1_000_000 else 1):
        task = _task(root, sink, tree)
        command, environ = peers.syncd(task)
        first.append(run(command, environ=environ, log=root / "log"))
        second.append(run(command, environ=environ, log=root / "log"))
        _tell(f"{count} files: {first[-1]} then {second[-1]}")
    shutil.rmtree(tree)
    return median(first), median(second)


def size(root: Path, sink: Sink, mib: int, rounds: int) -> Run:
    """One file whose blocks are allocated and never written: no time to make, and read like any other."""
    path = root / "large" / "file.bin"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, mib << 20)
    runs = []
    for _ in range(rounds if mib < 4096 else 1):
        command, environ = peers.syncd(_task(root, sink, path))
        runs.append(run(command, environ=environ, log=root / "log"))
        _tell(f"{mib} MiB: {runs[-1]}")
    path.unlink()
    return median(runs)


def _task(root: Path, sink: Sink, path: Path) -> Task:
    scratch = root / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    return Task(path, sink, "growth/", scratch)


# ---- the chart --------------------------------------------------------------------------------------------

WIDTH, HEIGHT, MARGIN = 380, 260, 56
COLOURS = ("#1f6feb", "#d1495b", "#2e8b57")


def chart(panels: list[Panel]) -> str:
    """SVG by hand: two panels a row."""
    rows = math.ceil(len(panels) / 2)
    wide, high = 2 * WIDTH, rows * HEIGHT
    shape = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {shape} font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        body.append(f'<g transform="translate({number % 2 * WIDTH},{number // 2 * HEIGHT})">')
        body += _panel(panel)
        body.append("</g>")
    return "\n".join([*body, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    across = _decades([x for line in panel.lines for x, _ in line.points])
    up = _decades([y for line in panel.lines for _, y in line.points])
    right, bottom = WIDTH - 16, HEIGHT - MARGIN

    def x_at(value: float) -> float:
        share = (math.log10(value) - across[0]) / (across[-1] - across[0])
        return round(MARGIN + share * (right - MARGIN), 1)

    def y_at(value: float) -> float:
        return round(bottom - (math.log10(value) - up[0]) / (up[-1] - up[0]) * (bottom - 30), 1)

    out = [f'<text x="{MARGIN}" y="18" font-weight="bold">{panel.title}</text>']
    for power in across:
        x = x_at(10**power)
        out.append(f'<line x1="{x}" x2="{x}" y1="30" y2="{bottom}" stroke="#ddd"/>')
        out.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{_number(10**power)}</text>')
    for power in up:
        y = y_at(10**power)
        out.append(f'<line x1="{MARGIN}" x2="{right}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        out.append(f'<text x="{MARGIN - 4}" y="{y + 4}" text-anchor="end">{_number(10**power)}</text>')
    out.append(
        f'<text x="{(MARGIN + right) / 2}" y="{bottom + 30}" text-anchor="middle">{panel.across}</text>'
    )
    middle = (30 + bottom) / 2
    turned = f'text-anchor="middle" transform="rotate(-90 12 {middle})"'
    out.append(f'<text x="12" y="{middle}" {turned}>{panel.up}</text>')
    for number, line in enumerate(panel.lines):
        colour = COLOURS[number]
        points = [(x_at(x), y_at(y)) for x, y in line.points]
        path = " ".join(f"{x},{y}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points]
        label = f'<text x="{MARGIN + 8}" y="{44 + 14 * number}" fill="{colour}">{line.name}</text>'
        out.append(label)
    return out


def _decades(values: list[float]) -> list[int]:
    first = math.floor(math.log10(min(values)))
    last = math.ceil(math.log10(max(values)))
    return list(range(first, max(last, first + 1) + 1))


def _number(value: float) -> str:
    return f"{value:g}" if value < 10_000 else f"1e{round(math.log10(value))}"


def _panels(found: dict[str, dict[int, Run]]) -> list[Panel]:
    def line(name: str, key: str, figure: str) -> Series:
        return Series(name, [(float(at), getattr(one, figure)) for at, one in found[key].items()])

    return [
        Panel(
            "Number of empty files", "files", "seconds",
            [line("first pass", "first", "wall_seconds"), line("nothing changed", "second", "wall_seconds")],
        ),
        Panel(
            "Number of empty files", "files", "peak MiB",
            [line("first pass", "first", "peak_mib"), line("nothing changed", "second", "peak_mib")],
        ),
        Panel("Size of one file", "MiB", "seconds", [line("first pass", "size", "wall_seconds")]),
        Panel("Size of one file", "MiB", "peak MiB", [line("first pass", "size", "peak_mib")]),
    ]  # fmt: skip


def main() -> None:
    """Parse, measure, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 16, 256, 4096, 16384], metavar="MIB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    found: dict[str, dict[int, Run]] = {"first": {}, "second": {}, "size": {}}
    with tempfile.TemporaryDirectory(prefix="syncd-growth-") as directory:
        root = Path(directory)
        peers.install(root)
        sink = Sink(root)
        try:
            for mib in arguments.sizes:
                found["size"][mib] = size(root, sink, mib, arguments.rounds)
            for count in arguments.files:
                found["first"][count], found["second"][count] = files(root, sink, count, arguments.rounds)
        finally:
            sink.stop()
    (arguments.out / "growth.svg").write_text(chart(_panels(found)))
    figures = {key: {at: vars(one) for at, one in series.items()} for key, series in found.items()}
    (arguments.out / "growth.json").write_text(json.dumps({**machine(), **figures}, indent=1) + "\n")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
