"""Whatever stands in a configuration: settings, or ConfigError; and no secret in either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.config import load as config
from syncd.config.reader import SECTIONS, LogEntry, TransferEntry
from syncd.config.sources import SourceEntry
from syncd.config.stores import SECRET_KEYS, STORE_TYPES
from syncd.config.values import keys
from syncd.core.errors import ConfigError

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
LIKELY_WORDS = """
0 2s 8MiB 25% 1e9999s a nas s3 bos dir keep delete info none STANDARD *.x !x # ${ ${A} ${B} $$ a//b
./a ./a/b / // ~ ~root ../ https://host http://h:1 http://user@h h: [::1] http://[ host/x :: v1/ x/
"""
AWKWARD = ["", "\0", "\n", " ", "a" * 300, "/" * 5000, "a/" * 2500, "../" * 40]
LIKELY = st.sampled_from([*LIKELY_WORDS.split(), *AWKWARD])
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.binary(max_size=4)
    | TEXT
    | LIKELY
)
VALUE = st.recursive(
    SCALAR, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT | LIKELY, v, max_size=3)
)


def entry(*models: type[Any]) -> st.SearchStrategy[Any]:
    """A mapping with known and unknown keys, each with any value; or something else altogether."""
    names = sorted({key for model in models for key in keys(model)})
    known = st.dictionaries(st.sampled_from(names), VALUE | LIKELY, max_size=8)
    typed = st.builds(lambda kind, rest: {"type": kind, **rest}, st.sampled_from(sorted(STORE_TYPES)), known)
    return known | (typed if "type" in names else known) | st.dictionaries(TEXT, VALUE, max_size=2) | VALUE


SOURCE = entry(SourceEntry)
STORES = st.dictionaries(
    st.sampled_from(["nas", "a", "b b"]) | TEXT, entry(*STORE_TYPES.values()), max_size=3
)
DOCUMENT = st.fixed_dictionaries(
    {"stores": STORES | VALUE, "sources": st.lists(SOURCE, max_size=3) | VALUE},
    optional={
        "state_dir": VALUE | LIKELY,
        "transfer": entry(TransferEntry),
        "log": entry(LogEntry),
        "x-y": VALUE,
    },
)
VARIABLE = LIKELY.filter(lambda text: "\0" not in text)  # the kernel hands out no other
ENVIRON = st.dictionaries(st.sampled_from(["A", "HOME", "STATE_DIRECTORY"]), VARIABLE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the files of all examples."""
    place = tmp_path_factory.mktemp("fuzz")
    (place / "a" / "b").mkdir(parents=True)
    return place


def outcome(text: str, place: Path, environ: dict[str, str]) -> str:
    """All that `load` lets be seen of a configuration: the settings, or the problems."""
    file = place / "config.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        return repr(config.load(str(file), environ))
    except ConfigError as error:
        return "\n".join(map(str, error.problems))


@example(document="${", environ={})  # the whole file is a variable
@given(document=DOCUMENT | VALUE, environ=ENVIRON)
def test_any_structure_is_settings_or_problems(document: Any, environ: dict[str, str], place: Path) -> None:
    """No value of any kind at any place raises anything but ConfigError, which always says something."""
    assert outcome(yaml.safe_dump(document, allow_unicode=True), place, {"HOME": str(place), **environ})


SOUND = """
state_dir: ./state
stores:
  nas: {type: dir, path: ./mirror}
  s: {type: s3, bucket: abc, endpoint: "http://h:1", region: r, access_key_id: a, secret_access_key: b}
  b: {type: bos, bucket: abc, region: bj, access_key_id: a, secret_access_key: b, traffic_limit: 1M}
sources:
  - {name: a, path: ./a/b, store: nas, prefix: a/, include: [x], exclude: [y], settle: 1s, max_delete: 5%}
  - {name: b, path: ./c, store: s, on_delete: keep, rescan_interval: 1h}
transfer: {concurrency: 2, part_size: 8MiB}
log: {level: info}
"""


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else [])
    )
    return [inner for key, child in children for inner in [(*path, key), *places(child, (*path, key))]]


@given(where=st.sampled_from(places(yaml.safe_load(SOUND))), value=VALUE | LIKELY)
def test_one_odd_value_is_settings_or_a_problem(where: tuple[Any, ...], value: Any, place: Path) -> None:
    """With a single value of a sound configuration replaced, the rest is still understood."""
    document = yaml.safe_load(SOUND)
    around = document
    for step in where[:-1]:
        around = around[step]
    around[where[-1]] = value
    said = outcome(yaml.safe_dump(document, allow_unicode=True), place, {"HOME": str(place), "A": "x"})
    assert said.startswith((f"Settings(path='{place}", f"{place}/config.yaml:"))


SECRET = "qZ7xVw93kHt"
FORMS = ["{}", " {}", "{}\n", "http://me:{}@proxy", "http://me:{}@proxy:99999", "ftp://{}@proxy"]


@given(
    key=st.sampled_from(sorted(SECRET_KEYS)),
    form=st.sampled_from(FORMS),
    kind=st.sampled_from([*STORE_TYPES, "s4", ""]),
    rest=entry(*STORE_TYPES.values()),
    inline=st.booleans(),
)
def test_no_secret_is_said(key: str, form: str, kind: str, rest: Any, inline: bool, place: Path) -> None:
    """Whatever else is wrong, a secret in the file or in the environment is in no problem and no repr."""
    secret = form.format(SECRET)
    rest = rest if isinstance(rest, dict) else {}
    store = {"bucket": "abc", "region": "bj", **rest, "type": kind, key: secret if inline else "${KEY}"}
    document = {"stores": {"s": store}, "sources": [{"name": "a", "path": "./a", "store": "s"}]}
    assert SECRET not in outcome(yaml.safe_dump(document), place, {"HOME": str(place), "KEY": secret})


def test_every_section_is_fuzzed() -> None:
    """The strategies above know every section of the schema."""
    assert {SourceEntry, TransferEntry, LogEntry, *STORE_TYPES.values()} < set(SECTIONS.values())
