"""Where a path leads, as far as that can be known without waiting for a server that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.sources import places
from syncd.sources.mounts import Mount
from syncd.sources.places import Found, Places


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Directories, and links of every sort between them."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").write_text("x")
    for name, target in {
        "to-a": "a",
        "to-b": str(tmp_path / "a/b"),
        "a/up": "..",
        "a/b/twice": "../../to-a/b",
        "loop": "loop",
        "ring": "ring2",
        "ring2": "ring",
        "nowhere": "missing/there",
    }.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    "path",
    ["", "a", "to-a", "to-b", "to-a/b/twice/../file", "a/up/to-b/twice", "nowhere", "nowhere/../a",
     "missing/x", "a/file", "a/file/below", "a//b/./.."],
)  # fmt: skip
def test_links_lead_where_the_kernel_says(tree: Path, path: str) -> None:
    """Without a mount on the way the answer is that of the C library."""
    whole = f"{tree}/{path}"
    assert Places().real(whole) == os.path.realpath(whole)


@pytest.mark.parametrize("path", ["loop", "ring/below"])
def test_a_ring_of_links_ends(tree: Path, path: str) -> None:
    """Where it leads does not matter: nothing is there."""
    found = Places().look(f"{tree}/{path}")
    assert found is not None
    assert found.kind == ""


@pytest.mark.parametrize(("path", "kind"), [("a", "directory"), ("a/file", "other"), ("missing", "")])
def test_what_is_there_is_told(tree: Path, path: str, kind: str) -> None:
    """A directory, something else, nothing."""
    assert Places().look(f"{tree}/{path}") == Found(f"{tree}/{path}", kind)


def mounted(tree: Path, *, ask: bool = True) -> Places:
    """The directory `a` counts as a network mount."""
    made = Places(ask=ask)
    assert made._mounts is not None
    made._mounts._mounts[f"{tree}/a"] = Mount(1, "nfs4")
    return made


@pytest.mark.parametrize(("path", "kind"), [("to-a/b", "directory"), ("a/file", "other"), ("a/missing", "")])
def test_behind_a_network_mount_a_process_of_its_own_looks(tree: Path, path: str, kind: str) -> None:
    """It resolves the links that lie there, too."""
    found = mounted(tree).look(f"{tree}/{path}")
    assert found == Found(os.path.realpath(f"{tree}/{path}"), kind)


def test_where_nothing_is_to_be_asked_the_path_is_taken_as_it_is_written(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links before the mount are resolved, what is behind it is not looked at."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    places_here = mounted(tree, ask=False)
    assert places_here.look(f"{tree}/to-a/b/twice") is None
    assert places_here.real(f"{tree}/to-a/b/../b/twice") == f"{tree}/a/b/twice"


def test_a_server_that_is_gone_costs_a_moment_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All paths together; and while the first process still waits, no other one is started."""
    monkeypatch.setattr(places, "_PROGRAM", "import time; time.sleep(30)")
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(places, "_unanswered", {})
    with monkeypatch.context() as immortal:  # as a process is that waits in the kernel
        immortal.setattr(subprocess.Popen, "kill", lambda process: None)
        assert [mounted(tree).look(f"{tree}/a/{name}") for name in ("b", "file")] == [None, None]
        (waiting,) = places._unanswered.values()
        assert mounted(tree).real(f"{tree}/a/b") == f"{tree}/a/b"
        assert list(places._unanswered.values()) == [waiting]
    waiting.kill()
    waiting.wait(30)


def test_a_program_that_cannot_be_started_is_no_answer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sandbox."""
    monkeypatch.setattr(sys, "executable", "/no such program")
    assert mounted(tree).look(f"{tree}/a") is None
