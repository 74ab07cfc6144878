"""`syncd rescan`: the daemon scans a source now."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE|PATH]")
@common.options
def command(options: common.Options, name: str | None) -> None:
    """Scan a source now.

    Without a name, every source is scanned. A PATH (with a slash) is a folder. To wait for the end, use
    `syncd sync`.
    """
    answer = asking.daemon(options, {"command": "rescan", **asking.scope(name)})
    below = f": {answer['below']}" if answer["below"] else ""
    click.echo(f"the daemon scans {', '.join(answer['sources'])}{below}")
