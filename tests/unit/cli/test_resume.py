"""`syncd resume`."""

from __future__ import annotations

from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_what_is_still_paused_is_told(home: Home) -> None:
    """The end of one pause may not be what the operator hopes for."""
    with answering(home, {"kind": "source", "name": "docs", "was": True, "left": ["store:mirror"]}):
        told = home.run("resume", "docs")
    assert told.output == "source docs: resumed\nstill paused: store:mirror\n"
