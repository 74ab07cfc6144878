"""What the control socket understands: a verb is a function of this module and a line in `VERBS`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from syncd.config.load import Settings
from syncd.config.units import parse_bandwidth
from syncd.core import paths
from syncd.core.backoff import clock_words
from syncd.core.model import FileRef, Source
from syncd.core.paths import printable
from syncd.core.words import iso
from syncd.daemon import explain
from syncd.daemon import flush as flushing
from syncd.daemon.control import Asks
from syncd.daemon.live import Live
from syncd.pipeline.passes import adopt as adopting
from syncd.pipeline.passes import restamp as restamping
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.queue import MAX_DEFERRED
from syncd.pipeline.source_runner import SourceRunner
from syncd.sources.places import Places
from syncd.state.audits import Unlike
from syncd.state.history import Acted
from syncd.storage.base import CONDITIONS, DIGESTS, DOUBLED, HONOURED, IGNORED, VERSION_KEYS, Finding
from syncd.transfer import audit

Request = Mapping[str, Any]

MOST_LISTED = 10_000
"""Files or actions in one answer."""


class Verbs(Struct, frozen=True):
    """Answers what the command line asks one daemon. `settings` returns the current ones.

    A request that names another configuration file is meant for another daemon; the answer says so.
    """

    pipeline: Pipeline
    live: Live
    settings: Callable[[], Settings]
    reload: Callable[[Asks], dict[str, Any]] = lambda asks: {}
    asks: Asks = lambda: True
    """Returns whether the caller still waits; if not, a long verb ends."""

    def sources(self) -> tuple[Source, ...]:
        """Return the sources of the current configuration."""
        return self.settings().sources

    def tell(self, request: Request, asks: Asks = lambda: True) -> dict[str, Any]:
        """Answer like `answer`, but only questions."""
        if request.get("command") not in QUESTIONS:
            raise ValueError(
                "you may query the daemon, but not control it: be root, or the account of the daemon"
            )
        return self.answer(request, asks)

    def answer(self, request: Request, asks: Asks = lambda: True) -> dict[str, Any]:
        """Answer one request of a caller who `asks`. Raises ValueError for a wrong request, StateError."""
        config = self.settings().path
        asked = request.get("config")
        if asked is not None and _real(str(asked)) != _real(config):
            return {"other": True, "config": config, "pid": os.getpid()}
        verb = VERBS.get(str(request.get("command")))
        if verb is None:
            raise ValueError(f"unknown command {request.get('command')!r}")
        return verb(replace(self, asks=asks), request)


def _real(path: str) -> str:
    """Return the path without links, as far as no server has to be asked that may be gone."""
    return Places(ask=False).real(path)


def status(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Return the `Status` as JSON; with `table` also as lines for people."""
    settings = verbs.settings()
    found = verbs.live.status(settings.sources)
    daemon = replace(found.daemon, config=settings.path, state_dir=settings.state_dir)
    return replace(found, daemon=daemon).to_json(table=bool(request.get("table")))


def allow_deletes(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Allow the deletions of `source` that wait for the operator."""
    return {"allowed": _runner(verbs, request).confirm_deletes()}


def learn(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Remember what `syncd check` learned about `store`, under `name`; the next upload uses it."""
    runner = verbs.pipeline.store_runners.get(str(request.get("store")))
    if runner is None:
        raise ValueError("the daemon knows no such store; check the name, or reload the daemon")
    name, found = _text(request, "name"), str(request.get("found"))
    if name == DIGESTS:
        found = str(Finding.of(found))
    elif found not in {VERSION_KEYS: ("", DOUBLED), CONDITIONS: (HONOURED, IGNORED)}.get(name, ()):
        raise ValueError("the daemon does not know this; restart it, if it is older than this command")
    verbs.pipeline.state.learn(runner.store.store_id, name, found)
    runner.uploader.look_up()
    return {"learned": True}


def accept_root(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Accept that the root of `source` is a different directory now."""
    _runner(verbs, request).accept_root()
    return {"accepted": True}


def pause(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Pause what `name` names (without it: everything) for `seconds` (without them: until `resume`)."""
    kind, name = _target(verbs, request)
    seconds = _seconds(request)
    if seconds is not None and not 0 < seconds < 1e9:
        raise ValueError("a pause lasts for a positive number of seconds")
    until_ns = verbs.pipeline.clock.now_ns() + int(seconds * 1e9) if seconds else 0
    was = verbs.pipeline.state.pauses().get((kind, name))
    if was is None or was != until_ns:
        verbs.pipeline.pause(kind, name, until_ns)
    return {"kind": kind, "name": name, "until": iso(until_ns) if until_ns else None, "was": was is not None}


def resume(verbs: Verbs, request: Request) -> dict[str, Any]:
    """End the pause of what `name` names (without it: all pauses)."""
    pauses = list(verbs.pipeline.state.pauses())
    kind, name = _target(verbs, request, pauses)
    ended = [what for what in pauses if kind == "all" or what == (kind, name)]
    if ended:
        verbs.pipeline.resume(ended)
    left = [what for what in pauses if what not in ended]
    return {"kind": kind, "name": name, "was": bool(ended), "left": [f"{k}:{n}" if n else k for k, n in left]}


def flush(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Send everything known of `name` now, within `seconds`; with `scan`, look for changes first."""
    sources, _ = _scope(verbs, request)
    scan = bool(request.get("scan"))
    return flushing.flush(verbs.pipeline, sources, _seconds(request), scan=scan, goes_on=verbs.asks)


def restamp(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Give the objects of `source` the configured properties; with `dry_run` only look."""
    runner, dry_run = _runner(verbs, request), bool(request.get("dry_run"))
    found = restamping.restamp(
        runner, verbs.pipeline.state, dry_run=dry_run, goes_on=lambda: _goes_on(verbs, runner)
    )
    return asdict(found)


def adopt(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Record which files of `source` the store already has; with `dry_run` only look."""
    runner, dry_run = _runner(verbs, request), bool(request.get("dry_run"))
    found = adopting.adopt(
        runner, verbs.pipeline.state, dry_run=dry_run, goes_on=lambda: _goes_on(verbs, runner)
    )
    return asdict(found)


def _goes_on(verbs: Verbs, runner: SourceRunner) -> bool:
    """Return whether the caller waits, the runner is still in use, and its queue is open."""
    is_closed = runner.workers.queue.is_closed
    return verbs.asks() and verbs.pipeline.source_runners.get(runner.source.name) is runner and not is_closed


def rescan(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Scan what `name` or `path` names, now."""
    sources, below = _scope(verbs, request)
    for name in sources:
        verbs.pipeline.source_runners[name].ask_now(below, "the operator asked")
    return {"sources": sources, "below": printable(below)}


def retry(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Retry now what failed of what `name` or `path` names; with `error` only errors that contain it."""
    sources, below = _scope(verbs, request)
    inside, error = f"{below}/", request.get("error")
    count = 0
    for name in sources:
        failed = verbs.pipeline.state.failures.page(name, MAX_DEFERRED) if error is not None else []
        so = {each.ref.path for each in failed if str(error) in each.error}

        def is_meant(path: str, so: Collection[str] = so) -> bool:
            return (not below or f"{path}/".startswith(inside)) and (error is None or path in so)

        count += verbs.pipeline.source_runners[name].workers.retry(name, is_meant)
    return {"sources": sources, "files": count}


def repair(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Put the records of `files` (pairs of source and hexadecimal path) in doubt, and look at them now.

    Returns how many are looked at; the records of deleted files are dropped instead.
    """
    pairs = request.get("files")
    if not isinstance(pairs, list) or len(pairs) > MOST_LISTED:
        raise ValueError("name at most 10000 files")
    count = 0
    for source, path in pairs:
        runner = verbs.pipeline.source_runners.get(str(source))
        if runner is not None:
            count += runner.auditor.repair(FileRef(str(source), os.fsdecode(bytes.fromhex(path))))
    return {"files": count}


def audited(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Remember what `syncd verify` found of `source` and did not repair: `files`, and `unnamed` more.

    Each of `files` is a hexadecimal path, the ETag of the record that was compared, words, whether sending
    repairs it, and the ETag of an object that has lost its content.
    """
    name, files = _runner(verbs, request).source.name, request.get("files")
    if not isinstance(files, list) or len(files) > audit.MOST_NAMED:
        raise ValueError(f"name at most {audit.MOST_NAMED} files")
    found = [Unlike(FileRef(name, os.fsdecode(bytes.fromhex(path))), *more) for path, *more in files]
    verbs.pipeline.state.audits.keep(name, found, int(request.get("unnamed", 0)))
    return {"remembered": len(found)}


def limit(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Limit all stores together to `rate` (a rate, a timetable or ``off``), for `seconds` if given.

    Returns the limit. Without `rate` nothing changes; with `configured` the configured limit returns.
    """
    pipeline, rate, seconds = verbs.pipeline, request.get("rate"), _seconds(request)
    if request.get("configured"):
        pipeline.limit(None, inf)
    elif rate is not None:
        try:
            timetable = parse_bandwidth(str(rate)).up
        except ValueError as error:
            raise ValueError(f"found {rate!r}; expected {error}") from None
        pipeline.limit(timetable, inf if seconds is None else pipeline.clock.monotonic() + seconds)
    until, holds = pipeline.line.operators_until, pipeline.line.holds()
    left = None if until is None else until - pipeline.clock.monotonic()
    return {
        "bytes_per_second": holds.rate,
        "paused": holds.is_paused,
        "until": None if holds.until is None else clock_words(holds.until),
        "seconds_left": left if left is not None and left < inf else None,
        "by_operator": until is not None,
    }


def reload(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Read the configuration again; return what changed, or every mistake."""
    return verbs.reload(verbs.asks)


def take_over(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Let this machine take over `source` from other machines that wrote there."""
    return {"taken_over": _runner(verbs, request).take_over()}


def pending(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Return what is in the queue, with words and reasons; at most `limit` files."""
    found = verbs.live.queue(_limit(request))
    files = [
        {"source": ref.source, "path": printable(ref.path), "state": word.word, "reason": word.reason}
        for ref, word in found
    ]
    return {"files": files, "total": sum(verbs.live.pending().values())}


def history(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Return the last actions of what `name` or `path` names, newest first; at most `limit`."""
    sources, below = None, ""
    if request.get("path") is not None or request.get("name") is not None:
        sources, below = _scope(verbs, request)
    verbs.pipeline.state.flush()
    return {"actions": listed(verbs.pipeline.state.history.last(_limit(request), sources, below))}


def listed(actions: Sequence[Acted]) -> list[dict[str, Any]]:
    """Return actions as JSON."""
    return [
        {
            "at": iso(acted.at_ns),
            "source": acted.ref.source,
            "path": printable(acted.ref.path),
            "action": acted.action,
            "bytes": acted.size,
            "detail": acted.detail,
        }
        for acted in actions
    ]


def health(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Return whether the daemon works; with `ready`, also whether every source was scanned."""
    runners = verbs.pipeline.source_runners.values()
    ready = all(runner.first_scan_done.is_set() or runner.news.waiting_for for runner in runners)
    return {"health": verbs.live.health or "ok", "ready": ready, "pid": os.getpid()}


def file(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Return what is known about the file at `path`, an absolute path."""
    found = explain.find(verbs.sources(), _text(request, "path"))
    if found is None:
        return {"in_no_source": True}
    found = explain.as_folder(found, verbs.pipeline.state)
    live = verbs.live.file(found.ref)
    return explain.report(found, verbs.pipeline.state, live, verbs.pipeline.clock.now_ns())


def hello(verbs: Verbs, request: Request) -> dict[str, Any]:
    """Return which daemon this is."""
    settings = verbs.settings()
    return {"pid": os.getpid(), "config": settings.path, "state_dir": settings.state_dir}


VERBS: Mapping[str, Callable[[Verbs, Request], dict[str, Any]]] = {
    "hello": hello,
    "status": status,
    "file": file,
    "pause": pause,
    "resume": resume,
    "pending": pending,
    "history": history,
    "health": health,
    "flush": flush,
    "rescan": rescan,
    "restamp": restamp,
    "adopt": adopt,
    "retry": retry,
    "repair": repair,
    "audited": audited,
    "limit": limit,
    "reload": reload,
    "allow-deletes": allow_deletes,
    "accept-root": accept_root,
    "learn": learn,
    "take-over": take_over,
}


def _target(verbs: Verbs, request: Request, pauses: Collection[tuple[str, str]] = ()) -> tuple[str, str]:
    """Return what `name` names: kind (``source``, ``store``, ``all``) and name. Raises ValueError.

    A name in `pauses` is known even if the configuration no longer has it.
    """
    given = request.get("name")
    if given is None:
        return "all", ""
    known = {"source": {source.name for source in verbs.sources()}, "store": {*verbs.pipeline.store_runners}}
    for kind, names in known.items():
        names.update(name for each, name in pauses if each == kind)
    return paths.named(str(given), sorted(known["source"]), sorted(known["store"]))


def _scope(verbs: Verbs, request: Request) -> tuple[list[str], str]:
    """Return the sources that `name` or `path` names, and the path below the root; empty: everything."""
    running = verbs.pipeline.source_runners
    if "path" in request and request["path"] is not None:
        found = explain.find(verbs.sources(), _text(request, "path"))
        if found is None or found.source.name not in running:
            raise ValueError(f"{printable(_text(request, 'path'))} is in no source of the configuration")
        return [found.source.name], found.path
    kind, name = _target(verbs, request)
    return [
        each.source.name
        for each in running.values()
        if kind == "all" or name == (each.source.name if kind == "source" else each.source.store)
    ], ""


def _limit(request: Request) -> int:
    limit = request.get("limit")
    if not isinstance(limit, int) or not 0 < limit <= MOST_LISTED:
        raise ValueError(f"the limit is a number between 1 and {MOST_LISTED}")
    return limit


def _seconds(request: Request) -> float | None:
    seconds = request.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise ValueError("the time is not a number of seconds")  # noqa: TRY004  a bad message, not a bad call
    return seconds


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise ValueError(f"the request names no {name}")  # noqa: TRY004  a bad message, not a bad call
    return value


QUESTIONS = frozenset({"hello", "status", "file", "pending", "history", "health"})
"""The verbs that change nothing."""


def _runner(verbs: Verbs, request: Request) -> SourceRunner:
    runner = verbs.pipeline.source_runners.get(str(request.get("source")))
    if runner is None:
        raise ValueError("the daemon knows no such source; check the name, or reload the daemon")
    return runner
