"""`syncd limit`."""

from __future__ import annotations

import pytest

from syncd.cli import common
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ((), {}),
        (("2MiB",), {"rate": "2MiB"}),
        (("off",), {"rate": "off"}),
        (("08:00,512K 19:00,off",), {"rate": "08:00,512K 19:00,off"}),
        (("config",), {"configured": True}),
        (("512K", "--for", "1h"), {"rate": "512K", "seconds": 3600.0}),
    ],
)
def test_a_rate_is_given_as_in_the_configuration(
    home: Home, given: tuple[str, ...], asked: dict[str, object]
) -> None:
    """And what holds is told."""
    answer = {
        "bytes_per_second": 2 << 20,
        "paused": False,
        "until": "Mon 08:00",
        "seconds_left": 90.0,
        "by_operator": True,
    }
    with answering(home, answer) as heard:
        told = home.run("limit", *given).stdout
    assert {key: value for key, value in heard[0].items() if key not in ("command", "config") and value} == {
        key: value for key, value in asked.items() if value
    }
    assert told == "2.0 MiB/s, by the operator, until Mon 08:00, for 1 min 30 s more\n"


@pytest.mark.parametrize("wrong", ["0", "fast", "5", "pause", "08:00,0"])
def test_what_could_mean_two_things_is_refused(home: Home, wrong: str) -> None:
    """0 might be all or nothing."""
    done = home.run("limit", wrong)
    assert done.exit_code == common.EXIT_USAGE
