"""`syncd restamp`: gives existing objects the properties and attributes that they should have now."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from syncd.cli import asking, common
from syncd.core.words import counted
from syncd.pipeline.passes.restamp import Restamped, restamp
from syncd.pipeline.pipeline import Pipeline


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE...]")
@click.option("-n", "--dry-run", is_flag=True, help="Print the objects that would change; change none.")
@common.json_option
@common.options
def command(options: common.Options, names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Set the configured properties on existing objects.

    Also sets the attributes that the files had when they were recorded. Asks for every recorded object, and
    copies those that differ onto themselves inside the store. Each copy costs a request, and a new version
    if the bucket keeps versions. After an interruption, run the same command again; it continues. The exit
    code is 3 if objects keep other properties, 69 or 77 if the store cannot be used.
    """
    told = asking.each_source(options.load(), names, "restamp", _source, dry_run=dry_run)
    if as_json:
        common.print_json({"dry_run": dry_run, "sources": told})
    else:
        for name, found in told.items():
            _print(name, found, dry_run=dry_run)
    is_partly = any(found["kept"] or found["ended"] for found in told.values())
    sys.exit(asking.code_of_sources(told, is_partly=is_partly))


def _print(name: str, found: dict[str, Any], *, dry_run: bool) -> None:
    if dry_run:
        for path in found["named"]:
            click.echo(f"restamp  {path}")
    for line in found["left"]:
        click.echo(f"kept: {line}", err=True)
    done = "would get" if dry_run else "got"
    if found["ended"]:
        click.echo(f"{name}: not all were checked: {found['ended']}", err=True)
    seen = counted(found["objects"], "object")
    click.echo(f"{name}: {seen} looked at, {found['changed']} {done} other properties")


def _source(pipeline: Pipeline, name: str, goes_on: Callable[[], bool], dry_run: bool) -> Restamped:
    return restamp(pipeline.source_runners[name], pipeline.state, dry_run=dry_run, goes_on=goes_on)
