"""`syncd status`: from the daemon where one answers, else from the state."""

from __future__ import annotations

from dataclasses import replace

import click

from syncd.cli import asking, common
from syncd.daemon import status
from syncd.daemon.status import Status


@click.command()
@click.argument("path", required=False)
@common.json_option
@common.options
def command(options: common.Options, path: str | None, as_json: bool) -> None:
    """Show what is recorded, pending, in flight and failed.

    With PATH, say in one word how that file stands, and why.
    """
    if path is not None:
        _show_path(options, path, as_json=as_json)
        return
    found = of_everything(options)
    if as_json:
        common.print_json(found.to_json())
        return
    from syncd.cli import screen

    screen.show_status(found, screen.console())


def _show_path(options: common.Options, path: str, *, as_json: bool) -> None:
    found = asking.of_path(options, path)
    if as_json:
        common.print_json(found)
    else:
        click.echo(asking.line(found))


def of_everything(options: common.Options) -> Status:
    """The status: from the running daemon, else from the state."""
    trouble = None
    try:
        answer = asking.any_daemon(options, {"command": "status"})
        if answer is not None and "error" not in answer:
            return Status.from_json(answer)
        trouble = None if answer is None else str(answer["error"])
    except (KeyError, TypeError) as error:
        trouble = f"its answer cannot be read: {error}"
    except asking.NotTold as error:
        trouble = str(error)
    settings = options.load(with_secrets=False)
    with common.open_state(settings.state_dir) as state:
        report = status.report(settings.sources, state, None)
    read = replace(report.daemon, error=trouble, config=settings.path, state_dir=settings.state_dir)
    return replace(report, daemon=read)
