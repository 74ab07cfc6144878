"""The records and a listing find the same objects, each with its place."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import AccessRefused, StoreRefused
from syncd.core.model import FileRef, FileStat, Fingerprint, Recorded, Source
from syncd.core.paths import LINK, key_for
from syncd.core.restoring import Place, Refused
from syncd.state.state import State
from syncd.transfer.restore.wanted import Wanted, listed, recorded
from tests.support.store import FakeStore
from tests.unit.transfer.restore.restoring import put

SOURCE = Source("docs", "/srv/docs", "store", prefix="p/")
PATHS = ["a", "a.txt", "sub/a", "sub/deep/b", "sub-not/c", "\udcff/\u201b", "sub"]


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore(page_size=2)
    for path in PATHS:
        put(store, key_for("p/", path), path.encode("utf-8", "surrogateescape"))
    put(store, "other/a", b"x")
    return store


@pytest.fixture
def state(store: FakeStore, tmp_path: Path) -> Iterator[State]:
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)) as state:
        for number, path in enumerate(PATHS):
            key = key_for("p/", path)
            held = store.objects[key]
            stat = FileStat(1, number, len(held.data), number, 0)
            row = Recorded(stat, held.meta.fingerprint, store.store_id, key, held.etag, 0)
            state.commit(FileRef("docs", path), row)
        state.commit(FileRef("other", "a"), row)
        yield state


def places(items: Iterator[Wanted]) -> list[str]:
    return sorted(item.path for item in items if isinstance(item.place, Place))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", PATHS),
        ("a", ["a"]),
        ("sub", ["sub", "sub/a", "sub/deep/b"]),
        ("sub/deep", ["sub/deep/b"]),
        ("\udcff", ["\udcff/\u201b"]),
        ("nothing", []),
        ("su", []),
    ],
)
def test_a_selection_is_a_file_or_all_of_a_folder(
    store: FakeStore, state: State, path: str, expected: list[str]
) -> None:
    """By the records and by the listing alike; what only begins alike is not meant."""
    assert places(recorded(SOURCE, path, state, store, "")) == sorted(expected)
    assert places(listed(store, "p/", path, "")) == sorted(expected)
    assert places(recorded(SOURCE, path, state, store, "docs/")) == sorted(
        f"docs/{each}" for each in expected
    )
    assert places(listed(store, "p/", path, "docs/")) == sorted(f"docs/{each}" for each in expected)


def test_the_records_say_all_that_is_needed_to_check_a_file(store: FakeStore, state: State) -> None:
    """Size, ETag, digest and mtime: a small object costs one request."""
    found = {item.path: item for item in recorded(SOURCE, "", state, store, "")}
    held = store.objects["p/sub/a"]
    info = found["sub/a"].info
    assert (info.size, info.etag, info.digest) == (5, held.etag, held.meta.fingerprint.digest)
    assert info.mtime_ns == PATHS.index("sub/a")
    assert found["sub/a"].described
    assert store.calls.total() == len(PATHS) + 1  # those that put them


def test_an_object_in_another_store_is_reported(store: FakeStore, state: State) -> None:
    """The source was moved to another store, and this file has not been carried there yet."""
    row = Recorded(FileStat(1, 1, 1, 1, 1), Fingerprint(bytes(16), 1), "dir:/elsewhere", "p/a", "e", 0)
    state.commit(FileRef("docs", "a"), row)
    refused = [item for item in recorded(SOURCE, "", state, store, "") if isinstance(item.place, Refused)]
    assert [(item.info.key, item.place) for item in refused] == [
        ("p/a", Refused("its object is in another store, dir:/elsewhere: name that one with --store"))
    ]


def test_a_deleted_file_gives_way_to_what_has_its_name_since(store: FakeStore, state: State) -> None:
    """Else chance would say which comes back. By its own name it is still to be had."""
    row = state.recorded(FileRef("docs", "sub"))
    assert row is not None
    for path in ("sub", "a/old", "sub/gone"):
        state.commit(FileRef("docs", path), row)
        state.keep(FileRef("docs", path), state.recorded(FileRef("docs", path)) or row)

    reasons = [
        item.place.reason
        for item in recorded(SOURCE, "", state, store, "")
        if isinstance(item.place, Refused)
    ]
    assert len(reasons) == 2
    assert "a file with the name of its folder is there" in reasons[0]
    assert "a folder of its name is there" in reasons[1]
    assert places(recorded(SOURCE, "sub", state, store, "")) == ["sub", "sub/a", "sub/deep/b", "sub/gone"]


def test_a_folder_that_became_a_link_comes_back_with_its_files(store: FakeStore, state: State) -> None:
    """They are out of sight, not gone. Once they are, the link comes back."""
    row = state.recorded(FileRef("docs", "sub/a"))
    assert row is not None
    state.forget(FileRef("docs", "sub"))
    state.commit(FileRef("docs", "sub"), replace(row, key="p/sub" + LINK))

    def refused() -> list[str]:
        return [
            item.path for item in recorded(SOURCE, "", state, store, "") if isinstance(item.place, Refused)
        ]

    assert refused() == ["p/sub" + LINK]
    for path in ("sub/a", "sub/deep/b"):
        gone = state.recorded(FileRef("docs", path))
        assert gone is not None
        state.keep(FileRef("docs", path), gone)
    assert refused() == ["p/sub/a", "p/sub/deep/b"]


def test_the_mark_of_the_folder_itself_goes_to_the_folder(store: FakeStore) -> None:
    """Also where the folder is one of several."""
    put(store, "p/", b"")
    (mark,) = [item for item in listed(store, "p/", "", "docs/") if item.info.key == "p/"]
    assert mark.place == Place("docs", is_folder=True)
    assert os.fsencode(mark.path) == b"docs"


def test_a_key_that_the_store_cannot_have_is_one_failure(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one with an empty component in a directory; refused keys of the account end everything."""
    errors: list[Exception] = [StoreRefused("no such key can be"), AccessRefused("no", credentials=True)]

    def refuse(_key: str) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(store, "head_object", refuse)
    (item,) = listed(store, "p/", "/x", "")
    assert (item.path, item.place) == ("p//x", Refused("no such key can be"))
    with pytest.raises(AccessRefused):
        next(listed(store, "p/", "a", ""))
