"""`syncd resume`."""

from __future__ import annotations

import os

from syncd.daemon.control import ControlServer
from tests.unit.cli.home import Home


def test_what_is_still_paused_is_told(home: Home) -> None:
    """The end of one pause may not be what the operator hopes for."""
    os.makedirs(home.settings.state_dir)
    answer = {"kind": "source", "name": "docs", "was": True, "left": ["store:mirror"]}
    server = ControlServer(home.settings.state_dir, lambda request: answer)
    server.start()
    try:
        told = home.run("resume", "docs")
    finally:
        server.stop()
    assert told.output == "source docs: resumed\nstill paused: store:mirror\n"
