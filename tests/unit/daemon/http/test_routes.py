"""What lies on the address of a running daemon: over the network, as a monitoring program asks."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import pytest

from syncd.core.errors import StateError
from syncd.daemon.daemon import Daemon
from syncd.daemon.http import server
from syncd.daemon.http.message import Request
from syncd.daemon.http.routes import API, routes
from syncd.daemon.http.server import Access, Call
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

    def get(
        self, path: str, port: int = 0, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        address = f"http://127.0.0.1:{port or self.port}{path}"
        request = urllib.request.Request(address, data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
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
        "syncd_healthy 1",
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


def test_a_daemon_without_an_address_carries_nothing_of_it() -> None:
    """No module of it is imported."""
    program = "import sys, syncd.daemon.daemon; sys.exit('syncd.daemon.http' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


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


# ---- the verbs --------------------------------------------------------------------------------------------

TOKEN = "0123456789abcdef"


def with_token(site: Site) -> None:
    (site.home.root / "token").write_text(f"{TOKEN}\n")
    (site.home.root / "token").chmod(0o600)
    site.home.content["http"]["token_file"] = "./token"
    site.start()


def call(site: Site, name: str, order: object = None, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
    """Ask, or with an order POST."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if order is not None:
        data = order if isinstance(order, bytes) else json.dumps(order).encode()
        headers["Content-Type"] = "application/json"
    status, text = site.get(f"/api/v1/{name}", data=data, headers=headers)
    found: dict[str, Any] = json.loads(text)
    return status, found


def test_the_token_shows_what_the_socket_says(site: Site) -> None:
    """The same answers; without it only numbers and words."""
    (site.home.root / "watched" / "a").write_text("12345")
    with_token(site)
    site.home.arrives("a")
    wait_until("it is recorded", lambda: call(site, "status")[1]["sources"][0]["state"] == "stored")
    status, told = call(site, "status")
    expected = site.home.ask(command="status")
    for each in (told, expected):
        del each["daemon"]["uptime_seconds"]
    assert (status, told) == (200, expected)
    status, told = call(site, "status", token="")
    assert status == 200
    assert told["sources"][0]["state"] == "stored"
    assert str(site.home.root) not in json.dumps(told)
    path = quote(str(site.home.root / "watched" / "a"))
    explained = call(site, f"explain?path={path}")[1]
    assert explained["state"] == "stored"
    assert ["rule", "included: there are no patterns"] in explained["lines"]
    assert call(site, "history")[1]["actions"][0]["action"] == "uploaded"
    assert call(site, "history?limit=1&name=docs")[1]["actions"][0]["path"] == "a"
    assert call(site, "pending")[1] == {"files": [], "total": 0}
    assert call(site, "health")[1]["health"] == "ok"


@pytest.mark.parametrize("name", ["explain", "pending", "history", "health"])
def test_questions_about_files_need_the_token(site: Site, name: str) -> None:
    """With a wrong one there is nothing at all."""
    with_token(site)
    assert call(site, name, token="")[0] == 401
    assert call(site, "status", token="wrong")[0] == 401


def test_orders_do_what_the_command_line_does(site: Site) -> None:
    """Each verb once, and each is the one behind the socket."""
    with_token(site)
    made = site.home.daemon
    assert call(site, "pause", {"name": "docs"})[1]["was"] is False
    assert ("source", "docs") in made._pipeline.state.pauses()
    assert call(site, "status")[1]["sources"][0]["state"] in ("paused", "unknown")
    assert call(site, "resume", {})[1]["was"] is True
    assert call(site, "limit", {"rate": "1M"})[1]["bytes_per_second"] == 1 << 20
    assert call(site, "limit", {"configured": True})[1]["bytes_per_second"] == 0
    assert call(site, "rescan", {"name": "docs"})[1]["sources"] == ["docs"]
    assert call(site, "retry", {})[1]["files"] == 0
    assert call(site, "flush", {"seconds": 60})[1]["left"] == 0
    site.home.content["sources"][0]["settle"] = "150ms"
    assert call(site, "reload", {})[1]["changes"] == ["source docs: changed: settle"]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("pause", {"name": "nothing"}),
        ("pause", {"seconds": -1}),
        ("pause", {"seconds": "soon"}),
        ("pause", b'{"seconds": NaN}'),
        ("limit", b'{"rate": "1M", "seconds": Infinity}'),
        ("limit", {"rate": "fast"}),
        ("limit", {"rate": "1M", "seconds": []}),
        ("flush", {"seconds": True}),
        ("pause", b""),
        ("pause", b"[]"),
        ("pause", b"{"),
        ("pause", b"[" * 60_000),
        ("pause", b"\xff"),
        ("rescan", {"path": "/nowhere"}),
        ("explain", None),
        ("pending?limit=0", None),
        ("history?limit=x", None),
    ],
)
def test_a_bad_order_is_refused_and_changes_nothing(site: Site, name: str, order: object) -> None:
    """With words."""
    with_token(site)
    status, told = call(site, name, order)
    assert status == 400
    assert told["error"]
    assert site.home.daemon._pipeline.state.pauses() == {}


@pytest.mark.parametrize("name", ["pause", "resume", "flush", "rescan", "retry", "limit", "reload"])
def test_orders_are_no_questions(site: Site, name: str) -> None:
    """Nor are they taken without the token, nor the verbs of an operator taken at all."""
    with_token(site)
    assert call(site, name)[0] == 405
    assert call(site, name, {}, token="")[0] == 401
    for other in ("allow-deletes", "accept-root", "take-over", "repair", "restamp", "hello"):
        assert call(site, other, {})[0] == 404
    assert site.home.daemon._pipeline.state.pauses() == {}


def test_a_flush_ends_with_the_one_who_asked_for_it(site: Site) -> None:
    """As many as may be under way at once hang up, and the next is answered."""
    with_token(site)
    queue = site.home.daemon._pipeline.store_runners["mirror"].workers.queue
    queue.pause(3600.0)
    (site.home.root / "watched" / "a").write_text("x")
    wait_until("it is known", queue.dirty)
    asked = f"POST {API}/flush HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    asked += "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with ExitStack() as peers:
        for _ in range(server._MOST_SLOW):
            peer = peers.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            peer.sendall(asked.encode())
        wait_until("all are heard", lambda: call(site, "health")[0] == 503)
    wait_until("they end", lambda: call(site, "health")[0] == 200)


# ---- the page ---------------------------------------------------------------------------------------------


def test_the_page_says_as_much_as_one_may_know(site: Site) -> None:
    """Nothing to another machine without the token, counts to this one, everything with the token."""
    with_token(site)
    made = site.home.daemon
    shown = routes(made._verbs, made._live, lambda: True)["/"].handler
    root = str(site.home.root)
    request = Request("GET", "/", {}, {})
    locked, counts, names = (
        shown(Call(request, access)).body.decode() for access in (Access.NOTHING, Access.COUNTS, Access.ALL)
    )
    assert "docs" not in locked
    assert ("docs" in counts, root in counts) == (True, False)
    assert root in names
    assert site.get("/")[1].startswith("<!doctype html>")
    assert site.get("/", headers={"Authorization": "Bearer wrong"})[0] == 401


def test_a_state_that_cannot_be_written_is_on_the_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is when a person looks."""
    with_token(site)
    made = site.home.daemon

    def fails() -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(made._pipeline.state, "flush", fails)
    made._live.health = made._look_at_state()
    status, shown = site.get("/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (status, "Something is wrong with the daemon: the disk is full." in shown) == (200, True)


def test_the_page_comes_with_a_small_script_and_a_style(site: Site) -> None:
    """To all who get the page; it is small enough for a slow line."""
    site.start()
    script, style = site.get("/page.js"), site.get("/page.css")
    assert (script[0], style[0]) == (200, 200)
    assert len(script[1].encode()) < 15_000
    assert "token" in script[1]
    assert "prefers-color-scheme: dark" in style[1]
    assert "http.token_file" in site.get("/")[1]
