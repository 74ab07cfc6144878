"""`syncd restamp`: objects that are there get the properties and attributes that they are to have now."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from syncd.cli import asking, common
from syncd.config.load import Settings
from syncd.daemon import process
from syncd.pipeline.context import real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.restamp import Restamped, restamp
from syncd.state.lock import StateLock
from syncd.state.state import State

_STOP_SECONDS = 10.0


@click.command()
@click.argument("names", nargs=-1, metavar="[SOURCE...]")
@click.option("-n", "--dry-run", is_flag=True, help="Name the objects that would change; change none.")
@common.json_option
@common.options
def command(options: common.Options, names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Give objects the properties that the configuration says now, and the attributes of their files.

    Every recorded object is looked at. One that has other ones is copied onto itself inside the store,
    which costs a request, and a new version where the bucket keeps versions. Interrupted, it goes on where it
    was when it is called again. The exit code is 3 if objects keep other properties.
    """
    settings = options.load()
    known = [source.name for source in settings.sources]
    if unknown := sorted(set(names) - set(known)):
        raise click.UsageError(f"no such source: {', '.join(unknown)}")
    told = _restamp(settings, list(names) or known, dry_run=dry_run)
    if as_json:
        common.print_json({"dry_run": dry_run, "sources": told})
    else:
        for name, found in told.items():
            _print(name, found, dry_run=dry_run)
    is_partly = any(found["kept"] or found["ended"] for found in told.values())
    sys.exit(common.EXIT_PARTLY if is_partly else 0)


def _print(name: str, found: dict[str, Any], *, dry_run: bool) -> None:
    if dry_run:
        for path in found["named"]:
            click.echo(f"restamp  {path}")
    for line in found["left"]:
        click.echo(f"kept: {line}", err=True)
    done = "would get" if dry_run else "got"
    if found["ended"]:
        click.echo(f"{name}: not all were looked at: {found['ended']}", err=True)
    click.echo(f"{name}: {found['objects']} objects looked at, {found['changed']} {done} other properties")


def _restamp(settings: Settings, names: list[str], *, dry_run: bool) -> dict[str, dict[str, Any]]:
    """By the daemon, one source after the other, or here where none runs."""
    told: dict[str, dict[str, Any]] = {}
    for name in names:
        request = {"command": "restamp", "source": name, "dry_run": dry_run}
        answer = asking.settings_daemon(settings, request)
        if answer is None:
            return told | _here(settings, names[len(told) :], dry_run=dry_run)
        told[name] = answer
    return told


def _here(settings: Settings, names: list[str], *, dry_run: bool) -> dict[str, dict[str, Any]]:
    lock = StateLock.acquire(settings.state_dir)
    try:
        clock = real_clock()
        state = State.open(settings.state_dir, now_ns=clock.now_ns)
        try:
            pipeline = Pipeline(state, clock, once=True, machine_id=process.machine_id())
            pipeline.apply(settings.sources, settings.stores, settings.transfer)
            try:
                with common.interrupt() as stopping:
                    found = {name: _source(pipeline, name, stopping.is_set, dry_run) for name in names}
            finally:
                pipeline.stop(_STOP_SECONDS)
        finally:
            state.close()
    finally:
        lock.release()
    return {name: asdict(each) for name, each in found.items()}


def _source(pipeline: Pipeline, name: str, is_stopping: Callable[[], bool], dry_run: bool) -> Restamped:
    runner = pipeline.source_runners[name]
    runner.begin()
    return restamp(runner, pipeline.state, dry_run=dry_run, goes_on=lambda: not is_stopping())
