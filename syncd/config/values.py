"""The kinds of value that a configuration holds, each with the words for what it expects.

Pydantic validators: they get what the YAML says and either return the value for the settings or refuse with
one phrase that completes "expected ...". What kind of text, number or list it is, pydantic says itself.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from syncd.config import units
from syncd.config.document import Expanded

MIB = 1 << 20
REFUSED = "refused"
"""Type of every error that is raised here; its context holds ``expected``."""


@dataclass(frozen=True, slots=True)
class Place:
    """What relative paths and ``~`` stand for."""

    directory: str
    """Of the configuration file, absolute."""
    home: str


def refuse(expected: str) -> PydanticCustomError:
    """The error for a value that is not what was expected."""
    return PydanticCustomError(REFUSED, "expected {expected}", {"expected": expected})


def nearest(wrong: str, known: Collection[str]) -> str:
    """The known word that `wrong` was most likely meant to be; empty when none is near."""
    return next(iter(difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)), "")


def choice(wrong: str, known: Collection[str]) -> str:
    """What was expected instead of `wrong`: the nearest, or all."""
    spelt = {word.lower(): word for word in known}
    near = nearest(wrong.strip().lower(), spelt)
    listed = ", ".join(f"`{word}`" for word in known)
    return f"`{spelt[near]}` (known: {listed})" if near else f"one of {listed}"


# ---- text -----------------------------------------------------------------------------------------------


def _one_of(*words: str) -> AfterValidator:
    def check(text: str) -> str:
        if text not in words:
            raise refuse(choice(text, words))
        return text

    return AfterValidator(check)


def _matching(pattern: str, expected: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise refuse(expected)
        return text

    return AfterValidator(check)


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise refuse("text on one line, without control characters")
    if text != text.strip():
        raise refuse("text without blanks at its ends")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
NAME_EXPECTED = "a simple name: letters, digits, `.`, `_` or `-`, at most 64 of them, no dot in front"
_NAME = r"\w[\w.-]{0,63}"
Name = Annotated[Text, _matching(_NAME, NAME_EXPECTED)]
Level = Annotated[Text, _one_of("debug", "info", "warning", "error")]
LogFormat = Annotated[Text, _one_of("auto", "text", "json")]
Integrity = Annotated[Text, _one_of("auto", "sha256", "md5", "crc32", "none")]
OnDeleteWord = Annotated[Text, _one_of("keep", "delete")]
BosStorageClass = Annotated[
    Text,
    _one_of(
        "STANDARD", "STANDARD_IA", "COLD", "ARCHIVE", "MAZ_STANDARD", "MAZ_STANDARD_IA", "MAZ_COLD",
    ),
]  # fmt: skip
S3StorageClass = Annotated[
    Text, _matching(r"[A-Z][A-Z0-9_-]{0,63}", "a storage class in capitals, such as `STANDARD_IA`")
]
Region = Annotated[Text, _matching(r"[A-Za-z0-9_-]{1,63}", "the name of a region, such as `us-east-1`")]
BosRegion = Annotated[Text, _matching(r"[a-z0-9-]{1,63}", "the short name of a region, such as `bj` or `gz`")]
BosBucket = Annotated[
    Text,
    _matching(
        r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
        "a bucket's name: 3 to 63 of `a-z`, `0-9` and `-` (a folder inside it goes into `prefix`)",
    ),
]
S3Bucket = Annotated[
    Text,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]",
        "a bucket's name: 3 or more letters, digits, `.`, `_` or `-` (a folder inside it goes into `prefix`)",
    ),
]


def is_name(text: str) -> bool:
    """Whether `text` can be the name of a source or a store."""
    return re.fullmatch(_NAME, text) is not None


# ---- numbers, sizes, durations --------------------------------------------------------------------------


def _number_from_environment(value: object) -> object:
    """The environment knows only text, so digits that come from there are a number."""
    if isinstance(value, Expanded) and re.fullmatch("[0-9]{1,18}", value):
        return int(value)
    return value


def _truth_from_environment(value: object) -> object:
    return value == "true" if isinstance(value, Expanded) and value in ("true", "false") else value


Flag = Annotated[bool, BeforeValidator(_truth_from_environment)]


def whole_number(low: int, high: int, why: str) -> PlainValidator:
    """For an int between `low` and `high`, both included; `why` there are bounds."""

    def check(value: object) -> int:
        number = _number_from_environment(value)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise refuse(f"a number from {low} to {high}: {why}")
        return number

    return PlainValidator(check)


def _parsed(value: object, parse: Callable[[str], float], example: str) -> float:
    """What `parse` makes of a text; 0 needs no unit, any other number does."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0
    if not isinstance(value, str):
        raise refuse(example)
    try:
        return parse(value)
    except ValueError as error:
        raise refuse(str(error)) from None


def size(low: int, high: int, why: str, *, or_zero: bool = False) -> PlainValidator:
    """For bytes between `low` and `high`, both included, or 0 where that has a meaning."""

    def check(value: object) -> int:
        number = int(_parsed(value, units.parse_size, units.SIZE_EXAMPLE))
        if not (low <= number <= high or (or_zero and number == 0)):
            zero = "0, or " if or_zero else ""
            raise refuse(f"{zero}from `{units.format_size(low)}` to `{units.format_size(high)}`: {why}")
        return number

    return PlainValidator(check)


def duration(low: float, high: float, why: str) -> PlainValidator:
    """For seconds between `low` and `high`, both included."""

    def check(value: object) -> float:
        seconds = _parsed(value, units.parse_duration, units.DURATION_EXAMPLE)
        if not low <= seconds <= high:
            bounds = f"from `{units.format_duration(low)}` to `{units.format_duration(high)}`"
            raise refuse(f"{bounds}: {why}")
        return float(seconds)

    return PlainValidator(check)


def _max_delete(value: object) -> tuple[int, float]:
    """(files, fraction): a number bounds the files, a share the fraction, and the other one is open."""
    value = _number_from_environment(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value, 1.0
    if isinstance(value, str):
        try:
            return (1 << 63) - 1, units.parse_share(value)
        except ValueError:
            pass
    raise refuse("a number of files, such as `1000`, or a share of them, such as `25%`")


MaxDelete = Annotated[tuple[int, float], PlainValidator(_max_delete)]


# ---- paths and addresses --------------------------------------------------------------------------------


def _path(value: object, info: ValidationInfo) -> str:
    """An absolute path, symbolic links not resolved. The context of the validation is a `Place`."""
    place = info.context
    assert isinstance(place, Place)
    if not isinstance(value, str) or not value:
        raise refuse("a path (in quotes, if it looks like something else)")
    if "\0" in value or "\n" in value:
        raise refuse("a path without line breaks and zero bytes")
    if value == "~" or value.startswith("~/"):
        value = place.home + value[1:]
    elif value.startswith("~"):
        expanded = os.path.expanduser(value)
        if expanded == value:
            raise refuse("the home of a user that exists, or `./~...` for a name that begins so")
        value = expanded
    return os.path.abspath(os.path.join(place.directory, value))


FilePath = Annotated[str, PlainValidator(_path)]

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")


def _address(text: str, *, login: bool) -> str:
    """``scheme://host[:port]``, https where no scheme is said; a login in it only where that is allowed."""
    expected = "an address such as `https://host` or `http://host:9000`, without anything after it"
    if login:
        expected = "an address such as `http://proxy:3128` (http or https)"
    if "://" not in text:
        text = f"{'http' if login else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise refuse(expected) from None
    userinfo, at, host = parts.netloc.rpartition("@")
    host_name = host.rpartition(":")[0] if port is not None or host.endswith(":") else host
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(host_name)
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or (at and not login)
    ):
        raise refuse(expected)
    suffix = f":{port}" if port is not None else ""
    return f"{parts.scheme}://{userinfo}{at}{host_name.lower()}{suffix}"


Endpoint = Annotated[Text, AfterValidator(lambda text: _address(text, login=False))]
Proxy = Annotated[Text, AfterValidator(lambda text: _address(text, login=True))]
