"""YAML text as values that know their lines: strict, bounded, with the environment in it."""

from __future__ import annotations

import re
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from syncd.config import document as config_yaml
from syncd.config.document import Document, Unusable
from syncd.core.errors import ConfigError

NO_ENVIRONMENT: dict[str, str] = {}


def read(text: str, environ: dict[str, str] = NO_ENVIRONMENT) -> Document:
    """The document in `text`, which is called `f`."""
    return config_yaml.read(text.encode(), "f", environ, secret_keys={"secret"})


def said(text: str | bytes) -> str:
    """What is said about a text that cannot be read at all."""
    with pytest.raises(ConfigError) as caught:
        config_yaml.read(text.encode() if isinstance(text, str) else text, "f", {})
    (problem,) = caught.value.problems
    return str(problem)


TOO_MUCH = (
    "found more than 20 levels of nesting or 20000 values, with those of aliases; "
    "expected a smaller configuration"
)
CANNOT_BE_READ = {
    b"a: \xff": "f:1: found the byte 0xff, which is not UTF-8; expected a file in UTF-8",
    b"a: 1\nb: \xe4\n": "f:2: found the byte 0xe4, which is not UTF-8; expected a file in UTF-8",
    "a: 1".encode("utf-16"): "f:1: found the byte 0xff, which is not UTF-8; expected a file in UTF-8",
    b"a: 1\nbc: \x07": "f:2:5: found the control character U+0007; expected text without control characters "
    "(write them as \\x.. in double quotes)",
    b"a: 1\nb: c: d": "f:2:5: found a YAML syntax error: mapping values are not allowed in this context; "
    "expected valid YAML (quote text with special characters)",
    b"a:\n\tb: 1": "f:2:1: found a YAML syntax error: found character that cannot start any token; "
    "expected spaces instead of tabs",
    b"a: {b: ${C}, d: 1}": "f:1:9: found a YAML syntax error: did not find expected ',' or '}'; "
    "expected quotes around `${...}`, because it is inside `{...}`",
    b"a: 'x": "f:1:6: found a YAML syntax error: found unexpected end of stream; "
    "expected valid YAML (quote text with special characters)",
    b"a: 1\n---\nb: 2": "f:2:1: found a second document; expected one document in the file",
    b"a: 1\nb: *c": "f:2:4: found an alias without its anchor; expected `&name` before `*name`",
    b"a: &b 1\nc: &b 2": "f:2:4: found an anchor a second time; expected each `&name` once",
    b"a: &a\n  b: *a": f"f:2: {TOO_MUCH}",
}


@pytest.mark.parametrize("text", CANNOT_BE_READ)
def test_what_is_no_yaml_is_said_with_line_and_column(text: bytes) -> None:
    """A file that cannot be read is one problem, at the place where reading ended."""
    assert CANNOT_BE_READ[text] == said(text)


def test_deep_nesting_is_refused_without_building_it() -> None:
    """Above 20 levels here; a million of them already in the parser."""
    assert f"f:1: {TOO_MUCH}" == said("[" * 22 + "]" * 22)
    assert read("[" * 20 + "]" * 20).problems == []
    assert re.match(r"f:1:\d{2,4}: found .*nesting", said("[" * 1_000_000))


LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
CHAIN = "".join(f"a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 5000))


@pytest.mark.parametrize("text", ["a0: &a0 [x]\n" + LAUGHS, "a0: &a0 {}\n" + MERGES, "a0: &a0 {}\n" + CHAIN])
def test_aliases_that_multiply_are_refused(text: str) -> None:
    """A few lines of aliases that stand for billions of values are a problem, not a full memory."""
    tracemalloc.start()
    assert TOO_MUCH in said(text)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_nothing_is_nothing() -> None:
    """A file without content has no value, however many comments it holds."""
    assert [read(text).value for text in ("", "# only this\n", "---\n")] == [None] * 3


def test_every_value_has_the_line_of_its_key() -> None:
    """Lines count from 1; a list's items have their own, and an alias the line of its key."""
    text = "a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3}\nf: &f\n  long\n  text\ng: *f\n"
    lines = {config_yaml.dotted(path): mark.line for path, mark in read(text).marks.items()}
    expected = {"": 1, "a": 1, "b": 2, "b.c": 3, "b.c[0]": 4, "b.c[1]": 5, "b.c[1].d": 5, "b.c[1].e": 6}
    assert {**expected, "f": 7, "g": 10} == lines


def test_a_key_twice_is_a_mistake() -> None:
    """The first one counts while the rest is read, and both lines are named."""
    document = read("a: {x: 1}\nb: 1\na: 2\n")
    assert document.value == {"a": {"x": 1}, "b": 1}
    assert [str(problem) for problem in document.problems] == [
        "f:3: a: found the key a second time (first on line 1); expected each key once"
    ]


def test_a_key_is_text() -> None:
    """A list or a mapping as a key is a mistake; what looks like a number or a truth value is a name."""
    document = read("? [a]\n: b\n2024: c\nno: d\n")
    assert document.value == {"2024": "c", "no": "d"}
    assert [str(p) for p in document.problems] == ["f:1: found a list as a key; expected text as a key"]


def test_merge_keys_fill_in_what_is_not_there() -> None:
    """What stands in the mapping itself wins, then the first merged mapping that has the key."""
    document = read("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *b}\n")
    assert isinstance(document.value, dict)
    assert (document.value["c"], document.value["d"]) == ({"x": 3, "y": 1, "z": 2}, {"y": 2, "z": 2})
    assert document.problems == []


def test_only_mappings_merge() -> None:
    """A merge key with anything else is a mistake."""
    document = read("a: {<<: [x, {b: 1}]}\n")
    assert document.value == {"a": {"b": 1}}
    assert [str(p) for p in document.problems] == ["f:1: a: found a scalar; expected a mapping after `<<`"]


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-02",
        "2024-13-45",
        "!!binary aGk=",
        "!x y",
        "!x [y]",
        "!!int x",
        "!!bool maybe",
        "9" * 5000,
        "010",
        "0x10",
        "1:30",
        "1_0",
    ],
)
def test_values_of_no_use_make_nothing(text: str) -> None:
    """Dates, tags, impossible and ambiguous numbers are neither built nor an exception: none is taken."""
    document = read(f"a: {text}")
    assert isinstance(document.value, dict)
    assert isinstance(document.value["a"], Unusable)


def test_the_environment_is_taken_where_it_is_named() -> None:
    """`${NAME}` in any text value, several times; `$$` is a dollar sign, and a lone dollar sign stays one."""
    text = "a: ${X}\nb: \"${X}/${Y}\"\nc: $${X} $$$$ $X $\nd: [x, '${X}']\n${X}: k\n"
    document = read(text, {"X": "1", "Y": "${X}"})
    expected = {"a": "1", "b": "1/${X}", "c": "${X} $$ $X $", "d": ["x", "1"], "${X}": "k"}
    assert expected == document.value
    assert document.problems == []


def test_a_value_is_shown_as_it_was_written() -> None:
    """Neither what the environment holds, nor secrets, nor text over several lines is repeated."""
    text = "a: ${X}\nsecret: abc\nb: {secret: [abc, 1]}\nc: |\n  x\n  y\nd: ''\ne: user@host\nf: null\n"
    text += "g: {secret: '${X}'}"
    document = read(text, {"X": "hidden"})
    paths: list[config_yaml.Path] = [
        ("a",),
        ("secret",),
        ("b", "secret"),
        ("b", "secret", 0),
        ("b", "secret", 1),
    ]
    paths += [("c",), ("d",), ("e",), ("f",), ("g", "secret"), ("h",)]
    assert [document.found(path) for path in paths] == [
        "`${X}` (its value is not shown)",
        "text that is not shown",
        "a list",
        "text that is not shown",
        "a number that is not shown",
        "text over 3 lines",
        "empty text",
        "text that is not shown",
        "`null`, which YAML reads as nothing",
        "`${X}` (its value is not shown)",
        "nothing",
    ]
    assert "hidden" not in repr(document)
    assert "abc" not in repr(document)


def test_quoted_text_stays_on_its_line() -> None:
    """Line breaks, control characters and backquotes are escaped, and long text is cut."""
    assert config_yaml.quoted("a\nb\x1b`\u202e") == "`a\\x0ab\\x1b\\x60\\u202e`"
    assert f"`{'x' * 80}…`" == config_yaml.quoted("x" * 81)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "$" not in text),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.from_regex("[a-z]{1,9}", fullmatch=True), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_what_yaml_can_say_is_read_as_yaml_reads_it(value: object) -> None:
    """Where we are not stricter, the values are those of PyYAML's own safe loader."""
    text = yaml.safe_dump(value, allow_unicode=False)
    assert yaml.safe_load(text) == read(text).value


YAML_LIKE = st.text(alphabet="{}[]&*!|>?:-,#%@`'\" \n\t$ab<1.", max_size=60).map(str.encode)


@given(st.binary(max_size=200) | YAML_LIKE)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but ConfigError comes out of a broken file."""
    try:
        document = config_yaml.read(data, "f", {})
    except ConfigError:
        return
    assert all(problem.where.startswith("f:") for problem in document.problems)


def test_the_slow_parser_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML comes without libyaml, values and lines are the same."""
    text = "a: &a {b: [1, 'x']}\nc: *a\nd: |\n  e\n  f\n"
    fast = read(text)
    monkeypatch.setattr(config_yaml, "_Loader", yaml.SafeLoader)
    slow = read(text)
    assert (fast.value, fast.marks) == (slow.value, slow.marks)
    assert "f:1:4: found an alias without its anchor" in said("a: *b")
    assert f"f: {TOO_MUCH}" == said("[" * 1000)
