"""A daemon in a thread of the test, with a configuration, a store and a service manager of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config import load as config
from syncd.daemon import control
from syncd.daemon.daemon import Daemon
from tests.support.waiting import Running, wait_until


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self, root: Path) -> None:
        self.path = str(root / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        """Everything that was said so far, line by line."""
        while True:
            try:
                self.heard += self._socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def count(self, line: str) -> int:
        return self.listen().count(line)

    def close(self) -> None:
        self._socket.close()


class Home:
    """A configuration on a directory store, and a daemon in a thread of this process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("watched", "mirror", "run"):
            (root / name).mkdir()
        self.manager = Manager(root)
        self.environ = {"NOTIFY_SOCKET": self.manager.path, "RUNTIME_DIRECTORY": str(root / "run")}
        self.content: dict[str, Any] = {
            "state_dir": "./state",
            "stores": {"mirror": {"type": "dir", "path": "./mirror"}},
            "sources": [self.source("docs", "watched")],
            "transfer": {"concurrency": 2},
        }
        self.log_settings: list[config.LogSettings] = []
        self.running: Running[int] | None = None

    def source(self, name: str, path: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "path": f"./{path}", "store": "mirror", "settle": "100ms", **more}

    def load(self) -> config.Settings:
        file = self.root / "config.yaml"
        file.write_text(yaml.safe_dump(self.content))
        return config.load(str(file), {}, with_token=True)

    def make(self) -> Daemon:
        made = Daemon(self.load(), self.load, self.log_settings.append, self.environ)
        made._signals = nullcontext  # type: ignore[method-assign, assignment]  # for the main thread only
        return made

    def start(self) -> Daemon:
        self.daemon = self.make()
        done = self.manager.count("READY=1")
        self.running = Running(self.daemon.run)
        wait_until("it is ready", lambda: self.manager.count("READY=1") > done or self.running_ended())
        return self.daemon

    def running_ended(self) -> bool:
        assert self.running is not None
        return self.running.is_over

    def ask(self, **request: Any) -> dict[str, Any]:
        answer = control.ask(str(self.root / "state"), request)
        assert answer is not None
        return answer

    def say(self, word: str) -> None:
        """What a signal would say."""
        self.daemon._asked.put(word)

    def reload(self) -> None:
        done = self.manager.count("READY=1")
        self.say("reload")
        wait_until("it is reloaded", lambda: self.manager.count("READY=1") > done)

    def stop(self) -> int:
        assert self.running is not None
        self.say("stop")
        return self.running.result()

    def close(self) -> None:
        if self.running is not None and not self.running.is_over:
            self.stop()
        self.manager.close()

    def arrives(self, name: str) -> None:
        wait_until(f"{name} is there", lambda: (self.root / "mirror" / name).exists())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()
