"""The bars of a pass."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from syncd.cli.screen import LARGE, Bars
from syncd.core.model import FileRef


class Pass:
    """What the bars look at of a pipeline."""

    def __init__(self) -> None:
        self.scanned = False
        self.flying: list[tuple[FileRef, int, int]] = []
        runner = SimpleNamespace(
            first_scan_done=SimpleNamespace(is_set=lambda: self.scanned),
            news=SimpleNamespace(found_bytes=100),
        )
        self.source_runners = {"docs": runner}
        self.in_flight = lambda: self.flying
        self.paces: tuple[float | None, float | None] = (None, None)
        self.outlook = lambda: self.paces
        self.tally = SimpleNamespace(bytes_finished=40, actions=SimpleNamespace(total=lambda: 3))


def described(bars: Bars) -> list[str]:
    return [task.description for task in bars._progress.tasks]


def test_the_bars_show_all_and_each_large_file(tmp_path: Path) -> None:
    """A file has a line of its own as long as it moves, if it is large; the whole says how much is known."""
    bars = Bars(Console(file=io.StringIO(), force_terminal=True, width=80))
    some: Any = Pass()
    big, small = FileRef("docs", "[red]big"), FileRef("docs", "small")
    with bars:
        bars.update(some)
        assert described(bars) == ["scanning, 3 files done"]
        some.scanned = True
        some.flying = [(big, 5, LARGE), (small, 1, 10)]
        bars.update(some)
        assert described(bars) == ["carrying, 3 files done", "  \\[red]big"]
        whole, one = bars._progress.tasks
        assert (whole.completed, whole.total) == (46, 100)
        assert (one.completed, one.total) == (5, LARGE)
        assert whole.fields["pace"] == ""
        some.flying, some.paces = [], (2 << 20, 90.0)
        bars.update(some)
        assert described(bars) == ["carrying, 3 files done"]
        assert whole.fields["pace"] == "2.0 MiB/s, 1 min 30 s left"
        some.scanned = False  # how much is left is not known yet
        bars.update(some)
        assert whole.fields["pace"] == "2.0 MiB/s"


def test_only_so_many_files_have_a_line() -> None:
    """A hundred large files do not fill the screen, and a long name is cut at its beginning."""
    bars = Bars(Console(file=io.StringIO(), force_terminal=True, width=80))
    some: Any = Pass()
    some.flying = [(FileRef("docs", "x" * 100 + str(number)), 0, LARGE) for number in range(100)]
    with bars:
        bars.update(some)
    assert len(described(bars)) == 9
    assert described(bars)[1].endswith("x0")
    assert len(described(bars)[1]) <= 40
