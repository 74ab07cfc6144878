"""`syncd status`: from the daemon if one answers, else from the state."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from syncd.cli import answers, asking, common

WATCH_SECONDS = 1.0


@click.command()
@click.argument("path", required=False)
@click.option(
    "--watch",
    is_flag=True,
    help="Show the status again every second, until Ctrl-C; with --json, one line each time.",
)
@click.option(
    "--exit-code",
    is_flag=True,
    help="Exit with 4 if not in sync yet, 3 if files failed or objects differ.",
)
@common.json_option
@common.options
def command(options: common.Options, path: str | None, watch: bool, exit_code: bool, as_json: bool) -> None:
    """Show what is recorded, pending, in flight and failed.

    With PATH, say in one word how that file stands, and why.
    """
    while True:
        found = (
            asking.of_path(options, path) if path is not None else of_everything(options, table=not as_json)
        )
        if watch and as_json:
            click.echo(json.dumps(found, ensure_ascii=True))
        elif as_json:
            common.print_json(found)
        else:
            _show(found, clear=watch)
        if not watch:
            sys.exit(answers.status_code(found) if exit_code else 0)
        time.sleep(WATCH_SECONDS)


def _show(found: dict[str, Any], *, clear: bool) -> None:
    if clear and sys.stdout.isatty():
        click.clear()
    if "state" in found:
        click.echo(asking.line(found))
    else:
        answers.Paper.of(sys.stdout).print_all(found["lines"])


def of_everything(options: common.Options, *, table: bool = False) -> dict[str, Any]:
    """Return the status as JSON, with `table` also its lines, from the running daemon, else the state."""
    trouble = None
    try:
        answer = asking.any_daemon(options, {"command": "status", "table": table})
    except asking.NotTold as error:
        trouble = str(error)
    else:
        if answer is not None and answers.is_status(answer, table=table):
            return answer
        other = "its answer cannot be read; restart it if it is older than this command"
        trouble = None if answer is None else str(answer.get("error", other))
    return _from_state(options, trouble, table=table)


def _from_state(options: common.Options, trouble: str | None, *, table: bool) -> dict[str, Any]:
    from msgspec.structs import replace

    from syncd.daemon import status

    settings = options.load(with_secrets=False)
    with common.open_state(settings.state_dir) as state:
        report = status.report(settings.sources, state, None)
    read = replace(report.daemon, error=trouble, config=settings.path, state_dir=settings.state_dir)
    return replace(report, daemon=read).to_json(table=table)
