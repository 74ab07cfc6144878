"""What the commands ask of the daemon, or of the state where none runs."""

from __future__ import annotations

import os

import pytest

from syncd.cli import asking
from syncd.core.errors import StateError
from syncd.daemon.control import ControlServer
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
    os.makedirs(home.settings.state_dir)
    server = ControlServer(home.settings.state_dir, lambda request: {"error": "no"})
    server.start()
    try:
        with pytest.raises(StateError, match="the daemon refuses: no"):
            asking.of_path(home.options, str(home.watched / "a"))
    finally:
        server.stop()
