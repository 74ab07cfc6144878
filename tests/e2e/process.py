"""The installed program as a process: configured, started, asked, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from syncd.storage.settings import S3Settings
from tests.support.bos_server import BosServer

SYNCD = (sys.executable, "-m", "syncd")
DEADLINE_SECONDS = 120.0


def wait_until(
    what: str, holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS, *, pause: float = 0.05
) -> None:
    """Wait for a condition, with a deadline that a slow machine does not reach; look again after `pause`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


@dataclass(frozen=True)
class Measured:
    """What one command printed, and what it cost."""

    stdout: str
    stderr: str
    wall_seconds: float
    cpu_seconds: float
    peak_rss_mib: float


class Syncd:
    """One configuration and the processes that use it. Everything lies below `root`."""

    def __init__(
        self, root: Path, stores: dict[str, Any], sources: list[dict[str, Any]], **more: Any
    ) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.log = root / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environ = {**os.environ, "TEST_KEY_ID": "", "TEST_SECRET": ""}
        for name in ("NOTIFY_SOCKET", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
            self.environ.pop(name, None)
        self.write({"state_dir": "./state", "stores": stores, "sources": sources, **more})

    def write(self, content: dict[str, Any]) -> None:
        """Replace the configuration."""
        self.content = content
        self.config.write_text(yaml.safe_dump(content))

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        done = subprocess.run(
            [*SYNCD, *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=900,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def measured(self, *arguments: str) -> Measured:
        """Run one command to its end, which must be a good one, and measure it."""
        began = time.monotonic()
        process = subprocess.Popen(
            [*SYNCD, *arguments, "-c", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
        )
        meter = _Meter(process.pid)
        try:
            stdout, stderr = process.communicate(timeout=900)
        except BaseException:
            process.kill()
            raise
        finally:
            meter.stop()
        wall_seconds = time.monotonic() - began
        if process.returncode != 0:
            raise AssertionError(f"{arguments} ended with {process.returncode}:\n{stdout}\n{stderr}")
        return Measured(stdout, stderr, wall_seconds, meter.cpu_seconds, meter.peak_rss_mib)

    def start(self, *, wait: bool = True) -> None:
        """Start the daemon and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*SYNCD, "run", "-c", str(self.config)], stdout=log, stderr=log, env=self.environ
            )
        if wait:
            wait_until("the daemon answers", lambda: self.status()["daemon"]["running"])

    def status(self) -> dict[str, Any]:
        """What `syncd status --json` says."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log_text()}")
        answer: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return answer

    def wait_idle(self, seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
        """Wait until the daemon has scanned and nothing is pending or moving; returns the status."""
        last: dict[str, Any] = {}

        def idle() -> bool:
            nonlocal last
            last = self.status()
            scanned = all(source["last_scan"] for source in last["sources"])
            files = [source["files"] for source in last["sources"]]
            again = any(failure["next_attempt"] for failure in last["failures"])
            return scanned and not again and not any(entry["pending"] + entry["in_flight"] for entry in files)

        try:
            wait_until("the daemon is idle", idle, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(last, indent=1)[:4000]}\n{self.log_text()}") from None
        return last

    def kill(self) -> None:
        """SIGKILL: what a power cut looks like to the process."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)
        self.process = None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the daemon to end; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def log_text(self) -> str:
        """The end of what the daemon has logged."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def close(self) -> None:
        """End what still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)


class _Meter:
    """Looks at a process many times a second: what is known after its end counts its parent's memory too."""

    def __init__(self, pid: int) -> None:
        self.cpu_seconds = 0.0
        self.peak_rss_mib = 0.0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter")
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):  # it has ended
            while not self._done.wait(0.02):
                self._look()

    def _look(self) -> None:
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peak_rss_mib = int(line.split()[1]) / 1024
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        self.cpu_seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def s3_store(settings: S3Settings, port: int | None = None) -> dict[str, Any]:
    """The configuration of a store; `port` goes through a proxy instead."""
    endpoint = settings.http.endpoint if port is None else f"http://127.0.0.1:{port}"
    return {
        "type": "s3",
        "endpoint": endpoint,
        "region": settings.region,
        "bucket": settings.bucket,
        "path_style": True,
        "access_key_id": settings.keys.access_key_id,
        "secret_access_key": settings.keys.secret_access_key,
    }


def bos_store(server: BosServer, bucket: str, port: int | None = None) -> dict[str, Any]:
    """The same for the BOS server of the tests."""
    account = next(iter(server.accounts.values()))
    return {
        "type": "bos",
        "endpoint": f"http://127.0.0.1:{port or server.port}",
        "bucket": bucket,
        "access_key_id": account.access_key_id,
        "secret_access_key": account.secret_access_key,
    }
