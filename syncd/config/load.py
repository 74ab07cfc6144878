"""The configuration: one YAML file -> frozen settings, or every mistake in it at once.

How a file becomes settings: `config_nodes` (text to nodes), `config_yaml` (nodes to values that know their
lines), `config_model` (the shape), `config_stores` and `config_rules` (what has to hold between values).
These are imported when a file is read, not before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncd.core.errors import ConfigError, Problem
from syncd.core.model import Source, TransferPolicy
from syncd.storage.settings import StoreSettings

if TYPE_CHECKING:
    from syncd.config.document import Document
    from syncd.config.reader import Draft

SYSTEM_FILE = "/etc/syncd/config.yaml"
MAX_FILE_SIZE = 1 << 20
"""Bytes; nobody writes a larger one by hand."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``level``: debug, info, warning or error. ``format``: auto, text or json."""

    level: str = "info"
    format: str = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration without mistakes. Holds secrets (in ``stores``), but never shows them."""

    path: str
    """Of the file, absolute."""
    state_dir: str
    """Absolute, symbolic links resolved."""
    stores: Mapping[str, StoreSettings]
    sources: tuple[Source, ...]
    transfer: TransferPolicy
    log: LogSettings = LogSettings()
    warnings: tuple[str, ...] = ()
    """What works, but should be thought about; each with file and line."""


def find(explicit: str | None, environ: Mapping[str, str]) -> str:
    """The configuration file to use: `explicit`, else $SYNCD_CONFIG, else the user's, else the machine's.

    The first two are taken at their word; whether they exist, `load` says. Raises ConfigError, listing the
    places, when there is none.
    """
    if explicit:
        return explicit
    if environ.get("SYNCD_CONFIG"):
        return environ["SYNCD_CONFIG"]
    places = [os.path.join(_xdg("XDG_CONFIG_HOME", ".config", environ), "syncd", "config.yaml"), SYSTEM_FILE]
    for place in places:
        try:
            os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # it may be there: reading it will say what is wrong
        return place
    raise ConfigError(
        [
            Problem(
                "configuration",
                "",
                found=f"no file; looked at {' and '.join(places)}, and $SYNCD_CONFIG is not set",
                expected="one of these, or another file with `-c FILE`",
            )
        ]
    )


def load(path: str, environ: Mapping[str, str], *, with_secrets: bool = True) -> Settings:
    """The settings in the file at `path`, with ``${NAME}`` from `environ`.

    `with_secrets` False is for who only wants to look (status, writing a unit): keys of stores that cannot be
    had here are no mistake then, and the stores in the result cannot be used. Raises ConfigError with every
    problem, in the order of lines.
    """
    data, mode = _read_file(path)
    from syncd.config import (
        document as config_yaml,
    )
    from syncd.config import (
        reader as config_model,
    )
    from syncd.config import (
        sources as config_rules,
    )
    from syncd.config import (
        stores as config_stores,
    )
    from syncd.config import (
        values as config_types,
    )

    document = config_yaml.read(data, path, environ, secret_keys=config_model.SECRET_KEYS)
    if not with_secrets:
        document.forgive(config_model.CREDENTIAL_KEYS)
    if document.value is None:
        raise _unreadable(path, "an empty file", "`stores` and `sources`")
    home = _home(environ)
    draft = config_model.read(document, config_types.Place(os.path.dirname(os.path.abspath(path)), home))
    state_dir = _state_dir(draft, document, environ)
    warnings = config_stores.check(draft, document, with_secrets=with_secrets)
    config_rules.check(draft, document, state_dir)
    if document.problems:
        raise ConfigError(sorted(document.problems, key=_line))
    if mode & stat.S_IROTH:
        warnings += config_stores.secrets_in_the_open(document)
    return Settings(
        path=os.path.abspath(path),
        state_dir=os.path.realpath(state_dir),
        stores={name: config_stores.settings(entry) for name, entry in draft.stores.items()},
        sources=tuple(config_rules.source(entry) for entry in draft.sources.values()),
        transfer=TransferPolicy(
            concurrency=draft.transfer.concurrency,
            part_size=draft.transfer.part_size,
            bandwidth_limit=draft.transfer.bandwidth_limit,
            max_attempts=draft.transfer.max_attempts,
            memory_limit=draft.transfer.memory_limit,
        ),
        log=LogSettings(draft.log.level, draft.log.format),
        warnings=tuple(warnings),
    )


def _line(problem: Problem) -> tuple[int, str]:
    """For sorting: the line number at the end of ``file:line``."""
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0, problem.key


def _read_file(path: str) -> tuple[bytes, int]:
    """Content and mode of the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # somebody may name a fifo
        try:
            mode = os.fstat(descriptor).st_mode
            data = _read_all(descriptor) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise _unreadable(path, f"a file that cannot be read ({reason})", "a YAML file") from None
    except ValueError:  # a zero byte
        raise _unreadable(path, "a name that no file can have", "a YAML file") from None
    if not stat.S_ISREG(mode):
        found = "a directory" if stat.S_ISDIR(mode) else "something that is not a regular file"
        raise _unreadable(path, found, "a YAML file")
    if len(data) > MAX_FILE_SIZE:
        raise _unreadable(path, "more than 1 MiB", "a configuration, which is smaller")
    return data, mode


def _read_all(descriptor: int) -> bytes:
    data = b""
    while len(data) <= MAX_FILE_SIZE and (chunk := os.read(descriptor, MAX_FILE_SIZE + 1)):
        data += chunk
    return data


def _unreadable(path: str, found: str, expected: str) -> ConfigError:
    return ConfigError([Problem(path, "", found, expected)])


def _state_dir(draft: Draft, document: Document, environ: Mapping[str, str]) -> str:
    """Where the state goes, absolute; empty when what the file says about it cannot be read."""
    if draft.state_dir or ("state_dir",) in document.marks:
        return draft.state_dir
    given = environ.get("STATE_DIRECTORY", "").partition(":")[0]  # systemd.exec(5): several, with colons
    if given:
        return os.path.abspath(given)
    return os.path.join(_xdg("XDG_STATE_HOME", ".local/state", environ), "syncd")


def _xdg(name: str, default: str, environ: Mapping[str, str]) -> str:
    """A base directory of the XDG specification, which says to ignore relative ones."""
    given = environ.get(name, "")
    return given if os.path.isabs(given) else os.path.join(_home(environ), default)


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")
