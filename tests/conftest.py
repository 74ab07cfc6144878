"""Fixtures that every test may use, and the rule that every test has to keep: leave no thread behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.bos_server import BosServer
from tests.support.bos_verbs import Rules
from tests.support.clock import FakeClock
from tests.support.rig import Rig
from tests.support.servers import SERVERS, S3Server
from tests.support.store import SMALL_LIMITS, FakeStore

REQUIRE_SERVERS = "SYNCD_REQUIRE_SERVERS"
"""Set where all servers are installed: then one that is missing is a failure, not a skip."""

settings.register_profile("untimed", deadline=None)  # a busy machine refutes nothing
settings.register_profile("mutation", deadline=None, max_examples=30, derandomize=True, database=None)
settings.load_profile("untimed")

LEAK_DEADLINE_SECONDS = 5.0
"""How long a thread that was asked to end may take before it counts as left behind."""

FIGURE = "figure: "
"""Begins the name of a test's property that the summary shows."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests have measured."""
    reports = terminalreporter.stats.get("passed", [])
    figures = [
        (name.removeprefix(FIGURE), value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name.startswith(FIGURE)
    ]
    if figures:
        terminalreporter.section("figures")
        for name, value in figures:
            terminalreporter.line(f"{value!s:>12}  {name}")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Where tests run in several processes, a report must be text, also one about a name that is not."""
    return _text_only((yield))


def _text_only(value: Any) -> Any:
    """The same value, with escapes for what has no place in UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_text_only(key): _text_only(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_text_only(item) for item in value)
    return value


@pytest.fixture(autouse=True)
def no_thread_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a non-daemon thread goes on that was not there before."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + LEAK_DEADLINE_SECONDS
    for thread in threading.enumerate():
        if thread not in before and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    leaked = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and not thread.daemon and thread.is_alive()
    ]
    if leaked:
        pytest.fail(f"{request.node.nodeid} left threads behind: {', '.join(sorted(leaked))}")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Keeps a measured value under a name, for people to read; nothing is decided by it."""

    def keep(name: str, value: object) -> None:
        request.node.user_properties.append((FIGURE + name, value))

    return keep


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One source and one store, with an engine between them."""
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to watch."""
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that is not watched."""
    directory = tmp_path / "outside"
    directory.mkdir()
    return directory


@pytest.fixture
def fake_store() -> FakeStore:
    """A store in memory with limits so small that a few bytes make a multipart upload."""
    return FakeStore(SMALL_LIMITS)


# ---- servers that live as long as the session, started when the first test asks for one -------------------


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """A third-party server by its name in `SERVERS`; the test is skipped where that is not installed."""
    started: dict[str, S3Server] = {}

    def server(name: str) -> S3Server:
        if name not in started:
            found = SERVERS[name]()
            if reason := found.missing():
                pytest.fail(reason) if os.environ.get(REQUIRE_SERVERS) else pytest.skip(reason)
            found.start(tmp_path_factory.mktemp(name))
            started[name] = found
        return started[name]

    yield server
    for running in started.values():
        running.stop()


@pytest.fixture(scope="session")
def ceph_server(third_party: Callable[[str], S3Server]) -> S3Server:
    """A Ceph object gateway."""
    return third_party("ceph")


@pytest.fixture(scope="session")
def swift_server(third_party: Callable[[str], S3Server]) -> S3Server:
    """OpenStack Swift with its s3api."""
    return third_party("swift")


@pytest.fixture(scope="session")
def rclone_server(third_party: Callable[[str], S3Server]) -> S3Server:
    """``rclone serve s3``."""
    return third_party("rclone")


@pytest.fixture(scope="session")
def moto_server(third_party: Callable[[str], S3Server]) -> S3Server:
    """moto in server mode."""
    return third_party("moto")


@pytest.fixture(scope="session")
def bos_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BosServer]:
    """Our own BOS server, with small pages and without any bucket yet."""
    with BosServer(tmp_path_factory.mktemp("bos"), buckets=[], rules=Rules(page_size=20)) as server:
        yield server
