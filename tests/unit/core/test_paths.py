"""What a path is called in a store, and whether it is wanted. Names are any bytes that Linux allows."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.core.paths import QUOTE, key_for, key_problem, path_for, prefix_problem, printable
from syncd.core.patterns import Rules


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
        pytest.param("p/a/", id="folder marker"),
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
            [QUOTE.encode(), b"\xff", b"\xc3", b"\xa9", b"F", b"f", b"9", b"%", b"\xe2\x80", b"\n"]
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
def test_every_path_comes_back(prefix: str, path: str) -> None:
    """Whatever the bytes of a name, the path of its key is the path, and the key is text."""
    key = key_for(prefix, path)

    assert path == path_for(prefix, key)
    assert key_problem(key, 10**9) is None


@settings(deadline=None, max_examples=300)
@given(first=paths, second=paths)
@example(first=QUOTE + "FF", second="\udcff")
@example(first="\udcc3\udca9x", second="éx")
def test_distinct_paths_have_distinct_keys(first: str, second: str) -> None:
    """No two paths share a key, so no file overwrites another's object."""
    assert (first == second) == (key_for("p/", first) == key_for("p/", second))


@settings(deadline=None, max_examples=300)
@given(key=st.text(alphabet=st.sampled_from(list(f"{QUOTE}{QUOTE}FfC3A9E280/.a\0\n")), max_size=12))
def test_a_path_only_for_its_own_key(key: str) -> None:
    """If a key has a path, then that path has this key: the mapping is one to one both ways."""
    path = path_for("", key)

    if path is not None:
        assert key == key_for("", path)


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
    """A prefix that would lead elsewhere, or that nobody could read, is named with the reason."""
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


# ---- rules ------------------------------------------------------------------------------------------------

TREE = [
    "a.txt",
    "a.tmp",
    "docs/a.txt",
    "docs/deep/a.txt",
    "docs/deep/b.tmp",
    "docs/build/out.o",
    "build/x/out.o",
    ".git/config",
    "docs/.git/config",
    "docs/git/.gitx",
    "keep/private/x.txt",
    "keep/private/y.txt",
]


def _wanted(include: list[str], exclude: list[str]) -> list[str]:
    rules = Rules(include, exclude)
    return [path for path in TREE if rules.wants_file(path)]


@pytest.mark.parametrize(
    ("exclude", "gone"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["*.tmp"], ["a.tmp", "docs/deep/b.tmp"], id="a name at any depth"),
        pytest.param(["/*.tmp"], ["a.tmp"], id="anchored by a leading slash"),
        pytest.param(["docs/*.txt"], ["docs/a.txt"], id="anchored by an inner slash"),
        pytest.param(["docs/**/*.txt"], ["docs/a.txt", "docs/deep/a.txt"], id="inner double asterisk"),
        pytest.param(["**/deep"], ["docs/deep/a.txt", "docs/deep/b.tmp"], id="leading double asterisk"),
        pytest.param(["docs/**"], [p for p in TREE if p.startswith("docs/")], id="trailing double asterisk"),
        pytest.param([".git/"], [".git/config", "docs/.git/config"], id="a directory hides all below"),
        pytest.param(["build"], ["docs/build/out.o", "build/x/out.o"], id="a name may be a directory"),
        pytest.param(["/build/"], ["build/x/out.o"], id="only the one at the top"),
        pytest.param(["a.txt/"], [], id="a trailing slash is not about files"),
        pytest.param(
            ["?.t[mx][pt]"], [p for p in TREE if p[-5:-3] in ("a.", "b.", "x.", "y.")], id="classes"
        ),
        pytest.param(["*.txt", "!a.txt"], ["keep/private/x.txt", "keep/private/y.txt"], id="negation"),
        pytest.param(["!a.txt", "*.txt"], [p for p in TREE if p.endswith(".txt")], id="the last one decides"),
        pytest.param(
            ["private/", "!keep/private/x.txt"],
            ["keep/private/x.txt", "keep/private/y.txt"],
            id="nothing below an excluded directory comes back",
        ),
        pytest.param(
            ["private/*", "!keep/private/x.txt"],
            [],
            id="an inner slash anchors: there is no private/ at the top",
        ),
        pytest.param(
            ["keep/private/*", "!keep/private/x.txt"],
            ["keep/private/y.txt"],
            id="back from a directory that is not itself excluded",
        ),
        pytest.param(
            ["*.txt", "!keep", "!private/"],
            [p for p in TREE if p.endswith(".txt")],
            id="a negated directory does not bring back what is in it",
        ),
        pytest.param(
            ["*", "!*/", "!*.o"],
            [p for p in TREE if not p.endswith(".o")],
            id="all but one kind, in every directory",
        ),
        pytest.param(
            ["docs/**", "!docs/a.txt"],
            [p for p in TREE if p.startswith("docs/") and p != "docs/a.txt"],
            id="all that is in a directory, but one",
        ),
        pytest.param(["A.TXT"], [], id="case counts"),
        pytest.param(
            ["a.txt   "], [p for p in TREE if p.endswith("a.txt")], id="trailing blanks do not count"
        ),
    ],
)
def test_exclude(exclude: list[str], gone: list[str]) -> None:
    """Patterns mean what they mean in a .gitignore file at the top of the source."""
    assert sorted(set(TREE) - set(gone)) == sorted(_wanted([], exclude))


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        pytest.param(["*.tmp"], [], ["a.tmp", "docs/deep/b.tmp"], id="only these"),
        pytest.param(
            ["deep/", "/a.txt"],
            [],
            ["a.txt", "docs/deep/a.txt", "docs/deep/b.tmp"],
            id="a directory means all that is in it",
        ),
        pytest.param(
            ["*.txt"], ["docs/"], ["a.txt", "keep/private/x.txt", "keep/private/y.txt"], id="exclude wins"
        ),
        pytest.param(
            ["*.txt", "!a.txt"], [], ["keep/private/x.txt", "keep/private/y.txt"], id="with exceptions"
        ),
        pytest.param(["*.jpg"], [], [], id="none of these"),
    ],
)
def test_include(include: list[str], exclude: list[str], wanted: list[str]) -> None:
    """An include list means only these, in the same syntax; what is excluded stays so."""
    assert wanted == _wanted(include, exclude)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", True),
        ("docs", True),
        ("docs/deep", True),
        (".git", False),
        (".git/objects/ab", False),
        ("docs/.git", False),
        ("docs/.git/objects", False),
        ("photos", True),
        ("a.tmp", False),
        ("docs/a.tmp/x", False),
        ("build", True),
        ("build/keep", True),
        ("build/x", False),
    ],
)
def test_directories(path: str, expected: bool) -> None:
    """Only exclusion keeps out of a directory: what an include list is about may lie further down."""
    rules = Rules(["*.jpg"], [".git/", "*.tmp", "build/*", "!build/keep"])

    assert expected == rules.wants_directory(path)


def test_directory_patterns_are_not_about_files() -> None:
    """A file that is called like an excluded directory is wanted, also after the directory was asked for."""
    rules = Rules([], ["out/"])

    assert not rules.wants_directory("out")
    assert rules.wants_file("out")


@pytest.mark.parametrize(
    "path", ["odd\nname/x.tmp", "odd\nname/deep/x.tmp", "x\n.tmp", "skip\nthis/a", "sub/skip\nthis/a"]
)
def test_newlines_do_not_escape_the_rules(path: str) -> None:
    """A newline in a name is a character like any other, and not the end of what a pattern sees."""
    assert not Rules([], ["*.tmp", "skip?this/"]).wants_file(path)


def test_newline_at_the_end_is_part_of_the_name() -> None:
    """A name that ends in a newline is not the name without it."""
    assert Rules([], ["*.tmp"]).wants_file("x.tmp\n")


def test_names_that_are_not_utf_8() -> None:
    """Wildcards match bytes that are not UTF-8, one character for a byte."""
    rules = Rules([], ["caf?.tmp"])

    assert not rules.wants_file(_decoded(b"caf\xe9.tmp"))
    assert rules.wants_file(_decoded(b"caf\xc3\xa9\xe9.tmp"))


def test_any_depth() -> None:
    """Depth costs no recursion: ten thousand directories below an excluded one are excluded."""
    path = "/".join(["d"] * 10_000)
    rules = Rules([], ["x/"])

    assert rules.wants_file(path)
    assert not rules.wants_file("x/" + path)


def test_memory_of_directories_is_bounded() -> None:
    """However many directories a source has, only so many are remembered, and the answers stay right."""
    rules = Rules([], ["odd[13579]/"])

    answers = [rules.wants_file(f"odd{number % 10}/{number}/x") for number in range(25_000)]

    assert [number % 2 == 0 for number in range(25_000)] == answers
    assert rules._exclude is not None
    assert len(rules._exclude._directories) <= 10_000


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "names nothing"),
        ("   ", "names nothing"),
        ("/", "names nothing"),
        ("!", "names nothing"),
        ("!/", "names nothing"),
        ("# note", "is a comment"),
        ("a//b", "empty segment"),
        ("//", "names nothing"),
        ("a//", "empty segment"),
        ("./a", "segment '.' or '..'"),
        ("a/../b", "segment '.' or '..'"),
        ("a\nb", "is not one line"),
        ("a\0b", "is not one line"),
        ("[z-a]", "is not a gitignore pattern"),
    ],
)
@pytest.mark.parametrize("what", ["include", "exclude"])
def test_patterns_that_could_never_match(pattern: str, why: str, what: str) -> None:
    """A pattern that can only be a mistake is refused by name, with what is wrong with it."""
    with pytest.raises(ValueError, match="pattern") as caught:
        Rules(**{"include": [], "exclude": [], what: ["*.good", pattern]})

    assert str(caught.value).startswith(f"{what} pattern {pattern!r} ")
    assert why in str(caught.value)


def test_include_that_only_takes_away() -> None:
    """An include list of nothing but negations would want no file at all: that cannot be meant."""
    with pytest.raises(ValueError, match=r"'!\*\.tmp'"):
        Rules(["!*.tmp"], [])


@pytest.mark.parametrize("name", ["#note", "!important", " lead", "trail ", "br[acket", "st*r"])
def test_special_characters_can_be_escaped(name: str) -> None:
    """A backslash makes any character of a pattern stand for itself."""
    rules = Rules([], ["".join("\\" + character for character in name)])

    assert not rules.wants_file(name)
    assert not rules.wants_file(f"docs/{name}")
    assert rules.wants_file("x" + name)


pattern_parts = st.sampled_from(["a", "b", "*", "**", "?", "a*", "[ab]", "x.t"])
patterns = st.builds(
    lambda negation, lead, parts, trail: negation + lead + "/".join(parts) + trail,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(pattern_parts, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
names = st.lists(st.sampled_from(["a", "b", "ab", "x.t", "c"]), min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=300)
@given(exclude=st.lists(patterns, max_size=4), path=names, more=names)
def test_nothing_below_an_excluded_directory(exclude: list[str], path: str, more: str) -> None:
    """Whatever the patterns: a directory that is not wanted hides every file and directory below, and one
    that holds a wanted file is wanted."""
    rules = Rules([], exclude)

    if not rules.wants_directory(path):
        assert not rules.wants_directory(f"{path}/{more}")
        assert not rules.wants_file(f"{path}/{more}")
    if rules.wants_file(f"{path}/{more}"):
        assert rules.wants_directory(path)


@settings(deadline=None, max_examples=300)
@given(exclude=st.lists(patterns, max_size=4), asked=st.lists(names, max_size=6), path=names)
def test_answers_do_not_depend_on_what_was_asked_before(
    exclude: list[str], asked: list[str], path: str
) -> None:
    """What is remembered of directories never changes an answer."""
    used = Rules([], exclude)
    for earlier in asked:
        used.wants_file(earlier)
        used.wants_directory(earlier)

    assert Rules([], exclude).wants_file(path) == used.wants_file(path)
    assert Rules([], exclude).wants_directory(path) == used.wants_directory(path)
