"""`syncd limit`: the bandwidth limit of the running daemon."""

from __future__ import annotations

from typing import Any

import click

from syncd.cli import asking, common


@click.command()
@click.argument("rate", required=False, metavar="[RATE|TIMETABLE|off|config]")
@asking.duration_option("--for", "seconds", help="How long, such as 1h. Default: until the daemon ends.")
@common.options
def command(options: common.Options, rate: str | None, seconds: float | None) -> None:
    """Show or change the bandwidth limit of the running daemon.

    RATE is in bytes per second, such as 2MiB, for all stores together. A TIMETABLE is written as in the
    configuration, such as '08:00,512K 19:00,off'. `off` means no limit, and `config` the limit in the
    configuration. The limit applies at once, also to uploads in progress.
    """
    from syncd.core.words import human, human_seconds

    request: dict[str, Any] = {"command": "limit", "seconds": seconds}
    if rate == "config":
        request["configured"] = True
    elif rate is not None:
        request["rate"] = asking.bandwidth(rate)
    answer = asking.daemon(options, request)
    holds = answer["bytes_per_second"]
    words = ["paused" if answer["paused"] else f"{human(holds)}/s" if holds else "no limit"]
    words.append("by the operator" if answer["by_operator"] else "by the configuration")
    if answer["until"] is not None:
        words.append(f"until {answer['until']}")
    if answer["seconds_left"] is not None:
        words.append(f"for {human_seconds(answer['seconds_left'])} more")
    click.echo(", ".join(words))
