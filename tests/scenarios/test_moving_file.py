"""A file that is changed at any moment of its way: nothing but a state that it really had becomes an object,
and when it has settled its last state arrives.

A table of moments and a table of changes; every pair is a test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import FileChanged, FileError, StoreUnavailable
from syncd.core.plan import Nothing
from syncd.sources import files, fingerprint
from syncd.sources.files import OpenFile
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import ObjectStore, StoreLimits
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore

NAME = "d/file"
KEY = "p/d/file"
SMALL = b"smaller!"
LARGE = bytes(range(61))
"""Seven full parts and a short one."""
SECRET = b"not for anybody's eyes: " * 3
PARTS = 8

Act = Callable[[], None]


# ---- what may happen to a file ----------------------------------------------------------------------------


def _other(content: bytes) -> bytes:
    return content[::-1]


def _rewrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


def _restoring_mtime(path: Path, change: Act) -> None:
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewritten(path: Path) -> None:
    _rewrite(path, _other(path.read_bytes()))


def rewritten_in_secret(path: Path) -> None:
    _restoring_mtime(path, lambda: rewritten(path))


def one_byte_changed_in_secret(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _restoring_mtime(path, lambda: _rewrite(path, bytes(content)))


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"and more")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def replaced_by_rename(path: Path) -> None:
    """By a file of the same size and mtime."""
    before, new = path.stat(), path.with_name("new")
    new.write_bytes(_other(path.read_bytes()))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def deleted(path: Path) -> None:
    path.unlink()


def replaced_by_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced_by_a_link(path: Path) -> None:
    """That leads out of the tree."""
    path.unlink()
    path.symlink_to(path.parents[2] / "outside" / "file")


def folder_replaced_by_a_link(path: Path) -> None:
    path.parent.rename(path.parents[1] / "aside")
    path.parent.symlink_to(path.parents[2] / "outside")


CHANGES: tuple[Callable[[Path], None], ...] = (
    rewritten,
    rewritten_in_secret,
    one_byte_changed_in_secret,
    appended,
    cut_short,
    emptied,
    replaced_by_rename,
    deleted,
    replaced_by_a_fifo,
    replaced_by_a_directory,
    replaced_by_a_link,
    folder_replaced_by_a_link,
)


# ---- when it may happen -----------------------------------------------------------------------------------


class Hooked:
    """A store that does something before or after certain requests."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.hooks: list[tuple[str, str, int, Act]] = []
        """Before or after; which verb; which part, 0 for any; what."""

    @property
    def limits(self) -> StoreLimits:
        """Such that a part may have any size."""
        return replace(self._store.limits, part_size_multiple=1)

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._store, verb)
        if not callable(real):
            return real

        def request(*values: Any) -> Any:
            part = values[2] if verb == "upload_part" else 0
            self._run("before", verb, part)
            answer = real(*values)
            self._run("after", verb, part)
            return answer

        return request

    def _run(self, when: str, verb: str, part: int) -> None:
        for hook_when, hook_verb, hook_part, act in self.hooks:
            if (hook_when, hook_verb) == (when, verb) and hook_part in (0, part):
                act()


class Scene:
    """A rig with one file in it, on a store that can be listened to."""

    def __init__(self, root: Path, store: ObjectStore, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.store = store
        self.hooked = Hooked(store)
        self.rig = Rig(root, store=store, concurrency=1, wrap_store=lambda _: self.hooked)
        self.path = self.rig.folder / NAME
        (root / "outside").mkdir()
        (root / "outside" / "file").write_bytes(SECRET)
        self.changed = 0

    def once(self, change: Callable[[Path], None]) -> Act:
        """The change, the first time that it is called."""

        def act() -> None:
            self.changed += 1
            if self.changed == 1:
                change(self.path)

        return act

    def object(self) -> bytes | None:
        if isinstance(self.store, FakeStore):
            found = self.store.objects.get(KEY)
            return None if found is None else found.data
        info = self.store.head_object(KEY)
        if info is None or info.size == 0:
            return None if info is None else b""
        return bytes(self.store.get_object(KEY, 0, info.size - 1).body)

    def uploads(self) -> list[str]:
        return [upload.key for upload in self.store.list_multipart_uploads("")]


Arm = Callable[[Scene, Act], None]


def _request(when: str, verb: str, part: int = 0) -> Arm:
    return lambda scene, act: scene.hooked.hooks.append((when, verb, part, act))


def _before_open(scene: Scene, act: Act) -> None:
    real = files.open_file

    def open_file(root_fd: int, path: str, *more: Any, **named: Any) -> OpenFile:
        act()
        return real(root_fd, path, *more, **named)

    scene.patch.setattr(files, "open_file", open_file)


def _between_look_and_open(scene: Scene, act: Act) -> None:
    """The second look at the name is the one just before it is opened."""
    real, looks = os.stat, []

    def stat(path: Any, **how: Any) -> os.stat_result:
        found = real(path, **how)
        if path == os.path.basename(NAME):
            looks.append(path)
            if len(looks) == 2:
                act()
        return found

    scene.patch.setattr(os, "stat", stat)


def _after_open(scene: Scene, act: Act) -> None:
    real = files.open_file

    def open_file(root_fd: int, path: str, *more: Any, **named: Any) -> OpenFile:
        file = real(root_fd, path, *more, **named)
        act()
        return file

    scene.patch.setattr(files, "open_file", open_file)


def hashed_to(block: int) -> Arm:
    def arm(scene: Scene, act: Act) -> None:
        asked: list[int] = []

        def should_stop() -> bool:
            asked.append(1)
            if len(asked) == block:
                act()
            return False

        scene.rig.engine._carrier._should_stop = should_stop

    return arm


def half_read(offset: int, *, nth: int = 1) -> Arm:
    """The kernel gives the first half of a read before the change, and the second behind it: of the read at
    `offset` that is number `nth` there.
    """

    def arm(scene: Scene, act: Act) -> None:
        pread, preadv, reads = os.pread, os.preadv, []

        def is_it(size: int, at: int) -> bool:
            reads.extend([at] if at == offset and size > 1 else [])
            return at == offset and size > 1 and len(reads) == nth

        def read(descriptor: int, size: int, at: int) -> bytes:
            if not is_it(size, at):
                return pread(descriptor, size, at)
            first = pread(descriptor, size // 2, at)
            act()
            return first + pread(descriptor, size - len(first), at + len(first))

        def read_into(descriptor: int, views: list[memoryview], at: int) -> int:
            if not is_it(len(views[0]), at):
                return preadv(descriptor, views, at)
            count = preadv(descriptor, [views[0][: len(views[0]) // 2]], at)
            act()
            return count

        scene.patch.setattr(os, "pread", read)
        scene.patch.setattr(os, "preadv", read_into)

    return arm


def _after_hashing(scene: Scene, act: Act) -> None:
    real = fingerprint.compute

    def compute(*values: Any) -> fingerprint.Digests:
        digests = real(*values)
        act()
        return digests

    scene.patch.setattr(fingerprint, "compute", compute)


def _after_reading(scene: Scene, act: Act) -> None:
    real = OpenFile.whole

    def whole(file: OpenFile) -> files.Body:
        body = real(file)
        act()
        return body

    scene.patch.setattr(OpenFile, "whole", whole)


MOMENTS_OF_A_SMALL_FILE: dict[str, Arm] = {
    "looked at": _before_open,
    "about to be opened": _between_look_and_open,
    "opened": _after_open,
    "half read": half_read(0),
    "read": _after_reading,
    "before put": _request("before", "put_object"),
    "after put": _request("after", "put_object"),
}
MOMENTS_OF_A_LARGE_FILE: dict[str, Arm] = {
    "looked at": _before_open,
    "about to be opened": _between_look_and_open,
    "opened": _after_open,
    "hashed to block 1": hashed_to(1),
    "hashed to block 5": hashed_to(5),
    "hashed": _after_hashing,
    "before create": _request("before", "create_multipart_upload"),
    "after create": _request("after", "create_multipart_upload"),
    "before part 1": _request("before", "upload_part", 1),
    "half of block 4 hashed": half_read(3 * PART),
    "half of part 4 read": half_read(3 * PART, nth=2),
    "before part 4": _request("before", "upload_part", 4),
    "after part 4": _request("after", "upload_part", 4),
    "after the last part": _request("after", "upload_part", PARTS),
    "before complete": _request("before", "complete_multipart_upload"),
    "after complete": _request("after", "complete_multipart_upload"),
}
MOMENTS_OF_A_RESUMED_FILE: dict[str, Arm] = {
    "before the list of parts": _request("before", "list_parts"),
    "after the list of parts": _request("after", "list_parts"),
    "before the first missing part": _request("before", "upload_part", 4),
    "after the last part": _request("after", "upload_part", PARTS),
    "before complete": _request("before", "complete_multipart_upload"),
}

every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, FakeStore(SMALL_LIMITS), monkeypatch)
    yield scene
    scene.rig.close()


@pytest.fixture
def dir_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(tmp_path, DirStore(DirSettings(str(tmp_path / "mirror"), create=True)), monkeypatch)
    yield scene
    scene.rig.close()


# ---- the rules --------------------------------------------------------------------------------------------


def interrupted(scene: Scene) -> None:
    """Three parts are there when the connection breaks."""

    def breaks() -> None:
        raise StoreUnavailable("reset")

    scene.hooked.hooks.append(("before", "upload_part", 4, breaks))
    with pytest.raises(StoreUnavailable):
        scene.rig.sync(NAME)
    scene.hooked.hooks.clear()
    assert scene.uploads() == [KEY]


def what_is_there(path: Path) -> bytes | None:
    """The content of a regular file that is reached without a link; None: there is none."""
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        return None
    return path.read_bytes()


def make_way(path: Path) -> None:
    """Take away whatever is in the place of the file."""
    if path.parent.is_symlink():
        path.parent.unlink()
    elif path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def survives(scene: Scene, arm: Arm, change: Callable[[Path], None]) -> None:
    """One step with the change in its middle, and then steps like those of a scan until nothing is left."""
    before = scene.path.read_bytes()
    arm(scene, scene.once(change))
    with suppress(FileError):
        scene.rig.sync(NAME)
    assert scene.changed > 0, "the moment never came"
    scene.hooked.hooks.clear()
    scene.patch.undo()

    after = what_is_there(scene.path)
    sent = scene.object()
    assert sent in (None, before, after), "an object that the file never was"
    recorded = scene.rig.state.recorded(scene.rig.ref(NAME))
    assert recorded is None or (sent is not None and recorded.fingerprint == of_bytes(sent))

    outcome = scene.rig.sync(NAME, event=False)
    if after is None:
        assert isinstance(outcome.action, Nothing)
        assert scene.object() == sent
        make_way(scene.path)
        after = _other(before)
        scene.rig.write(NAME, after)
        scene.rig.sync(NAME, event=False)
    assert scene.object() == after
    assert scene.uploads() == []
    recorded = scene.rig.state.recorded(scene.rig.ref(NAME))
    assert recorded is not None
    assert recorded.fingerprint == of_bytes(after)
    assert scene.rig.state.checkpoints.all() == []


@every_change
@pytest.mark.parametrize("moment", MOMENTS_OF_A_SMALL_FILE)
def test_a_small_file_that_moves(scene: Scene, moment: str, change: Callable[[Path], None]) -> None:
    """One put holds one state; the last one arrives."""
    scene.rig.write(NAME, SMALL)
    survives(scene, MOMENTS_OF_A_SMALL_FILE[moment], change)


@every_change
@pytest.mark.parametrize("moment", MOMENTS_OF_A_LARGE_FILE)
def test_a_large_file_that_moves(scene: Scene, moment: str, change: Callable[[Path], None]) -> None:
    """No mixture of parts is ever completed; the last state arrives, and no upload stays behind."""
    scene.rig.write(NAME, LARGE)
    survives(scene, MOMENTS_OF_A_LARGE_FILE[moment], change)


@every_change
@pytest.mark.parametrize("moment", MOMENTS_OF_A_RESUMED_FILE)
def test_a_resumed_file_that_moves(scene: Scene, moment: str, change: Callable[[Path], None]) -> None:
    """Parts of before are no excuse: they count only as long as the file has their bytes."""
    scene.rig.write(NAME, LARGE)
    interrupted(scene)
    survives(scene, MOMENTS_OF_A_RESUMED_FILE[moment], change)


@every_change
@pytest.mark.parametrize("moment", ["half of part 4 read", "before part 4", "after complete"])
def test_a_large_file_that_moves_on_its_way_to_a_directory(
    dir_scene: Scene, moment: str, change: Callable[[Path], None]
) -> None:
    """The same where objects are files."""
    dir_scene.rig.write(NAME, LARGE)
    survives(dir_scene, MOMENTS_OF_A_LARGE_FILE[moment], change)


@every_change
@pytest.mark.parametrize("moment", ["half read", "before put", "after put"])
def test_a_small_file_that_moves_on_its_way_to_a_directory(
    dir_scene: Scene, moment: str, change: Callable[[Path], None]
) -> None:
    """The same in one request."""
    dir_scene.rig.write(NAME, SMALL)
    survives(dir_scene, MOMENTS_OF_A_SMALL_FILE[moment], change)


def test_what_changed_before_complete_is_not_completed(scene: Scene) -> None:
    """A state of before, whole as it may be, is not worth an object: the parts are given up."""
    scene.rig.write(NAME, LARGE)
    _request("after", "upload_part", PARTS)(scene, scene.once(rewritten_in_secret))
    with pytest.raises(FileChanged):
        scene.rig.sync(NAME)
    assert scene.object() is None
