"""`syncd adopt`: record the files that the store already has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
from msgspec.structs import replace

from syncd.cli import asking, common
from syncd.core.words import counted, human
from syncd.pipeline.passes.adopt import Adopted, adopt
from syncd.pipeline.pipeline import Pipeline
from syncd.sources import places
from syncd.storage.settings import DirSettings
from syncd.transfer.pace.heartbeat import Heartbeat
from syncd.transfer.reuse import Listing


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE...]")
@click.option("-n", "--dry-run", is_flag=True, help="Record nothing.")
@common.json_option
@common.options
def command(options: common.Options, names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Record files that the store already has; send none.

    The store has a file if the object has the same content, by the digest of syncd or of the program that
    sent it (rclone, aws, s3cmd and others). A file is read only if its object has the same size. The next
    pass sends the files that are missing or differ. The exit code is 3 if files could not be compared, 69 or
    77 if the store cannot be used.
    """
    told = asking.each_source(options.load(), names, "adopt", _source, dry_run=dry_run)
    if as_json:
        common.print_json({"dry_run": dry_run, "sources": told})
    else:
        for name, found in told.items():
            _print(name, found)
    is_partly = any(found["failed"] or found["ended"] for found in told.values())
    sys.exit(asking.code_of_sources(told, is_partly=is_partly))


def _print(name: str, found: dict[str, Any]) -> None:
    for line in found["differing"]:
        click.echo(f"differs  {line}")
    for line in found["failures"]:
        click.echo(f"failed: {line}", err=True)
    if found["ended"]:
        click.echo(f"{name}: not all were checked: {found['ended']}", err=True)

    def part(standing: str) -> str:
        return f"{counted(found['files'][standing], 'file')} ({human(found['bytes'][standing])})"

    click.echo(
        f"{name}: {part('known')} known, {part('absent')} to send, {part('differs')} with other content; "
        f"{found['files']['recorded']} recorded before, {found['failed']} failed"
    )


def _source(pipeline: Pipeline, name: str, goes_on: Callable[[], bool], dry_run: bool) -> Adopted:
    """Adopt one source. Nothing else works on it, so its listing is reliable."""
    runner = pipeline.source_runners[name]
    engine, settings = runner.workers.engine, pipeline.store_runners[runner.source.store].settings
    if isinstance(settings, DirSettings) and (silence := places.silence(settings.path)):
        return Adopted(ended=silence, unusable="unreachable")
    listing = Listing(engine.store.list_objects(runner.source.prefix), Heartbeat(), pipeline.clock.monotonic)
    engine.sources[name] = replace(engine.sources[name], listing=listing)
    return adopt(runner, pipeline.state, dry_run=dry_run, goes_on=goes_on)
