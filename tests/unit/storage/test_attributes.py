"""Attributes are written as rclone reads them, come back as they were, and take no more than their room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Attributes
from syncd.storage.attributes import fitting, from_texts, to_texts

BYTES = st.binary(max_size=600)
NAMES = st.one_of(
    st.sampled_from(
        ["user.mode", "user.syncd-x", "user.A", "user.a_b", "user.a.b", "system.posix_acl_access"]
    ),
    st.binary(min_size=1, max_size=40).map(lambda name: f"user.{name.decode(errors='surrogateescape')}"),
)
XATTRS = st.dictionaries(NAMES, BYTES | st.text("ab =?&%,").map(str.encode), max_size=5).map(
    lambda found: tuple(sorted(found.items()))
)
IDS = st.none() | st.integers(0, 2**32 - 2)
PEOPLE = st.text(max_size=5)
ALL = st.builds(Attributes, st.none() | st.integers(0, 0o7777), IDS, IDS, PEOPLE, PEOPLE, XATTRS)


@given(ALL)
def test_attributes_survive_the_way_there_and_back(attributes: Attributes) -> None:
    """As short values of printable ASCII, under keys that no proxy drops."""
    texts = to_texts(attributes)
    for key, text in texts.items():
        assert (text.isascii(), text.isprintable() or not text, text.strip()) == (True, True, text)
        assert len(text) <= 256
        assert not set(key) & set("_ ")
        assert key == key.lower()
    assert from_texts(texts) == (attributes if attributes != Attributes() else None)


def test_the_words_are_those_of_rclone() -> None:
    """What it has a word for is there; the rest is ours, and out of its way."""
    xattrs = (("user.charset", b"utf-8"), ("user.mime_type", b"text/x"), ("user.z", b"\x00"))
    assert to_texts(Attributes(0o640, 1000, 100, "me", "users", xattrs)) == {
        "mode": "100640",
        "uid": "1000",
        "gid": "100",
        "charset": "utf-8",
        "syncd-user": "me",
        "syncd-group": "users",
        "syncd-xattrs": "user.mime_type=dGV4dC94&user.z=AA==",
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"mode": "644"}, Attributes(0o644)),
        ({"mode": "0100755", "uid": "0"}, Attributes(0o755, 0)),
        ({"mode": "33188", "ctime": "1", "mtime": "2", "md5chksum": "x"}, None),  # s3fs: decimal
        ({"mode": "40755"}, Attributes(0o755)),
        ({"mode": "41777"}, Attributes(0o1777)),
        ({"mode": "20644"}, None),
        ({"mode": "-rw", "uid": "-1", "gid": "4294967295"}, None),
        ({"uid": "\u0661", "gid": "99999999999"}, None),
        ({"author": "Z\xc3"}, Attributes(xattrs=(("user.author", "Z\xc3".encode()),))),
        (
            {"syncd-xattrs": "user.a=!!&=AA==&user.b=AA==&x"},
            Attributes(xattrs=(("user.b", b"\0"), ("x", b""))),
        ),
        ({"syncd-xxh128": "00", "syncd-future": "x"}, None),
    ],
)
def test_what_others_wrote_is_read_or_left(texts: dict[str, str], expected: Attributes | None) -> None:
    """Nonsense says nothing."""
    assert from_texts(texts) == expected


@given(ALL, st.integers(0, 2000))
def test_what_does_not_fit_is_left_out_and_named(attributes: Attributes, room: int) -> None:
    """Each name is kept or left out; those kept take no more than the room, and one more header."""
    kept, left_out = fitting(attributes, room)
    assert sorted(left_out + [name for name, _ in kept.xattrs]) == [name for name, _ in attributes.xattrs]
    bare = to_texts(Attributes())
    texts = to_texts(Attributes(xattrs=kept.xattrs))
    taken = sum(len("x-amz-meta-") + len(key) + len(text) for key, text in texts.items() if key not in bare)
    assert taken <= room + (26 if kept.xattrs else 0)


def test_a_name_that_is_too_long_is_not_told() -> None:
    """The number has to do."""
    kept, left_out = fitting(Attributes(uid=5, user="ü" * 11), 0)
    assert (kept, left_out) == (Attributes(uid=5), [])
