"""What the unit files say about death, end and rights, read as text: what each line is for, without systemd.

That systemd does with these lines what we think is shown on a running one (`test_installed.py`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parent.parent.parent / "systemd"
SYSTEM = ("syncd.service", "syncd@.service")
ALL = (*SYSTEM, "user/syncd.service")


def settings(name: str) -> dict[str, list[str]]:
    """The values of each setting, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if line and line[0] not in "#[":
            setting, _, value = line.partition("=")
            found.setdefault(setting, []).append(value)
    return found


@pytest.mark.parametrize("name", ALL)
def test_no_number_of_deaths_is_the_end(name: str) -> None:
    """Always started again, after a pause; the manager counts no starts, so it never gives up for good."""
    unit = settings(name)
    assert unit["Restart"] == ["always"]
    assert unit["RestartSec"] == ["5"]
    assert unit["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("name", ALL)
def test_what_another_start_would_not_mend_is_not_started_again(name: str) -> None:
    """Wrong usage and wrong configuration fail once, and stay failed where an administrator sees it."""
    assert settings(name)["RestartPreventExitStatus"] == ["2 78"]


@pytest.mark.parametrize("name", ALL)
def test_the_manager_waits_for_readiness_and_for_the_pulse(name: str) -> None:
    """Told by the daemon itself; a hang is ended by the manager."""
    unit = settings(name)
    assert unit["Type"] == ["notify"]
    assert unit["WatchdogSec"] == ["3min"]


@pytest.mark.parametrize("name", ALL)
def test_an_end_has_time_and_hits_the_daemon_alone(name: str) -> None:
    """Only the main process hears of it, and it has longer than its own drain takes."""
    unit = settings(name)
    assert unit["KillMode"] == ["mixed"]
    assert unit["TimeoutStopSec"] == ["45"]


@pytest.mark.parametrize("name", SYSTEM)
def test_the_service_may_read_everything_and_write_nothing_of_others(name: str) -> None:
    """It may read, and ask who writes; file systems read-only; what it makes is for itself alone."""
    unit = settings(name)
    assert unit["User"] == ["syncd"]
    assert unit["CapabilityBoundingSet"] == ["CAP_DAC_READ_SEARCH CAP_LEASE"]
    assert unit["AmbientCapabilities"] == ["CAP_DAC_READ_SEARCH CAP_LEASE"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ProtectHome"] == ["read-only"]  # "yes" would show empty homes
    assert unit["UMask"] == ["0077"]
    assert (unit["StateDirectoryMode"], unit["RuntimeDirectoryMode"]) == (["0700"], ["0750"])


@pytest.mark.parametrize("name", SYSTEM)
def test_the_sandbox_is_closed(name: str) -> None:
    """Each line shuts one way out for a process that reads everybody's files."""
    unit = settings(name)
    for setting in (
        *("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectClock", "ProtectControlGroups"),
        *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
        *("RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality"),
        "MemoryDenyWriteExecute",
    ):
        assert unit[setting] == ["yes"], setting
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert unit["SystemCallArchitectures"] == ["native"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]
