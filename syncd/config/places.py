"""Finds the configuration file. Imports nothing heavy: a command that asks the daemon needs no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

SYSTEM_FILE = "/etc/syncd/config.yaml"


def find(explicit: str | None, environ: Mapping[str, str]) -> str:
    """Return the configuration file: `explicit`, else $SYNCD_CONFIG, else the user's, else the machine's.

    Only the last two are looked for; `load` reports if another does not exist. Raises ConfigError with all
    the places if there is none.
    """
    from syncd.sources.places import silence  # late, as is what follows

    if (found := look(explicit, environ, silence)) is not None:
        return found
    from syncd.core.errors import ConfigError, Problem

    places = " or ".join(_usual(environ))
    expected = "one of these files, or another with `-c FILE`"
    raise ConfigError(
        [Problem("configuration", "", f"no file at {places}, and $SYNCD_CONFIG is not set", expected)]
    )


def look(
    explicit: str | None, environ: Mapping[str, str], silence: Callable[[str], str] = lambda path: ""
) -> str | None:
    """Like `find`, but return None if there is no file. Does not access a place with `silence`."""
    given = explicit or environ.get("SYNCD_CONFIG")
    if given:
        return given
    for place in _usual(environ):
        try:
            if not silence(place):  # else reading it reports that
                os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # it may exist: reading it reports the error
        return place
    return None


def _usual(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the user's and the machine's."""
    return os.path.join(xdg("XDG_CONFIG_HOME", ".config", environ), "syncd", "config.yaml"), SYSTEM_FILE


def is_system(path: str) -> bool:
    """Return whether a configuration file, or none, is the machine's: its daemon is a system service."""
    from syncd.sources.places import Places

    return not path or os.path.dirname(Places(ask=False).real(path)) == os.path.dirname(SYSTEM_FILE)


def xdg(name: str, default: str, environ: Mapping[str, str]) -> str:
    """Return a base directory of the XDG specification, which says to ignore relative ones."""
    given = environ.get(name, "")
    return given if os.path.isabs(given) else os.path.join(home(environ), default)


def home(environ: Mapping[str, str]) -> str:
    """Return the user's home directory."""
    return environ.get("HOME") or os.path.expanduser("~")
