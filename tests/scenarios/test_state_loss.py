"""A state that is lost, damaged, locked or without room while the daemon lives: it says so, sends nothing
wrong, loses no file, and the next start goes on where it can.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from syncd.cli.common import EXIT_CONFIG, exit_code
from syncd.core.errors import StateError, StateRefused
from syncd.core.model import OnDelete
from syncd.state import schema
from syncd.state import sqlite as statedb
from syncd.state.lock import StateLock
from syncd.state.state import State
from tests.scenarios.test_state_survival import RECORDED, fill, fill_up, open_state, opened, ref
from tests.support import mounting
from tests.support.waiting import wait_until
from tests.unit.cli.test_sync import Place
from tests.unit.daemon.test_daemon import Home


def written(home: Home, *names: str) -> None:
    for name in names:
        (home.root / "watched" / name).write_text(f"content of {name}")
    for name in names:
        home.arrives(name)
    wait_until("all is recorded", home.daemon._pipeline.idle)
    home.daemon._pipeline.state.flush()


def look(home: Home) -> None:
    """Have the daemon take its regular look now; a turn is a second late at most."""
    home.say("turn")


def mirror(home: Home) -> dict[str, tuple[str, int, int]]:
    """What the store holds: content, inode and mtime of each object."""
    found = {}
    for path in (home.root / "mirror").iterdir():
        if path.is_file():
            found[path.name] = (path.read_text(), path.stat().st_ino, path.stat().st_mtime_ns)
    return found


# ---- lost while in use ------------------------------------------------------------------------------------


def _deleted(home: Home) -> None:
    (home.root / "state" / "state.db").unlink()


def _replaced_by_another_instance(home: Home) -> None:
    with opened(home.root / "other") as state:
        fill(state, 5)
    os.replace(home.root / "other" / "state.db", home.root / "state" / "state.db")


def _emptied(home: Home) -> None:
    """A page that is needed is no page any more, in a database whose log was taken over."""
    with closing(sqlite3.connect(home.root / "state" / "state.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (home.root / "state" / "state.db").stat().st_size
    with (home.root / "state" / "state.db").open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


LOSSES: dict[str, tuple[Callable[[Home], None], str]] = {
    "deleted": (_deleted, "removed or replaced"),
    "another instance's": (_replaced_by_another_instance, "removed or replaced"),
    "pages overwritten": (_emptied, "damaged"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_state_that_is_lost_ends_the_daemon_and_the_next_start_goes_on(home: Home, loss: str) -> None:
    """The daemon does not wait for the operator: the manager starts it again. It compares, sends nothing that
    the store has, and sends what has changed."""
    lose, word = LOSSES[loss]
    home.start()
    written(home, "a", "b")
    before = mirror(home)
    lose(home)
    (home.root / "watched" / "c").write_text("content of c")
    deadline = time.monotonic() + 30.0
    while not home.running_ended() and time.monotonic() < deadline:
        look(home)
        time.sleep(0.05)
    assert home.running is not None
    with pytest.raises(StateError, match=word):
        home.running.result()
    StateLock.acquire(str(home.root / "state")).release()

    home.manager.heard.clear()
    made = home.start()
    home.arrives("c")
    wait_until("it is done", made._pipeline.idle)
    assert made._live.daemon().state_rebuilt
    assert {name: found for name, found in mirror(home).items() if name != "c"} == before
    assert mirror(home)["c"][0] == "content of c"
    wait_until("all are recorded", lambda: made._pipeline.state.recorded_totals("docs")[0] == 3)


def test_a_state_is_not_called_lost_for_nothing(tmp_path: Path) -> None:
    """Neither an error of a caller nor a full disk nor a lock is a loss."""
    with opened(tmp_path) as state:
        fill(state, 100)
        assert state.lost() is None
        with pytest.raises(StateError):
            state.checkpoints.set_upload_id(99, "none")
        assert state.lost() is None
        writer = state._writer
        assert writer is not None
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count={pages}")
        assert fill_up(state) > 0
        assert state.lost() is None
        writer._connection.execute("PRAGMA max_page_count=1000000")
        state.commit(ref(1), RECORDED)


def test_what_a_query_found_damaged_is_not_opened_again(tmp_path: Path) -> None:
    """Also where the check of the next start would find it sound."""
    state = open_state(tmp_path)
    fill(state, 5)

    def damaged(connection: sqlite3.Connection) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with pytest.raises(StateError, match="is damaged; a restart sets it aside"):
        state._reader.run(damaged)
    assert "is damaged" in str(state.lost())
    state.close()

    with opened(tmp_path) as state:
        assert "missing" in str(state.rebuilt)
        assert state.recorded_totals("s") == (0, 0)
    assert list(tmp_path.glob("state.db.set-aside-*"))


# ---- files beside the database ----------------------------------------------------------------------------


def test_a_file_has_its_name_only_when_its_content_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves the whole file or none: flushed, renamed, and then the name is flushed."""
    said: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def flushed(descriptor: int) -> None:
        said.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        said.append(("rename", os.path.basename(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    with opened(tmp_path / "state"):
        pass

    steps = [("fsync", "instance.new"), ("rename", "instance"), ("fsync", "state")]
    at = said.index(steps[0])
    assert said[at : at + 3] == steps
    at = said.index(("rename", "state.db"))  # SQLite itself has flushed what is in it
    assert said[at + 1] == ("fsync", "state")


# ---- no room ----------------------------------------------------------------------------------------------


@contextmanager
def full(at: Path) -> Iterator[None]:
    """A disk without a free block inside the block."""
    ballast = os.open(at / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(100):  # SQLite may free a few blocks while the disk fills
            with suppress(OSError):
                while os.write(ballast, bytes(4096)):
                    pass
            if os.statvfs(at).f_bavail == 0:
                break
        else:
            pytest.fail("the disk does not stay full")
        yield
    finally:
        os.close(ballast)
        (at / "ballast").unlink()


def test_a_full_disk_is_named_at_the_start_and_forgotten_when_it_has_room(tmp_path: Path) -> None:
    """Neither the lock nor the database blames the disk itself, and nothing is held or half made."""
    with mounting.tmpfs(tmp_path / "small", "2m") as disk:
        for directory in (disk / "old", disk / "new"):
            directory.mkdir()
        lock = StateLock.acquire(str(disk / "old"))
        with opened(disk / "old") as state:
            fill(state, 10)
        lock.release()
        with full(disk):
            StateLock.acquire(str(disk / "old")).release()
            with pytest.raises(StateError, match="full disk"):
                open_state(disk / "old")
            with pytest.raises(StateError, match="No space left"):
                StateLock.acquire(str(disk / "new"))
            with pytest.raises(StateError, match="full disk"):
                open_state(disk / "new")
        with opened(disk / "old") as state:
            assert (state.rebuilt, state.recorded_totals("s")[0]) == (None, 10)
        lock = StateLock.acquire(str(disk / "new"))
        with opened(disk / "new") as state:
            assert state.rebuilt is None
            fill(state, 10)
        lock.release()


def test_the_log_of_the_state_does_not_fill_a_small_disk(tmp_path: Path) -> None:
    """A few rows that change again and again need no more room than a few rows: where the log could fill the
    disk, it is written back at every commit."""
    with mounting.tmpfs(tmp_path / "small", "1m") as disk, opened(disk / "state") as state:
        for number in range(1000):
            state.commit(ref(number % 10), RECORDED)

        assert state.recorded_totals("s")[0] == 10


def test_a_daemon_on_a_full_disk_waits_and_goes_on(tmp_path: Path) -> None:
    """Nothing is recorded that is not on the disk, status says why nothing moves, and with room again every
    file is there and recorded, without a person and without another start."""
    with mounting.tmpfs(tmp_path / "small", "2m") as disk, ExitStack() as closing_last:
        home = Home(tmp_path)
        home.content["state_dir"] = str(disk / "state")
        made = home.start()
        closing_last.callback(home.close)
        names = [f"{number:04}" + "x" * 150 for number in range(300)]
        with full(disk):
            for name in names:
                (home.root / "watched" / name).write_text(name)
            wait_until("it is said", lambda: "full disk" in str(made._live.daemon().stores_paused))
            look(home)
            wait_until("it is told", lambda: (look(home), "full disk" in made._live.daemon().health)[1])
        assert made._pipeline.state.lost() is None

        def done() -> bool:
            for line in made._pipeline.store_runners.values():
                line.workers.queue.reopen()  # instead of five seconds
            try:
                return made._pipeline.state.recorded_totals("docs")[0] == len(names)
            except StateError:
                return False

        wait_until("all are recorded", done)
        assert {name: found[0] for name, found in mirror(home).items()} == {name: name for name in names}


# ---- locked, newer ----------------------------------------------------------------------------------------

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode=EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_database_that_another_program_holds_is_named_and_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock is no damage: the start fails with the reason, and succeeds when that program has ended."""
    monkeypatch.setattr(statedb, "BUSY_SECONDS", 0.1)
    with opened(tmp_path) as state:
        fill(state, 5)
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(tmp_path / "state.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StateError, match="locked by another program"):
            open_state(tmp_path)
        other.kill()

    with opened(tmp_path) as state:
        assert (state.rebuilt, state.recorded_totals("s")[0]) == (None, 5)


def test_a_newer_state_is_a_matter_for_a_person(tmp_path: Path) -> None:
    """The manager does not start us again and again on it."""
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute(f"PRAGMA user_version={len(schema.STEPS) + 1}")
    with pytest.raises(StateRefused) as caught:
        State.open(str(tmp_path), now_ns=time.time_ns)

    assert exit_code(caught.value) == EXIT_CONFIG == 78
    unit = (Path(__file__).parents[2] / "systemd" / "syncd.service").read_text()
    assert "RestartPreventExitStatus=2 78" in unit


# ---- a flipped byte ---------------------------------------------------------------------------------------


FLIPS = 12


def flip(path: Path, chance: random.Random) -> None:
    """One bit, somewhere."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def pass_over(place: Place) -> None:
    """What a service manager would do: again, until a pass has nothing to complain of."""
    for _ in range(3):
        try:
            done = place.run(on_delete=OnDelete.DELETE)
            place.state.close()
        except StateError:
            done = None
        place.state = open_state(Path(place.state_dir))
        if done is not None and not done.gave_up and not place.state.failures.count():
            return
    raise AssertionError("no pass came to an end")


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_costs_at_most_a_look(tmp_path: Path, seed: int) -> None:
    """Wherever it is, noticed or not: no object goes or is wrong, and every change arrives."""
    chance = random.Random(seed)
    place = Place(tmp_path)
    names = [f"{number}" * 3 for number in range(30)]
    for name in names:
        (place.folder / name).write_bytes(name.encode() * chance.randrange(1, 20))
    pass_over(place)
    for number in range(FLIPS):
        place.state.close()
        flip(Path(place.state_dir) / "state.db", chance)
        (place.folder / chance.choice(names)).write_bytes(b"changed %d" % number)
        place.state = open_state(Path(place.state_dir))
        pass_over(place)

        content = {f"p/{name}": (place.folder / name).read_bytes() for name in names}
        assert {key: stored.data for key, stored in place.store.objects.items()} == content
    place.state.close()
