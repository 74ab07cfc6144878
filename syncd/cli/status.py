"""`syncd status`: from the daemon where one answers, else from the state."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from syncd.cli import asking, common

WATCH_SECONDS = 1.0


@click.command()
@click.argument("path", required=False)
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C; with --json as lines.")
@click.option(
    "--exit-code",
    is_flag=True,
    help="Exit with 4 if it is not in sync yet, 3 if files failed or objects differ.",
)
@common.json_option
@common.options
def command(options: common.Options, path: str | None, watch: bool, exit_code: bool, as_json: bool) -> None:
    """Show what is recorded, pending, in flight and failed.

    With PATH, say in one word how that file stands, and why.
    """
    while True:
        found = asking.of_path(options, path) if path is not None else of_everything(options)
        if watch and as_json:
            click.echo(json.dumps(found, ensure_ascii=True))
        elif as_json:
            common.print_json(found)
        else:
            _show(found, clear=watch)
        if not watch:
            sys.exit(code(found) if exit_code else 0)
        time.sleep(WATCH_SECONDS)


def _show(found: dict[str, Any], *, clear: bool) -> None:
    if clear and sys.stdout.isatty():
        click.clear()
    if "state" in found:
        click.echo(asking.line(found))
        return
    from syncd.cli import screen
    from syncd.daemon.status import Status

    screen.show_status(Status.from_json(found), screen.console())


def code(found: dict[str, Any]) -> int:
    """The exit code that a status or the word of a file stands for."""
    if "state" in found:
        if found["state"] == "failed":
            return common.EXIT_PARTLY
        waits = found["state"] in ("settling", "pending", "uploading", "unknown", "unwatched")
        return common.EXIT_UNSETTLED if waits else 0
    if not found["daemon"]["running"]:
        return common.EXIT_UNAVAILABLE
    sources = found["sources"]
    if any(source["files"]["failed"] or source.get("differing") for source in sources):
        return common.EXIT_PARTLY
    waits = any(
        source["files"]["pending"]
        or source["files"]["in_flight"]
        or not source["last_scan"]
        or source.get("waiting_for")
        for source in sources
    )
    return common.EXIT_UNSETTLED if waits else 0


def of_everything(options: common.Options) -> dict[str, Any]:
    """The status as JSON: from the running daemon, else from the state."""
    trouble = None
    try:
        answer = asking.any_daemon(options, {"command": "status"})
    except asking.NotTold as error:
        trouble = str(error)
    else:
        if answer is not None and {"daemon", "sources", "in_flight", "failures", "totals"} <= answer.keys():
            return answer
        trouble = None if answer is None else str(answer.get("error", "its answer cannot be read"))
    return _from_state(options, trouble)


def _from_state(options: common.Options, trouble: str | None) -> dict[str, Any]:
    from dataclasses import replace

    from syncd.daemon import status

    settings = options.load(with_secrets=False)
    with common.open_state(settings.state_dir) as state:
        report = status.report(settings.sources, state, None)
    read = replace(report.daemon, error=trouble, config=settings.path, state_dir=settings.state_dir)
    return replace(report, daemon=read).to_json()
