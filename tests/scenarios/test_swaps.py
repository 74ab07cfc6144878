"""Names that change what they stand for between two calls: what is read is the file that was looked at.

A user who may write in a source can swap a file or a folder for a link to a place that only syncd may read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import FileError
from syncd.sources import files
from syncd.sources.scan import walk
from syncd.storage.base import Body, ObjectStore
from tests.support.rig import Rig
from tests.unit.sources.scan.test_compare import Tree, running, tree  # noqa: F401  # the fixture

SECRET = b"SECRET"


class Witness:
    """A store that remembers every content that was ever sent to it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.bodies: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_object(self, key: str, body: Body, meta: Any) -> Any:
        self.bodies.append(bytes(body))
        return self._store.put_object(key, body, meta)

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Any:
        self.bodies.append(bytes(body))
        return self._store.upload_part(key, upload_id, number, body)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[tuple[Rig, Witness]]:
    """A rig, and a witness of what it sends."""
    seen: list[Witness] = []

    def wrap(store: ObjectStore) -> Witness:
        seen.append(Witness(store))
        return seen[-1]

    rig = Rig(tmp_path, wrap_store=wrap)
    yield rig, seen[-1]
    rig.close()


def swapping(name: str, action: Callable[[], object]) -> Callable[..., int]:
    """`os.open` that does something, once, before `name` is opened."""
    really = os.open
    waiting = [action]

    def opening(path: Any, *arguments: Any, **named: Any) -> int:
        if path == name and waiting:
            waiting.pop()()
        return really(path, *arguments, **named)

    return opening


# ---- one step, the swap at the worst moment ----------------------------------------------------------------


def test_a_link_that_takes_a_files_place_is_not_followed(
    witness: tuple[Rig, Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4: between the look at a file and its open it becomes a link to a secret: nothing is sent."""
    rig, seen = witness
    (rig.folder.parent / "secret").write_bytes(SECRET)
    rig.write("file", b"public")

    def swap() -> None:
        (rig.folder / "file").unlink()
        (rig.folder / "file").symlink_to("../secret")

    monkeypatch.setattr(os, "open", swapping("file", swap))
    with pytest.raises(FileError):
        rig.sync("file")

    assert seen.bodies == []


def test_a_link_that_takes_a_folders_place_is_not_followed(
    witness: tuple[Rig, Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4: the same with a folder on the way to the file."""
    rig, seen = witness
    (rig.folder.parent / "outside").mkdir()
    (rig.folder.parent / "outside/file").write_bytes(SECRET)
    rig.write("folder/file", b"public")
    looks: list[int] = []
    really = files.open_file

    def swap(root_fd: int, path: str, *more: Any, **named: Any) -> files.OpenFile:
        looks.append(1)
        (rig.folder / "folder").rename(rig.folder / "aside")
        (rig.folder / "folder").symlink_to("../outside")
        return really(root_fd, path, *more, **named)

    monkeypatch.setattr(files, "open_file", swap)
    with pytest.raises(FileError):
        rig.sync("folder/file")

    assert (len(looks), seen.bodies) == (1, [])


def test_what_took_the_place_of_a_file_is_not_taken_for_it(
    witness: tuple[Rig, Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3: another file that was renamed over it between look and open is looked at again, not mixed up; and a
    fifo in its place blocks no thread."""
    rig, seen = witness
    for name, make in (("file", lambda path: path.write_bytes(b"another")), ("pipe", os.mkfifo)):
        rig.write(name, b"public")
        make(rig.folder / "other")
        swap = lambda name=name: (rig.folder / "other").rename(rig.folder / name)  # noqa: E731
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", swapping(name, swap))
            with pytest.raises(FileError):
                rig.sync(name)

    assert seen.bodies == []
    rig.sync("file")
    assert seen.bodies == [b"another"]


# ---- thousands of steps, a program swaps all the time -----------------------------------------------------

SWAP = """
import os, sys
os.chdir(sys.argv[1])
print("swapping", flush=True)
number = 0
while True:
    number += 1
    os.symlink("../secret", "link")
    os.rename("link", "file")
    os.rename("folder", "aside")
    os.symlink("../outside", "folder")
    with open("new", "w") as file:
        file.write(f"p{number}")
    os.rename("new", "file")
    os.unlink("folder")
    os.rename("aside", "folder")
    with open("folder/file", "w") as file:
        file.write(f"q{number}")
"""


def test_no_upload_holds_the_secret(witness: tuple[Rig, Witness]) -> None:
    """S4: thousands of steps for a file, and for one in a folder, while another process swaps both for links
    to secrets: what is sent is what was in the source, and nothing else ever is."""
    rig, seen = witness
    (rig.folder.parent / "outside").mkdir()
    (rig.folder.parent / "secret").write_bytes(SECRET)
    (rig.folder.parent / "outside/file").write_bytes(SECRET)
    rig.write("file", b"p0")
    rig.write("folder/file", b"q0")
    refused = 0
    with running(SWAP, rig.folder):
        for number in range(4_000):
            try:
                rig.sync(("file", "folder/file")[number % 2])
            except FileError:
                refused += 1

    assert refused > 0, "the race was not run: nothing was ever swapped in the middle"
    assert len(seen.bodies) > 100, "the race was not run: hardly anything was sent"
    assert {body[:1] for body in seen.bodies} <= {b"p", b"q", b""}


# ---- scans -------------------------------------------------------------------------------------------------


def test_a_file_that_becomes_a_directory_is_entered(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """S6: what was listed as a file and is a directory by the time of the look is walked like any other."""
    tree.write("a", "turns/inside", "z")
    really = walk.names_in
    monkeypatch.setattr(walk, "names_in", lambda fd: (name.replace("s/", "s") for name in really(fd)))

    told = tree.scan()

    assert sorted(told.found) == ["a", "turns/inside", "z"]
    assert told.report.complete
