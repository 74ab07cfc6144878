"""What `syncd check` finds out about digests, says and has remembered."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from syncd.cli.check import digests
from syncd.cli.check.probes import Bench
from syncd.core.errors import StoreRefused
from syncd.daemon import control
from syncd.state.state import State
from syncd.storage.base import DIGESTS, Digests, Finding
from tests.support.store import FakeStore

Row = tuple[str, bool | None, str]


class Probed(FakeStore):
    """A store about whose digests something is found out."""

    found: Digests | StoreRefused | None = Digests.CHECKED
    check = "sha256"

    def probe_digests(self, key: str) -> Finding | None:
        self.asked = key
        if isinstance(self.found, StoreRefused):
            raise self.found
        if self.found is None:
            return None
        return Finding(self.found, self.check, 1_800_000_000, self.check == "sha256")


def _examine(state_dir: Path, found: Digests | StoreRefused | None, check: str = "sha256") -> list[Row]:
    store, rows = Probed(), []
    store.found, store.check = found, check
    bench = Bench(store, "p/", lambda *row: rows.append(row))
    digests.examine(bench, "mirror", str(state_dir), lambda *row: rows.append(row))
    assert store.asked.startswith("p/syncd-check-")
    return rows


def _state(state_dir: Path) -> None:
    with closing(State.open(str(state_dir), now_ns=time.time_ns)):
        pass


def _known(state_dir: Path) -> str | None:
    with closing(State.open_read_only(str(state_dir))) as state:
        return state.learned(FakeStore().store_id, DIGESTS)


@pytest.mark.parametrize("found", [Digests.ETAG, Digests.SIZE])
def test_what_is_ignored_is_said_and_remembered(tmp_path: Path, found: Digests) -> None:
    """And forgotten when the store is another one since."""
    _state(tmp_path)
    ((_, _, detail),) = _examine(tmp_path / "none", found)
    assert "not remembered" in detail
    ((name, passed, detail),) = _examine(tmp_path, found)
    assert (name, passed) == ("digests", None)
    assert "accepts a body that does not match its digest" in detail
    assert "not remembered" not in detail
    assert _known(tmp_path) == f"{found.value} sha256 1800000000"
    assert _examine(tmp_path, Digests.CHECKED)[0][1] is True
    assert _known(tmp_path) == "checked sha256 1800000000"


def test_what_is_ordinary_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor asked of the daemon; nor is a state made for it."""
    monkeypatch.setattr(control, "ask", lambda *request: pytest.fail("the daemon was asked"))
    assert _examine(tmp_path / "none", Digests.CHECKED) == [
        ("digests", True, "the store refuses a body that does not match its digest (sha256)")
    ]
    _state(tmp_path)
    assert _examine(tmp_path, Digests.CHECKED)[0][1] is True
    assert _known(tmp_path) is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("check", ["crc32", "md5"])
def test_another_digest_than_the_usual_is_news(tmp_path: Path, check: str) -> None:
    """Once: what is the same stays as old as it is."""
    _state(tmp_path)
    _examine(tmp_path, Digests.CHECKED, check)
    assert _known(tmp_path) == f"checked {check} 1800000000"
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)) as state:
        state.learn(FakeStore().store_id, DIGESTS, f"checked {check} 1700000000")
    _examine(tmp_path, Digests.CHECKED, check)
    assert _known(tmp_path) == f"checked {check} 1700000000"


def test_a_store_that_cannot_be_asked_is_a_remark(tmp_path: Path) -> None:
    """Keys that may not begin uploads are no fault of the store."""
    ((_, passed, detail),) = _examine(tmp_path, StoreRefused("no rights"))
    assert passed is None
    assert "no rights" in detail


def test_nothing_is_said_where_there_are_no_digests(tmp_path: Path) -> None:
    assert _examine(tmp_path, None) == []
    rows: list[Row] = []
    bench = Bench(FakeStore(), "p/", lambda *row: rows.append(row))
    digests.examine(bench, "mirror", str(tmp_path), lambda *row: rows.append(row))
    assert rows == []
