"""Loads small configurations from a directory of a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from syncd.config import load as config
from syncd.core.errors import ConfigError

SMALL = """
stores:
  nas: {type: dir, path: ./mirror}
sources:
  - {name: a, path: ./watched, store: nas}
"""

FOR_STORE = "sources: [{name: a, path: ./w, store: s}]\nstores:\n"  # what is wrong with `s` is below line 2


def load(place: Path, text: str, **environ: str) -> config.Settings:
    """The settings in `text`, in a file at `place`, whose home and state directories are there too."""
    file = place / "config.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return config.load(str(file), {"HOME": str(place), **environ}, with_token=True)


def load_store(place: Path, *lines: str, **environ: str) -> Any:
    """The settings of one store."""
    text = f"sources: [{{name: a, path: ./watched, store: s}}]\nstores:\n  s: {{{', '.join(lines)}}}"
    return load(place, text, **environ).stores["s"]


def said(error: ConfigError) -> list[str]:
    """The problems, one line each."""
    return [str(problem) for problem in error.problems]
