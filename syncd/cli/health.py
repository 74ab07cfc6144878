"""`syncd health`: one word for probes. Loads no configuration if a daemon answers."""

from __future__ import annotations

import sys

import click

from syncd.cli import answers, asking, common


@click.command()
@click.option("--ready", is_flag=True, help="Also require that every source has been scanned.")
@common.options
def command(options: common.Options, ready: bool) -> None:
    """Say in one word whether the daemon works.

    The exit code is 0 if it works, 1 if not (or, with --ready, if it is not ready), 69 if no daemon answers.
    """
    told = asking.daemon(options, {"command": "health"}, answers.HEALTH_SECONDS)
    word, code = answers.health(told, ready=ready)
    click.echo(word)
    sys.exit(code)
