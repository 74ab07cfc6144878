"""`syncd health`: one word for probes. Loads no configuration where a daemon answers."""

from __future__ import annotations

import sys

import click

from syncd.cli import answers, asking, common


@click.command()
@click.option("--ready", is_flag=True, help="Also ask whether every source has been scanned.")
@common.options
def command(options: common.Options, ready: bool) -> None:
    """Say in one word whether the daemon works.

    Exit code 0: ok. 1: not healthy, or (with --ready) not ready. 69: no daemon answers.
    """
    told = asking.daemon(options, {"command": "health"}, answers.HEALTH_SECONDS)
    word, code = answers.health(told, ready=ready)
    click.echo(word)
    sys.exit(code)
