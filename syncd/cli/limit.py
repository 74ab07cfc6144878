"""`syncd limit`: the bandwidth limit of the running daemon."""

from __future__ import annotations

from typing import Any

import click

from syncd.cli import asking, common
from syncd.core.words import human, human_seconds


class _Rate(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from syncd.config.units import parse_size

        if value in ("off", "config"):
            return value
        try:
            size = parse_size(str(value))
        except ValueError as error:
            self.fail(f"found {value!r}; expected {error}, for bytes per second", param, ctx)
        if size == 0:
            self.fail("0 is no rate; `off` means without limit, and `syncd pause` sends nothing", param, ctx)
        return size


@click.command()
@click.argument("rate", required=False, type=_Rate(), metavar="[RATE|off|config]")
@asking.duration_option("--for", "seconds", help="For so long, such as 1h; else until the daemon ends.")
@common.options
def command(options: common.Options, rate: int | str | None, seconds: float | None) -> None:
    """Show or change the bandwidth limit of the running daemon.

    RATE is in bytes per second, such as 2MiB, for all stores together; `off` means without limit, and
    `config` what the configuration says. It holds at once, also for uploads under way.
    """
    request: dict[str, Any] = {"command": "limit", "seconds": seconds}
    if rate == "config":
        request["configured"] = True
    elif rate is not None:
        request["rate"] = 0 if rate == "off" else rate
    answer = asking.daemon(options, request)
    by = "by the operator" if answer["by_operator"] else "by the configuration"
    left = answer["seconds_left"]
    end = f", for {human_seconds(left)} more" if left is not None else ""
    holds = answer["bytes_per_second"]
    click.echo(f"{f'{human(holds)}/s' if holds else 'no limit'}, {by}{end}")
