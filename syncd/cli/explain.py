"""`syncd explain`: which rule takes or excludes a file, what is recorded, what would be done, why."""

from __future__ import annotations

import click

from syncd.cli import asking, common
from syncd.core.words import details


@click.command()
@click.argument("path")
@common.json_option
@common.options
def command(options: common.Options, path: str, as_json: bool) -> None:
    """Say which rule includes or excludes a file, and why.

    PATH may be excluded or missing. The first line is that of `syncd status PATH`.
    """
    found = asking.of_path(options, path)
    if as_json:
        common.print_json(found)
    else:
        click.echo(asking.line(found))
        for name, text in details(found):
            click.echo(f"{name:<10} {text}")
