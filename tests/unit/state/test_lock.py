"""One process has a state directory, and the lock ends with it."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from syncd.core.errors import StateError, StateRefused
from syncd.state.lock import StateLock, replaceable_in
from tests.scenarios.test_state_survival import DEADLINE_SECONDS, child

HOLD_THE_LOCK = """
import sys, time
from syncd.state.lock import StateLock, replaceable_in
lock = StateLock.acquire(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """The refusal names the process that holds the lock; a kill -9 of that process is enough to let go."""
    directory = str(tmp_path / "state")
    with child(HOLD_THE_LOCK, directory) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"

        with pytest.raises(StateError, match=f"already running .*process {first.pid}"):
            StateLock.acquire(directory)

        first.kill()
        first.wait(DEADLINE_SECONDS)
    lock = StateLock.acquire(directory)
    lock.release()
    lock.release()
    StateLock.acquire(directory).release()


def test_a_second_daemon_is_refused_though_the_file_of_the_lock_was_removed(tmp_path: Path) -> None:
    """By a tidy person or program: two daemons would write into one database."""
    directory = tmp_path / "state"
    lock = StateLock.acquire(str(directory))
    (directory / "lock").unlink()
    for _ in range(2):
        with pytest.raises(StateError, match="another process"):
            StateLock.acquire(str(directory))
    lock.release()
    StateLock.acquire(str(directory)).release()


def test_the_lock_is_private(tmp_path: Path) -> None:
    """The lock makes its directory for the owner alone, and is not passed on to programs that we start."""
    directory = tmp_path / "state"
    lock = StateLock.acquire(str(directory))
    try:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "lock").stat().st_mode & 0o777 == 0o600
        with child("import time; print('here', flush=True); time.sleep(600)") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            lock.release()
            StateLock.acquire(str(directory)).release()
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("mode", "group", "refused"),
    [
        (0o700, None, False),
        (0o755, None, False),
        (0o775, None, False),
        (0o775, 65534, True),
        (0o777, None, True),
    ],
)
def test_a_directory_that_others_can_write_is_refused(
    mode: int, group: int | None, refused: bool, tmp_path: Path
) -> None:
    """By links they could lead our writes elsewhere. A group that is the user's own is no other user."""
    directory = tmp_path / "state"
    directory.mkdir()
    if group is not None and os.geteuid() != 0:
        pytest.skip("needs root to give a directory to another group")
    os.chown(directory, -1, group if group is not None else os.getegid())
    directory.chmod(mode)
    if refused:
        with pytest.raises(StateRefused, match=r"written by other users .*chmod 700"):
            StateLock.acquire(str(directory))
        assert list(directory.iterdir()) == []
    else:
        StateLock.acquire(str(directory)).release()


ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.parametrize(
    ("group", "members", "refused"),
    [(ME, [], False), (ME, [ME], False), ("users", [], True), (ME, ["another"], True), (None, [], False)],
)
def test_a_primary_group_that_others_are_in_is_not_the_users_own(
    group: str | None, members: list[str], refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all users have the group `users`, each may write where it may."""

    def found(gid: int) -> grp.struct_group:
        if group is None:
            raise KeyError(gid)
        return grp.struct_group((group, "x", gid, members))

    monkeypatch.setattr(grp, "getgrgid", found)
    directory = tmp_path / "state"
    directory.mkdir()
    os.chown(directory, -1, os.getegid())
    directory.chmod(0o775)
    if refused:
        with pytest.raises(StateRefused, match="written by other users"):
            StateLock.acquire(str(directory))
    else:
        StateLock.acquire(str(directory)).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory to another user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Also for root, who may write there: what it made would lock out its owner."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    with pytest.raises(StateRefused, match="run syncd as"):
        StateLock.acquire(str(directory))
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(("mode", "told"), [(0o755, False), (0o1777, False), (0o777, True)])
@pytest.mark.parametrize("way", ["straight", "by a link", "far above"])
def test_a_directory_that_others_can_replace_is_told(mode: int, told: bool, way: str, tmp_path: Path) -> None:
    """They would rename it, or the link that leads to it, and put one of their choice in its place."""
    (tmp_path / "open" / "below").mkdir(parents=True)
    (tmp_path / "safe").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path / "safe")
    (tmp_path / "open").chmod(mode)
    directory = (
        tmp_path / {"straight": "open/state", "by a link": "open/link", "far above": "open/below/s"}[way]
    )
    StateLock.acquire(str(directory)).release()
    assert replaceable_in(str(directory)) == (str(tmp_path / "open") if told else "")


def test_a_lock_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    """A link in place of the lock file is not followed, and told as StateError."""
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StateError, match="cannot be used"):
        StateLock.acquire(str(tmp_path))
    assert (tmp_path / "elsewhere").read_text() == ""
