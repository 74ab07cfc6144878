"""Where the commands find the running daemon, and what its answers stand for.

Imports no click: `syncd.cli.quick` answers without it.
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
    """It cannot be said whether a daemon runs; the message says why."""


_met: list[NotTold] = []


def remember(error: NotTold) -> None:
    """The next question meets this at once: one who does not answer is waited for once."""
    _met.append(error)


def answer(
    config: str, state_dir: Callable[[], str], request: dict[str, Any], seconds: float | None
) -> dict[str, Any] | None:
    """The answer of the daemon with this configuration file, within `seconds`; None: none runs.

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
    """Why nothing may be asked at a place that the environment names; empty: it answers."""
    from syncd.sources.places import silence  # late: it is hardly ever asked

    return silence(place)


def is_status(told: Mapping[str, Any], *, table: bool) -> bool:
    """Whether it is a whole status, and has what was asked for: an older daemon may make no table."""
    return told.keys() >= _STATUS_KEYS and (not table or "lines" in told)


def health(told: Mapping[str, Any], *, ready: bool) -> tuple[str, int]:
    """The word for probes, and its exit code; `ready` asks for every source to have been scanned, too."""
    word = str(told["health"]) if told["health"] != "ok" or not ready or told["ready"] else "scanning"
    return word, 0 if word == "ok" else EXIT_FAILED


def status_code(found: Mapping[str, Any]) -> int:
    """The exit code that a status or the word of a file stands for."""
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
    """Where lines are printed, in colours or not."""

    def __init__(self, stream: TextIO, *, colours: bool = False) -> None:
        self._stream = stream
        self._colours = colours

    @classmethod
    def of(cls, stream: TextIO) -> Paper:
        """Colours are for terminals, and for those who want them (no-color.org)."""
        return cls(stream, colours=stream.isatty() and not os.environ.get("NO_COLOR"))

    def print(self, text: str, style: str = "") -> None:
        """One line, all of it, whatever the encoding of the stream."""
        encoding = self._stream.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        if style and self._colours:
            text = f"{_COLOURS[style]}{text}\x1b[0m"
        self._stream.write(f"{text}\n")

    def print_all(self, lines: Iterable[tuple[str, str]]) -> None:
        """Lines, each with its style."""
        for text, style in lines:
            self.print(text, style)
