"""The kinds of value that a configuration holds, each with the words for what it expects.

These are pydantic validators: each gets what the YAML says and either returns the value for the settings or
refuses it with a phrase that completes "expected ...". Whether it is text or a list, pydantic checks itself.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from msgspec import Struct, field
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from syncd.config import units
from syncd.config.document import Expanded
from syncd.core.backoff import Bandwidth
from syncd.sources.places import Places

MIB = 1 << 20
REFUSED = "refused"
"""The type of every error that is raised here; its context holds ``expected``."""


class Entry(BaseModel):
    """A mapping in the file: every field is a key with its default.

    The file has to give the keys in `required`; their defaults stand in for missing values while the rest is
    checked, so that one run finds every mistake.
    """

    # Building is deferred: the schema of a store type that no store has costs nothing.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=True, hide_input_in_errors=True
    )
    required: ClassVar[tuple[str, ...]] = ()


class Place(Struct, frozen=True):
    """What relative paths, ``~`` and absent values stand for, and where links lead."""

    directory: str
    """The directory of the configuration file, absolute."""
    home: str
    aws_region: str = ""
    """What the environment names; empty: nothing."""
    places: Places = field(default_factory=Places)


def refuse(expected: str) -> PydanticCustomError:
    """The error for a value that is not what was expected."""
    return PydanticCustomError(REFUSED, "expected {expected}", {"expected": expected})


def nearest(wrong: str, known: Collection[str]) -> str:
    """The known word that `wrong` was most likely meant to be; empty when none is near."""
    return next(iter(difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)), "")


def choice(wrong: str, known: Collection[str]) -> str:
    """What was expected instead of `wrong`: the nearest known word, or all of them."""
    spelt = {word.lower(): word for word in known}
    near = nearest(wrong.strip().lower(), spelt)
    listed = ", ".join(f"`{word}`" for word in known)
    return f"`{spelt[near]}` (known: {listed})" if near else f"one of {listed}"


# ---- text -----------------------------------------------------------------------------------------------


def one_of(*words: str) -> AfterValidator:
    """For one of `words`."""

    def check(text: str) -> str:
        if text not in words:
            raise refuse(choice(text, words))
        return text

    return AfterValidator(check)


def matching(pattern: str, expected: str) -> AfterValidator:
    """For text that `pattern` matches as a whole."""
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
Secret = Annotated[Text, Field(repr=False)]
"""No message and no ``repr`` shows it."""
NAME_EXPECTED = "a name of at most 64 letters, digits, `.`, `_` or `-`, with neither dot nor dash in front"
_NAME = r"\w[\w.-]{0,63}"
Name = Annotated[Text, matching(_NAME, NAME_EXPECTED)]


def is_name(text: str) -> bool:
    """Whether `text` can be the name of a source or a store."""
    return re.fullmatch(_NAME, text) is not None


# ---- numbers, sizes, durations --------------------------------------------------------------------------


def _number_from_environment(value: object) -> object:
    """Digits from the environment, which holds nothing but text, are a number."""
    if isinstance(value, Expanded) and re.fullmatch("[0-9]{1,18}", value):
        return int(value)
    return value


def _truth_from_environment(value: object) -> object:
    return value == "true" if isinstance(value, Expanded) and value in ("true", "false") else value


Flag = Annotated[bool, BeforeValidator(_truth_from_environment)]


def whole_number(low: int, high: int, *, note: str = "") -> PlainValidator:
    """For an int between `low` and `high`, both included; `note` follows the bounds in the message."""

    def check(value: object) -> int:
        number = _number_from_environment(value)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise refuse(f"a number between {low} and {high}{note}")
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


def size(low: int, high: int, *, or_zero: bool = False) -> PlainValidator:
    """For bytes between `low` and `high`, both included, or 0 where that has a meaning."""

    def check(value: object) -> int:
        number = int(_parsed(value, units.parse_size, units.SIZE_EXAMPLE))
        if not (low <= number <= high or (or_zero and number == 0)):
            zero = "0 (no limit), or " if or_zero else ""
            raise refuse(f"{zero}a size between `{units.format_size(low)}` and `{units.format_size(high)}`")
        return number

    return PlainValidator(check)


def _bandwidth(value: object) -> Bandwidth:
    """A number other than 0 is refused in the words for text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refuse(units.BANDWIDTH_EXAMPLE)
    try:
        return units.parse_bandwidth(str(value))
    except ValueError as error:
        raise refuse(str(error)) from None


BandwidthLimit = Annotated[Bandwidth, PlainValidator(_bandwidth)]


def duration(low: float, high: float, *, or_zero: bool = False) -> PlainValidator:
    """For seconds between `low` and `high`, both included, or 0 where that has a meaning."""

    def check(value: object) -> float:
        seconds = _parsed(value, units.parse_duration, units.DURATION_EXAMPLE)
        if not (low <= seconds <= high or (or_zero and seconds == 0)):
            bounds = f"`{units.format_duration(low)}` and `{units.format_duration(high)}`"
            raise refuse(f"{'0 (never), or ' if or_zero else ''}a duration between {bounds}")
        return float(seconds)

    return PlainValidator(check)


def _bound(value: object) -> tuple[int, float]:
    """(files, fraction): a number limits the files, a share the fraction; the other one is unlimited."""
    value = _number_from_environment(value)
    try:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return units.parse_bound(str(value))
    except ValueError:
        pass
    raise refuse("a number of files, such as `1000`, or a share of them, such as `25%`")


Bound = Annotated[tuple[int, float], PlainValidator(_bound)]


# ---- paths and addresses --------------------------------------------------------------------------------


def _path(value: object, info: ValidationInfo) -> str:
    """An absolute path, symbolic links not resolved. The context of the validation is a `Place`."""
    place = info.context
    assert isinstance(place, Place)
    if not isinstance(value, str) or not value:
        raise refuse("a path, in quotes where YAML would read something else")
    if "\0" in value or "\n" in value:
        raise refuse("a path without line breaks and zero bytes")
    if value == "~" or value.startswith("~/"):
        value = place.home + value[1:]
    elif value.startswith("~"):
        expanded = os.path.expanduser(value)
        if expanded == value:
            raise refuse("the name of an existing user after `~`, or `./~...` for a file of such a name")
        value = expanded
    return os.path.abspath(os.path.join(place.directory, value))


FilePath = Annotated[str, PlainValidator(_path)]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?!.{{254}}){_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]")


def _address(text: str, *, login: bool) -> str:
    """``scheme://host[:port]``, with a login only where that is allowed. Without a scheme it is https, for a
    proxy http. A port that is the scheme's own is left out: the address is the same.
    """
    expected = "an address such as `https://host` or `http://host:9000`, without path or login"
    if login:
        expected = "an address such as `http://proxy:3128`"
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
        or port == 0
    ):
        raise refuse(expected)
    suffix = f":{port}" if port not in (None, {"http": 80, "https": 443}[parts.scheme]) else ""
    return f"{parts.scheme}://{userinfo}{at}{host_name.lower()}{suffix}"


Endpoint = Annotated[Text, AfterValidator(lambda text: _address(text, login=False))]
Proxy = Annotated[Secret, AfterValidator(lambda text: _address(text, login=True))]
