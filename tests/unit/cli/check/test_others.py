"""`syncd check` finds another machine under the prefix of a source."""

from __future__ import annotations

import pytest

from syncd.core.model import ObjectMeta
from syncd.daemon import process
from syncd.sources.fingerprint import of_bytes
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.unit.cli.home import Home


def put(home: Home, name: str, content: bytes, instance: str) -> None:
    """Another machine, or an older syncd, stores an object."""
    store = DirStore(DirSettings(str(home.mirror)))
    store.put_object(name, content, ObjectMeta(of_bytes(content), 0, instance=instance))


def lines(home: Home, mark: str) -> list[str]:
    """What `check` says about other machines, with this mark."""
    found = home.run("check").stdout.splitlines()
    return [line for line in found if line.startswith(f"{mark} other machines at docs: ")]


def test_nothing_is_said_where_one_machine_works(home: Home) -> None:
    """Nor about objects without an id, nor before the first run."""
    put(home, "old", b"old", "")
    assert "other machines" not in home.run("check").stdout
    (home.watched / "a").write_text("a")
    home.run("sync")
    shown = home.run("check")
    assert (shown.exit_code, "other machines" in shown.stdout) == (0, False)


@pytest.mark.parametrize("machine_id", ["", "a" * 32])
def test_another_machine_is_noted(home: Home, monkeypatch: pytest.MonkeyPatch, machine_id: str) -> None:
    """With one of its objects: among many, and where this machine adopted them."""
    monkeypatch.setattr(process, "machine_id", lambda: machine_id)
    for number in range(25):
        put(home, f"f{number}", b"same", "the other")
        (home.watched / f"f{number}").write_text("same")
    assert "another machine wrote f" in lines(home, "note")[0]
    home.run("sync")
    assert "another machine wrote f" in lines(home, "note")[0]
    assert home.run("check").exit_code == 0


def test_what_differs_from_its_record_is_a_failure(home: Home) -> None:
    """With the word that lets this machine take over; so is what waits already."""
    home.content["sources"][0]["on_delete"] = "delete"
    (home.watched / "a").write_text("ours")
    (home.watched / "b").write_text("ours, too")
    home.run("sync")
    put(home, "a", b"theirs", "the other")
    assert "syncd sync --take-over docs" in lines(home, "FAIL")[0]
    assert home.run("check").exit_code == 1

    (home.watched / "a").unlink()
    assert home.run("sync").exit_code == 3
    assert "deletions and overwrites wait" in lines(home, "FAIL")[0]


def test_a_state_that_cannot_be_read_is_noted(home: Home) -> None:
    """The stores are examined without it."""
    (home.root / "state").mkdir()
    (home.root / "state" / "state.db").write_text("nonsense")
    assert "note other machines: not looked for" in home.run("check").stdout
