"""`syncd pending`: the queue of the running daemon, with reasons."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.option(
    "-n",
    "limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Show at most this many.",
)
@common.json_option
@common.options
def command(options: common.Options, limit: int, as_json: bool) -> None:
    """List the files that still have to be sent, and why.

    Each line begins with the word of its file.
    """
    answer = asking.daemon(options, {"command": "pending", "limit": limit})
    if as_json:
        common.print_json(answer)
        return
    for file in answer["files"]:
        click.echo(f"{file['state']:<10} {file['source']}:{file['path']}: {file['reason']}")
    more = answer["total"] - len(answer["files"])
    if more > 0:
        click.echo(f"... and {more} more")
    if not answer["files"]:
        click.echo("nothing waits")
