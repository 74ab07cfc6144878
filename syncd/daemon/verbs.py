"""What the control socket understands: a verb is a function of this module and a line in `VERBS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from syncd.core import paths
from syncd.core.model import Source
from syncd.core.words import iso
from syncd.daemon import explain
from syncd.daemon.live import Live
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.source_runner import SourceRunner
from syncd.storage.base import DIGESTS, Digests

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


def learn_digests(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Remember what `store` does with digests, as `syncd check` found out; the next upload heeds it."""
    runner = verbs.pipeline.store_runners.get(str(request.get("store")))
    if runner is None:
        raise ValueError("the daemon knows no such store; check the name, or reload the daemon")
    verbs.pipeline.state.learn(runner.store.store_id, DIGESTS, Digests(_text(request, "found")).value)
    return {"learned": True}


def accept_root(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Accept that the root of `source` is a different directory now."""
    _runner(verbs, request).accept_root()
    return {"accepted": True}


def pause(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Pause what `name` means (without one: everything), for `seconds` (without them: until `resume`)."""
    kind, name = _target(verbs, request)
    seconds = request.get("seconds")
    if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < 1e9):
        raise ValueError("a pause lasts for a positive number of seconds")
    until_ns = verbs.pipeline.clock.now_ns() + int(seconds * 1e9) if seconds else 0
    was = verbs.pipeline.state.pauses().get((kind, name))
    if was is None or was != until_ns:
        verbs.pipeline.pause(kind, name, until_ns)
    return {"kind": kind, "name": name, "until": iso(until_ns) if until_ns else None, "was": was is not None}


def resume(verbs: Verbs, request: Request) -> dict[str, Any]:
    """End the pause of what `name` means (without one: all pauses)."""
    pauses = list(verbs.pipeline.state.pauses())
    kind, name = _target(verbs, request)
    ended = [what for what in pauses if kind == "all" or what == (kind, name)]
    if ended:
        verbs.pipeline.resume(ended)
    left = [what for what in pauses if what not in ended]
    return {"kind": kind, "name": name, "was": bool(ended), "left": [f"{k}:{n}" if n else k for k, n in left]}


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
    "pause": pause,
    "resume": resume,
    "allow-deletes": allow_deletes,
    "accept-root": accept_root,
    "learn-digests": learn_digests,
}


def _target(verbs: Verbs, request: Request) -> tuple[str, str]:
    """What `name` means: kind (``source``, ``store``, ``all``) and name. Raises ValueError."""
    given = request.get("name")
    if given is None:
        return "all", ""
    return paths.named(
        str(given), [source.name for source in verbs.sources()], list(verbs.pipeline.store_runners)
    )


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
