"""What lies on the address of a running daemon: over the network, as a monitoring program asks."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from syncd.daemon.daemon import Daemon
from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Site:
    """A daemon with an address."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.port = free_port()
        home.content["http"] = {"address": f"127.0.0.1:{self.port}"}

    def start(self) -> Daemon:
        return self.home.start()

    def get(self, path: str, port: int = 0) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def site(home: Home) -> Iterator[Site]:
    return Site(home)  # type: ignore[return-value]


def test_metrics_tell_what_was_carried(site: Site) -> None:
    """From the folder to the number."""
    (site.home.root / "watched" / "a").write_text("12345")
    site.start()
    site.home.arrives("a")
    expected = {
        'syncd_actions_total{source="docs",action="upload"} 1',
        'syncd_files{source="docs",state="stored"} 1',
        'syncd_sent_bytes_total{source="docs"} 5',
        "syncd_healthy 1.0",
    }
    wait_until("it is counted", lambda: expected <= set(site.get("/metrics")[1].splitlines()))
    assert '\nsyncd_last_upload_timestamp_seconds{source="docs"} 1' in site.get("/metrics")[1]


def test_health_is_the_pulse_and_ready_is_the_first_scan(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the manager's watchdog and `syncd health --ready` see it."""
    made = site.start()
    wait_until("it is ready", lambda: site.get("/readyz") == (200, "ok\n"))
    assert site.get("/livez") == (200, "ok\n")
    monkeypatch.setattr(made._notifier, "_fed_ns", 0)
    assert site.get("/livez") == (503, "stuck\n")
    for runner in made._pipeline.source_runners.values():
        runner.first_scan_done.clear()
    assert site.get("/readyz") == (503, "the first scan is not over\n")


def test_a_reload_moves_the_address_and_takes_it_away(site: Site) -> None:
    """Nothing listens where nothing is configured."""
    site.start()
    assert site.get("/livez")[0] == 200
    other = free_port()
    site.home.content["http"] = {"address": f"127.0.0.1:{other}"}
    site.home.reload()
    assert site.get("/livez", other)[0] == 200
    with pytest.raises(urllib.error.URLError):
        site.get("/livez")
    del site.home.content["http"]
    site.home.reload()
    with pytest.raises(urllib.error.URLError):
        site.get("/livez", other)


def test_an_address_that_is_taken_stops_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and the daemon answers as soon as it is free."""
    with socket.create_server(("127.0.0.1", site.port)):
        site.start()
        (site.home.root / "watched" / "a").write_text("x")
        site.home.arrives("a")
        site.home.reload()
        assert (
            caplog.text.count(f"nothing answers on 127.0.0.1 port {site.port}: Address already in use") == 1
        )
    site.home.reload()
    assert site.get("/livez")[0] == 200
