"""`syncd reload`."""

from __future__ import annotations

from syncd.cli import common
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_what_changed_is_told_or_every_mistake(home: Home) -> None:
    """A mistake is wrong configuration, for the exit code too."""
    with answering(home, {"changes": ["source docs: added", "log: level"]}):
        assert home.run("reload").stdout == "source docs: added\nlog: level\n"
    with answering(home, {"changes": []}):
        assert home.run("reload").stdout == "nothing changed\n"
    with answering(home, {"problems": ["one", "two"]}):
        done = home.run("reload")
    assert done.exit_code == common.EXIT_CONFIG
    assert done.stderr.splitlines() == [
        "syncd: one",
        "syncd: two",
        "syncd: the old configuration stays in force",
    ]
