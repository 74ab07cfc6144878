"""What the commands ask the running daemon, or, where none runs, the state."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from syncd.cli import common
from syncd.config.load import Settings
from syncd.core.errors import StateError
from syncd.daemon import control


def daemon(options: common.Options, request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """The running daemon's answer, within `seconds`; ends the command where there is none, or it refuses."""
    settings = options.load(with_secrets=False)
    try:
        answer = control.ask(settings.state_dir, request, seconds)
    except (OSError, ValueError) as error:
        common.say(f"the daemon does not answer: {error}")
        sys.exit(common.EXIT_UNAVAILABLE)
    if answer is None:
        common.say(f"no daemon runs with {settings.path}")
        sys.exit(common.EXIT_UNAVAILABLE)
    if "error" in answer:
        common.say(str(answer["error"]))
        sys.exit(common.EXIT_USAGE if answer.get("usage") else common.EXIT_FAILED)
    return answer


def target(answer: dict[str, Any]) -> str:
    """What an answer is about, in words."""
    return f"{answer['kind']} {answer['name']}" if answer["name"] else "everything"


class _Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from syncd.config.units import parse_duration

        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(f"found {value!r}; expected {error}", param, ctx)


def duration_option(*names: str, help: str) -> Callable[[Any], Any]:
    """An option that takes a duration such as ``2h``, in seconds."""
    return click.option(*names, type=_Duration(), metavar="DURATION", help=help)


def of_path(settings: Settings, path: str) -> dict[str, Any]:
    """What is known about the file at `path`; ends the command when it is in no source. Raises StateError."""
    absolute = os.path.abspath(path)
    try:
        found = control.ask(settings.state_dir, {"command": "file", "path": absolute})
    except (OSError, ValueError) as error:
        raise StateError(f"the daemon does not answer: {error}") from error
    if found is None:
        found = _from_state(settings, absolute)
    if "error" in found:
        raise StateError(f"the daemon refuses: {found['error']}")
    if found.get("in_no_source"):
        common.say(f"{path} is in no source of the configuration")
        sys.exit(common.EXIT_FAILED)
    return found


def _from_state(settings: Settings, absolute: str) -> dict[str, Any]:
    from syncd.daemon import explain

    found = explain.find(settings.sources, absolute)
    if found is None:
        return {"in_no_source": True}
    with common.open_state(settings.state_dir) as state:
        return explain.report(found, state, None, time.time_ns())


def line(found: dict[str, Any]) -> str:
    """One line about a file: its word first, for scripts, then its source and the reason."""
    return f"{found['state']:<10} {found['source']}: {found['reason']}"
