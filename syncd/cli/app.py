"""The command line: arguments, exit codes, and nothing that could be decided elsewhere.

The exit codes are those of `syncd.cli.exit_codes`.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import click

from syncd import __version__
from syncd.cli.exit_codes import EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTLY, exit_code
from syncd.config import load as config
from syncd.core.errors import ConfigError, SyncdError

P = ParamSpec("P")


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Errors of ours become one clear message and an exit code; a traceback is for bugs only."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                _say(str(problem))
            sys.exit(EXIT_CONFIG)
        except SyncdError as error:
            _fail(str(error), exit_code(error))
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)

    return guarded


def _say(text: str) -> None:
    click.echo(f"syncd: {text}", err=True)


def _fail(text: str, code: int) -> NoReturn:
    _say(text)
    sys.exit(code)


def _common(command: Callable[P, None]) -> Callable[P, None]:
    """-c, -v and -q, the same for every command."""
    for option in (
        click.option("-q", "--quiet", count=True, help="Say less; twice: errors only."),
        click.option("-v", "--verbose", count=True, help="Say more; twice: the libraries, too."),
        click.option("-c", "--config", "config_path", metavar="FILE", help="The configuration file."),
    ):
        command = option(command)
    return _guarded(command)


def _load(
    config_path: str | None, verbose: int = 0, quiet: int = 0, *, with_secrets: bool = True
) -> config.Settings:
    """The settings, with logging set up. Without secrets for who asks no store, and may not read them."""
    from syncd.daemon import logs
    from syncd.daemon import process as machine

    if with_secrets:
        machine.keep_memory_private()
    settings = config.load(config.find(config_path, os.environ), os.environ, with_secrets=with_secrets)
    gc.freeze()  # see `main`: all that is needed is imported by now, and need not be looked through
    gc.enable()
    logs.set_up(settings.log, verbosity=verbose - quiet, stream=sys.stderr)
    for store in settings.stores.values():
        keys = getattr(store, "keys", None)
        if keys is not None:
            logs.hide_keys(keys)
    for warning in settings.warnings:
        logging.getLogger("syncd.config").warning("%s", warning, extra={"cause": warning})
    return settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syncd")
def cli() -> None:
    """Watch folders and carry their files to an object store, resumably."""


@cli.command()
@_common
def run(config_path: str | None, verbose: int, quiet: int) -> None:
    """Run the daemon in the foreground: what systemd starts."""
    from syncd.daemon import logs
    from syncd.daemon.daemon import Daemon

    def load() -> config.Settings:
        return _load(config_path, verbose, quiet)

    def set_up_logs(settings: config.LogSettings) -> None:
        logs.set_up(settings, verbosity=verbose - quiet, stream=sys.stderr)

    sys.exit(Daemon(load(), load, set_up_logs, os.environ).run())


@cli.command()
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be done; send and record nothing.")
@click.option(
    "--allow-deletes",
    multiple=True,
    metavar="SOURCE",
    help="Allow the deletions of this source that wait for confirmation.",
)
@click.option(
    "--accept-root",
    "accept_roots",
    multiple=True,
    metavar="SOURCE",
    help="The directory of this source is another one on purpose; its deletions wait for confirmation.",
)
@_common
def sync(
    dry_run: bool,
    allow_deletes: tuple[str, ...],
    accept_roots: tuple[str, ...],
    config_path: str | None,
    verbose: int,
    quiet: int,
) -> None:
    """One pass over everything, then exit. What is said about a source goes to the daemon if one runs."""
    from syncd.cli import sync as passes

    terminal = sys.stderr.isatty() and not quiet and not dry_run
    settings = _load(config_path, verbose, quiet + (1 if terminal else 0))
    words = passes.Overrides(frozenset(allow_deletes), frozenset(accept_roots))
    unknown = (words.allow_deletes | words.accept_roots) - {source.name for source in settings.sources}
    if unknown:
        raise click.UsageError(f"no such source: {', '.join(sorted(unknown))}")
    if dry_run:
        sys.exit(passes.dry_run(settings))
    with _interrupt() as stopping:
        code = passes.sync(settings, words, stopping, terminal=terminal)
    sys.exit(code)


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; a second one kills as usual."""
    stopping = threading.Event()

    def handle(number: int, _: object) -> None:
        stopping.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@cli.command()
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_common
def status(path: str | None, as_json: bool, config_path: str | None, verbose: int, quiet: int) -> None:
    """What is recorded, pending, in flight and failed; for PATH, what is known about that file."""
    from syncd.cli import reports

    settings = _load(config_path, verbose, quiet, with_secrets=False)
    if path is not None:
        found = reports.of_path(settings, path)
        if found is None:
            _fail(f"{path} is in no source of the configuration", EXIT_FAILED)
        _print_json(found)
        return
    report = reports.current(settings)
    if as_json:
        _print_json(report.to_json())
        return
    from rich.console import Console

    from syncd.cli.screen import show_status

    show_status(report, Console(highlight=False))


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


@cli.command()
@click.option("--config-only", is_flag=True, help="Only read the configuration; ask no store.")
@click.option("--thorough", is_flag=True, help="Try every operation on objects of its own, and remove them.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_common
def check(
    config_only: bool, thorough: bool, as_json: bool, config_path: str | None, verbose: int, quiet: int
) -> None:
    """Is the configuration right, are the stores reachable and writable, are the kernel's limits enough."""
    from syncd.cli import reports

    settings = _load(config_path, verbose, quiet, with_secrets=not config_only)
    if config_only:
        if not quiet:
            click.echo(f"{settings.path}: the configuration is right")
        return
    findings: list[dict[str, Any]] = []

    def report(name: str, passed: bool | None, detail: str) -> None:
        findings.append({"check": name, "passed": passed, "detail": detail})
        if not as_json:
            mark = {True: "ok  ", False: "FAIL", None: "note"}[passed]
            click.echo(f"{mark} {name}: {detail}")

    code = reports.check(settings, report, thorough=thorough)
    if as_json:
        _print_json({"checks": findings})
    sys.exit(code)


@cli.command()
@click.option("--read", is_flag=True, help="Read and fingerprint every file, whatever its stat says.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_common
def verify(read: bool, as_json: bool, config_path: str | None, verbose: int, quiet: int) -> None:
    """Compare the store with what is recorded and with the disk; report every difference."""
    from syncd.cli import reports

    settings = _load(config_path, verbose, quiet)

    rows: list[dict[str, Any]] = []

    def tell(row: dict[str, Any]) -> None:
        if as_json:
            rows.append(row)
        else:
            mark = "FAIL" if row["serious"] else "note"
            click.echo(f"{mark} {row['source']}:{row['path']}: {row['difference']}")

    counts = reports.verify(settings, read=read, tell=tell)
    if as_json:
        _print_json({**counts, "differences": rows})
    else:
        found = f"{counts['serious']} serious differences, {counts['notes']} notes"
        click.echo(f"{counts['files']} files compared, {found}")
    sys.exit(EXIT_PARTLY if counts["serious"] else 0)


@cli.command()
@click.option("--abort-orphans", is_flag=True, help="Abort the uploads that nothing here knows.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@_common
def uploads(abort_orphans: bool, as_json: bool, config_path: str | None, verbose: int, quiet: int) -> None:
    """Unfinished uploads: ours, and orphans on the server."""
    from syncd.cli import reports

    settings = _load(config_path, verbose, quiet)
    outcome = reports.uploads(settings, abort=abort_orphans)
    if as_json:
        _print_json(outcome)
        return
    for row in outcome["ours"]:
        click.echo(
            f"ours    {row['source']}:{row['path']}: {row['bytes_done']} of {row['bytes_total']} bytes"
        )
    for row in outcome["orphans"]:
        fate = "aborted" if row["aborted"] else "not ours"
        click.echo(f"orphan  {row['store']}:{row['key']}: {row['upload_id']} ({fate})")
    if not outcome["ours"] and not outcome["orphans"]:
        click.echo("no unfinished uploads")


@cli.command("install-service")
@click.option("--user", is_flag=True, help="For the calling user's own session, not for the system.")
@click.option("--print", "print_only", is_flag=True, help="Print the units instead of writing them.")
@click.option("-c", "--config", "config_path", metavar="FILE", help="The configuration file it will use.")
@_guarded
def install_service(user: bool, print_only: bool, config_path: str | None) -> None:
    """Write the systemd units with the paths of this installation."""
    from syncd.cli.install.command import install_service as install

    sys.exit(install(user=user, print_only=print_only, config_path=config_path))


def main() -> None:
    """The console script."""
    gc.disable()  # there is no garbage in a program that is being imported
    # Other packages' plugins have no business here, and looking for them costs more than the validation.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    cli()
