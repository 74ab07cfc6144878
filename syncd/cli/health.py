"""`syncd health`: one word for probes. Loads no configuration where a daemon answers."""

from __future__ import annotations

import sys

import click

from syncd.cli import asking, common

_SECONDS = 5.0


@click.command()
@click.option("--ready", is_flag=True, help="Also ask whether every source has been scanned.")
@common.options
def command(options: common.Options, ready: bool) -> None:
    """Say in one word whether the daemon works.

    Exit code 0: ok. 1: not healthy, or (with --ready) not ready. 69: no daemon answers.
    """
    answer = asking.daemon(options, {"command": "health"}, _SECONDS)
    word = answer["health"] if answer["health"] != "ok" or not ready or answer["ready"] else "scanning"
    click.echo(word)
    sys.exit(0 if word == "ok" else common.EXIT_FAILED)
