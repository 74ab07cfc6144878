"""`syncd history`: what was done last."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|PATH]")
@click.option("-n", "limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most.")
@common.json_option
@common.options
def command(options: common.Options, name: str | None, limit: int, as_json: bool) -> None:
    """List the last uploads, copies, deletions and failures.

    The newest comes last. Of a source, or (with a slash) of a file or what is below a folder.
    """
    answer = asking.daemon(options, {"command": "history", "limit": limit, **asking.scope(name)})
    if as_json:
        common.print_json(answer["actions"])
        return
    for each in reversed(answer["actions"]):
        sent = f"{each['bytes']} bytes, " if each["bytes"] else ""
        click.echo(
            f"{each['at']}  {each['action']:<8} {each['source']}:{each['path']}: {sent}{each['detail']}"
        )
