"""A daemon that gives one answer, for tests of what commands make of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from syncd.daemon.control import Asks, ControlServer
from tests.unit.cli.home import Home


@contextmanager
def answering(home: Home, answer: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """In the state directory of `home`; yields the requests that it has heard."""
    os.makedirs(home.settings.state_dir, exist_ok=True)
    heard: list[dict[str, Any]] = []

    def handler(request: dict[str, Any], asks: Asks) -> dict[str, Any]:
        heard.append(request)
        return answer

    server = ControlServer(home.settings.state_dir, handler)
    server.start()
    try:
        yield heard
    finally:
        server.stop()
