"""What we say to the manager is what a real systemd understands, shown with a service of a few lines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.box import Box

PROJECT = Path(__file__).resolve().parents[2]
UNIT = "stub.service"

STUB = """
import os, signal, sys, time
from syncd.daemon.systemd import Notifier

notifier = Notifier(os.environ)
stuck = leaving = False


def reload(*_):
    notifier.reloading()
    while not os.path.exists("/run/stub/go"):
        time.sleep(0.01)
    notifier.ready("reloaded")


def stick(*_):
    global stuck
    stuck = True


def leave(*_):
    global leaving
    leaving = True


signal.signal(signal.SIGHUP, reload)
signal.signal(signal.SIGUSR1, stick)
signal.signal(signal.SIGTERM, leave)
while not os.path.exists("/run/stub/start"):
    time.sleep(0.01)
notifier.ready("stub is up")
while not leaving:
    if not stuck:
        notifier.watchdog()
    time.sleep(0.1)
notifier.stopping()
for _ in range(15 if os.path.exists("/run/stub/drain") else 0):
    notifier.extend_timeout(1)
    notifier.watchdog()
    time.sleep(0.2)
"""

SERVICE = """
[Service]
Type=notify
ExecStart=/usr/bin/python3 /mnt/box/stub.py
Environment=PYTHONPATH=/mnt/box/lib
Restart=on-watchdog
RestartSec=0
TimeoutStopSec=1
WatchdogSec=1
"""


@pytest.fixture(scope="module")
def stub(bare_box: Box) -> Iterator[Box]:
    """A service that consists of a Notifier, not started."""
    shutil.copytree(
        PROJECT / "syncd",
        bare_box.share / "lib" / "syncd",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    found = ["/usr/bin/python3", "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
    into = [
        "--quiet",
        "--target",
        str(bare_box.share / "lib"),
        "--only-binary=:all:",
        "--python-version",
        version,
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", *into, "msgspec"], check=True, timeout=240)
    (bare_box.share / "stub.py").write_text(STUB)
    bare_box.write(f"/run/systemd/system/{UNIT}", SERVICE)
    bare_box.run("systemctl", "daemon-reload")
    yield bare_box
    bare_box.run("systemctl", "stop", UNIT)


@pytest.fixture
def started(stub: Box) -> Box:
    """The same, up."""
    stub.run("mkdir", "-p", "/run/stub")
    stub.run("touch", "/run/stub/start")
    stub.run("rm", "-f", "/run/stub/go", "/run/stub/drain")
    stub.run("systemctl", "restart", UNIT)
    return stub


def test_unit_is_active_only_after_ready(stub: Box) -> None:
    """The manager waits for READY=1, and shows the status that came with it."""
    stub.run("rm", "-rf", "/run/stub")
    stub.run("systemctl", "start", "--no-block", UNIT)
    stub.until(lambda: stub.show(UNIT, "ActiveState") == "activating", seconds=10, what="the start")
    stub.run("mkdir", "-p", "/run/stub")
    stub.run("touch", "/run/stub/start")
    stub.until(lambda: stub.show(UNIT, "ActiveState") == "active", seconds=10, what="READY=1")
    assert stub.show(UNIT, "StatusText") == "stub is up"


def test_reload_is_seen_from_begin_to_end(started: Box) -> None:
    """Between RELOADING=1 and READY=1 the unit is reloading."""
    started.run("systemctl", "kill", "--signal=HUP", UNIT)
    started.until(lambda: started.show(UNIT, "ActiveState") == "reloading", seconds=10, what="RELOADING=1")
    started.run("touch", "/run/stub/go")
    started.until(lambda: started.show(UNIT, "ActiveState") == "active", seconds=10, what="READY=1")
    assert started.show(UNIT, "StatusText") == "reloaded"


def test_missing_pings_end_in_a_restart(started: Box) -> None:
    """Pings keep the unit up beyond its limit; without them it is killed and comes back."""
    process = started.show(UNIT, "MainPID")
    first = int(started.show(UNIT, "WatchdogTimestampMonotonic"))
    started.until(
        lambda: int(started.show(UNIT, "WatchdogTimestampMonotonic")) > first + 1_500_000,
        seconds=20,
        what="pings for longer than the limit",
    )
    assert started.show(UNIT, "MainPID") == process
    started.run("systemctl", "kill", "--signal=USR1", UNIT)
    started.until(lambda: started.show(UNIT, "NRestarts") == "1", seconds=20, what="the restart")
    assert "Watchdog timeout" in started.journal(UNIT)


def test_drain_may_take_longer_when_it_says_so(started: Box) -> None:
    """EXTEND_TIMEOUT_USEC allows a stop of three seconds where one was the limit."""
    started.run("touch", "/run/stub/drain")
    started.run("systemctl", "stop", UNIT)
    assert started.show(UNIT, "Result") == "success"


@pytest.mark.parametrize(
    ("directive", "path", "named"),
    [
        ("PrivateTmp=yes", "/var/tmp/tree", "PrivateTmp="),
        ("ProtectHome=yes", "/home/ada/tree", "ProtectHome="),
        ("ProtectHome=tmpfs", "/root/tree", "ProtectHome=tmpfs"),
        ("InaccessiblePaths=/srv/tree", "/srv/tree/deep", "InaccessiblePaths="),
        ("ProtectHome=read-only", "/home/ada/tree", "None"),
    ],
)
def test_directive_that_hides_a_tree_is_named(stub: Box, directive: str, path: str, named: str) -> None:
    """Seen from inside, each directive that can hide a source is told by the mounts that it makes."""
    stub.run("mkdir", "-p", "/srv/tree/deep", "/home/ada/tree", "/root/tree", "/var/tmp/tree")
    program = "import sys; from syncd.sources.mounts import hidden_by; print(hidden_by(sys.argv[1]))"
    inside = ["-p", directive, "-E", "PYTHONPATH=/mnt/box/lib", "/usr/bin/python3", "-c", program, path]
    assert stub.run("systemd-run", "--quiet", "--pipe", "--wait", *inside).stdout.strip() == named


def test_journal_has_the_priority_of_each_line(stub: Box) -> None:
    """Standard error is recognised as the journal, and every level arrives as its syslog priority."""
    program = (
        "import logging, sys; from types import SimpleNamespace; from syncd.daemon.logs import set_up;"
        "set_up(SimpleNamespace(level='debug', format='auto'), verbosity=0, stream=sys.stderr);"
        "[logging.log(level, 'at %d', level) for level in (10, 20, 30, 40, 50)]"
    )
    unit = ["--unit=prefixes", "-E", "PYTHONPATH=/mnt/box/lib", "/usr/bin/python3", "-c", program]
    stub.run("systemd-run", "--quiet", "--wait", *unit)
    stub.run("journalctl", "--sync")
    lines = stub.run("journalctl", "-u", "prefixes", "-o", "json", "--no-pager").stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    said = [(entry["MESSAGE"], entry["PRIORITY"]) for entry in entries if entry["MESSAGE"].startswith("at ")]
    assert said == [("at 10", "7"), ("at 20", "6"), ("at 30", "4"), ("at 40", "3"), ("at 50", "2")]
