"""Keys and paths: every path leads back to its key, and no two keys share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.errors import StoreRefused
from syncd.storage.dir.names import (
    CONTINUED,
    DISPLACED,
    ESCAPED,
    POSIX,
    WINDOWS,
    Traits,
    key_of,
    names_of,
    start_of,
)

_APPLE = Traits(folds=True, form="NFD", unfit=frozenset(":"))
_COMPOSING = Traits(folds=True, form="NFC")
_OLD = Traits(ascii_only=True, unfit=frozenset(map(chr, range(65, 91))), refuses_devices=True)
_SHORT = [replace(traits, longest_name=143) for traits in (POSIX, WINDOWS, _APPLE)]
_ALL = st.sampled_from([POSIX, WINDOWS, _APPLE, _COMPOSING, _OLD, *_SHORT])
_odd = st.sampled_from(
    ["a", "A", "\u00e9", "e\u0301", "\u1112\u1161\u11ab", ".", " ", "?", ":", "\\", "\x01", "con", "CON",
     "com1", "~", ".~syncd-3f~", ".~syncd-", "3f~", ".~syncd-ff~", "\u4e2d" * 30, "?" * 40, "x" * 60,
     DISPLACED.decode(), ESCAPED.decode(), CONTINUED.decode()]
)  # fmt: skip
_odd_names = st.lists(_odd, min_size=1, max_size=6).map("".join).filter(lambda name: name not in (".", ".."))
_odd_keys = st.lists(_odd_names | st.just(".syncd"), min_size=1, max_size=3).map("/".join)


@given(_odd_keys, _ALL)
def test_what_does_not_fit_is_written_otherwise_and_read_back(key: str, traits: Traits) -> None:
    """For every file system: the names are such as it keeps, and lead back to the key."""
    names = names_of(key, traits)
    assert key_of(names, traits) == key
    for index, name in enumerate(names):
        start = start_of(names[:index], traits)
        assert start is not None
        assert key.startswith(start.removesuffix("/"))
        assert len(name) <= traits.longest_name
        text = name.decode()
        assert text not in ("", ".", "..")
        assert not traits.unfit & set(text)
        if traits.refuses_devices and len(names) == key.count("/") + 1:
            assert text.partition(".")[0].rstrip(" ").lower() not in ("con", "com1")
    if len(names) == key.count("/") + 1:
        assert not any(name.decode().endswith(tuple(traits.unfit_at_end)) for name in names)


@given(_odd_keys, _odd_keys, _ALL)
def test_no_two_keys_share_a_path_on_any_file_system(one: str, other: str, traits: Traits) -> None:
    assert (names_of(one, traits) == names_of(other, traits)) == (one == other)


@given(_odd_names, st.sampled_from([POSIX, Traits(folds=True)]))
def test_a_name_that_fits_stays_as_it_is(name: str, traits: Traits) -> None:
    """What lies in the stores of today keeps its place."""
    short = len(name.encode()) <= 200 and not name.endswith(
        (".~syncd-object~", ".~syncd-name~", ".~syncd-more~")
    )
    if short:
        assert names_of(name, traits) == (name.encode(),)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("What?.txt", "What.~syncd-3f~.txt"),
        ("Etc.", "Etc.~syncd-2e~"),
        ("a ", "a.~syncd-20~"),
        ("12:30/x", "12.~syncd-3a~30/x"),
        ("aux.c", ".~syncd-61~ux.c"),
        ("a.~syncd-3f~b", "a.~syncd-2e~~syncd-3f~b"),
        ("R\u00e9sum\u00e9.pdf", "R\u00e9sum\u00e9.pdf"),
    ],
)
def test_people_can_read_what_was_written_otherwise(key: str, path: str) -> None:
    """On a share of Windows. Most names stay, and the others keep their beginnings and extensions."""
    assert b"/".join(names_of(key, WINDOWS)).decode() == path


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        (POSIX, []),
        (Traits(folds=True), ["the second such file fails"]),
        (Traits(143), ["143 bytes"]),
        (WINDOWS, ["the second such file fails", "`What.~syncd-3f~.con`"]),
    ],
)
def test_the_operator_hears_what_is_unusual(traits: Traits, said: list[str]) -> None:
    remarks = traits.remarks()
    assert len(remarks) == len(said)
    assert all(part in remark for part, remark in zip(said, remarks, strict=True))


def test_what_is_no_text_in_a_name_is_no_object() -> None:
    """Digits that are not UTF-8 are not ours."""
    assert key_of((b"a.~syncd-ff~",), WINDOWS) is None
    assert key_of((b"a.~syncd-61~",), WINDOWS) is None
    assert start_of((b"a.~syncd-ff~" + CONTINUED,), WINDOWS) is None


@pytest.mark.parametrize("key", ["", "a//b", "a/../b", "\udc80", "a\0b"])
def test_what_is_no_path_is_refused(key: str) -> None:
    with pytest.raises(StoreRefused):
        names_of(key, WINDOWS)


_pieces = st.sampled_from(["a", "é", ".", "~", DISPLACED.decode(), ESCAPED.decode(), "-object~"])
_component = st.lists(_pieces, min_size=1, max_size=4).map("".join)


@given(st.lists(_component | st.just(".syncd"), min_size=1, max_size=4).map("/".join))
def test_the_path_of_every_key_leads_back_to_it(key: str) -> None:
    """What `names_of` makes of a key, `key_of` undoes."""
    if not any(part in (".", "..") for part in key.split("/")):
        assert key_of(names_of(key)) == key


_long = st.lists(
    _pieces | st.sampled_from(["b" * 90, "\u201bD6" * 50, CONTINUED.decode()]), min_size=1, max_size=8
)
_long_keys = st.lists(_long.map("".join).filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)


@given(_long_keys.map("/".join))
def test_the_path_of_a_key_with_long_names_leads_back_to_it(key: str) -> None:
    """Every name fits, also of an object that is moved aside; a listing finds the way to it."""
    names = names_of(key)
    assert key_of(names) == key
    for index, name in enumerate(names):
        assert name.decode() not in ("", ".", "..")
        assert len(name) <= 255
        start = start_of(names[:index])
        assert start is not None
        assert key.startswith(start.removesuffix("/"))
    if len(key.rpartition("/")[2].encode()) > 255:
        assert len(names[-1] + DISPLACED) <= 255


_ours = st.sampled_from(["a", "B", ".", "é", " ", ".~syncd-object~", ".~syncd-name~", ".syncd", "\n"])
_our_names = st.lists(_ours, min_size=1, max_size=4).map("".join)
_our_keys = st.lists(_our_names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map(
    "/".join
)


@given(_our_keys, _our_keys)
def test_no_two_our_keys_share_a_path(one: str, other: str) -> None:
    """Different keys have different files, and none is where another one would be moved aside to."""
    first, second = names_of(one), names_of(other)
    assert (first == second) == (one == other)
    assert (*first[:-1], first[-1] + DISPLACED) != second
    assert first[0] != b".syncd"


@pytest.mark.parametrize(
    "names",
    [
        (b"a" + CONTINUED, b"b"),
        (b"a" * 150 + CONTINUED,),
        (b"a" * 150 + CONTINUED, b"b" * 150 + CONTINUED),
        (b"a" * 200 + CONTINUED, b"b" * 100),
        (b".syncd",),
        (b"a" + DISPLACED,),
        (b"a" + ESCAPED,),
        (b"a" + ESCAPED, b"b"),
        (b"a", b".syncd" + ESCAPED),
        (b"\xff",),
    ],
)
def test_a_path_that_no_key_has_is_no_object(names: tuple[bytes, ...]) -> None:
    """Our own directory, our own additions in the wrong place, names that are not UTF-8."""
    assert key_of(names) is None
