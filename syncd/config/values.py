"""The kinds of value in a configuration, each with the words for what it expects.

A kind is an annotation: a type, and functions that check its values in turn. Each returns the value for the
settings, or refuses its argument with a phrase that completes "expected ...". msgspec checks the type. A text
in a kind says what is expected if the value is missing.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin
from urllib.parse import urlsplit

from msgspec import Struct, ValidationError, convert, field
from msgspec.structs import fields

from syncd.config import units
from syncd.config.document import Expanded
from syncd.config.units import Refused
from syncd.core.backoff import FREE_LINE, Bandwidth
from syncd.core.model import Concealing
from syncd.sources.places import Places

MIB = 1 << 20
TEXT = "text"
_EXPECTED = {str: TEXT, list: 'a list, such as `["*.tmp", ".git/"]`', dict: "a mapping"}


class Entry(Concealing, frozen=True):
    """A mapping in the file: every field is a key with its default, except those that begin with ``_``.

    The file must give the keys in `required`; their defaults replace missing values while the rest is
    checked, so that one run finds every mistake.
    """

    concealed: ClassVar[frozenset[str]] = frozenset()
    required: ClassVar[tuple[str, ...]] = ()

    def looked_up(self, _: Place) -> Self:
        """Return it with what its paths lead to, looked up once, if that cannot hang."""
        return self


@cache
def keys(model: type[Entry]) -> Mapping[str, Any]:
    """Return the keys of an entry in the order of declaration, each with the kind of its values."""
    kinds = {each.name: each.type for each in fields(model)}
    bases = [base for base in reversed(model.__mro__) if issubclass(base, Entry)]
    ordered = (name for base in bases for name in base.__struct_fields__)  # inherited ones stay in front
    return {name: kinds[name] for name in dict.fromkeys(ordered) if not name.startswith("_")}


class Parsed(Struct, frozen=True):
    """In a kind: a function that takes any value of the file, instead of msgspec's check of the type."""

    function: Callable[[Any, Place], Any]


class Place(Struct, frozen=True):
    """What relative paths, ``~`` and absent values mean, and where links lead."""

    directory: str
    """The absolute directory of the configuration file."""
    home: str
    aws_region: str = ""
    """From the environment; empty: it names none."""
    places: Places = field(default_factory=Places)


def described(kind: Any) -> str:
    """Return the words in a kind for a missing value; empty: it has none."""
    return next((each for each in _notes(kind) if isinstance(each, str)), "")


def taken(kind: Any, given: object, place: Place) -> Any:
    """Return the setting for `given`; the items of a list as they are. Raises `Refused`."""
    parse = next((each.function for each in _notes(kind) if isinstance(each, Parsed)), None)
    value = parse(given, place) if parse else _typed(kind, given)
    for check in filter(callable, _notes(kind)):
        value = check(value)
    return value


def items(kind: Any) -> Any:
    """Return the kind of a list's items."""
    return next(iter(get_args(_base(kind))), Any)


def _typed(kind: Any, given: object) -> Any:
    base = get_origin(_base(kind)) or _base(kind)
    words = next((each.words for each in _notes(kind) if isinstance(each, OneOf)), ())
    try:
        value = convert(given, base)
        if base is str:
            value.encode()
    except ValidationError:
        if words:  # quotes around what YAML takes for a boolean would not help
            raise Refused(choice("", words)) from None
        raise Refused((base is not str and described(kind)) or _EXPECTED[base]) from None
    except UnicodeEncodeError:
        raise Refused("text in UTF-8") from None
    return value


def _base(kind: Any) -> Any:
    return kind.__origin__ if get_origin(kind) is Annotated else kind


def _notes(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


def nearest(wrong: str, known: Collection[str]) -> str:
    """Return the known word that `wrong` most likely means; empty: none is near."""
    return next(iter(difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)), "")


def choice(wrong: str, known: Collection[str]) -> str:
    """Return what is expected instead of `wrong`: the nearest known word, or all."""
    spelt = {word.lower(): word for word in known}
    near = nearest(wrong.strip().lower(), spelt)
    listed = ", ".join(f"`{word}`" for word in known)
    return f"`{spelt[near]}` (known: {listed})" if near else f"one of {listed}"


# ---- text -----------------------------------------------------------------------------------------------


class OneOf(Struct, frozen=True):
    """In a kind: allow these words."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text not in self.words:
            raise Refused(choice(text, self.words))
        return text


def one_of(*words: str) -> OneOf:
    """Allow one of `words`."""
    return OneOf(words)


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """Allow text that `pattern` matches as a whole."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise Refused(expected)
        return text

    return check


def _one_line(text: str) -> str:
    if not text:
        raise Refused("text that is not empty")
    if not text.isprintable():
        raise Refused("text on one line, without control characters")
    if text != text.strip():
        raise Refused("text without blanks at its ends")
    return text


Text = Annotated[str, _one_line]
NAME_EXPECTED = "a name of at most 64 letters, digits, `.`, `_` or `-`, with neither dot nor dash in front"
_NAME = r"\w[\w.-]{0,63}"
Name = Annotated[Text, matching(_NAME, NAME_EXPECTED)]


def is_name(text: str) -> bool:
    """Return whether `text` can be the name of a source or a store."""
    return re.fullmatch(_NAME, text) is not None


# ---- numbers, sizes, durations --------------------------------------------------------------------------


def _number_from_environment(value: object) -> object:
    """Read digits from the environment, which holds only text, as a number."""
    if isinstance(value, Expanded) and re.fullmatch("[0-9]{1,18}", value):
        return int(value)
    return value


def flag(value: object, _: Place) -> bool:
    """Parse a boolean."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Expanded) and value in ("true", "false"):
        return value == "true"
    raise Refused("`true` or `false`")


Flag = Annotated[bool, Parsed(flag)]


def whole_number(low: int, high: int, *, note: str = "") -> Parsed:
    """Allow an int from `low` to `high`, both included; `note` follows the bounds in the message."""

    def check(value: object, _: Place) -> int:
        number = _number_from_environment(value)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise Refused(f"a number between {low} and {high}{note}")
        return number

    return Parsed(check)


def _parsed(value: object, parse: Callable[[str], float], example: str) -> float:
    """Parse a text; 0 needs no unit, any other number does."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0
    if not isinstance(value, str):
        raise Refused(example)
    return parse(value)


def size(low: int, high: int, *, or_zero: bool = False) -> Parsed:
    """Allow bytes from `low` to `high`, both included, and with `or_zero` 0."""

    def check(value: object, _: Place) -> int:
        number = int(_parsed(value, units.parse_size, units.SIZE_EXAMPLE))
        if not (low <= number <= high or (or_zero and number == 0)):
            zero = "0 (no limit), or " if or_zero else ""
            raise Refused(f"{zero}a size between `{units.format_size(low)}` and `{units.format_size(high)}`")
        return number

    return Parsed(check)


def _bandwidth(value: object, _: Place) -> Bandwidth:
    """Parse; refuse a number other than 0 in the words for text."""
    if value is False:  # YAML's value of `off`
        return FREE_LINE
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused(units.BANDWIDTH_EXAMPLE)
    return units.parse_bandwidth(str(value))


BandwidthLimit = Annotated[Bandwidth, Parsed(_bandwidth)]


def duration(low: float, high: float, *, or_zero: bool = False) -> Parsed:
    """Allow seconds from `low` to `high`, both included, and with `or_zero` 0."""

    def check(value: object, _: Place) -> float:
        seconds = _parsed(value, units.parse_duration, units.DURATION_EXAMPLE)
        if not (low <= seconds <= high or (or_zero and seconds == 0)):
            bounds = f"`{units.format_duration(low)}` and `{units.format_duration(high)}`"
            raise Refused(f"{'0 (never), or ' if or_zero else ''}a duration between {bounds}")
        return float(seconds)

    return Parsed(check)


def _bound(value: object, _: Place) -> tuple[int, float]:
    """Return (files, fraction): a number limits the files, a share the fraction; the other is unlimited."""
    value = _number_from_environment(value)
    return units.parse_bound("" if isinstance(value, bool) else str(value))


Bound = Annotated[tuple[int, float], Parsed(_bound)]


# ---- paths and addresses --------------------------------------------------------------------------------


def _path(value: object, place: Place) -> str:
    """Return an absolute path, symbolic links not resolved."""
    if not isinstance(value, str) or not value:
        raise Refused("a path, in quotes where YAML would read something else")
    if "\0" in value or "\n" in value:
        raise Refused("a path without line breaks and zero bytes")
    if value == "~" or value.startswith("~/"):
        value = place.home + value[1:]
    elif value.startswith("~"):
        expanded = os.path.expanduser(value)
        if expanded == value:
            raise Refused("the name of an existing user after `~`, or `./~...` for a file of such a name")
        value = expanded
    return os.path.abspath(os.path.join(place.directory, value))


FilePath = Annotated[str, Parsed(_path)]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?!.{{254}}){_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]")


def _address(text: str, *, login: bool) -> str:
    """Return ``scheme://host[:port]``, with a login only if `login` allows it. The default scheme is https,
    for a proxy http. The scheme's own port is left out: the address is the same.
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
        raise Refused(expected) from None
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
        raise Refused(expected)
    suffix = f":{port}" if port not in (None, {"http": 80, "https": 443}[parts.scheme]) else ""
    return f"{parts.scheme}://{userinfo}{at}{host_name.lower()}{suffix}"


Endpoint = Annotated[Text, lambda text: _address(text, login=False)]
Proxy = Annotated[Text, lambda text: _address(text, login=True)]
