"""`syncd status`: from the daemon where one answers, else from the state."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from syncd.cli import common
from syncd.config.load import Settings
from syncd.core.model import FileRef
from syncd.daemon import control, status
from syncd.daemon.status import Status


@click.command()
@click.argument("path", required=False)
@common.json_option
@common.options
def command(options: common.Options, path: str | None, as_json: bool) -> None:
    """Show what is recorded, pending, in flight and failed.

    With PATH, show what is known about that file.
    """
    settings = options.load(with_secrets=False)
    if path is not None:
        _show_path(settings, path, as_json=as_json)
        return
    found = of_everything(settings)
    if as_json:
        common.print_json(found.to_json())
        return
    from syncd.cli import screen

    screen.show_status(found, screen.console())


def _show_path(settings: Settings, path: str, *, as_json: bool) -> None:
    found = of_path(settings, path)
    if found is None:
        common.say(f"{path} is in no source of the configuration")
        sys.exit(common.EXIT_FAILED)
    if as_json:
        common.print_json(found)
    else:
        click.echo("\n".join(sentences(found)))


def of_everything(settings: Settings) -> Status:
    """The status: from the running daemon, else from the state."""
    try:
        answer = control.ask(settings.state_dir, {"command": "status"})
        if answer is not None and "error" not in answer:
            return Status.from_json(answer)
    except (KeyError, TypeError) as error:
        answer = {"error": f"its answer cannot be read: {error}"}
    except (OSError, ValueError) as error:
        answer = {"error": str(error)}
    with common.open_state(settings.state_dir) as state:
        report = status.report(settings.sources, state, None)
    if answer is None:
        return report
    return replace(report, daemon=replace(report.daemon, error=answer["error"]))


def of_path(settings: Settings, path: str) -> dict[str, Any] | None:
    """What is known about the file at `path`; None when it is in no source."""
    absolute = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    for source in settings.sources:
        below = absolute.removeprefix(source.root.rstrip("/") + "/")
        if below != absolute:
            with common.open_state(settings.state_dir) as state:
                return status.of_path(state, FileRef(source.name, below))
    return None


def sentences(found: dict[str, Any]) -> Iterator[str]:
    """What is known about one file, for people: first what needs attention, then what is stored."""
    name = f"{found['source']}:{found['path']}"
    failure, unfinished, recorded = found["failure"], found["unfinished"], found["recorded"]
    if failure:
        yield f"failed: {name} failed {failure['attempts']} times; the last error: {failure['error']}"
    if unfinished:
        share = f"{unfinished['bytes_done']} of {unfinished['bytes_total']} bytes"
        yield f"uploading: {share} of {name} have arrived; an interrupted upload continues from there"
    if recorded:
        yield f"stored: {name} is stored as {recorded['key']} since {recorded['since']}"
        yield f"        {recorded['size']} bytes, xxh128 {recorded['xxh128']}, ETag {recorded['etag']}"
    if not (failure or unfinished or recorded):
        yield f"unknown: nothing is recorded about {name}"
