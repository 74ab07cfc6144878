"""What monitoring programs ask every few seconds, answered with next to nothing loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import answers, quick
from syncd.daemon.control import ControlServer
from tests.unit.cli.home import Home

TOTALS = {"bytes_sent": 0, "bytes_saved": 0, "requests": 0}
STATUS: dict[str, Any] = {
    "daemon": {"running": True}, "sources": [], "in_flight": [], "failures": [], "totals": TOTALS,
}  # fmt: skip
HEALTH: dict[str, Any] = {"health": "ok", "ready": False, "pid": 1}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A daemon in a runtime directory, for another configuration than ``other.yaml``."""
    (tmp_path / "syncd").mkdir()

    def answer(request: dict[str, Any], asks: object) -> dict[str, Any]:
        if str(request.get("config")).endswith("other.yaml"):
            return {"other": True}
        lines = {"lines": [["daemon: running", ""]]} if request.get("table") else {}
        return {"health": HEALTH, "status": STATUS | lines}[request["command"]]

    server = ControlServer(str(tmp_path / "syncd"), answer)
    server.start()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    yield dict(os.environ)
    server.stop()


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["health"], 0, "ok\n"),
        (["health", "--ready", "-c", "mine.yaml"], 1, "scanning\n"),
        (["status", "--json"], 0, '{\n  "daemon": {'),
        (["status", "--exit-code"], 0, "daemon: running"),
        (["status", "-c", "other.yaml"], None, ""),
        (["status", "a-file"], None, ""),
        (["status", "--watch"], None, ""),
        (["health", "--nonsense"], None, ""),
        (["health", "-c"], None, ""),
        (["pause"], None, ""),
        ([], None, ""),
    ],
)
def test_only_what_is_understood_wholly_is_answered(
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int | None,
    printed: str,
) -> None:
    """All else is for the commands, which have not been told of it."""
    assert quick.answered(arguments, environ) == code
    assert capsys.readouterr().out.startswith(printed)


def test_a_daemon_that_hangs_is_waited_for_once(
    environ: dict[str, str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that goes on after that says what was met; the next question is asked again."""
    asked: list[float | None] = []

    def hang(place: str, request: dict[str, Any], seconds: float | None = None) -> None:
        asked.append(seconds)
        raise TimeoutError("timed out")

    monkeypatch.setattr(answers.control, "ask", hang)
    for command, code in (("health", 69), ("status", 0)):
        asked.clear()
        assert quick.answered([command], environ) is None
        done = home.run(command)
        assert (done.exit_code, len(asked)) == (code, 1)
        assert "timed out" in done.output
    assert home.run("health").exit_code == 69
    assert len(asked) == 2


@pytest.mark.parametrize("arguments", [["health"], ["status", "--json"], ["status"]])
def test_a_reader_that_has_enough_is_no_fault(environ: dict[str, str], arguments: list[str]) -> None:
    """As of `syncd status | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "syncd", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environ)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


MAY_LOAD = {
    "syncd", "syncd.cli", "syncd.cli.answers", "syncd.cli.app", "syncd.cli.quick",
    "syncd.config", "syncd.config.places", "syncd.daemon", "syncd.daemon.control",
    "syncd.sources", "syncd.sources.mounts", "syncd.sources.places",
}  # fmt: skip
"""Of the product."""


@pytest.mark.parametrize("arguments", [["health"], ["status", "--json"], ["status"]])
def test_asking_loads_no_library_and_no_configuration(environ: dict[str, str], arguments: list[str]) -> None:
    """Not even click, which takes twice as long as the rest."""
    program = "import sys; from syncd.cli.app import main; sys.argv[0] = 'syncd'\n"
    program += "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
    )
    loaded = set(done.stderr.split())
    ours = {name for name in loaded if name.split(".")[0] == "syncd"}
    assert "syncd.cli.quick" in ours
    assert ours <= MAY_LOAD
    assert not loaded & {
        "dataclasses",
        "inspect",
        "msgspec",
        "click",
        "rich",
        "yaml",
        "sqlite3",
        "requests",
        "pathspec",
        "xxhash",
        "watchdog",
    }
