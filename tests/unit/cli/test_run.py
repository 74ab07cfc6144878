"""`syncd run` builds the daemon and ends with its exit code. The daemon itself is tested in its own room."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from syncd.cli import run
from tests.unit.cli.home import Home


def test_run_is_the_daemon_with_the_settings(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload reads the file again, and -v counts from the level that the file names then."""
    levels: list[int] = []

    class Daemon:
        def __init__(self, settings: Any, reload: Any, set_up_logs: Any, environ: Any) -> None:
            self.settings, self.reload, self.set_up_logs = settings, reload, set_up_logs

        def run(self) -> int:
            assert self.settings.log.level == "info"
            home.content["log"] = {"level": "error"}
            home.write()
            self.set_up_logs(self.reload().log)
            levels.append(logging.getLogger().level)
            return 7

    monkeypatch.setattr(run, "Daemon", Daemon)
    assert home.run("run", "-v").exit_code == 7
    assert levels == [logging.WARNING]
