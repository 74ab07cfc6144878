"""Kinds of value: what they take, also from the environment, and what they suggest instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config.values import choice, is_name, nearest
from syncd.core.model import TransferPolicy
from tests.unit.config.loading import SMALL, load, load_store

MIB = 1 << 20


def test_numbers_and_flags_may_come_from_the_environment(tmp_path: Path) -> None:
    """What the environment holds is text; where a number or a flag belongs, it is read as one."""
    text = SMALL + "transfer: {concurrency: '${N}', part_size: '${SIZE}', bandwidth_limit: '${ZERO}'}\n"
    text += "x-unused: ${FLAG}"
    settings = load(tmp_path, text, N="12", SIZE="6MiB", ZERO="0", FLAG="true")
    assert TransferPolicy(concurrency=12, part_size=6 * MIB) == settings.transfer
    s3 = load_store(tmp_path, "type: s3, bucket: '${N}', path_style: '${FLAG}'", N="123", FLAG="true")
    assert (s3.bucket, s3.path_style) == ("123", True)


def test_a_wrong_word_has_a_nearest_known_one() -> None:
    """Near words are suggested, whatever their case; far ones are not."""
    assert [nearest(wrong, ["settle", "prefix"]) for wrong in ("sttle", "wibble")] == ["settle", ""]
    assert choice(" INFO", ["info", "error"]) == "`info` (known: `info`, `error`)"
    assert choice("xml", ["text", "json"]) == "one of `text`, `json`"


@pytest.mark.parametrize(
    ("text", "fits"), [("a", True), ("Ä_1.b-c", True), ("n" * 64, True), ("n" * 65, False), (".a", False),
                       ("-a", False), ("a b", False), ("a/b", False), ("", False)]
)  # fmt: skip
def test_a_name_is_simple(text: str, fits: bool) -> None:
    """It stands in logs and on command lines."""
    assert is_name(text) is fits
