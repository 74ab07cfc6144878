"""The keys in `objects` of a source: properties of the objects of some files, for their readers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from msgspec.structs import asdict

from syncd.config.document import Document, Path
from syncd.config.stores import StoreEntry
from syncd.config.units import Refused
from syncd.config.values import Entry, Parsed, Place, Text, matching
from syncd.core.model import Properties
from syncd.core.patterns import Rules

MAX_TAGS = 10
"""Of one object. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""
_TAG_CHARACTERS = r"[\w .:/=+@-]"
_LINE = r"[ -~]{1,1000}"
_LINE_EXPECTED = "at most 1000 characters of ASCII, as a header takes them"


def _tags(value: object, _: Place) -> tuple[tuple[str, str], ...]:
    """Parse names and values that S3 and BOS take. Numbers and booleans are text there: quote them."""
    if not isinstance(value, dict) or len(value) > MAX_TAGS:
        raise Refused(f"a mapping of at most {MAX_TAGS} tags, such as `{{site: www}}`")
    for name, text in value.items():
        if not (isinstance(name, str) and isinstance(text, str)):
            raise Refused("text as the value of each tag: put it in quotes")
        if not re.fullmatch(_TAG_CHARACTERS + "{1,128}", name) or name.lower().startswith("aws:"):
            raise Refused("names of tags of 1 to 128 letters, digits, blanks or `.:/=+-@_`, not `aws:...`")
        if not re.fullmatch(_TAG_CHARACTERS + "{0,256}", text):
            raise Refused("values of tags with at most 256 letters, digits, blanks or `.:/=+-@_`")
    return tuple(sorted(value.items()))


class ObjectEntry(Entry, frozen=True):
    """Properties of the objects of files that match a pattern."""

    required = ("match",)
    match: Annotated[Text, "a gitignore pattern"] = ""
    content_type: Annotated[
        Text,
        matching(
            r"[A-Za-z0-9_!#$&^.+-]+/[A-Za-z0-9_!#$&^.+-]+(; *[ -~]{1,200})?",
            "a type such as `text/html; charset=utf-8`",
        ),
    ] = ""
    cache_control: Annotated[Text, matching(_LINE, _LINE_EXPECTED)] = ""
    content_encoding: Annotated[
        Text,
        matching(
            r"[A-Za-z0-9-]{1,40}(, *[A-Za-z0-9-]{1,40}){0,5}", "the name of an encoding, such as `gzip`"
        ),
    ] = ""
    content_disposition: Annotated[Text, matching(_LINE, _LINE_EXPECTED)] = ""
    tags: Annotated[tuple[tuple[str, str], ...] | None, Parsed(_tags)] = None
    storage_class: Annotated[
        Text, matching(r"[A-Z][A-Z0-9_-]{0,63}", "a storage class in capitals, such as `STANDARD_IA`")
    ] = ""

    def rule(self) -> tuple[str, Properties]:
        """Return the pattern and its properties."""
        return self.match, Properties(**{key: value for key, value in asdict(self).items() if key != "match"})


def check(rules: Sequence[ObjectEntry], path: Path, store: StoreEntry | None, document: Document) -> None:
    """Report invalid patterns, and properties that the store cannot keep."""
    if rules and store is not None and store.directory:
        expected = "a store of type `s3` or `bos`, since the files of a directory have no such properties"
        document.report(path, found="properties of objects in a directory", expected=expected)
        return
    for index, rule in enumerate(rules):
        at = (*path, index)
        if rule.match.startswith("!"):
            expected = "a pattern without `!`: the last rule that matches decides"
            document.report((*at, "match"), expected=expected)
        elif rule.match and (fault := _fault(rule.match)):
            expected = f"a gitignore pattern; this one {fault.partition(f'{rule.match!r} ')[2] or fault}"
            document.report((*at, "match"), expected=expected)
        expected = store.class_problem(rule.storage_class) if store and rule.storage_class else ""
        if expected:
            document.report((*at, "storage_class"), expected=expected)


def _fault(pattern: str) -> str:
    try:
        Rules([], [pattern])
    except ValueError as error:
        return str(error)
    return ""
