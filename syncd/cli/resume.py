"""`syncd resume`: ends a pause."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE]")
@common.options
def command(options: common.Options, name: str | None) -> None:
    """End a pause.

    Without a name, every pause ends.
    """
    answer = asking.daemon(options, {"command": "resume", "name": name})
    click.echo(f"{asking.target(answer)}: {'resumed' if answer['was'] else 'was not paused'}")
    if answer["left"]:
        click.echo(f"still paused: {', '.join(answer['left'])}")
