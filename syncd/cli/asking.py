"""How commands ask the running daemon, or if none runs, the state."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from syncd.cli import answers, common
from syncd.cli.answers import NotTold as NotTold

if TYPE_CHECKING:
    from syncd.config.load import Settings
    from syncd.pipeline.pipeline import Pipeline


def any_daemon(
    options: common.Options, request: dict[str, Any], seconds: float | None = None
) -> dict[str, Any] | None:
    """Return the answer of the daemon with this configuration file, within `seconds`; None: none runs.

    Looks into the runtime directories first, and reads the configuration only if it is in none, because that
    takes longer than all the rest. Raises NotTold.
    """
    return answers.answer(
        common.config_path(options), lambda: options.load(with_secrets=False).state_dir, request, seconds
    )


def settings_daemon(settings: Settings, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer of the daemon with these settings, without a time limit; None: none runs.

    Raises StateError.
    """
    from syncd.core.errors import StateError

    try:
        answer = answers.answer(settings.path, lambda: settings.state_dir, request, ENDLESS)
    except NotTold as error:
        raise StateError(f"cannot tell whether a daemon runs: {error}") from error
    if answer is not None and "error" in answer:
        raise StateError(f"the daemon refuses: {answer['error']}")
    return answer


def daemon(options: common.Options, request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """Return the running daemon's answer, within `seconds`; end the command if none runs or it refuses."""
    answer = daemon_or_none(options, request, seconds)
    if answer is None:
        common.say("no daemon runs with this configuration; start it with `syncd run`")
        sys.exit(common.EXIT_UNAVAILABLE)
    return answer


def daemon_or_none(
    options: common.Options, request: dict[str, Any], seconds: float | None = None
) -> dict[str, Any] | None:
    """Do as `daemon`, but return None if none runs."""
    try:
        answer = any_daemon(options, request, seconds)
    except NotTold as error:
        common.say(f"cannot tell whether a daemon runs: {error}")
        sys.exit(common.EXIT_UNAVAILABLE)
    if answer is not None and "error" in answer:
        common.say(str(answer["error"]))
        sys.exit(common.EXIT_USAGE if answer.get("usage") else common.EXIT_FAILED)
    return answer


def scope(name: str | None) -> dict[str, Any]:
    """Return the part of a request that names its object: a name, or a path (with a slash, or dots alone)."""
    if name is not None and ("/" in name or name in (".", "..")):
        return {"path": os.path.abspath(name)}
    return {"name": name}


def flush(options: common.Options, name: str | None, seconds: float | None, *, scan: bool) -> int:
    """Have the daemon send known changes, print the result; return the exit code."""
    request = {"command": "flush", **scope(name), "seconds": seconds, "scan": scan}
    answer = daemon(options, request, ENDLESS if seconds is None else seconds + _SPARE_SECONDS)
    return told_of_flush(answer)


def told_of_flush(answer: dict[str, Any]) -> int:
    """Print what a flush did and did not; return the exit code."""
    from syncd.core.words import counted

    done = [f"{count} {word}" for name, word in common.DONE.items() if (count := answer["actions"].get(name))]
    sent = f"{counted(answer['bytes_sent'], 'byte')} sent, {answer['bytes_saved']} saved"
    stays = answer["failed"] or answer["left"] or answer["kept_back"]
    what = common.done_words(done, stays=bool(stays))
    click.echo(f"{what}; {sent}; {answer['failed']} failed; {answer['left']} left")
    for source, why in answer["kept_back"].items():
        click.echo(f"{source}: {why}", err=True)
    for source, words in answer.get("unlike", {}).items():  # the daemon may be older than this command
        click.echo(f"{source}: {words}", err=True)
    if answer["failed"] or answer["unreadable"] or answer.get("unlike"):
        return common.EXIT_PARTLY  # a failed file also counts as left
    if answer["left"]:
        return common.EXIT_UNSETTLED
    return common.EXIT_PARTLY if answer["kept_back"] else 0


def target(answer: dict[str, Any]) -> str:
    """Return the object of an answer, in words."""
    return f"{answer['kind']} {answer['name']}" if answer["name"] else "everything"


ENDLESS = 20.0 * 86_400  # a socket waits for at most 24 days
_SPARE_SECONDS = 30.0


def bandwidth(text: str) -> str:
    """Return the rate or timetable as given, if it is one."""
    from syncd.config.units import parse_bandwidth

    if text == "0":
        raise click.UsageError("0 is not a rate; `off` means no limit, and `syncd pause` sends nothing")
    try:
        parse_bandwidth(text)
    except ValueError as error:
        raise click.UsageError(f"found {text!r}; expected {error}") from None
    return text


def _duration(text: str) -> float:
    from syncd.config.units import parse_duration

    return parse_duration(text)


def duration_option(*names: str, **more: Any) -> Callable[[Any], Any]:
    """Return an option that takes a duration such as ``2h``, in seconds."""
    return click.option(*names, type=common.Written("duration", _duration), metavar="DURATION", **more)


def of_path(options: common.Options, path: str) -> dict[str, Any]:
    """Return what is known about the file at `path`; end the command if it is in no source."""
    absolute = os.path.abspath(path)
    try:
        found = any_daemon(options, {"command": "file", "path": absolute})
    except NotTold as error:
        common.say(f"cannot tell whether a daemon runs: {error}")
        sys.exit(common.EXIT_UNAVAILABLE)
    if found is None:
        found = _from_state(options.load(with_secrets=False), absolute)
    if "error" in found:
        common.say(f"the daemon refuses: {found['error']}")
        sys.exit(common.EXIT_FAILED)
    if found.get("in_no_source"):
        from syncd.core.paths import printable

        common.say(f"{printable(path)} is in no source of the configuration")
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
    """Return one line about a file: its word first, for scripts, then its source and the reason."""
    return f"{found['state']:<10} {found['source']}: {found['reason']}"


# ---- work on one source after the other ------------------------------------------------------------------

Here = Callable[["Pipeline", str, Callable[[], bool], bool], Any]
"""Takes a pipeline, a source, whether to go on, and whether this is a dry run; returns a struct."""
_STOP_SECONDS = 10.0


def each_source(
    settings: Settings, names: Sequence[str], verb: str, here: Here, *, dry_run: bool
) -> dict[str, dict[str, Any]]:
    """Return a verb's result for each source, by the daemon, or by `here` if none runs. Raises SyncdError."""
    known = [source.name for source in settings.sources]
    if unknown := sorted(set(names) - set(known)):
        raise click.UsageError(f"no such source: {', '.join(unknown)}")
    told: dict[str, dict[str, Any]] = {}
    wanted = list(names) or known
    for name in wanted:
        answer = settings_daemon(settings, {"command": verb, "source": name, "dry_run": dry_run})
        if answer is None:
            return told | _alone(settings, wanted[len(told) :], here, dry_run=dry_run)
        told[name] = answer
    return told


def code_of_sources(told: dict[str, dict[str, Any]], *, is_partly: bool) -> int:
    """Return the exit code for the results of all sources: that of the first unusable store."""
    codes = {"credentials": common.EXIT_CREDENTIALS, "unreachable": common.EXIT_UNAVAILABLE}
    # The daemon may be older than this command.
    unusable = (codes[found["unusable"]] for found in told.values() if found.get("unusable"))
    return next(unusable, common.EXIT_PARTLY if is_partly else 0)


def _alone(settings: Settings, names: list[str], here: Here, *, dry_run: bool) -> dict[str, dict[str, Any]]:
    from syncd.daemon import process
    from syncd.pipeline.context import real_clock
    from syncd.pipeline.pipeline import Pipeline
    from syncd.state.lock import StateLock
    from syncd.state.state import State

    lock = StateLock.acquire(settings.state_dir)
    found: dict[str, dict[str, Any]] = {}
    try:
        clock = real_clock()
        state = State.open(settings.state_dir, now_ns=clock.now_ns)
        try:
            pipeline = Pipeline(state, clock, once=True, machine_id=process.machine_id())
            pipeline.apply(settings.sources, settings.stores, settings.transfer)
            try:
                with common.interrupt() as stopping:
                    for name in names:
                        pipeline.source_runners[name].begin()
                        found[name] = asdict(here(pipeline, name, lambda: not stopping.is_set(), dry_run))
            finally:
                pipeline.stop(_STOP_SECONDS)
        finally:
            state.close()
    finally:
        lock.release()
    return found
