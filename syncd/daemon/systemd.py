"""What a service tells its manager: readiness, status, reload, stop, and the watchdog's ping.

The protocol is sd_notify(3): lines of ``NAME=value`` in one datagram to the socket in ``$NOTIFY_SOCKET``.
Nothing here raises: the daemon runs with or without a manager.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

_SEND_SECONDS = 1.0
"""A manager that does not read its socket delays the daemon by at most this."""


class Notifier:
    """Speaks sd_notify(3) to the service manager, if there is one."""

    watchdog_seconds: float | None
    """The manager wants a ping at least this often; None without a watchdog."""

    def __init__(
        self, environ: Mapping[str, str], *, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._monotonic_ns = monotonic_ns
        self._sent: str | None = None
        self._fed_ns = monotonic_ns()
        self.watchdog_seconds = _watchdog_seconds(environ) if self._address is not None else None

    @property
    def listens(self) -> bool:
        """Return whether there is a manager."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """Say that the start or a reload is complete. ``systemctl status`` shows `status`."""
        self._sent = status
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows. An unchanged text is not sent again."""
        if text != self._sent:
            self._sent = text
            self._send(f"STATUS={_one_line(text)}")

    def reloading(self) -> None:
        """Say that a reload begins. `ready` ends it, whether it succeeded or not."""
        # By the time, systemd >= 253 (Type=notify-reload) knows that this answers its latest signal.
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the shutdown begins."""
        self._sent = None
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Send the ping. Call it only after seeing no late thread (`syncd.transfer.pace.heartbeat`)."""
        self._fed_ns = self._monotonic_ns()
        if self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")

    def was_fed(self, within_seconds: float) -> bool:
        """Return whether the last ping is no older than this. Pings count also without a manager."""
        return self._monotonic_ns() - self._fed_ns <= within_seconds * 1e9

    def extend_timeout(self, seconds: float) -> None:
        """Ask for this much time from now on to start or stop. Ask again before it has passed."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        message = "\n".join(lines).encode("utf-8", "replace")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(_SEND_SECONDS)
            channel.sendto(message, self._address)


def _address(text: str) -> str | None:
    """Return the address for `socket.sendto`; None: syncd cannot send to this kind."""
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]  # the abstract name space
    return None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return the value of ``$WATCHDOG_USEC``; None if it is unset or ``$WATCHDOG_PID`` is another process."""
    wait_usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not wait_usec.isdecimal() or int(wait_usec) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(wait_usec) / 1e6


def _one_line(text: str) -> str:
    """Return the text without line breaks: one would end the value."""
    return " ".join(text.split())
