"""`syncd health` and `syncd status` if a daemon answers, without click: its import costs twice the rest.

Monitoring programs call these every few seconds. This module takes over only what it wholly understands;
everything else, and any error, is for `syncd.cli.group`, which says why.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from syncd.cli import answers
from syncd.config import places

_FLAGS = {"health": {"--ready"}, "status": {"--json", "--exit-code"}}


def answered(arguments: list[str], environ: Mapping[str, str]) -> int | None:
    """Print the answer and return the exit code; None: nothing was done."""
    command, *rest = arguments or [""]
    flags, config = set(), None
    while rest:
        if rest[0] in ("-c", "--config") and len(rest) > 1:
            config, rest = rest[1], rest[2:]
        elif rest[0] in _FLAGS.get(command, ()):
            flags.add(rest[0])
            rest = rest[1:]
        else:
            return None
    if command not in _FLAGS:
        return None
    request = {"command": command, "table": command == "status" and "--json" not in flags}
    told = _ask(places.look(config, environ, _unasked) or "", request)
    return None if told is None else _print(told, command, flags)


def _unasked(path: str) -> str:
    """Return why the path is not accessed here: its server may be down, and yet the daemon may answer."""
    from syncd.sources.places import Places

    return "" if Places(ask=False).look(path) is not None else "its server may be down"


def _print(told: dict[str, Any], command: str, flags: set[str]) -> int:
    """Print the answer; return the exit code."""
    paper = answers.Paper.of(sys.stdout)
    code = 0
    try:
        if command == "health":
            word, code = answers.health(told, ready="--ready" in flags)
            paper.print(word)
        elif "--json" in flags:
            paper.print(json.dumps(told, indent=2, ensure_ascii=True))
        else:
            paper.print_all(told["lines"])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader is gone, and the interpreter would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return answers.EXIT_FAILED
    return answers.status_code(told) if "--exit-code" in flags else code


def _ask(config: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the daemon's whole answer, if its place is known without the configuration."""

    def unknown() -> str:
        raise answers.NotTold

    is_probe = request["command"] == "health"
    try:
        told = answers.answer(config, unknown, request, answers.HEALTH_SECONDS if is_probe else None)
    except answers.NotTold as error:
        if str(error):
            answers.remember(error)
        return None
    if told is None:
        return None
    is_whole = "health" in told if is_probe else answers.is_status(told, table=request["table"])
    return told if is_whole else None
