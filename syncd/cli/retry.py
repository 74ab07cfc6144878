"""`syncd retry`: the daemon tries again what failed."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE|PATH]")
@common.options
def command(options: common.Options, name: str | None) -> None:
    """Try again now what failed.

    Also what had used up its attempts, and a store that is paused because it failed. Without a name,
    everything; a PATH (with a slash) means that file, or what is below that folder.
    """
    answer = asking.daemon(options, {"command": "retry", **asking.scope(name)})
    click.echo(f"failed files that are tried again: {answer['files']}")
