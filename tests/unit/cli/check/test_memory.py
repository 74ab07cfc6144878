"""How what a check found out comes into the state: by the daemon, or where none runs by itself."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from syncd.cli import common
from syncd.cli.check.memory import remember
from syncd.daemon import control
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.storage.base import DIGESTS

STORE_ID = "s3:http://h/photos"


def _remember(state_dir: Path, found: str = "etag") -> str:
    return remember("mirror", STORE_ID, DIGESTS, found, str(state_dir))


def _known(state_dir: Path) -> str:
    return common.learned(str(state_dir), STORE_ID, name=DIGESTS)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """With a state."""
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)):
        return tmp_path


def test_what_is_known_is_not_written_again(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor asked of the daemon."""
    assert (_remember(state_dir), _known(state_dir)) == ("", "etag")
    monkeypatch.setattr(control, "ask", lambda *request: pytest.fail("the daemon was asked"))
    assert _remember(state_dir) == ""


def test_without_a_state_it_says_what_to_do(tmp_path: Path) -> None:
    """A check makes no state: it may run as another user than the service."""
    assert "run `syncd check` again later" in _remember(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_where_another_process_has_the_state_it_says_so(state_dir: Path) -> None:
    """A daemon that starts, for instance."""
    lock = StateLock.acquire(str(state_dir))
    assert "already running" in _remember(state_dir)
    lock.release()


@pytest.mark.parametrize(
    ("answer", "said"), [({"learned": True}, ""), ({"error": "no such store"}, "no such store")]
)
def test_a_running_daemon_is_told(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, object], said: str
) -> None:
    """It has the state, and uses what it is told at once."""
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(control, "ask", lambda directory, request: asked.append(request) or answer)
    assert _remember(state_dir) == said
    assert asked == [{"command": "learn", "store": "mirror", "name": DIGESTS, "found": "etag"}]
    assert _known(state_dir) == ""
