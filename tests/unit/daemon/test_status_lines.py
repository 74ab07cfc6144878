"""What people see of a status: everything worth saying."""

from __future__ import annotations

import io
from typing import Any

import pytest
from msgspec import convert

from syncd.cli.answers import Paper
from syncd.daemon.status import LiveSource, Status, lines


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
        "totals": {"bytes_sent": 1024, "bytes_saved": 0, "requests": 7, "xattrs_left_out": 0, "by_cause": {}},
        **more,
    }


def shown(content: dict[str, Any]) -> str:
    """The lines, from a status that is written as its JSON is."""
    live = set(LiveSource.__struct_fields__)
    nested = [{**each, "live": each if each.keys() & live else None} for each in content["sources"]]
    stream = io.StringIO()
    Paper(stream).print_all(lines(convert({**content, "sources": nested}, Status)))
    return stream.getvalue()


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
            "xattrs_left_out": 3,
            "by_cause": {
                "append": {"bytes_sent": 1 << 20, "bytes_saved": 1 << 60},
                "touch": {"bytes_sent": 0, "bytes_saved": 0},
            },
        },
    )


@pytest.mark.parametrize("content", [report(), everything()], ids=["little", "everything"])
def test_numbers_are_read_in_eighty_columns(content: dict[str, Any]) -> None:
    """Whatever they are: a narrower terminal would fold them, and a folded number is another one."""
    sources = content["sources"]
    lines = shown(content).splitlines()
    rows = [line for line in lines if line.endswith(("2026-01-31 12:34", "never", "last scan (UTC)"))]
    assert len(rows) == len(sources) + 1
    assert max(len(row) for row in rows) <= 80
    ends = {row.rindex("  ") for row in rows}
    assert len(ends) == 1  # one below the other
    if content["daemon"]["running"]:
        assert rows[1].split()[:6] == ["123456789", "900.0", "TiB", "20000000", "512", "1234567"]
        assert "a-source-with-quite-a-long-name" in lines


def test_everything_worth_saying_is_said() -> None:
    """Each trouble with the command that helps."""
    text = shown(everything())
    for words in (
        "pid 4194304",
        "up 2777:46:40",
        "not healthy",
        "store nas is paused",
        "waiting: the root is another directory",
        "polling:",
        "12345 deletions wait",
        "678 files are out of sight and kept",
        f"out of sight: {LONG}",
        "syncd sync --allow-deletes a-source-with-quite-a-long-name",
        "another machine wrote p/f0",
        "skipped: 3 symbolic links, 1 fifo",
        "cannot be read:",
        "never quiet:",
        "5 B of 1024.0 TiB",
        "12 attempts, next: when it changes",
        "and more that failed",
        "3 extended attributes",
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


def test_names_are_as_they_are() -> None:
    """A file may be called like what other programs take for a colour."""
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


@pytest.mark.parametrize(
    ("terminal", "environ", "colours"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (False, {}, False)],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environ: dict[str, str], colours: bool
) -> None:
    """NO_COLOR is honoured."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    Paper.of(stream).print_all([("plain", ""), ("trouble", "red")])
    assert ("\x1b[31m" in stream.getvalue()) is colours


def test_what_the_encoding_lacks_is_still_said() -> None:
    """A terminal of another time gets the number of a character."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, "ascii") as stream:
        Paper(stream).print("Überblick")
        stream.flush()
        assert raw.getvalue() == b"\\xdcberblick\n"
