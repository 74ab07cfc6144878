"""The sd_notify protocol, on real datagram sockets."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.daemon.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket that listens like a service manager, and the value of NOTIFY_SOCKET that leads to it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if request.param == "path":
        address = told = str(tmp_path / "notify")
    else:
        told = f"@syncd-test-{uuid.uuid4()}"
        address = "\0" + told[1:]
    listener.bind(address)
    listener.settimeout(10)
    with listener:
        yield told, listener


def received(listener: socket.socket) -> list[str]:
    return listener.recv(65536).decode().split("\n")


def test_ready_carries_the_status(manager: tuple[str, socket.socket]) -> None:
    """Readiness and its status line travel in one datagram."""
    address, listener = manager
    Notifier({"NOTIFY_SOCKET": address}).ready("watching 3 sources")
    assert received(listener) == ["READY=1", "STATUS=watching 3 sources"]


def test_reloading_carries_the_monotonic_time(manager: tuple[str, socket.socket]) -> None:
    """Type=notify-reload accepts RELOADING=1 only with the monotonic time, in microseconds."""
    address, listener = manager
    Notifier({"NOTIFY_SOCKET": address}, monotonic_ns=lambda: 1_234_567_890).reloading()
    assert received(listener) == ["RELOADING=1", "MONOTONIC_USEC=1234567"]


def test_stopping_and_extension(manager: tuple[str, socket.socket]) -> None:
    """The drain is announced, and its extension is counted in microseconds."""
    address, listener = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.stopping()
    notifier.extend_timeout(2.5)
    assert [received(listener), received(listener)] == [["STOPPING=1"], ["EXTEND_TIMEOUT_USEC=2500000"]]


def test_same_status_is_said_once(manager: tuple[str, socket.socket]) -> None:
    """A status that did not change costs no message."""
    address, listener = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for text in ("one", "one", "two"):
        notifier.status(text)
    notifier.stopping()
    assert [received(listener) for _ in range(3)] == [["STATUS=one"], ["STATUS=two"], ["STOPPING=1"]]


def test_status_cannot_smuggle_another_line(manager: tuple[str, socket.socket]) -> None:
    """A line break or a broken name in the status never becomes protocol, nor invalid UTF-8."""
    address, listener = manager
    Notifier({"NOTIFY_SOCKET": address}).status("a\nMAINPID=1\r\n\udcff")
    assert received(listener) == ["STATUS=a MAINPID=1 ?"]


def test_watchdog_is_pinged_only_when_wanted(manager: tuple[str, socket.socket]) -> None:
    """Without WATCHDOG_USEC, or with another process's WATCHDOG_PID, no ping is sent."""
    address, listener = manager
    quiet = Notifier({"NOTIFY_SOCKET": address})
    foreign = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"})
    ours = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())})
    for notifier in (quiet, foreign, ours):
        notifier.watchdog()
    quiet.stopping()
    assert [received(listener), received(listener)] == [["WATCHDOG=1"], ["STOPPING=1"]]
    assert [quiet.watchdog_seconds, foreign.watchdog_seconds, ours.watchdog_seconds] == [None, None, 5.0]


def test_the_pulse_is_the_last_ping_also_without_a_manager() -> None:
    """What asks whether the daemon lives sees what the watchdog sees."""
    now_ns = 5 * 10**9
    notifier = Notifier({}, monotonic_ns=lambda: now_ns)
    now_ns += 3 * 10**9
    assert [notifier.was_fed(seconds) for seconds in (2.9, 3.0)] == [False, True]
    notifier.watchdog()
    assert notifier.was_fed(0.0)


@pytest.mark.parametrize("usec", ["", "0", "-5", "soon"])
def test_nonsense_in_watchdog_usec_means_no_watchdog(usec: str) -> None:
    """Only a positive number of microseconds asks for pings."""
    assert Notifier({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": usec}).watchdog_seconds is None


@pytest.mark.parametrize("address", ["", "@", "vsock:2:1", "/nowhere/at/all"])
def test_nobody_listening_is_no_error(address: str) -> None:
    """Every message may fail to be delivered; the daemon goes on."""
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    notifier.ready("up")
    notifier.status("busy")
    notifier.reloading()
    notifier.watchdog()
    notifier.extend_timeout(1)
    notifier.stopping()
    assert Notifier({}).watchdog_seconds is None
