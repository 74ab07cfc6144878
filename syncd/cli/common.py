"""What the commands share: -c, -v and -q, loading the settings, exit codes, opening the state and a store.

Scripts and service managers rely on the exit codes: 0 done; 1 failed unexpectedly; 2 usage (click's own); 3
done, but some files failed or wait for the operator; 4 not in sync yet; 69 store or daemon unreachable; 77
credentials refused; 78 configuration wrong, or the state is of a newer version; 130 interrupted.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click
from msgspec import Struct

from syncd.cli.answers import EXIT_FAILED as EXIT_FAILED
from syncd.cli.answers import EXIT_PARTLY as EXIT_PARTLY
from syncd.cli.answers import EXIT_UNAVAILABLE as EXIT_UNAVAILABLE
from syncd.cli.answers import EXIT_UNSETTLED as EXIT_UNSETTLED
from syncd.config import places

if TYPE_CHECKING:
    from syncd.config import load as config
    from syncd.state.state import State
    from syncd.storage.base import Breaker, Meter, ObjectStore

P = ParamSpec("P")

EXIT_USAGE = 2
EXIT_CREDENTIALS = 77
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130
SILENT = "does not answer"
LOOK_AT_SERVER = "check whether the server of its file system is up"

DONE = {
    "Upload": "uploaded",
    "Copy": "copied",
    "Adopt": "adopted",
    "Refresh": "only touched",
    "Delete": "deleted",
}
"""The actions that a summary counts, and their words."""


Reporter = Callable[[str, bool | None, str], None]
"""Takes the name of a check; whether it passed (None: a remark); what was found and what to do."""


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    from syncd.core.errors import AccessRefused, ConfigError, StateRefused, StoreError

    if isinstance(error, ConfigError | StateRefused):
        return EXIT_CONFIG
    if isinstance(error, AccessRefused):
        return EXIT_CREDENTIALS if error.credentials else EXIT_UNAVAILABLE
    if isinstance(error, StoreError):
        return EXIT_UNAVAILABLE
    return EXIT_FAILED


@contextmanager
def errors_become_exit_codes() -> Iterator[None]:
    """Turn our errors into one clear message and an exit code; only bugs print a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        from syncd.core.errors import ConfigError, SyncdError  # late: few commands fail
        from syncd.core.paths import one_line

        if isinstance(error, click.ClickException):  # it quotes input or paths
            vars(error)["message"] = "\n".join(map(one_line, error.message.split("\n")))
        if not isinstance(error, SyncdError):
            raise
        for line in error.problems if isinstance(error, ConfigError) else [error]:
            say(str(line))
        sys.exit(exit_code(error))


def say(text: str) -> None:
    """Write one line to standard error, beside the command's output."""
    from syncd.core.paths import one_line

    click.echo(f"syncd: {one_line(text)}", err=True)


def print_json(value: Any) -> None:
    """Print JSON for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def done_words(done: Sequence[str], *, stays: bool) -> str:
    """Return what was done; `stays` says that something else is still to do."""
    return ", ".join(done) or ("nothing done" if stays else "nothing to do")


class Options(Struct, frozen=True):
    """The options of every command."""

    config_path: str | None
    verbose: int
    quiet: int

    @property
    def verbosity(self) -> int:
        """Return how many levels more (negative: less) to log than the configuration says."""
        return self.verbose - self.quiet

    def load(
        self,
        *,
        with_secrets: bool = True,
        with_sources: bool = True,
        with_token: bool = False,
        quieter: int = 0,
        log_waits: bool = True,
    ) -> config.Settings:
        """Read the settings and set up logging. A command that uses no store needs no secrets, and one that
        only looks at stores needs no sources. Only the daemon needs the token of the HTTP address; it does
        not wait for its log either."""
        from syncd.config import load as config
        from syncd.daemon import logs
        from syncd.daemon import process as machine

        if with_secrets:
            machine.keep_memory_private()
        settings = config.load(
            places.find(self.config_path, os.environ),
            os.environ,
            with_secrets=with_secrets,
            with_sources=with_sources,
            with_token=with_token,
        )
        gc.collect()  # imports leave some garbage, which `freeze` would keep
        gc.freeze()  # see `app.main`: all imports are done, and need no collection
        gc.enable()
        logs.set_up(settings.log, verbosity=self.verbosity - quieter, stream=sys.stderr, waits=log_waits)
        for warning in settings.warnings:
            logging.getLogger("syncd.config").warning("%s", warning, extra={"cause": warning})
        return settings


def config_path(options: Options) -> str:
    """Return the configuration file that the command uses; empty: there is none."""
    from syncd.sources.places import silence  # late: most commands get its path

    return places.look(options.config_path, os.environ, silence) or ""


config_option = click.option("-c", "--config", "config_path", metavar="FILE", help="The configuration file.")


class Written(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A value written as in the configuration; `parse` reads it, or raises ValueError."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(f"found {value!r}; expected {error}", param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def options(command: Callable[Concatenate[Options, P], None]) -> Callable[..., None]:
    """Give a command -c, -v and -q, as its first argument."""

    @wraps(command)
    def with_options(
        config_path: str | None, verbose: int, quiet: int, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        command(Options(config_path, verbose, quiet), *args, **kwargs)

    for option in (
        click.option("-q", "--quiet", count=True, help="Print less; twice: errors only."),
        click.option(
            "-v", "--verbose", count=True, help="Print more; twice: also messages of the libraries."
        ),
        config_option,
    ):
        option(with_options)
    return with_options


@contextmanager
def open_state(directory: str) -> Iterator[State]:
    """Open the state for reading, even beside a running daemon; an empty one if there is none.

    Raises StateError if the state is unreadable.
    """
    from syncd.state.state import State

    if not has_state(directory):
        import tempfile
        import time

        with (
            tempfile.TemporaryDirectory(prefix="syncd-empty-") as empty,
            closing(State.open(empty, now_ns=time.time_ns)) as state,
        ):
            yield state
        return
    with closing(State.open_read_only(directory)) as state:
        yield state


def learned(directory: str, store_id: str, *, name: str) -> str:
    """Return what the state has of a store under `name`; empty: nothing, or it is unreadable."""
    from syncd.core.errors import StateError
    from syncd.state.state import State

    with suppress(StateError), closing(State.open_read_only(directory)) as state:
        return state.learned(store_id, name) or ""
    return ""


def has_state(directory: str) -> bool:
    """Return whether there is a database. An inaccessible directory is an error, not empty."""
    from syncd.state.schema import DATABASE_NAME

    try:
        os.stat(os.path.join(directory, DATABASE_NAME))
    except FileNotFoundError:
        return False
    except OSError as error:
        from syncd.core.errors import StateError, os_words

        raise StateError(f"the state directory {directory} cannot be read: {os_words(error)}") from error
    return True


@contextmanager
def interrupt() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second one kills as usual."""
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


@contextmanager
def open_store(
    settings: config.Settings,
    name: str,
    *,
    stopping: threading.Event | None = None,
    breaker: Breaker | None = None,
    meter: Meter | None = None,
    version_keys: Callable[[str], str] | None = None,
) -> Iterator[ObjectStore]:
    """Open a store; close it at the end.

    When `stopping` is set, waits in it raise Stopped. `version_keys`, or else the state, knows how BOS takes
    keys that begin with ``v1/``. Raises StoreUnavailable if it is a directory whose file system does not
    answer.
    """
    import time

    from syncd.core.errors import Stopped, StoreUnavailable
    from syncd.pipeline.context import real_clock
    from syncd.sources.places import Places, silence
    from syncd.storage import base
    from syncd.storage.opening import StoreContext, open_store
    from syncd.storage.settings import DirSettings

    wanted = settings.stores[name]
    if isinstance(wanted, DirSettings) and Places().look(wanted.path) is None:
        raise StoreUnavailable(f"{wanted.path} {SILENT}", hint=LOOK_AT_SERVER)
    clock = real_clock()
    stop = stopping or threading.Event()

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped("stopped between two tries")

    context = StoreContext(
        base.Clock(lambda: clock.now_ns() / 1e9, sleep if stopping else time.sleep, clock.chance),
        should_stop=stop.is_set,
        meter=meter or base.Meter(),
        breaker=breaker or base.Breaker(),
        silence=silence,
        version_keys=base.Memory(
            version_keys or partial(learned, settings.state_dir, name=base.VERSION_KEYS)
        ),
    )
    with closing(open_store(wanted, context)) as store:
        yield store
