"""`syncd flush`: the daemon sends known changes."""

from __future__ import annotations

import sys

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE]")
@asking.duration_option("--timeout", "seconds", help="Give up after this time, with exit code 4.")
@common.options
def command(options: common.Options, name: str | None, seconds: float | None) -> None:
    """Send all known changes now, and wait for the end.

    The daemon does not wait until files are quiet, but it does not read a file that is being written. The
    exit code is 3 if files failed, 4 if some are still to be sent.
    """
    sys.exit(asking.flush(options, name, seconds, scan=False))
