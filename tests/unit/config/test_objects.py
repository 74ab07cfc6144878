"""Properties of objects: what is written is what the objects will carry, and nothing else gets in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncd.core.errors import ConfigError
from syncd.core.model import Properties
from tests.unit.config.loading import load

TEXT = """
stores: {s: {type: s3, bucket: abc}}
sources:
  - name: a
    path: ./a
    store: s
    objects:
      - match: "*.html"
        content_type: text/html; charset=utf-8
        cache_control: max-age=300
        tags: {b: "1", a: ""}
      - {match: old/, storage_class: GLACIER_IR, content_encoding: "gzip, br", tags: {}}
"""


def test_each_rule_says_what_is_written(tmp_path: Path) -> None:
    """In the order of the file, which decides; no tags are something else than nothing about tags."""
    assert load(tmp_path, TEXT).sources[0].objects == (
        ("*.html", Properties("text/html; charset=utf-8", "max-age=300", tags=(("a", ""), ("b", "1")))),
        ("old/", Properties(content_encoding="gzip, br", storage_class="GLACIER_IR", tags=())),
    )


@pytest.mark.parametrize("key", ["content_type", "cache_control", "content_encoding", "content_disposition"])
@pytest.mark.parametrize(
    "value", ["text/a\r\nx-amz-acl: public-read", "a\nb", "a\0", " a/b", "ä/ö", "x" * 5000]
)
def test_nothing_but_a_header_gets_into_a_header(tmp_path: Path, key: str, value: str) -> None:
    """No line break, no blank at the ends, nothing beyond ASCII, and not without end."""
    text = TEXT.replace("cache_control: max-age=300", f"{key}: {json.dumps(value)}")
    text = text.replace("content_type: text/html; charset=utf-8", "storage_class: STANDARD")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert [problem.key for problem in caught.value.problems] == [f"sources[0].objects[0].{key}"]


@pytest.mark.parametrize(
    "tags",
    [{f"t{number}": "" for number in range(11)}, {"a" * 129: ""}, {"a": "b" * 257}, {"AWS:x": ""}, {"": "a"},
     {"a": "b\n"}, {"a&b": ""}],
)  # fmt: skip
def test_tags_keep_to_the_limits(tmp_path: Path, tags: dict[str, str]) -> None:
    """Of number, length and characters; what would be refused with each file is refused once."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, TEXT.replace('{b: "1", a: ""}', json.dumps(tags)))
    assert [problem.key for problem in caught.value.problems] == ["sources[0].objects[0].tags"]
