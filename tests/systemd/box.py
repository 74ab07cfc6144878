"""A real systemd as PID 1 of fresh namespaces, on an overlay of this machine's root, gone when it stops.

Everything that is written inside lands in memory; kernel settings are read-only there; the network is a
loopback of its own. Root is needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

INNER = Path(__file__).with_name("inner.sh")
SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")


def reason_impossible() -> str | None:
    """Why there can be no box on this machine; None when there can."""
    if os.geteuid() != 0:
        return "a systemd of our own needs root (namespaces, mounts)"
    if not SYSTEMD.exists():
        return "systemd is not installed here: apt-get install systemd systemd-sysv dbus"
    if not Path("/usr/bin/dbus-daemon").exists():
        return "no message bus here: apt-get install dbus"
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed here: apt-get install util-linux iproute2"
    if _cgroup2() is None:
        return "no cgroup v2 hierarchy is mounted"
    probe = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "--kill-child", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        return f"no namespaces for us here: {probe.stderr.strip()}"
    return None


def _cgroup2() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 ") and fields.split(" ")[5].split(",")[0] == "rw":
            return Path(fields.split(" ")[4])
    return None


class Box:
    """One booted machine. `share` of the host is ``/mnt/box`` inside."""

    def __init__(self, work: Path, share: Path) -> None:
        self.work = work
        self.share = share
        self._cgroup: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.pid1 = 0

    def start(self) -> None:
        """Boot; returns when the manager says that it runs. Raises RuntimeError when it does not come up."""
        mounted = _cgroup2()
        assert mounted is not None
        self._cgroup = mounted / f"syncd-box-{os.getpid()}"
        self._cgroup.mkdir()
        self.work.mkdir(parents=True, exist_ok=True)
        enter = [
            "bash",
            "-c",
            'echo $$ > "$1/cgroup.procs" && shift && exec "$@"',
            "enter",
            str(self._cgroup),
        ]
        apart = ["setsid", "unshare", *NAMESPACES, "--fork", "--kill-child", "--propagation", "private"]
        self._process = subprocess.Popen(
            [*enter, *apart, "bash", str(INNER), str(self.work), str(self.share)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.until(self._is_up, seconds=30, what="the box to boot")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            said = self._process.stdout.read().decode() if self._process.stdout else ""
            raise RuntimeError(f"the box did not boot: {said}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self.pid1 = int(children[0])
        if not Path(f"/proc/{self.pid1}/root/mnt/box").is_dir():  # the root is not its own yet
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in {"running", "degraded"}

    def stop(self) -> None:
        """Shut down as a machine does, then make sure of it, and remove the cgroups."""
        if self._process is not None and self._process.poll() is None:
            if self.pid1 > 1:
                os.kill(self.pid1, signal.SIGRTMIN + 3)  # what halts a systemd in a container
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()  # --kill-child takes the whole namespace along
                self._process.wait(timeout=20)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self.pid1 = 0
        if self._cgroup is not None:
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(directory)

    def run(
        self, *command: str, check: bool = True, text: str | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` inside, as root; `text` is its standard input."""
        done = subprocess.run(
            [*self.entering(), *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def entering(self) -> list[str]:
        """The command prefix that brings a program into the box."""
        assert self.pid1 > 1
        clean = [
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
        ]
        return ["nsenter", "-t", str(self.pid1), "-m", "-p", "-u", "-i", "-n", "-C", *clean]

    def path(self, inside: str) -> Path:
        """The host's way to a file of the box."""
        assert inside.startswith("/")
        return Path(f"/proc/{self.pid1}/root{inside}")

    def write(self, inside: str, text: str, *, mode: int = 0o644) -> None:
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def show(self, unit: str, name: str, *, manager: Sequence[str] = ("systemctl",)) -> str:
        """One property of a unit."""
        return self.run(*manager, "show", unit, f"--property={name}", "--value").stdout.strip()

    def journal(self, unit: str, *arguments: str) -> str:
        """What the journal has of `unit`, messages only."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-u", unit, "-o", "cat", "--no-pager", *arguments).stdout

    def until(self, condition: Callable[[], bool], *, seconds: float, what: str) -> float:
        """Wait for `condition`; returns how long that took. Raises AssertionError after `seconds`."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"waited {seconds} s in vain for {what}")
            time.sleep(0.05)
        return time.monotonic() - began
