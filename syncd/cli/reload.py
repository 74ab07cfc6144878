"""`syncd reload`: the daemon reads its configuration again, and reports the result."""

from __future__ import annotations

import sys

import click

from syncd.cli import asking, common

_SECONDS = 330.0


@click.command()
@common.options
def command(options: common.Options) -> None:
    """Make the daemon read the configuration again.

    Prints what changed, or every mistake (exit code 78). If there is a mistake, the old configuration stays
    in force.
    """
    answer = asking.daemon(options, {"command": "reload"}, _SECONDS)
    for problem in answer.get("problems", ()):
        common.say(problem)
    if "problems" in answer:
        common.say("the old configuration stays in force")
        sys.exit(common.EXIT_CONFIG)
    click.echo("\n".join(answer["changes"]) or "nothing changed")
