"""`syncd retry`: the daemon tries again what failed."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE|PATH]")
@click.option("--error", metavar="TEXT", help="Only files whose error contains TEXT.")
@common.options
def command(options: common.Options, name: str | None, error: str | None) -> None:
    """Try failed files again now.

    Also files that have used up their attempts, and a store that is paused because it failed. Without a
    name, everything; a PATH (with a slash) means that file, or what is below that folder.
    """
    answer = asking.daemon(options, {"command": "retry", **asking.scope(name), "error": error})
    click.echo(f"failed files that are tried again: {answer['files']}")
