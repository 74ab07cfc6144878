"""What the commands ask of the daemon, or of the state where none runs."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.cli import answers, asking, common
from syncd.config import places
from syncd.daemon.control import ControlServer
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_one_file_is_found_by_its_path(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative, through a link to its directory; a file in no source ends the command."""
    (home.root / "watched" / "d").mkdir()
    (home.root / "watched" / "d" / "a").write_text("x")
    (home.root / "link").symlink_to(home.root / "watched" / "d")
    assert home.run("sync").exit_code == 0
    monkeypatch.chdir(home.root)
    for path in (str(home.root / "watched/d/a"), "watched/d/../d/a", "link/a"):
        found = asking.of_path(home.options, path)
        assert (found["path"], found["state"], found["recorded"]["size"]) == ("d/a", "stored", 1)
    with pytest.raises(SystemExit):
        asking.of_path(home.options, "mirror/d/a")


def test_a_daemon_that_refuses_is_an_error(home: Home) -> None:
    """Not an answer."""
    with answering(home, {"error": "no"}):
        done = home.run("explain", str(home.watched / "a"))
    assert (done.exit_code, done.stderr) == (1, "syncd: the daemon refuses: no\n")


def test_a_daemon_in_the_runtime_directory_is_asked_without_the_configuration(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it has another one; then the state directory is asked."""
    runtime = home.root / "run" / "syncd"
    runtime.mkdir(parents=True)
    home.environ["XDG_RUNTIME_DIR"] = str(runtime.parent)
    told = {"kind": "all", "name": "", "until": None, "was": False}
    server = ControlServer(str(runtime), lambda request, asks: {"other": True} if others else told)
    server.start()
    others = False
    right = home.content
    home.content = {"nonsense": True}
    assert home.run("pause").output == "everything: paused until `syncd resume`\n"
    others = True
    assert home.run("pause").exit_code == common.EXIT_CONFIG
    home.content = right
    assert (
        home.run("pause").stderr
        == "syncd: no daemon runs with this configuration; start it with `syncd run`\n"
    )
    server.stop()


def test_a_place_that_cannot_be_looked_into_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of the system may run there; one's own is somewhere else, and does not run."""

    def ask(directory: str, request: dict[str, Any], seconds: float | None) -> None:
        if directory == "/run/syncd":
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(answers.control, "ask", ask)
    assert (
        home.run("pause").stderr
        == "syncd: no daemon runs with this configuration; start it with `syncd run`\n"
    )
    monkeypatch.setattr(places, "is_system", lambda path: True)
    told = home.run("pause")
    assert told.exit_code == common.EXIT_UNAVAILABLE
    assert "cannot tell whether a daemon runs: /run/syncd: Permission denied; run this as root" in told.stderr
    assert "daemon: not running" not in home.run("status").stdout
