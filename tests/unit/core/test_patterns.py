"""Rules decide as git decides: the last pattern that matches, from the top directory downward."""

from __future__ import annotations

import random
import shutil
import string
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import Properties, Source
from syncd.core.patterns import ObjectRules, Rules
from tests.unit.core.test_paths import _decoded

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
        pytest.param(["**/deep/a.txt"], ["docs/deep/a.txt"], id="leading double asterisk before two names"),
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
        pytest.param(["keep/**", "!keep/private/**"], [], [], id="not what is taken away below"),
        pytest.param(["keep/", "!private/"], [], [], id="not a directory that is taken away below"),
        pytest.param(
            ["keep/", "!private/", "x.txt"],
            [],
            ["keep/private/x.txt"],
            id="but what is added again",
        ),
        pytest.param(
            ["!*.txt", "a.txt"], [], ["a.txt", "docs/a.txt", "docs/deep/a.txt"], id="the last one decides"
        ),
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
        ("[z-a]", "in which nothing lies"),
        ("a[b", "without its"),
        ("a\\", "nothing behind it"),
        ("[[:number:]]", "has [:number:]"),
        ("[a[:Digit:]]", "has [:Digit:]"),
    ],
)
@pytest.mark.parametrize("what", ["include", "exclude"])
def test_patterns_that_could_never_match(pattern: str, why: str, what: str) -> None:
    """A pattern that can only be a mistake is refused by name, with what is wrong with it."""
    with pytest.raises(ValueError, match="pattern") as caught:
        Rules(**{"include": [], "exclude": [], what: ["*.good", pattern]})

    assert str(caught.value).startswith(f"{what} pattern {pattern!r} ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("alnum", "aZ5"), ("alpha", "aZ"), ("blank", " \t"), ("cntrl", "\x01\x1f\x7f"), ("digit", "059"),
        ("graph", "!~a-^]\\"), ("lower", "az"), ("print", " ~a!"), ("punct", "!/:@[]\\^`{~-\"_."),
        ("space", " \t\r\v"), ("upper", "AZ"), ("xdigit", "0aF"),
    ],
)  # fmt: skip
def test_classes_of_characters(name: str, inside: str) -> None:
    """POSIX's, as git knows them: alone, negated, and beside other characters."""
    every = [chr(code) for code in range(1, 127) if chr(code) not in "/\n"]
    other = [character for character in every if character not in _POSIX[name]]
    assert set(inside) <= set(_POSIX[name])
    plain, negated = Rules([], [f"x[[:{name}:]]y"]), Rules([], [f"x[![:{name}:]]y"])
    wider = Rules([], [f"x[é[:{name}:]]y"])
    for character in every:
        belongs = character not in other
        path = f"x{character}y"
        assert (plain.wants_file(path), negated.wants_file(path)) == (not belongs, belongs), character
        assert wider.wants_file(path) == (not belongs)
    assert not wider.wants_file("xéy")


_POSIX = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, (*range(1, 32), 127))),
    "digit": string.digits,
    "graph": string.ascii_letters + string.digits + string.punctuation,
    "lower": string.ascii_lowercase,
    "print": string.ascii_letters + string.digits + string.punctuation + " ",
    "punct": string.punctuation,
    "space": string.whitespace,
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}


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


@settings(deadline=None, max_examples=300)
@given(include=st.lists(patterns, max_size=3), exclude=st.lists(patterns, max_size=3), path=names)
def test_an_explanation_says_what_the_rules_do(include: list[str], exclude: list[str], path: str) -> None:
    """Whatever the patterns: explained is what is done, and the pattern is one of those that were written."""
    try:
        rules = Rules(include, exclude)
    except ValueError:
        return  # only negations
    verdict = rules.explain(path)
    assert verdict.wanted == rules.wants_file(path)
    assert verdict.pattern in ("", *include, *exclude)
    assert str(verdict)
    assert rules.explain(path, is_directory=True).wanted == rules.wants_directory(path)


@pytest.mark.parametrize(
    ("include", "exclude", "path", "told"),
    [
        ([], [], "a", "there are no patterns"),
        (["*.jpg"], [], "a.jpg", "`*.jpg` of `include` matches"),
        (["*.jpg"], [], "a.JPG", "no pattern of `include` matches (`*.jpg` differs only in case)"),
        ([], ["*.TMP"], "a.tmp", "no pattern of `exclude` matches (`*.TMP` differs only in case)"),
        ([], ["*.tmp", "!keep.tmp"], "keep.tmp", "`!keep.tmp` of `exclude` matches last"),
        (["*.jpg"], ["d/"], "x/d/a.jpg", "`d/` of `exclude` matches"),
    ],
)
def test_an_explanation_names_the_pattern(
    include: list[str], exclude: list[str], path: str, told: str
) -> None:
    """And the one that would decide otherwise if upper and lower case were the same."""
    assert str(Rules(include, exclude).explain(path)) == told


@pytest.mark.parametrize(
    ("include", "path", "wanted"),
    [
        ("*.jpg", "a.JPG", True),
        ("*.jpg", "a.jpeg", False),
        ("Bilder/Ä*", "bilder/ä.RAW", True),
        ("[a-c].txt", "B.TXT", True),
        ("d/**/x", "D/e/F/X", True),
    ],
)
def test_case_is_ignored_where_that_is_wished(include: str, path: str, wanted: bool) -> None:
    """In names, folders, classes and letters beyond ASCII; and nothing is said to differ only in case."""
    rules = Rules([include], [], ignore_case=True)
    assert rules.wants_file(path) is wanted
    assert not Rules([include], []).wants_file(path)
    assert rules.explain(path).near == ""


@pytest.mark.parametrize(
    "path",
    ["a.tmp", "d/b.part", ".a.txt.swp", ".#a", "#a#", "~$a.docx", ".~lock.a.odt#", ".nfs000000000c",
     ".~tmp~/a", ".DS_Store"],
)  # fmt: skip
def test_temporary_names_are_left_out_and_come_back_by_a_negation(path: str) -> None:
    """The list stands before the patterns of `exclude`; it is named, and off unless asked for."""
    rules = Rules([], ["*.log"], temporary=True)
    assert Rules([], []).wants_file(path)
    assert not rules.wants_file(path)
    assert not rules.wants_file("a.log")
    assert rules.explain(path).key == "exclude_temporary"
    assert rules.explain("a.log").key == "exclude"
    assert rules.is_temporary(path, is_directory=False)
    assert not rules.is_temporary("a.log", is_directory=False)
    back = rules.explain(path).pattern
    assert Rules([], [f"!{back}"], temporary=True).wants_file(path)


@pytest.mark.parametrize(
    "path", ["a", "part", "tmp/a", "a.swp", "x~", "#a", ".nfsd", ".config", "a.partial.pdf"]
)
def test_no_other_name_is_temporary(path: str) -> None:
    """Backups and what only looks alike are files of the user."""
    assert Rules([], [], temporary=True).wants_file(path)


def _rule(match: str, **said: Any) -> tuple[str, Properties]:
    return match, Properties(**said)


def test_the_last_rule_that_says_something_decides_about_it() -> None:
    """Each property for itself; a folder stands for what is in it, and `ignore_case` counts here, too."""
    rules = (
        _rule("*.html", cache_control="max-age=300", content_type="text/html"),
        _rule("drafts/", cache_control="no-store", tags=(("draft", "yes"),)),
        _rule("*.HTML", content_encoding="gzip"),
    )
    known = ObjectRules(Source("s", "/s", "store", objects=rules))
    assert known.of("a.txt") == Properties(tags=())
    assert known.of("a.html") == Properties("text/html", "max-age=300", tags=())
    assert known.of("drafts/d/a.html") == Properties("text/html", "no-store", tags=(("draft", "yes"),))
    caseless = ObjectRules(Source("s", "/s", "store", objects=rules, ignore_case=True))
    assert caseless.of("a.html") == Properties("text/html", "max-age=300", "gzip", tags=())
    assert ObjectRules(Source("s", "/s", "store", objects=rules[:1])).of("a") == Properties()


def test_a_stamp_tells_properties_apart_and_stays() -> None:
    """It is kept with objects, so it may not change from one release to the next; nothing said has none."""
    assert Properties().stamp == Properties(tags=()).stamp == ""
    assert Properties(cache_control="a").stamp == "c3d26a8e1906a751"
    each = [Properties(content_type="a"), Properties(cache_control="a"), Properties(tags=(("a", ""),))]
    assert len({properties.stamp for properties in each}) == 3


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        ([], [], ["docs/", "docs/deep/", "docs/build/", "keep/"]),
        ([], ["build/", "*.txt"], ["docs/", "docs/deep/", "keep/"]),
        ([], ["docs"], ["keep/"]),
        (["*.txt"], [], []),
        (["docs/", "!build"], [], ["docs/", "docs/deep/"]),
        (["*"], ["deep"], ["docs/", "docs/build/", "keep/"]),
    ],
)
def test_empty_folders_are_wanted_where_their_files_would_be(
    include: list[str], exclude: list[str], wanted: list[str]
) -> None:
    """Not those in which only some names would be; and only where folders are carried at all."""
    folders = ["docs/", "docs/deep/", "docs/build/", "keep/"]
    rules = Rules(include, exclude, folders=True)
    assert [path for path in folders if rules.wants_file(path)] == wanted
    assert not any(map(Rules(include, exclude).wants_file, folders))


@pytest.mark.parametrize(
    ("entry", "fills"), [("a/b", True), ("a/b.tmp", False), ("a/c/", True), ("a/x/", False), ("a/x", True)]
)
def test_what_is_left_out_fills_no_folder(entry: str, fills: bool) -> None:
    """By its name; what a directory holds is not looked at."""
    assert Rules((), ("*.tmp", "x/"), folders=True).fills(entry) == fills


ATOMS = r"""a b ab A .a * ** *** ? [ab] [!a] [^b] [a-c] [[:alpha:]] [[:upper:]b] [[:digit:]] \a \* \[
a?b [a\-c] [\]] []a] [!]a] [--0] [+--] []-a] [a-] [[a] [a&&b] {a,b} a* *b a**b *.* *a*b ~ ] - x"""
NAMES = (
    "a",
    "b",
    "ab",
    "A",
    ".a",
    "axb",
    "*",
    "]",
    "[",
    "1",
    "a.b",
    "-",
    "&",
    "{a,b}",
    "xx",
    "~",
    "a ",
    "a\t",
    "b  ",
)
ENDS = ("", "", "", "  ", "\t", "\\ ", "\\  ", " \\ ", "\r")


def test_a_pattern_means_what_git_says(tmp_path: Path) -> None:
    """Lists of odd patterns, on paths of odd names: what is excluded is what git ignores."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    chance, atoms = random.Random(14), ATOMS.split()

    def pattern() -> str:
        words = [
            "".join(chance.choices(atoms, k=chance.choice((1, 1, 2))))
            for _ in range(chance.choice((1, 2, 3)))
        ]
        return chance.choice("   !") + chance.choice("  /") + "/".join(words) + chance.choice("  /")

    lists: list[Rules] = []
    while len(lists) < 400:
        wanted = [pattern().replace(" ", "") + chance.choice(ENDS) for _ in range(chance.choice((1, 2, 3)))]
        with suppress(ValueError):
            lists.append(Rules([], wanted))
            (tmp_path / str(len(lists))).mkdir()
            (tmp_path / str(len(lists)) / ".gitignore").write_text("\n".join(wanted))
    paths = ["/".join(chance.choices(NAMES, k=chance.choice((1, 2, 3)))) for _ in range(60)]
    every = [
        (f"{number}/{path}", rules.wants_file(path))
        for number, rules in enumerate(lists, 1)
        for path in paths
    ]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    git = [
        "git",
        "-C",
        tmp_path,
        "-c",
        "core.excludesFile=/dev/null",
        "check-ignore",
        "--no-index",
        "-z",
        "--stdin",
    ]
    asked = "\0".join(path for path, _ in every)
    told = subprocess.run(git, input=asked, capture_output=True, text=True, check=True).stdout
    assert {path for path, wanted in every if not wanted} == set(told.split("\0")) - {""}
