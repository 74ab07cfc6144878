"""One instance of the installed service: its configuration, its folders, and questions to it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from tests.systemd.box import Box


@dataclass
class Instance:
    """``syncd@NAME`` in the box, with a source and a directory store below ``/srv/NAME``."""

    box: Box
    name: str
    drop_in: list[str] = field(default_factory=list)

    @property
    def unit(self) -> str:
        return f"syncd@{self.name}.service"

    @property
    def home(self) -> str:
        return f"/srv/{self.name}"

    @property
    def config(self) -> str:
        return f"/etc/syncd/{self.name}.yaml"

    def prepare(self) -> None:
        """Folders, a configuration with one source, and the drop-in that lets the store be written."""
        self.box.run("mkdir", "-p", f"{self.home}/photos")
        self.box.run("install", "-d", "-o", "syncd", "-g", "syncd", f"{self.home}/store")
        self.configure()
        self.override(f"ReadWritePaths={self.home}/store")

    def configure(self, *, store: str = "", sources: str = "", transfer: str = "") -> None:
        """Write the configuration; what is not given is the ordinary thing."""
        store = store or f'{{type: dir, path: "{self.home}/store"}}'
        sources = sources or self.source("photos")
        text = f"stores:\n  main: {store}\nsources:\n{sources}transfer: {{{transfer}}}\n"
        self.box.write(self.config, text)

    def source(self, folder: str, extra: str = "", root: str = "") -> str:
        """One entry of ``sources``."""
        path = root or f"{self.home}/{folder}"
        return (
            f'  - {{name: {folder}, path: "{path}", store: main, prefix: {folder}/, settle: 200ms{extra}}}\n'
        )

    def override(self, *lines: str) -> None:
        """Add to the drop-in."""
        self.drop_in += lines
        text = "\n".join(["[Service]", *self.drop_in, ""])
        self.box.write(f"/run/systemd/system/{self.unit}.d/10-test.conf", text)
        self.box.run("systemctl", "daemon-reload")

    def start(self) -> None:
        self.box.run("systemctl", "start", self.unit)

    def remove(self) -> None:
        """Leave nothing that another test could meet."""
        self.box.run("systemctl", "kill", "--signal=KILL", self.unit, check=False)
        self.box.run("systemctl", "stop", self.unit, check=False)
        self.box.run("systemctl", "reset-failed", self.unit, check=False)
        self.box.run("rm", "-rf", f"/run/systemd/system/{self.unit}.d", self.home, self.config)
        self.box.run("rm", "-rf", f"/var/lib/syncd-{self.name}")
        self.box.run("systemctl", "daemon-reload")

    # ---- questions ---------------------------------------------------------------------------------------

    def show(self, name: str) -> str:
        return self.box.show(self.unit, name)

    @property
    def pid(self) -> int:
        """The main process as the box numbers it; 0 when there is none."""
        return int(self.show("MainPID"))

    def journal(self, *arguments: str) -> str:
        return self.box.journal(self.unit, *arguments)

    def syncd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line beside the service, as root."""
        state = f"STATE_DIRECTORY=/var/lib/syncd-{self.name}"
        return self.box.run("env", state, "syncd", *arguments, "-c", self.config, check=check)

    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.syncd("status", "--json").stdout)
        return report

    def flying(self) -> list[dict[str, Any]]:
        return list(self.status()["in_flight"])

    def put(self, path: str, content: bytes, *, owner: str = "root", mode: int = 0o600) -> str:
        """Write a file into ``/srv/NAME``; returns its digest."""
        inside = f"{self.home}/{path}"
        file = self.box.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.box.run("chown", owner, inside)
        file.chmod(mode)
        return hashlib.sha256(content).hexdigest()

    def digest(self, key: str) -> str | None:
        """Of an object in the store; None when there is none."""
        object_ = self.box.path(f"{self.home}/store/{key}")
        return hashlib.sha256(object_.read_bytes()).hexdigest() if object_.is_file() else None

    def await_object(self, key: str, digest: str, *, seconds: float = 40) -> None:
        self.box.until(lambda: self.digest(key) == digest, seconds=seconds, what=f"{key} in the store")

    def await_restart(self, *, seconds: float = 40) -> None:
        """The manager has started it again, and it is ready."""
        before = self.show("NRestarts")

        def restarted() -> bool:
            return self.show("NRestarts") != before and self.show("ActiveState") == "active"

        self.box.until(restarted, seconds=seconds, what="a restart")
