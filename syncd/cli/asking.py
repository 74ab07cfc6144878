"""What the commands ask the running daemon, or, where none runs, the state."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from syncd.cli import common
from syncd.config.load import Settings
from syncd.core.errors import StateError
from syncd.daemon import control


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
