"""What is known of a folder as a whole is what the rows say, whatever changed them."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import Destination, FileRef, FileStat, Fingerprint, Recorded
from syncd.state import queries
from syncd.state.schema import DATABASE_NAME
from syncd.state.state import State

AIM = ("store", b"p/")
PATHS = [f"{way}{name}" for way in ("", "a/", "a/b/", "a-/", "a0/", "b/c/", "b/d/e/", "c/") for name in "xyz"]
PREFIXES = sorted({path[:-1].encode() for path in PATHS})


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    state.serve([Destination("s", "store", "p/"), Destination("other", "store", "o/")])
    yield state
    state.close()


def _recorded(path: str, number: int) -> Recorded:
    stat = FileStat(1, number, 5, number, number)
    return Recorded(stat, Fingerprint(b"d" * 16, 5), "store", f"p/{path}", "etag", number)


def _commit(state: State, path: str, number: int = 1, source: str = "s") -> FileRef:
    ref = FileRef(source, path)
    state.commit(ref, _recorded(path, number), durable=False)
    return ref


def _keep(state: State, *prefixes: bytes, kept: bool = False) -> None:
    state.keep_folders("s", prefixes, AIM, b"terms", kept=kept)
    state.flush()


def _known(path: Path) -> dict[bytes, tuple[int, bytes, bytes]]:
    connection = sqlite3.connect(path / DATABASE_NAME)
    try:
        return {
            row[0]: row[1:]
            for row in connection.execute("SELECT path, files, digest, following FROM folders")
        }
    finally:
        connection.close()


def _checked(path: Path) -> int:
    """Make each digest again from the rows, and look for rows where there is none; how many there are."""
    known = _known(path)
    connection = sqlite3.connect(path / DATABASE_NAME, isolation_level=None)
    try:
        for prefix, (files, digest, following) in known.items():
            connection.execute("BEGIN")
            connection.execute("DELETE FROM folders")
            queries.keep_folder(connection, "s", prefix, AIM, b"terms", kept=True)
            again = queries.find_folder(connection, "s", prefix)
            connection.execute("ROLLBACK")
            assert again is not None
            assert again.path == prefix
            assert (again.files, again.digest) == (files, digest), prefix
            assert following <= again.following, prefix
    finally:
        connection.close()
    return len(known)


@pytest.mark.parametrize("seed", range(4))
def test_a_folder_is_known_as_its_rows_are(state: State, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    most = 0
    for number in range(1, 80):
        path = chance.choice(PATHS)
        ref, row = FileRef("s", path), None
        match chance.randrange(12):
            case 0:
                state.forget(ref, durable=False)
            case 1 if row := state.recorded(ref):
                state.keep(ref, row)
            case 2 if row := state.recorded(ref):
                state.doubt(ref, row)
            case 3:
                state.renumber_device("s", 1, 1 + number % 2)
            case 4 if not number % 3:
                state.overtake("s")
            case _:
                _commit(state, path, number)
        _commit(state, path, number, "other")
        state.flush()
        _checked(tmp_path)
        _keep(state, *chance.sample(PREFIXES, 5), kept=True)
        most = max(most, _checked(tmp_path))
    assert most > 1


def test_what_has_no_digest(state: State, tmp_path: Path) -> None:
    """Folders without files, or with folders; with a row that proves nothing, or a name that is no text."""
    for path in ("a/x", "b/c/x", "b/x", "d/x", "e/\udcff", "f/", "g/x"):
        _commit(state, path)
    state.doubt(FileRef("s", "d/x"), _recorded("d/x", 1))
    state.keep(FileRef("s", "g/x"), _recorded("g/x", 1))
    _keep(state, b"a/", b"b/", b"b/c/", b"d/", b"e/", b"f/", b"g/", b"h/", b"", kept=True)
    assert list(_known(tmp_path)) == [b"a/", b"b/c/"]
    assert [getattr(state.folder("s", path), "path", None) for path in (b"", b"a/", b"a0")] == [
        b"a/",
        b"a/",
        b"b/c/",
    ]
    assert state.folder("other", b"a/") is None


@pytest.mark.parametrize(
    ("prefix", "path", "following"),
    [
        ("a/", "b", "b"),
        ("a/", "b/c/d", "b/"),
        ("a/b/", "a/bc/d/e", "a/bc/"),
        ("a/b/", "ab/c", "ab/"),
        ("a/b/c/", "a/d", "a/d"),
    ],
)
def test_until_where_nothing_follows(state: State, prefix: str, path: str, following: str) -> None:
    """As far as a folder that has a digest of its own, and so would not tell this one of a new row in it."""
    _commit(state, f"{prefix}x")
    _commit(state, path)
    _keep(state, prefix.encode())
    found = state.folder("s", prefix.encode())
    assert found is not None
    assert found.following == following.encode()
