"""Loads the configuration file: returns frozen settings, or reports every mistake at once.

A file becomes settings in steps: `document` (text to values that know their lines), `reader` (values to
entries), `stores` and `sources` (the rules, and the settings of each entry).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import asdict, replace

from syncd.config.places import home, xdg
from syncd.core.errors import ConfigError, Problem
from syncd.core.model import Concealing, Source, TransferPolicy
from syncd.sources import places
from syncd.storage.settings import StoreSettings

MAX_FILE_SIZE = 1 << 20
"""In bytes; no file written by hand is larger."""


class LogSettings(Struct, frozen=True):
    """``level``: debug, info, warning or error. ``format``: auto, text or json."""

    level: str = "info"
    format: str = "auto"


class StopSettings(Struct, frozen=True):
    """What SIGTERM does: stop at once, or first `drain`: send known changes for so many seconds."""

    drain: bool = False
    timeout_seconds: float = 80.0


class AddressSettings(Concealing, frozen=True):
    """Where the daemon answers HTTP. No `host`: nowhere. No `token`: it takes no commands there."""

    concealed: ClassVar[frozenset[str]] = frozenset({"token"})

    host: str = ""
    """An IP address."""
    port: int = 0
    token: str = ""
    names: tuple[str, ...] = ()
    """The lower-case host names by which browsers may call it."""


class Settings(Struct, frozen=True):
    """A whole configuration without mistakes. It never shows its secrets (in ``stores``)."""

    path: str
    """The absolute path of the file."""
    state_dir: str
    """Absolute, symbolic links resolved."""
    stores: Mapping[str, StoreSettings]
    sources: tuple[Source, ...]
    transfer: TransferPolicy
    log: LogSettings = LogSettings()
    stop: StopSettings = StopSettings()
    http: AddressSettings = AddressSettings()
    audit_seconds: float = 0.0
    max_repair: tuple[int, float] = (1000, 0.25)
    """A number of files, and a share of them: `syncd verify --repair` repairs no more."""
    warnings: tuple[str, ...] = ()
    """What works, but may be unintended; each with file and line."""


def load(
    path: str,
    environ: Mapping[str, str],
    *,
    with_secrets: bool = True,
    with_sources: bool = True,
    with_token: bool = False,
) -> Settings:
    """Return the settings in the file at `path`, with ``${NAME}`` from `environ`.

    Commands that open no store (status, writing a unit) pass `with_secrets` False: then missing keys are no
    mistake, and the stores in the result are unusable. It also leaves network file systems alone: links on
    them are not resolved. With `with_sources` False there need not be a source, for commands that look at
    stores. Only the daemon reads the token of the `http` address (`with_token`): the user of another command
    may not be allowed to. Raises ConfigError with every problem, in the order of lines.
    """
    data, mode = _read_file(path)
    from syncd.config import document as documents  # late, like all imports for a file's content
    from syncd.config import reader, sources, stores
    from syncd.config.values import Place

    document = documents.read(data, path, environ, secret_keys=stores.SECRET_KEYS)
    if not with_secrets:
        document.forgive(stores.CREDENTIAL_KEYS)
    if not with_token:
        document.forgive(("token_file",))
    if document.value is None:
        raise _unreadable(path, "an empty file", "`stores` and `sources`")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    found = places.Places(ask=with_secrets)
    place = Place(os.path.dirname(os.path.abspath(path)), home(environ), region, found)
    entries = reader.read(document, place, with_sources=with_sources)
    state_dir = entries.top.state_dir
    if not state_dir and ("state_dir",) not in document.marks:
        state_dir = _default_state_dir(environ)
    reader.check(entries, document, state_dir, found, with_secrets=with_secrets)
    token = entries.http.token(document) if with_token else ""
    if document.problems:
        raise ConfigError(sorted(document.problems, key=_line))
    if mode & stat.S_IROTH:
        stores.warn_of_open_secrets(document)
    return Settings(
        path=os.path.abspath(path),
        state_dir=found.real(state_dir),
        stores={name: entry.settings() for name, entry in entries.stores.items() if entry},
        sources=tuple(
            replace(entry.source(sources.places(index, entry, document)), **entries.audit())
            for index, entry in entries.sources.items()
        ),
        transfer=TransferPolicy(**asdict(entries.transfer)),
        log=LogSettings(**asdict(entries.log)),
        stop=StopSettings(entries.top.stop == "drain", entries.top.stop_timeout),
        http=AddressSettings(*entries.http.address, token, tuple(entries.http.names)),
        audit_seconds=entries.top.audit_interval,
        max_repair=entries.top.max_repair,
        warnings=tuple(document.warnings),
    )


def _line(problem: Problem) -> tuple[int, str]:
    """Return the sort key: the line number at the end of ``file:line``, and the key."""
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0, problem.key


def _read_file(path: str) -> tuple[bytes, int]:
    """Return content and mode of the file."""
    if places.silence(os.path.abspath(path)):
        raise _unreadable(path, "a file system that does not answer", "that its server is up")
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # not opened: it may be a fifo
            found = "a directory" if stat.S_ISDIR(mode) else "something that is not a regular file"
            raise _unreadable(path, found, "a YAML file")
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise _unreadable(path, f"a file that cannot be read ({reason})", "a YAML file") from None
    except ValueError:  # a zero byte
        raise _unreadable(path, "a name that no file can have", "a YAML file") from None
    if len(data) > MAX_FILE_SIZE:
        raise _unreadable(path, "more than 1 MiB", "a smaller configuration")
    return data, mode


def _unreadable(path: str, found: str, expected: str) -> ConfigError:
    return ConfigError([Problem(path, "", found, expected)])


def _default_state_dir(environ: Mapping[str, str]) -> str:
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]  # systemd.exec(5): several, by colons
    if given:
        return os.path.abspath(given)
    return os.path.join(xdg("XDG_STATE_HOME", ".local/state", environ), "syncd")
