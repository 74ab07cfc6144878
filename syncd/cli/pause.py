"""`syncd pause`: the daemon stops sending, from a source, to a store, or everything."""

from __future__ import annotations

import click

from syncd.cli import asking, common


@click.command()
@click.argument("name", required=False, metavar="[SOURCE|STORE]")
@asking.duration_option("--for", "seconds", help="How long, such as 2h. Default: until `syncd resume`.")
@common.options
def command(options: common.Options, name: str | None, seconds: float | None) -> None:
    """Stop sending: from a source, to a store, or everything.

    An upload in progress stops after the parts that are being sent, and continues later. The pause survives
    a restart. syncd still notices changes; they wait.
    """
    answer = asking.daemon(options, {"command": "pause", "name": name, "seconds": seconds})
    until = f"until {answer['until']}" if answer["until"] else "until `syncd resume`"
    click.echo(f"{asking.target(answer)}: paused {until}")
