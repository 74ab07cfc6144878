"""`syncd retry`: the daemon retries failed files."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE|PATH]")
@click.option("--error", metavar="TEXT", help="Only files whose error contains TEXT.")
@common.options
def command(options: common.Options, name: str | None, error: str | None) -> None:
    """Try failed files again now.

    This includes files that have used up their attempts, and ends the pause of a store that failed. Without
    a name, all failed files are tried. A PATH (with a slash) is a file, or a folder with everything below it.
    """
    answer = asking.daemon(options, {"command": "retry", **asking.scope(name), "error": error})
    click.echo(f"failed files that are tried again: {answer['files']}")
