"""One instance of the installed service: its configuration, its folders, and questions to it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
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

    def configure(
        self, *, store: str = "", sources: str = "", transfer: str = "", http: str = "", stop: str = "now"
    ) -> None:
        """Write the configuration; what is not given is the ordinary thing."""
        store = store or f'{{type: dir, path: "{self.home}/store"}}'
        sources = sources or self.source("photos")
        text = f"stores:\n  main: {store}\nsources:\n{sources}transfer: {{{transfer}}}\nstop: {stop}\n"
        text += f"http: {{{http}}}\n" if http else ""
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

    def await_recorded(self, files: int = 1) -> dict[str, Any]:
        """Until so many files of the first source are committed; the status then."""
        self.box.until(
            lambda: self.status()["sources"][0]["files"]["recorded"] == files, seconds=40, what="the commit"
        )
        return self.status()

    def put(self, path: str, content: bytes, *, owner: str = "root", mode: int = 0o600) -> str:
        """Write a file into ``/srv/NAME``; returns its MD5 in hex."""
        inside = f"{self.home}/{path}"
        file = self.box.path(inside)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.box.run("chown", owner, inside)
        file.chmod(mode)
        return hashlib.md5(content).hexdigest()

    def digest(self, key: str) -> str | None:
        """Of an object in the store; None when there is none."""
        object_ = self.box.path(f"{self.home}/store/{key}")
        return hashlib.md5(object_.read_bytes()).hexdigest() if object_.is_file() else None

    def await_object(self, key: str, digest: str, *, seconds: float = 40) -> None:
        self.box.until(lambda: self.digest(key) == digest, seconds=seconds, what=f"{key} in the store")

    def page(self, token: str = "") -> tuple[int, str]:
        """Status and body of the status over HTTP, with the token if one is given."""
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        program = (
            "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8737, timeout=20); "
            f"c.request('GET', '/api/v1/status', headers={fields!r}); r = c.getresponse(); "
            "print(r.status, r.read().decode())"
        )
        status, _, body = self.box.run("/usr/bin/python3", "-c", program).stdout.partition(" ")
        return int(status), body

    def kill(self) -> None:
        """kill -9 of the main process; the manager starts another after RestartSec=."""
        self.box.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", self.unit)

    def starts(self) -> int:
        """How often the manager has started it by itself."""
        return int(self.show("NRestarts"))

    def await_start(self, number: int, *, seconds: float = 40) -> None:
        def started() -> bool:
            return self.starts() >= number and self.show("ActiveState") == "active"

        self.box.until(started, seconds=seconds, what=f"start number {number} by the manager")


class Bos:
    """The BOS server of the tests, inside the box, and an instance's configuration for it."""

    URL = "http://127.0.0.1:9777"
    UNIT = "bos.service"
    FOLDER = "/etc/syncd/credentials"
    SECRET = "not-for-anybody-else-0123456789"

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.box = instance.box

    def start(self, key_id: str = "AKIDFIRST") -> None:
        """Start the server, put the keys where the manager finds them, and write the configuration."""
        fakes = Path(__file__).resolve().parents[1] / "support"
        place = self.box.share / "fakes" / "tests" / "support"
        if not place.exists():
            shutil.copytree(fakes, place, ignore=shutil.ignore_patterns("__pycache__"))
            place.with_name("__init__.py").touch()
        server = [
            "/usr/bin/python3",
            "-m",
            "tests.support.bos_server",
            "--directory",
            f"{self.instance.home}/bos",
        ]
        keys = ["--access-key", key_id, "--secret-key", self.SECRET]
        where = [f"--unit={self.UNIT}", "--collect", "-E", "PYTHONPATH=/mnt/box/fakes"]
        self.box.run("systemd-run", "--quiet", *where, *server, *keys, "--port", "9777", "--bucket", "photos")
        self.box.until(
            lambda: "listening" in self.box.journal(self.UNIT, "-n", "5"), seconds=20, what="the BOS server"
        )
        self.give_keys(key_id)
        self.instance.override(*(f"LoadCredential={name}:{self.FOLDER}/{name}" for name in ("key-id", "key")))

    def give_keys(self, key_id: str) -> None:
        self.box.run("install", "-d", "-m", "0700", self.FOLDER)
        self.box.write(f"{self.FOLDER}/key-id", f"{key_id}\n", mode=0o600)
        self.box.write(f"{self.FOLDER}/key", f"{self.SECRET}\n", mode=0o600)

    @property
    def store(self) -> str:
        """The store's entry in a configuration."""
        inside = "'${CREDENTIALS_DIRECTORY}"
        keys = f"access_key_file: {inside}/key-id', secret_key_file: {inside}/key'"
        return f"{{type: bos, endpoint: '{self.URL}', bucket: photos, {keys}}}"

    def stop(self) -> None:
        self.box.run("systemctl", "stop", self.UNIT, check=False)
        self.box.run("rm", "-rf", self.FOLDER)

    def control(self, what: str, *arguments: str, **settings: Any) -> Any:
        """See `tests.support.bos_server.Control`."""
        program = (
            "import json, sys; from tests.support.bos_server import Control;"
            "print(json.dumps(getattr(Control(sys.argv[1]), sys.argv[2])"
            "(*json.loads(sys.argv[3]), **json.loads(sys.argv[4]))))"
        )
        python = ["env", "PYTHONPATH=/mnt/box/fakes", "/usr/bin/python3", "-c", program]
        done = self.box.run(*python, self.URL, what, json.dumps(arguments), json.dumps(settings))
        return json.loads(done.stdout)

    def digest(self, key: str) -> str | None:
        """MD5 of an object's content, in hex; None when there is none."""
        objects = self.control("contents", "photos")["objects"]
        return str(objects[key]["md5"]) if key in objects else None

    def parts(self) -> int:
        """Of all unfinished uploads."""
        uploads = self.control("contents", "photos")["uploads"]
        return sum(len(upload["parts"]) for upload in uploads.values())

    def held(self) -> int:
        """Requests that wait for their answer, by order of a fault."""
        return int(self.control("stats")["held"])

    def clear(self) -> None:
        """No faults any more."""
        self.control("clear")

    def await_object(self, key: str, digest: str) -> None:
        self.box.until(lambda: self.digest(key) == digest, seconds=60, what=f"{key} in the store")
