"""How commands find the running daemon, and what its answers mean.

Imports no click: `syncd.cli.quick` works without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from syncd.config import places
from syncd.daemon import control

EXIT_FAILED = 1
EXIT_PARTLY = 3
EXIT_UNSETTLED = 4
EXIT_UNAVAILABLE = 69
HEALTH_SECONDS = 5.0
_STATUS_KEYS = frozenset({"daemon", "sources", "in_flight", "failures", "totals"})


_COLOURS = {"red": "\x1b[31m", "yellow": "\x1b[33m"}


class NotTold(Exception):
    """It is unknown whether a daemon runs; the message says why."""


_met: list[NotTold] = []


def remember(error: NotTold) -> None:
    """Have the next request fail at once: a silent daemon is waited for only once."""
    _met.append(error)


def answer(
    config: str, state_dir: Callable[[], str], request: dict[str, Any], seconds: float | None
) -> dict[str, Any] | None:
    """Return the answer of the daemon with this configuration file, within `seconds`; None: none runs.

    Looks into the runtime directories first, and calls `state_dir` only if it is in none. Raises NotTold.
    """
    if _met:
        raise _met.pop()
    named = {**request, "config": os.path.abspath(config)} if config else request
    closed = ""
    for place in control.places(os.environ, config):
        if not place.startswith("/run/") and (why := _silence(place)):
            raise NotTold(why)
        try:
            told = control.ask(place, named, seconds)
        except PermissionError as error:
            closed = f"{place}: {error.strerror}; run this as root, or as the user of the daemon"
        except (OSError, ValueError) as error:
            raise NotTold(f"it does not answer: {error}") from error
        else:
            if told is not None and not told.get("other"):
                return told
    directory = state_dir()
    try:
        told = control.ask(directory, request, seconds)
    except (OSError, ValueError) as error:
        raise NotTold(f"{directory}: {getattr(error, 'strerror', None) or error}") from error
    if told is None and closed and places.is_system(config):
        raise NotTold(closed)
    return told


def _silence(place: str) -> str:
    """Return why a place that the environment names must not be accessed; empty: it answers."""
    from syncd.sources.places import silence  # late: rarely needed

    return silence(place)


def is_status(told: Mapping[str, Any], *, table: bool) -> bool:
    """Return whether it is a whole status, with the requested table: an older daemon may make none."""
    return told.keys() >= _STATUS_KEYS and (not table or "lines" in told)


def health(told: Mapping[str, Any], *, ready: bool) -> tuple[str, int]:
    """Return the word for probes, and its exit code; `ready` demands that every source is scanned, too."""
    word = str(told["health"]) if told["health"] != "ok" or not ready or told["ready"] else "scanning"
    return word, 0 if word == "ok" else EXIT_FAILED


def status_code(found: Mapping[str, Any]) -> int:
    """Return the exit code for a status or for the word of a file."""
    if "state" in found:
        if found["state"] == "failed":
            return EXIT_PARTLY
        waits = found["state"] in ("settling", "pending", "uploading", "unknown", "unwatched")
        return EXIT_UNSETTLED if waits else 0
    if not found["daemon"]["running"]:
        return EXIT_UNAVAILABLE
    sources = found["sources"]
    if any(
        source["files"]["failed"] or source.get("differing") or source.get("unreadable") for source in sources
    ):
        return EXIT_PARTLY
    waits = any(
        source["files"]["pending"]
        or source["files"]["in_flight"]
        or not source["last_scan"]
        or any(source.get(why) for why in ("waiting_for", "deletes_parked", "waits_for_take_over"))
        for source in sources
    )
    return EXIT_UNSETTLED if waits else 0


class Paper:
    """Prints lines, in colours or not."""

    def __init__(self, stream: TextIO, *, colours: bool = False) -> None:
        self._stream = stream
        self._colours = colours

    @classmethod
    def of(cls, stream: TextIO) -> Paper:
        """Use colours on terminals, unless NO_COLOR is set (no-color.org)."""
        return cls(stream, colours=stream.isatty() and not os.environ.get("NO_COLOR"))

    def print(self, text: str, style: str = "") -> None:
        """Print one whole line, in any encoding of the stream."""
        encoding = self._stream.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        if style and self._colours:
            text = f"{_COLOURS[style]}{text}\x1b[0m"
        self._stream.write(f"{text}\n")

    def print_all(self, lines: Iterable[tuple[str, str]]) -> None:
        """Print lines, each with its style."""
        for text, style in lines:
            self.print(text, style)
