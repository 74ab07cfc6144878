"""`syncd history`: the last actions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import asking, common

if TYPE_CHECKING:
    from syncd.config.load import Settings


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE|PATH]")
@click.option(
    "-n",
    "limit",
    default=50,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Show at most this many.",
)
@common.json_option
@common.options
def command(options: common.Options, name: str | None, limit: int, as_json: bool) -> None:
    """List the last uploads, copies, deletions and failures.

    The newest comes last. A PATH (with a slash) is a file, or a folder with everything below it.
    """
    request = {"command": "history", "limit": limit, **asking.scope(name)}
    answer = asking.daemon_or_none(options, request)
    actions = _from_state(options.load(with_secrets=False), request) if answer is None else answer["actions"]
    if as_json:
        common.print_json(actions)
        return
    from syncd.core.words import counted

    for each in reversed(actions):
        sent = f"{counted(each['bytes'], 'byte')}, " if each["bytes"] else ""
        click.echo(
            f"{each['at']}  {each['action']:<8} {each['source']}:{each['path']}: {sent}{each['detail']}"
        )


def _from_state(settings: Settings, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a daemon would answer; end the command if nothing has that name."""
    from syncd.core.paths import named, printable
    from syncd.daemon import explain
    from syncd.daemon.verbs import listed

    sources, below = None, ""
    if path := request.get("path"):
        found = explain.find(settings.sources, path)
        if found is None:
            common.say(f"{printable(path)} is in no source of the configuration")
            sys.exit(common.EXIT_FAILED)
        sources, below = [found.source.name], found.path
    elif request["name"] is not None:
        stores = {source.name: source.store for source in settings.sources}
        try:
            kind, name = named(request["name"], list(stores), list(settings.stores))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        sources = [source for source, store in stores.items() if name == (store, source)[kind == "source"]]
    with common.open_state(settings.state_dir) as state:
        return listed(state.history.last(request["limit"], sources, below))
