"""`syncd status`: from the daemon where one answers, else from the state."""

from __future__ import annotations

from dataclasses import replace

import click

from syncd.cli import asking, common
from syncd.config.load import Settings
from syncd.daemon import control, status
from syncd.daemon.status import Status


@click.command()
@click.argument("path", required=False)
@common.json_option
@common.options
def command(options: common.Options, path: str | None, as_json: bool) -> None:
    """Show what is recorded, pending, in flight and failed.

    With PATH, say in one word how that file stands, and why.
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
    found = asking.of_path(settings, path)
    if as_json:
        common.print_json(found)
    else:
        click.echo(asking.line(found))


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
