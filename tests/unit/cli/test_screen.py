"""What people see: everything worth saying, in eighty columns."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from syncd.cli.screen import LARGE, Bars, human, show_status
from syncd.core.model import FileRef
from syncd.daemon.status import Status


def source(**more: Any) -> dict[str, Any]:
    return {
        "name": "docs",
        "path": "/srv/docs",
        "store": "nas",
        "files": {"recorded": 1, "pending": 2, "in_flight": 3, "failed": 4},
        "bytes": {"recorded": 5 << 20, "pending": 0},
        "last_scan": "2026-01-31T12:34:56Z",
        "drift": 0,
        **more,
    }


def report(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "daemon": {"running": False, "pid": None, "uptime_seconds": None},
        "sources": list(sources or [source()]),
        "in_flight": [],
        "failures": [],
        "totals": {"bytes_sent": 1024, "bytes_saved": 0, "requests": 7},
        **more,
    }


def shown(content: dict[str, Any], width: int = 80) -> str:
    stream = io.StringIO()
    show_status(Status.from_json(content), Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


def flat(text: str) -> str:
    """Without the breaks that the width makes."""
    return " ".join(text.split())


LONG = "a very long name of a directory of photos/" * 6


def everything() -> dict[str, Any]:
    failure = {"source": "docs", "path": LONG, "error": LONG, "attempts": 12, "next_attempt": None}
    return report(
        source(
            name="a-source-with-quite-a-long-name",
            store="a-store-with-quite-a-long-name",
            path="/srv/" + LONG,
            files={"recorded": 123_456_789, "pending": 20_000_000, "in_flight": 512, "failed": 1_234_567},
            bytes={"recorded": 900 << 40, "pending": 0},
            waiting_for="the root is another directory than it was; if this is meant: " + LONG,
            watch={"mode": "polling", "reason": LONG, "watches": 5},
            deletes_parked=12345,
            deletes_reason=LONG,
            waits_for_take_over="another machine wrote p/f0: deletions and overwrites wait",
            skipped={"symbolic link": 3, "fifo": 1},
            unreadable=[LONG],
            out_of_sight=678,
            hidden=[LONG],
            never_quiet=[LONG] * 20,
        ),
        source(last_scan=None),
        daemon={
            "running": True,
            "pid": 4_194_304,
            "uptime_seconds": 1e7,
            "health": LONG,
            "stores_paused": {"nas": LONG},
        },
        in_flight=[{"source": "docs", "path": LONG, "bytes_done": 5, "bytes_total": 1 << 50}],
        failures=[failure] * 30,
        totals={
            "bytes_sent": 1 << 60,
            "bytes_saved": 1 << 60,
            "requests": 10**12,
            "by_cause": {
                "append": {"bytes_sent": 1 << 20, "bytes_saved": 1 << 60},
                "touch": {"bytes_sent": 0, "bytes_saved": 0},
            },
        },
    )


@pytest.mark.parametrize("content", [report(), everything()], ids=["little", "everything"])
def test_it_fits_eighty_columns(content: dict[str, Any]) -> None:
    """Whatever there is to say, and however long the names are."""
    assert max(len(line) for line in shown(content).splitlines()) <= 80


def test_numbers_are_never_folded() -> None:
    """Only names are: a number in two lines is another number."""
    text = shown(everything())
    for number in ("123456789", "900.0 TiB", "20000000", "512", "1234567", "2026-01-31 12:34"):
        assert number in text


def test_everything_worth_saying_is_said() -> None:
    """Each trouble with the command that helps."""
    text = flat(shown(everything(), width=10_000))
    for words in (
        "pid 4194304",
        "up 2777:46:40",
        "not healthy",
        "store nas is paused",
        "waiting: the root is another directory",
        "polling:",
        "12345 deletions wait",
        "678 files are out of sight and are kept",
        f"out of sight: {LONG}",
        "syncd sync --allow-deletes a-source-with-quite-a-long-name",
        "another machine wrote p/f0",
        "skipped: 3 symbolic link, 1 fifo",
        "cannot be read:",
        "never quiet:",
        "5 B of 1024.0 TiB",
        "12 attempts, next: when it changes",
        "and more that failed",
        "by append: 1.0 MiB sent, 1048576.0 TiB not sent again",
    ):
        assert words in text
    assert "by touch" not in text
    assert text.count("never quiet:") == 8


def test_without_a_daemon_it_says_so() -> None:
    """And when one is there but does not answer, that."""
    assert "daemon: not running" in shown(report())
    silent = {"running": False, "pid": None, "uptime_seconds": None, "error": "timed out"}
    assert "cannot tell whether it runs: timed out" in shown(report(daemon=silent))


def test_names_are_not_taken_for_markup() -> None:
    """A file may be called like a colour."""
    failure = {
        "source": "docs",
        "path": "[red]x[/red]",
        "error": "[bold]",
        "attempts": 1,
        "next_attempt": "t",
    }
    text = shown(report(source(path="/srv/[blue]"), failures=[failure]))
    assert "[red]x[/red]: [bold]" in text
    assert "/srv/[blue]" in text


def test_a_console_without_colours_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is honoured."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    show_status(Status.from_json(everything()), Console(file=stream, width=80, force_terminal=True))
    assert "\x1b[3" not in stream.getvalue()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes_are_what_people_write(size: int, text: str) -> None:
    """In powers of 1024, as in the configuration."""
    assert human(size) == text


# ---- bars -------------------------------------------------------------------------------------------------


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
