"""A configuration on a directory store, and the commands on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from syncd.cli import common
from syncd.cli.group import cli
from syncd.config import load as config


class Home:
    """A configuration on a directory store, and the commands on it."""

    def __init__(self, root: Path, **environ: str) -> None:
        self.root = root
        self.environ = environ
        self.processes: list[subprocess.Popen[str]] = []
        self.watched, self.mirror = root / "watched", root / "mirror"
        for path in (self.watched, self.mirror):
            path.mkdir()
        self.content: dict[str, Any] = {
            "state_dir": "./state",
            "stores": {"mirror": {"type": "dir", "path": "./mirror"}},
            "sources": [{"name": "docs", "path": "./watched", "store": "mirror", "settle": "100ms"}],
            "transfer": {"concurrency": 2},
        }

    @property
    def settings(self) -> config.Settings:
        return config.load(self.write(), {})

    @property
    def options(self) -> common.Options:
        return common.Options(self.write(), 0, 0)

    def write(self) -> str:
        file = self.root / "config.yaml"
        fresh = file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(self.content))
        fresh.replace(file)  # at once: a process that was started may be about to read it
        return str(file)

    def run(self, *arguments: str) -> Result:
        environ = dict.fromkeys(("SYNCD_CONFIG", "XDG_CONFIG_HOME")) | dict(self.environ)
        return CliRunner().invoke(cli, [*arguments, "-c", self.write()], env=environ)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "syncd", *arguments, "-c", self.write()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def stored(self) -> set[str]:
        """The names of what is in the store."""
        return {name for name in os.listdir(self.mirror) if name != ".syncd"}

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
