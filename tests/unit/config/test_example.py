"""``config.example.yaml``: it works as it stands, and shows every key and every default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config import load as config
from syncd.config.http import HttpAddressEntry
from syncd.config.objects import ObjectEntry
from syncd.config.reader import LogEntry, TopEntry, TransferEntry
from syncd.config.sources import SourceEntry
from syncd.config.stores import STORE_TYPES
from syncd.config.values import Entry, Place, keys, taken

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"
NOT_THE_DEFAULT = {
    "region",
    "session_token",
    "session_token_file",
    "path_style",
    "proxy",
    "ca_bundle",
    "include",
    "sse",
    "kms_key_id",
    "acl",
    "request_payer",
    "object_lock",
    "objects",
    "mode",
    "append",
    "http",
}
"""Keys in comments of which the text says what the default is, and the line shows something else."""


OPTIONAL = (ObjectEntry, HttpAddressEntry)
"""Sections that are only there in comments."""


def uncommented(levels: int) -> str:
    """The example with every key uncommented that is behind at most `levels` times ``# ``."""
    lines = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        text, depth = line, 0
        while text.lstrip().startswith("# "):
            text, depth = text.replace("# ", "", 1), depth + 1
        is_key = re.fullmatch(r" +(- )?[a-z][a-z0-9_-]*:( .*)?", text) or text == "http:"
        lines.append(text if is_key and depth <= levels else line)
    return "\n".join(lines)


def sections(document: dict[str, Any]) -> Iterator[tuple[type[Entry], dict[str, Any]]]:
    """Each mapping of a parsed example with the schema that it has to fit."""
    yield TopEntry, document
    for store in document["stores"].values():
        yield STORE_TYPES[store["type"]], store
    for source in document["sources"]:
        yield SourceEntry, source
        yield from ((ObjectEntry, rule) for rule in source.get("objects", []))
    yield TransferEntry, document["transfer"]
    yield LogEntry, document["log"]
    if "http" in document:
        yield HttpAddressEntry, document["http"]


def test_it_works_as_it_stands(tmp_path: Path) -> None:
    """Without any environment it loads, and everything is beside it."""
    file = tmp_path / "config.yaml"
    file.write_bytes(EXAMPLE.read_bytes())
    settings = config.load(str(file), {})
    assert str(tmp_path / "state") == settings.state_dir
    assert [str(tmp_path / "watched")] == [source.root for source in settings.sources]
    assert f"{{'mirror': DirSettings(path='{tmp_path}/mirror', create=True)}}" == repr(settings.stores)
    assert settings.warnings == ()


def test_its_stores_work_when_they_are_wanted(tmp_path: Path) -> None:
    """With the comments of the BOS and S3 blocks taken away, and their keys there, it loads too."""
    file = tmp_path / "config.yaml"
    file.write_text(uncommented(1), encoding="utf-8")
    for name in ("archive-key-id", "archive-secret-key"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o400)
    environ = {"BOS_ACCESS_KEY_ID": "a", "BOS_SECRET_ACCESS_KEY": "b", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    settings = config.load(str(file), environ)
    assert list(settings.stores) == ["mirror", "photos-bos", "archive"]
    assert settings.warnings == ()


def test_it_shows_every_key_and_no_other() -> None:
    """What the schema knows and what the example shows, comments included, are the same keys."""
    shown: dict[type[Entry], set[str]] = {}
    for model, section in sections(yaml.safe_load(uncommented(2))):
        shown.setdefault(model, set()).update(section)
    common = set(keys(STORE_TYPES["bos"])) & set(keys(STORE_TYPES["s3"]))
    for kind in ("bos", "s3"):  # what they have in common is shown once
        other = STORE_TYPES["s3" if kind == "bos" else "bos"]
        shown[STORE_TYPES[kind]] |= common & shown[other]
    assert {model: set(keys(model)) for model in shown} == shown


def test_what_is_commented_out_is_the_default(tmp_path: Path) -> None:
    """A key that is shown in a comment, without a word about its default, shows it."""
    shown = (each for each in sections(yaml.safe_load(uncommented(2))) if each[0] not in OPTIONAL)
    real = sections(yaml.safe_load(uncommented(1)))
    place = Place(str(tmp_path), str(tmp_path))
    checked = set()
    for (model, with_comments), (_, without) in zip(shown, real, strict=True):
        for key in with_comments.keys() - without.keys() - NOT_THE_DEFAULT:
            default = getattr(model(), key)
            assert (key, default) == (key, taken(keys(model)[key], with_comments[key], place))
            checked.add(key)
    assert {"traffic_limit", "integrity", "progress_timeout", "trust_environment"} <= checked


@pytest.mark.parametrize("section", ["transfer", "log"])
def test_the_sections_of_bounds_show_the_defaults(section: str) -> None:
    """What the example sets in transfer and log changes nothing: the sections can be left out."""
    model = {"transfer": TransferEntry, "log": LogEntry}[section]
    for key, given in yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))[section].items():
        assert taken(keys(model)[key], given, Place("/", "/")) == getattr(model(), key)
