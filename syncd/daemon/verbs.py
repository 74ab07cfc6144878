"""What the control socket understands: a verb is a function of this module and a line in `VERBS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncd.core.model import Source
from syncd.daemon import explain
from syncd.daemon.live import Live
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.source_runner import SourceRunner

Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verbs:
    """Answers what the command line asks one daemon. `sources` returns those of the current configuration."""

    pipeline: Pipeline
    live: Live
    sources: Callable[[], tuple[Source, ...]]

    def answer(self, request: Request) -> dict[str, Any]:
        """The answer to one request. Raises ValueError for a wrong request, StateError."""
        verb = VERBS.get(str(request.get("command")))
        if verb is None:
            raise ValueError(f"unknown command {request.get('command')!r}")
        return verb(self, request)


def status(verbs: Verbs, request: Request) -> dict[str, Any]:
    """The `Status`, as JSON."""
    return verbs.live.status(verbs.sources()).to_json()


def allow_deletes(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Allow the deletions of `source` that wait for the operator."""
    return {"allowed": _runner(verbs, request).confirm_deletes()}


def accept_root(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Accept that the root of `source` is a different directory now."""
    _runner(verbs, request).accept_root()
    return {"accepted": True}


def file(verbs: Verbs, request: Request) -> dict[str, Any]:
    """What is known about the file at `path`, an absolute path."""
    found = explain.find(verbs.sources(), _text(request, "path"))
    if found is None:
        return {"in_no_source": True}
    live = verbs.live.file(found.ref)
    return explain.report(found, verbs.pipeline.state, live, verbs.pipeline.clock.now_ns())


VERBS: Mapping[str, Callable[[Verbs, Request], dict[str, Any]]] = {
    "status": status,
    "file": file,
    "allow-deletes": allow_deletes,
    "accept-root": accept_root,
}


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise ValueError(f"the request names no {name}")  # noqa: TRY004  a bad message, not a bad call
    return value


def _runner(verbs: Verbs, request: Request) -> SourceRunner:
    runner = verbs.pipeline.source_runners.get(str(request.get("source")))
    if runner is None:
        raise ValueError("the daemon knows no such source; check the name, or reload the daemon")
    return runner
