"""The bars of `sync` and `restore`: drawn on a terminal, wiped off at the end, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from syncd.cli.screen import LARGE
from tests.e2e.process import SYNCD

SIZE = LARGE + 1
WIPED = b"\x1b[?25h\r\x1b[1A\x1b[2K"
"""The cursor is shown again, and the line above it is empty."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A source with one file that is large enough for a line of its own, and takes a second each way."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "nas").mkdir()
    (tmp_path / "docs/film").write_bytes(os.urandom(SIZE))
    content = {
        "state_dir": "./state",
        "stores": {"nas": {"type": "dir", "path": "./nas"}},
        "sources": [{"name": "docs", "path": "./docs", "store": "nas", "settle": 0}],
        "transfer": {"bandwidth_limit": "16MiB", "part_size": "1MiB"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(config: Path, *arguments: str, terminal: bool) -> tuple[str, bytes]:
    """What a command prints, and what it draws: on a terminal of 80 columns, or into a pipe."""
    command = [*SYNCD, *arguments, "-c", str(config)]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    if not terminal:
        done = subprocess.run(command, capture_output=True, env=environ, check=True)
        return done.stdout.decode(), done.stderr
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environ) as process:
        os.close(theirs)
        drawn = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        stdout, _ = process.communicate()
    assert process.returncode == 0, drawn
    return stdout.decode(), drawn


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # nobody has the other end any more
        return b""


def test_on_a_terminal_bars_show_what_moves_and_go_away(config: Path) -> None:
    """One for everything, one for each large file; what is printed has no part of them."""
    to = str(config.parent / "to")
    for words, arguments, end in (
        (b"carrying", ("sync",), f"1 uploaded; {SIZE} bytes sent"),
        (b"restoring", ("restore", "docs", "--to", to), f"1 file restored ({SIZE} bytes)"),
    ):
        printed, drawn = run(config, *arguments, terminal=True)
        assert printed.startswith(end)
        assert "\x1b" not in printed
        assert re.search(rb"%s, 0 files done +\S* +[\d.]+/16\.0 MiB" % words, drawn), drawn
        done = [float(each) for each in re.findall(rb"  film +\S* +([\d.]+)/16\.0 MiB", drawn)]
        assert done == sorted(done)
        assert len(set(done)) > 1, "it moves"
        assert drawn.endswith((WIPED, WIPED + b"\x1b[1A\x1b[2K"))
    assert (config.parent / "to/film").read_bytes() == (config.parent / "docs/film").read_bytes()


def test_elsewhere_nothing_is_drawn(config: Path) -> None:
    """In a pipe, in a file, or where silence was asked for on a terminal."""
    unlimited = ("--bandwidth-limit", "off")
    _, told = run(config, "sync", terminal=False)
    for number, (more, terminal) in enumerate([((), False), (("-q",), True), (("-n",), True)]):
        to = str(config.parent / f"to-{number}")
        printed, drawn = run(config, "restore", "docs", "--to", to, *unlimited, *more, terminal=terminal)
        assert drawn == b""
        assert "\x1b" not in printed
    assert b"\x1b" not in told
    assert b"\r" not in told
    assert b"uploaded" in told, "the log tells the progress instead"
    for more in (("-q",), ("-n",)):
        printed, drawn = run(config, "sync", *more, terminal=True)
        assert (b"\x1b" in drawn, "\x1b" in printed) == (False, False)
