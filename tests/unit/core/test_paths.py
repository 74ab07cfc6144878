"""What a path is called in a store, and whether it is wanted. Names are any bytes that Linux allows."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.core.paths import (
    LINK,
    QUOTE,
    is_folder,
    is_link_key,
    key_for,
    key_problem,
    named,
    path_for,
    prefix_problem,
    printable,
)


def _decoded(name: bytes) -> str:
    """As the file system's names arrive in memory."""
    return name.decode("utf-8", "surrogateescape")


# ---- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "plain.txt",
        "with space",
        " leading and trailing ",
        "50%.txt",
        "%41",
        "a+b&c=d",
        "what?.txt",
        "#1",
        "quotes'\"`",
        "back\\slash",
        "new\nline",
        "tab\tand\x01control",
        "-dash",
        "~",
        "日本語/ディレクトリ/ファイル",
        "e\u0301 is not \u00e9",
        "🦆",
        "\ufffd",
        "\uffff and \U0010ffff",
        "...",
        "..a/.b/c..",
    ],
)
def test_legal_names_stay_as_they_are(name: str) -> None:
    """Every name that is UTF-8 is its own key below the prefix, and comes back."""
    assert "p/" + name == key_for("p/", name)
    assert name == path_for("p/", "p/" + name)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"\xff", f"{QUOTE}FF"),
        (b"caf\xe9.txt", f"caf{QUOTE}E9.txt"),
        (b"\x80/\x9f", f"{QUOTE}80/{QUOTE}9F"),
        (b"\xed\xa0\x80", f"{QUOTE}ED{QUOTE}A0{QUOTE}80"),
        (b"cut \xe2\x80", f"cut {QUOTE}E2{QUOTE}80"),
        (QUOTE.encode(), QUOTE * 2),
        (f"{QUOTE}FF".encode(), f"{QUOTE}{QUOTE}FF"),
        (QUOTE.encode() + b"\xff", f"{QUOTE}{QUOTE}{QUOTE}FF"),
    ],
)
def test_other_names_are_escaped(name: bytes, key: str) -> None:
    """A byte that is not UTF-8 becomes the quote and two hex digits, a real quote is doubled; reversibly."""
    assert key == key_for("", _decoded(name))
    assert _decoded(name) == path_for("", key)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("p/", id="the prefix alone"),
        pytest.param("q/a", id="under another prefix"),
        pytest.param("p", id="shorter than the prefix"),
        pytest.param("p/a//", id="folder without a name"),
        pytest.param("p//a", id="empty segment"),
        pytest.param("p//", id="only a slash"),
        pytest.param("p/./a", id="dot segment"),
        pytest.param("p/a/..", id="double dot segment"),
        pytest.param("p/a\0b", id="NUL"),
        pytest.param(f"p/{QUOTE}", id="quote alone"),
        pytest.param(f"p/a{QUOTE}b", id="quote before something else"),
        pytest.param(f"p/{QUOTE}ff", id="lower-case digits"),
        pytest.param(f"p/{QUOTE}F", id="one digit"),
        pytest.param(f"p/{QUOTE}41", id="escaped ASCII"),
        pytest.param(f"p/{QUOTE}2F", id="escaped slash"),
        pytest.param(f"p/{QUOTE}C3{QUOTE}A9", id="escaped bytes that are UTF-8 together"),
        pytest.param(f"p/{QUOTE}FF{QUOTE}", id="odd number of quotes"),
        pytest.param("p/\udcff", id="lone surrogate of a byte"),
        pytest.param("p/\ud800", id="any lone surrogate"),
    ],
)
def test_keys_not_of_our_making(key: str) -> None:
    """A key that no file maps to has no path: nothing is concluded from it, nowhere does it lead."""
    assert path_for("p/", key) is None


segments = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.text(min_size=1, max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(
        st.sampled_from(
            [
                QUOTE.encode(),
                LINK.encode(),
                b"\xff",
                b"\xc3",
                b"\xa9",
                b"F",
                b"f",
                b"9",
                b"%",
                b"\xe2\x80",
                b"\n",
            ]
        ),
        min_size=1,
        max_size=8,
    ).map(b"".join),
).filter(lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name)
paths = st.lists(segments, min_size=1, max_size=4).map(b"/".join).map(_decoded)
prefixes = st.sampled_from(["", "p/", "camera/2024/", f"{QUOTE}/"])


@settings(deadline=None)
@given(prefix=prefixes, path=paths)
@example(prefix="", path=QUOTE)
@example(prefix="", path=QUOTE + LINK)
@example(prefix="", path=LINK)
def test_every_path_comes_back(prefix: str, path: str) -> None:
    """Whatever the bytes of a name, the path of its key is the path, and the key is text. A link has another
    one, which tells that it is a link.
    """
    for is_link in (False, True):
        key = key_for(prefix, path, is_link=is_link)
        assert path == path_for(prefix, key)
        assert is_link_key(key) == is_link
        assert key_problem(key, 10**9) is None


@settings(deadline=None, max_examples=300)
@given(first=paths, second=paths)
@example(first=QUOTE + "FF", second="\udcff")
@example(first="\udcc3\udca9x", second="éx")
def test_distinct_paths_have_distinct_keys(first: str, second: str) -> None:
    """No two paths share a key, so no file overwrites another's object; nor does a link."""
    assert (first == second) == (key_for("p/", first) == key_for("p/", second))
    assert key_for("p/", first) != key_for("p/", second, is_link=True)


@settings(deadline=None, max_examples=300)
@given(key=st.text(alphabet=st.sampled_from(list(f"{QUOTE}{QUOTE}FfC3A9E280/.a\0\n")), max_size=12))
@example(key=LINK)
@example(key=f"a/{LINK}")
@example(key=f"a{QUOTE}{LINK}")
def test_a_path_only_for_its_own_key(key: str) -> None:
    """If a key has a path, then that path has this key: the mapping is one to one both ways."""
    path = path_for("", key)

    if path is not None:
        assert key == key_for("", path, is_link=is_link_key(key))


def test_a_link_is_named_as_rclone_names_it() -> None:
    """And a file of such a name otherwise."""
    assert key_for("p/", "a/b", is_link=True) == "p/a/b.rclonelink"
    assert key_for("p/", "a/b.rclonelink") == f"p/a/b{QUOTE}.rclonelink"
    assert key_for("p/", "a.rclonelink/b") == "p/a.rclonelink/b"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a" * 1024, None),
        ("a" * 1025, "the key has 1025 bytes, the store takes 1024 at most"),
        ("é" * 512, None),
        ("é" * 513, "the key has 1026 bytes, the store takes 1024 at most"),
        ("", "the key is empty"),
        ("a/../b", "the key has a segment '.' or '..', which HTTP clients and proxies rewrite"),
        ("./b", "the key has a segment '.' or '..', which HTTP clients and proxies rewrite"),
        ("a..b/.c", None),
        ("\ud800", "the key is not text"),
    ],
)
def test_keys_that_no_store_can_take(key: str, expected: str | None) -> None:
    """Length counts in bytes of UTF-8; dot segments never reach the wire."""
    assert expected == key_problem(key, 1024)


@pytest.mark.parametrize(
    "prefix", ["", "camera/", "a/b c/日本/", "a.b/..c/", "no-slash-at-the-end", "50%+&/"]
)
def test_good_prefixes(prefix: str) -> None:
    """Ordinary prefixes, and none at all, are fine."""
    assert prefix_problem(prefix) is None


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/", "begins with '/'"),
        ("/camera/", "begins with '/'"),
        ("a//b/", "has an empty segment ('//')"),
        ("a//", "has an empty segment ('//')"),
        ("./", "has a segment '.' or '..'"),
        ("a/../b/", "has a segment '.' or '..'"),
        ("a/..", "has a segment '.' or '..'"),
        ("a\n/", "has a control character or one that cannot be shown"),
        ("a\x7f/", "has a control character or one that cannot be shown"),
        ("\udcff/", "has a control character or one that cannot be shown"),
        ("\u202e/", "has a control character or one that cannot be shown"),
    ],
)
def test_bad_prefixes(prefix: str, expected: str) -> None:
    """A prefix that would lead elsewhere, or that is unreadable, is named with the reason."""
    assert expected == prefix_problem(prefix)


# ---- for people -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("plain/path 1.txt", "plain/path 1.txt"),
        ("日本/é", "日本/é"),
        ("new\nline", "new\\x0aline"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("bytes \udc80\udcff", "bytes \\x80\\xff"),
        ("delete \x7f\x80", "delete \\x7f\\u0080"),
        ("no character \uffff", "no character \\uffff"),
        ("back\\x0a", "back\\\\x0a"),
        ("no-break\u00a0space", "no-break\\u00a0space"),
        ("right\u202eleft", "right\\u202eleft"),
        ("line\u2028separator", "line\\u2028separator"),
        ("\U000e0001", "\\U000e0001"),
        ("c1 \x85", "c1 \\u0085"),
    ],
)
def test_printable(path: str, expected: str) -> None:
    """What a terminal or a log would interpret is escaped; the rest is left alone."""
    assert expected == printable(path)


@settings(deadline=None)
@given(first=paths, second=paths)
def test_printable_is_one_line_and_tells_paths_apart(first: str, second: str) -> None:
    """Any name prints as one line of text, and different names print differently."""
    assert printable(first).isprintable()
    assert (first == second) == (printable(first) == printable(second))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("docs", ("source", "docs")),
        ("nas", ("store", "nas")),
        ("source:both", ("source", "both")),
        ("store:both", ("store", "both")),
        ("both", "both a source and a store; say source:both or store:both"),
        ("dosc", "no source or store 'dosc'; there are sources: both, docs; stores: both, nas"),
        ("source:nas", "no source 'nas'; there are: both, docs"),
        ("host:docs", "no source or store 'host:docs'"),
    ],
)
def test_a_name_means_a_source_or_a_store(given: str, meant: tuple[str, str] | str) -> None:
    """One that is both has to be said outright; one that is neither is answered with those that are."""
    if isinstance(meant, tuple):
        assert named(given, ["docs", "both"], ["nas", "both"]) == meant
    else:
        with pytest.raises(ValueError, match=re.escape(meant)):
            named(given, ["docs", "both"], ["nas", "both"])


def test_a_folder_has_the_key_of_its_path() -> None:
    """And a file of its name another one; the slash is no part of a name that is escaped."""
    keys = {"a/": "p/a/", "a": "p/a", "b/\udcff/": f"p/b/{QUOTE}FF/", ".rclonelink/": "p/.rclonelink/"}
    for path, key in keys.items():
        assert (key_for("p/", path), path_for("p/", key)) == (key, path)
        assert is_folder(path) == is_folder(key) == path.endswith("/")
