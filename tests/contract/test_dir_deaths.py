"""For every system call of the `dir` store: the process dies before it or after it, and nothing is lost.

`tests.contract.mortal` makes the deaths; each test says what a fresh process must find, and that doing the
deed again ends well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

import pytest
import xxhash

from syncd.core.errors import UploadGone
from syncd.core.model import Part
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.contract.mortal import DEEDS, Mortals, meta_of, part_body
from tests.contract.subjects import without_extended_attributes

OLD, NEW = "old content", "the new content, which is longer"
HOLE = "\0" * 5000
TWO_DAYS_NS = 2 * 86_400 * 10**9


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    with Mortals() as made:
        yield made


@pytest.fixture(params=["attributes", "sidecars"])
def attributes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system has extended attributes, for us and for those who die."""
    if request.param == "sidecars":
        without_extended_attributes(monkeypatch)
    return bool(request.param == "attributes")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: thousands of calls of fsync are not what is examined here."""
    if not has_attributes("/dev/shm"):
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def has_attributes(directory: str) -> bool:
    try:
        with NamedTemporaryFile(dir=directory) as file:
            os.setxattr(file.name, "user.syncd.test", b"x")
    except OSError:
        return False
    return True


class Place:
    """A directory for each death, and what a process finds there afterwards."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.store = DirStore(DirSettings(str(root)))

    def put(self, key: str, text: str, token: str = "old") -> None:
        self.store.put_object(key, text.encode(), meta_of(text.encode(), token))

    def text(self, key: str) -> str | None:
        """The object, after making sure that the store says the truth about it; None: there is none."""
        info = self.store.head_object(key)
        if info is None:
            return None
        data = self.store.get_object(key, 0, 10_000).body
        assert (info.size, info.digest) == (len(data), xxhash.xxh3_128_digest(data))
        return data.decode()

    def files(self) -> list[str]:
        """What a person sees: every file outside of ``.syncd``."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.parts[0] != ".syncd")

    def reopen(self, later_ns: int = 0) -> None:
        self.store = DirStore(DirSettings(str(self.root)), now_ns=lambda: time.time_ns() + later_ns)

    def staged(self) -> list[str]:
        return os.listdir(self.root / ".syncd" / "tmp")


def every_death(
    mortals: Mortals,
    tmp_path: Path,
    attributes: bool,
    deed: str,
    prepare: Callable[[Place], dict[str, object]],
    check: Callable[[Place, dict[str, object]], None],
) -> None:
    """Let the deed die at each of its calls; `check` what is found, do it again, and `check` the end."""
    for after in (False, True):
        at, died = 0, True
        while died:
            at += 1
            place = Place(tmp_path / f"{deed}-{at}-{after}")
            facts = {"key": "a/b", "body": NEW, **prepare(place)}
            died = mortals.dies(deed, str(place.root), at=at, after=after, attributes=attributes, **facts)
            place.reopen()
            check(place, facts)
            with suppress(UploadGone):
                DEEDS[deed](place.store, facts)
            check(place, facts)
            place.reopen(later_ns=TWO_DAYS_NS)
            check(place, facts)
            assert place.staged() == []
        assert at > 5, "the deed made fewer calls than anything durable could"


@pytest.mark.parametrize("before", [None, OLD])
def test_a_put_leaves_the_old_object_or_the_new(
    mortals: Mortals, tmp_path: Path, attributes: bool, before: str | None
) -> None:
    """An object is whole at every moment, and what the store says about it is true."""

    def prepare(place: Place) -> dict[str, object]:
        if before is not None:
            place.put("a/b", before)
        return {}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a/b") in (before, NEW)
        assert place.files() in ([], ["a/b"])

    every_death(mortals, tmp_path, attributes, "put", prepare, check)


def test_an_object_in_the_way_of_a_directory_is_never_lost(
    mortals: Mortals, tmp_path: Path, attributes: bool
) -> None:
    """While ``a`` makes room for ``a/b`` it can be found all the time."""

    def prepare(place: Place) -> dict[str, object]:
        place.put("a", OLD)
        return {}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a") == OLD
        assert place.text("a/b") in (None, NEW)

    every_death(mortals, tmp_path, attributes, "put", prepare, check)


def test_an_object_goes_beside_a_directory_or_nowhere(
    mortals: Mortals, tmp_path: Path, attributes: bool
) -> None:
    """Putting ``a`` where ``a/b`` is leaves ``a/b`` alone."""

    def prepare(place: Place) -> dict[str, object]:
        place.put("a/b", OLD)
        return {"key": "a"}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a/b") == OLD
        assert place.text("a") in (None, NEW)

    every_death(mortals, tmp_path, attributes, "put", prepare, check)


def test_an_object_that_returns_to_its_place_is_the_newest(
    mortals: Mortals, tmp_path: Path, attributes: bool
) -> None:
    """When the directory is gone, the new object hides the one that had made room, also if that stays."""

    def prepare(place: Place) -> dict[str, object]:
        place.put("a", OLD)
        place.put("a/b", OLD)
        place.store.delete_object("a/b")
        return {"key": "a"}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a") in (OLD, NEW)

    every_death(mortals, tmp_path, attributes, "put", prepare, check)


def test_a_copy_leaves_the_old_object_or_the_copy(mortals: Mortals, tmp_path: Path, attributes: bool) -> None:
    """A copy is put in place like a new object, and its source is untouched."""

    def prepare(place: Place) -> dict[str, object]:
        place.put("a/b", OLD)
        place.put("source", NEW)
        return {"source": "source"}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a/b") in (OLD, NEW)
        assert place.text("source") == NEW

    every_death(mortals, tmp_path, attributes, "copy", prepare, check)


@pytest.mark.parametrize("displaced", [False, True])
def test_a_delete_leaves_the_object_or_nothing(
    mortals: Mortals, tmp_path: Path, attributes: bool, displaced: bool
) -> None:
    """An object is there whole or not at all; an older one of its name does not come back."""

    def prepare(place: Place) -> dict[str, object]:
        if displaced:
            place.put("a/b", "an older one, which a crash left beside it")
            os.rename(place.root / "a" / "b", place.root / "a" / "older")
        place.put("a/c", OLD)
        place.put("a/b", OLD)
        if displaced:
            os.rename(place.root / "a" / "older", place.root / "a" / "b.~syncd-object~")
        return {}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a/b") in (OLD, None)
        assert place.text("a/c") == OLD
        if place.text("a/b") is None:  # then nothing is left that might be said of another file there
            by_hand = place.root / "a" / "b"
            by_hand.write_text(OLD.swapcase())
            os.utime(by_hand, ns=(0, meta_of(b"").mtime_ns))
            assert place.text("a/b") == OLD.swapcase()
            by_hand.unlink()

    every_death(mortals, tmp_path, attributes, "delete", prepare, check)


def test_an_upload_begins_whole_or_not_at_all(mortals: Mortals, tmp_path: Path, attributes: bool) -> None:
    """Whatever uploads are listed can be worked with."""

    def check(place: Place, facts: dict[str, object]) -> None:
        for upload in place.store.list_multipart_uploads(""):
            assert upload.key == "a/b"
            assert place.store.list_parts(upload.key, upload.upload_id) == []

    every_death(mortals, tmp_path, attributes, "create", lambda place: {}, check)


@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), (OLD, HOLE), (HOLE, NEW)])
def test_a_part_is_the_old_one_or_the_new(
    mortals: Mortals, tmp_path: Path, attributes: bool, before: str, after: str
) -> None:
    """A part that is sent again replaces the first in one step; the others are untouched."""

    def prepare(place: Place) -> dict[str, object]:
        upload_id = place.store.create_multipart_upload("a/b", meta_of(NEW.encode()))
        for number in (1, 2):
            place.store.upload_part("a/b", upload_id, number, part_body(before))
        return {"upload": upload_id, "body": after}

    def check(place: Place, facts: dict[str, object]) -> None:
        old, new = ((xxhash.xxh3_128_digest(text.encode()), len(text)) for text in (before, after))
        listed = place.store.list_parts("a/b", str(facts["upload"]))
        assert [part.number for part in listed] == [1, 2]
        assert (listed[0].digest, listed[0].size) == old
        assert (listed[1].digest, listed[1].size) in (old, new)

    every_death(mortals, tmp_path, attributes, "part", prepare, check)


def test_completing_never_loses_both_upload_and_object(
    mortals: Mortals, tmp_path: Path, attributes: bool
) -> None:
    """Either the upload is there with all parts, or the object is, with the token that tells it is ours."""
    halves = (NEW[:10].encode(), NEW[10:].encode())

    def prepare(place: Place) -> dict[str, object]:
        place.put("a/b", OLD)
        upload_id = place.store.create_multipart_upload("a/b", meta_of(NEW.encode(), "ours"))
        sent = [place.store.upload_part("a/b", upload_id, n, half) for n, half in enumerate(halves, 1)]
        return {"upload": upload_id, "parts": [(part.number, part.size, part.etag) for part in sent]}

    def check(place: Place, facts: dict[str, object]) -> None:
        text = place.text("a/b")
        assert text in (OLD, NEW)
        assert place.files() == ["a/b"]
        listed: list[Part] = []
        with suppress(UploadGone):
            listed = place.store.list_parts("a/b", str(facts["upload"]))
        assert text == NEW or [part.size for part in listed] == [10, len(NEW) - 10]

    every_death(mortals, tmp_path, attributes, "complete", prepare, check)


def test_an_abort_leaves_the_whole_upload_or_nothing(
    mortals: Mortals, tmp_path: Path, attributes: bool
) -> None:
    """No half of an upload stays that could be taken for one."""

    def prepare(place: Place) -> dict[str, object]:
        upload_id = place.store.create_multipart_upload("a/b", meta_of(NEW.encode()))
        for number in (1, 2, 3):
            place.store.upload_part("a/b", upload_id, number, OLD.encode())
        return {"upload": upload_id}

    def check(place: Place, facts: dict[str, object]) -> None:
        for upload in place.store.list_multipart_uploads(""):
            assert [part.number for part in place.store.list_parts("a/b", upload.upload_id)] == [1, 2, 3]

    every_death(mortals, tmp_path, attributes, "abort", prepare, check)


def test_the_record_of_a_new_object_is_never_believed_of_the_old(
    mortals: Mortals, tmp_path: Path, attributes: bool
) -> None:
    """Same size, same mtime, other bytes: at every death, what is said is true of what is there."""

    def prepare(place: Place) -> dict[str, object]:
        place.put("a/b", OLD)
        return {"body": OLD.swapcase()}

    def check(place: Place, facts: dict[str, object]) -> None:
        assert place.text("a/b") in (OLD, OLD.swapcase())

    every_death(mortals, tmp_path, attributes, "put", prepare, check)
