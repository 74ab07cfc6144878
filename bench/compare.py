"""Every comparison, by one command: syncd beside the programs that are installed here, and beside the limits.

    python bench/compare.py [--quick] [--scenario NAME ...] [--rounds N] [--only NAME ...] [--json FILE]

Prints a table of ratios (syncd divided by the best other one) as Markdown; the raw figures of every run go to
the JSON file. What is needed and how the table is to be read: bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peers
import scenarios
from measure import Result, machine
from scenarios import Bench
from servers import Ceph, Sink

SERVERS = ["ceph", "tls", "sink"]
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    large: tuple[int, ...]
    small: int
    medium: int
    scan: int
    latency: int
    crash: int
    idle: int
    idle_seconds: float
    resident: int = 10_000


FULL = Sizes((GIB, 4 * GIB), 10_000, 1_000, 100_000, 150, GIB, 100_000, 600.0)
QUICK = Sizes((256 * MIB,), 1_000, 100, 10_000, 30, 256 * MIB, 10_000, 30.0)


@dataclass
class Report:
    """All that was found."""

    machine: dict[str, Any]
    versions: dict[str, str]
    remarks: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def add(self, title: str, results: list[Result]) -> None:
        """A scenario whose contestants did the same work."""
        self.tables.append(f"### {title}\n\n{table(results)}")
        self.raw[title] = [one.as_json() for one in results]

    def text(self) -> str:
        """As Markdown."""
        about = "\n".join(f"- {name}: {value}" for name, value in {**self.machine, **self.versions}.items())
        remarks = "".join(f"- not measured: {remark}\n" for remark in self.remarks)
        return f"{about}\n{remarks}\n" + "\n\n".join(self.tables) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The raw figures."""
        about = {"machine": self.machine, "versions": self.versions, "remarks": self.remarks}
        return {**about, "scenarios": self.raw}


def table(results: list[Result]) -> str:
    """Medians, and syncd's ratio to the best of those whose content is checked.

    The others come last, with the limits.
    """
    results = sorted(
        results, key=lambda one: (one.name.startswith("limit"), one.name.endswith(peers.UNCHECKED))
    )
    lines = [
        "| | wall s | min-max | CPU s | peak MiB | requests | MiB received |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        if not one.runs:
            lines.append(f"| {one.name} | failed: {one.remark.splitlines()[0][:60]} | | | | | |")
            continue
        walls = [run.wall_seconds for run in one.runs]
        requests, received = one.median("requests"), one.median("bytes_received")
        counted = "| | |" if requests != requests else f"| {requests:.0f} | {received / MIB:.1f} |"
        lines.append(
            f"| {one.name} "
            f"| {one.median('wall_seconds'):.2f} | {min(walls):.2f}-{max(walls):.2f} "
            f"| {one.median('cpu_seconds'):.2f} | {one.median('peak_mib'):.0f} {counted}"
        )
    lines.append(_ratios(results))
    return "\n".join(lines)


def _ratios(results: list[Result]) -> str:
    ours = next((one for one in results if one.name == "syncd" and one.runs), None)
    others = [
        one
        for one in results
        if one.runs and not one.name.endswith(peers.UNCHECKED) and not one.name.startswith(("limit", "syncd"))
    ]
    if ours is None or not others:
        return ""
    cells = []
    for figure in ("wall_seconds", "cpu_seconds", "peak_mib"):
        best = min(others, key=lambda other: other.median(figure))
        cells.append(f"{ours.median(figure) / best.median(figure):.2f} of {best.name}")
    wall, cpu, peak = cells
    return f"| **syncd / best** | {wall} | | {cpu} | {peak} | | |"


def main() -> None:
    """Parse, measure, print."""
    arguments = _arguments()
    sizes = QUICK if arguments.quick else FULL
    if arguments.large:
        sizes = Sizes(**{**vars(sizes), "large": tuple(size * GIB for size in arguments.large)})
    if arguments.idle_seconds:
        sizes = Sizes(**{**vars(sizes), "idle_seconds": arguments.idle_seconds})
    report = Report(machine(), peers.versions())
    with ExitStack() as stack:
        if arguments.directory is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-bench-"))
            arguments.directory = Path(made)
        arguments.directory.mkdir(exist_ok=True)
        peers.install(arguments.directory, arguments.before)
        bench = Bench(arguments.directory, arguments.rounds, _tell, frozenset(arguments.only))
        _measure(bench, sizes, arguments, report, stack)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    print(report.text())


def _measure(
    bench: Bench, sizes: Sizes, arguments: argparse.Namespace, report: Report, stack: ExitStack
) -> None:
    sink = Sink(bench.directory)
    stack.callback(sink.stop)
    ceph = _ceph(stack, report) if {"ceph", "tls"} & {*arguments.server} else None
    tls = ceph.behind_tls() if ceph is not None and "tls" in arguments.server else None
    plain = ceph if "ceph" in arguments.server else None
    given = (plain, tls, sink if "sink" in arguments.server else None)
    servers = [server for server in given if server is not None]
    files = [(f"{size / GIB:g} GiB", lambda size=size: scenarios.large(bench, size)) for size in sizes.large]
    folders: list[tuple[str, Callable[[], Path]]] = [
        (f"{sizes.small} files of 4 KiB", lambda: scenarios.folder(bench, sizes.small, 4 * KIB)),
        (f"{sizes.medium} files of 100 KiB", lambda: scenarios.folder(bench, sizes.medium, 100 * KIB)),
    ]
    for letter, work in (("a", files), ("b", folders)):
        for name, make in work if letter in arguments.scenario else ():
            for server in servers:
                title = f"{letter}. {name} to {server.name}"
                _tell(title)
                report.add(title, scenarios.carry(bench, server, make()))
    for name, make in files + folders if "r" in arguments.scenario and ceph is not None else ():
        title = f"r. {name} back from ceph"
        _tell(title)
        report.add(title, scenarios.bring_back(bench, ceph, make()))
    if "c" in arguments.scenario:
        title = f"c. scan of {sizes.scan} unchanged files"
        _tell(title)
        report.add(title, scenarios.scan(bench, sink, sizes.scan))
    if ceph is not None:
        _on_ceph(bench, ceph, sizes, arguments, report)
    for letter, count, seconds in (("g", sizes.idle, sizes.idle_seconds), ("h", sizes.resident, 20.0)):
        if letter in arguments.scenario:
            title = f"{letter}. idle with {count} files"
            _tell(title)
            _add_figures(report, title, scenarios.idleness(bench, sink, count, seconds))


def _ceph(stack: ExitStack, report: Report) -> Ceph | None:
    reason = Ceph.missing()
    if reason is not None:
        report.remarks.append(reason)
        return None
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-bench-ceph-")))
    ceph = Ceph(directory)
    stack.callback(ceph.stop)
    return ceph


def _on_ceph(bench: Bench, ceph: Ceph, sizes: Sizes, arguments: argparse.Namespace, report: Report) -> None:
    if "d" in arguments.scenario:
        title = "d. close(2) of a 4 KiB file to object readable"
        _tell(title)
        found = scenarios.latency(bench, ceph, sizes.latency)
        rows = [f"| {one.name} | {one.median:.1f} | {one.p99:.1f} |" for one in found]
        head = ["| | median ms | p99 ms |", "|---|---|---|"]
        report.tables.append(f"### {title}\n\n" + "\n".join([*head, *rows]))
        report.raw[title] = {one.name: list(one.milliseconds) for one in found}
    if "e" in arguments.scenario:
        title = f"e. MiB sent again after kill -9 at half of {sizes.crash / GIB:g} GiB"
        _tell(title)
        _add_figures(report, title, dict(scenarios.crash(bench, ceph, sizes.crash)))


def _add_figures(report: Report, title: str, figures: dict[str, Any]) -> None:
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    report.tables.append(f"### {title}\n\n" + "\n".join(["| | |", "|---|---|", *rows]))
    report.raw[title] = figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: does it work at all?")
    parser.add_argument("--scenario", nargs="+", default=list("abrcdegh"), choices=list("abrcdegh"))
    parser.add_argument("--server", nargs="+", default=SERVERS, choices=SERVERS)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant; the median counts")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="syncd and these others only")
    parser.add_argument("--before", type=Path, metavar="DIR", help="measure this checkout of syncd, too")
    parser.add_argument("--large", type=int, nargs="+", metavar="GIB", help="file sizes of scenario a")
    parser.add_argument("--idle-seconds", type=float, default=0.0, help="how long scenario g looks")
    parser.add_argument("--directory", type=Path, help="keep files for the next time (else temporary)")
    parser.add_argument("--json", type=Path, help="raw figures go here")
    return parser.parse_args()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
