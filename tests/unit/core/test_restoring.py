"""Every key has one place below the folder or a reason; a file that is there stays unless told otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import ObjectInfo
from syncd.core.paths import key_for
from syncd.core.restoring import (
    DRAFT,
    Existing,
    Overwrite,
    Place,
    Proof,
    Refused,
    folded,
    may_be_same,
    place_of,
    proof_of,
    why_kept,
)

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
SECOND = 10**9


@given(st.sampled_from(["", "p/", "a/b/"]), st.lists(NAMES, min_size=1, max_size=4))
def test_every_name_of_a_file_comes_back(prefix: str, names: list[bytes]) -> None:
    """The reverse of the mapping, whatever the bytes."""
    path = b"/".join(names).decode("utf-8", "surrogateescape")
    assert place_of(prefix, key_for(prefix, path), 5) == Place(path)


@pytest.mark.parametrize(
    ("key", "size", "path"),
    [
        ("p/", 0, ""),
        ("p/folder/", 0, "folder"),
        ("p/a/b/", 0, "a/b"),
    ],
)
def test_an_empty_object_that_ends_in_a_slash_is_a_folder(key: str, size: int, path: str) -> None:
    """As consoles and other tools make them; the prefix itself is the folder that is restored."""
    assert place_of("p/", key, size) == Place(path, is_folder=True)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("p/a\u201bb", "a\u201bb"),
        ("p/\u201b41", "\u201b41"),
        ("p/\u201bC3\u201bA9", "\u201bC3\u201bA9"),
    ],
)
def test_a_key_that_is_none_of_ours_is_taken_as_it_is_written(key: str, path: str) -> None:
    """Another program wrote it; ours of that name would have another key, which is told."""
    found = place_of("p/", key, 5)
    assert found == Place(path, rival=key_for("p/", path))
    assert place_of("p/", key_for("p/", path), 5) == Place(path)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("other", "does not begin with the prefix"),
        ("p/../a", "component .."),
        ("p/a/../../b", "component .."),
        ("p/..", "component .."),
        ("p/./a", "component ."),
        ("p//etc/passwd", "absolute"),
        ("p/a//b", "empty component"),
        ("p/a/", "empty component"),
        ("p/a\0b", "NUL"),
        ("p/\ud800", "not text"),
        (f"p/a/{DRAFT}0.part", "unfinished"),
        ("p/", "empty component"),
    ],
)
def test_a_key_that_leads_nowhere_is_refused(key: str, reason: str) -> None:
    """With the reason; an object with content is no folder."""
    found = place_of("p/", key, 5)
    assert isinstance(found, Refused)
    assert reason in found.reason


@pytest.mark.parametrize("key", ["p/../", "p//", "p/a//", "p/./", "p/..//"])
def test_a_folder_has_to_have_a_name_too(key: str) -> None:
    """Whatever its size."""
    assert isinstance(place_of("p/", key, 0), Refused)


@pytest.mark.parametrize(
    ("one", "other", "case", "form"),
    [
        ("Sub/A.JPG", "sub/a.jpg", True, False),
        ("\u00c9", "\u00e9", True, False),
        ("e\u0301", "\u00e9", False, True),
    ],
)
def test_names_that_are_one_are_folded_to_one(one: str, other: str, case: bool, form: bool) -> None:
    """And only by what the file system ignores; any name can be folded."""
    assert folded(one, case=case, form=form) == folded(other, case=case, form=form)
    assert folded(one, case=False, form=False) != folded(other, case=False, form=False)
    assert folded("\udcff/\u201b", case=True, form=True) == "\udcff/\u201b"


@given(st.text(max_size=30), st.integers(0, 1))
def test_no_key_leads_out(key: str, size: int) -> None:
    """Every component of a place is the name of a file."""
    found = place_of("", key, size)
    if isinstance(found, Place) and found.path:
        assert not {"", ".", ".."} & set(found.path.split("/"))
        assert "\0" not in found.path


def existing(size: int, mtime_ns: int) -> Existing:
    return Existing(size, mtime_ns, (1, 2, 3))


@pytest.mark.parametrize(
    ("size", "mtime_ns", "same"),
    [
        (5, 10 * SECOND, True),
        (5, 12 * SECOND - 1, True),
        (5, 12 * SECOND, False),
        (5, None, True),
        (6, 10, False),
    ],
)
def test_size_and_time_tell_what_is_worth_comparing(size: int, mtime_ns: int | None, same: bool) -> None:
    """A file system may round the time; what has no time is compared by its content alone."""
    assert may_be_same(existing(5, 10 * SECOND), size, mtime_ns) is same


@pytest.mark.parametrize(
    ("overwrite", "mtime_ns", "kept"),
    [
        (Overwrite.NEVER, 20, True),
        (Overwrite.NEVER, None, True),
        (Overwrite.OLDER, 11, False),
        (Overwrite.OLDER, 10, True),
        (Overwrite.OLDER, 9, True),
        (Overwrite.OLDER, None, True),
        (Overwrite.ALWAYS, 9, False),
        (Overwrite.ALWAYS, None, False),
    ],
)
def test_a_file_that_differs_stays_unless_told_otherwise(
    overwrite: Overwrite, mtime_ns: int | None, kept: bool
) -> None:
    """`older` replaces what is older than the object, and nothing where that cannot be known."""
    assert (why_kept(existing(5, 10), mtime_ns, overwrite) is not None) is kept


def test_the_best_witness_is_asked() -> None:
    """Our digest before the store's; a checksum of 128 bits before one of 32."""
    info = ObjectInfo("k", 1, "e", digest=b"d" * 16, crc32=7, md5=b"m" * 16)
    assert proof_of(info) == Proof("xxh128", b"d" * 16)
    assert proof_of(ObjectInfo("k", 1, "e", crc32=7, md5=b"m" * 16)) == Proof("md5", b"m" * 16)
    assert proof_of(ObjectInfo("k", 1, "e", crc32=7)) == Proof("crc32", b"\0\0\0\7")
    assert proof_of(ObjectInfo("k", 1, "e")) is None
