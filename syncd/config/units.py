"""Parses and formats sizes, durations, shares, bandwidths: ``8MiB``, ``1h30m``, ``25%``. Pure.

Sizes count in powers of 1024 in any spelling (``16MB`` is ``16MiB``). A number without a unit is ambiguous,
so it is refused; only ``0`` needs no unit.
"""

from __future__ import annotations

import re

from syncd.core.backoff import DAYS, NO_LIMIT, PAUSE, Bandwidth, Timetable, clock_words
from syncd.core.deletions import UNLIMITED

SIZE_EXAMPLE = "a size with its unit, such as `8MiB`, `512K` or `1G`"
DURATION_EXAMPLE = "a duration with its unit, such as `500ms`, `2s` or `1h30m`"
SHARE_EXAMPLE = "a share between `0%` and `100%`"

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_DURATION_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

_NUMBER = r"([0-9]{1,18})(?:\.([0-9]{1,9}))?"
_SIZE = re.compile(_NUMBER + r"\s?(?:([KMGTP])(?:I?B)?|B)", re.IGNORECASE | re.ASCII)
_DURATION = re.compile("".join(rf"(?:{_NUMBER}\s?{unit}\s?)?" for unit in _DURATION_UNITS_MS), re.ASCII)
"""Only lower case: rclone's ``1M`` is a month."""
_SHARE = re.compile(_NUMBER + r"\s?%")


class Refused(ValueError):
    """A text is not as expected; the message completes "expected ..."."""


def parse_size(text: str) -> int:
    """Return bytes. Raises Refused."""
    text = text.strip()
    if text == "0":
        return 0
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Refused(SIZE_EXAMPLE)
    whole, fraction, unit = match.groups()
    size = _times(whole, fraction, _SIZE_UNITS[(unit or "").upper()])
    if size is None:
        raise Refused("a size in whole bytes")
    return size


def parse_duration(text: str) -> float:
    """Return seconds, in whole milliseconds. Units go from large to small, each at most once.

    Raises Refused.
    """
    text = text.strip()
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise Refused(DURATION_EXAMPLE)
    total_ms = 0
    numbers = zip(match.groups()[::2], match.groups()[1::2], _DURATION_UNITS_MS.values(), strict=True)
    for whole, fraction, unit_ms in numbers:
        milliseconds = _times(whole or "0", fraction, unit_ms)
        if milliseconds is None:
            raise Refused("a duration in whole milliseconds")
        total_ms += milliseconds
    return total_ms / 1000


def parse_share(text: str) -> float:
    """Return a share from 0.0 to 1.0, written in percent. Raises Refused."""
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise Refused(SHARE_EXAMPLE)
    whole, fraction = match.groups()
    share = float(f"{whole}.{fraction or '0'}") / 100
    if share > 1.0:
        raise Refused(SHARE_EXAMPLE)
    return share


def parse_bound(text: str) -> tuple[int, float]:
    """Return a bound as (files, share): a number limits the files, a percentage the share; the other is
    unlimited. Raises Refused.
    """
    if text.isascii() and text.isdigit() and int(text) <= UNLIMITED:
        return int(text), 1.0
    try:
        return UNLIMITED, parse_share(text)
    except ValueError:
        raise Refused("a number of files, such as `1000`, or a share of them, such as `25%`") from None


BANDWIDTH_EXAMPLE = (
    "a rate, such as `512K`, `off` for no limit, or a timetable, such as `08:00,512K 12:00,pause 19:00,off`"
)
LEAST_RATE, MOST_RATE = 16 << 10, 1 << 50
_ENTRY = re.compile(r"(?:([a-z]+)-)?([01][0-9]|2[0-3]):([0-5][0-9]),(.+)", re.IGNORECASE | re.ASCII)
_DAY_MINUTES = 24 * 60


def parse_bandwidth(text: str) -> Bandwidth:
    """Parse a rate or timetable as in rclone, with ``pause`` for times when nothing is sent.

    Up and down may differ: ``512K:off``. Raises Refused.
    """
    text = text.strip()
    words = re.split(r"[\s;]+", text.strip(";"))
    if "," not in text:
        if len(words) > 1 or not text:
            raise Refused(BANDWIDTH_EXAMPLE)
        up, down = _rates(text, or_zero=True)
        if PAUSE in (up, down):
            raise Refused("a timetable around `pause`; `syncd pause` stops everything until `syncd resume`")
        return Bandwidth(Timetable(((0, up),)), Timetable(((0, down),)))
    found: dict[int, tuple[int, int]] = {}
    for with_day in (False, True):  # an entry for one day replaces that for every day
        daily: set[int] = set()
        for word in words:
            days, minute, rates = _entry(word)
            if (len(days) == 1) != with_day:
                continue
            for at in (day * _DAY_MINUTES + minute for day in days):
                if at in daily:
                    raise Refused(f"one entry for {clock_words(at)}, not two")
                daily.add(at)
                found[at] = rates
    tables = [Timetable(tuple((at, found[at][way]) for at in sorted(found))) for way in (0, 1)]
    if any(all(rate == PAUSE for _, rate in table.entries) for table in tables):
        raise Refused("a timetable with an entry that is not `pause`; such as `19:00,off`")
    return Bandwidth(*tables)


def _entry(word: str) -> tuple[range, int, tuple[int, int]]:
    """Return the days, the minute of the day, and the rates up and down of a timetable's entry."""
    match = _ENTRY.fullmatch(word)
    if match is None:
        raise Refused(f"entries such as `08:00,512K` or `Mon-08:00,512K`, not `{word}`")
    day, hours, minutes, rates = match.groups()
    days = range(len(DAYS))
    if day is not None:
        known = [index for index, name in enumerate(DAYS) if day.lower() in (name, name[:3])]
        if not known:
            raise Refused(f"a day such as `Mon` or `Monday`, not `{day}`")
        days = range(known[0], known[0] + 1)
    return days, int(hours) * 60 + int(minutes), _rates(rates, or_zero=False)


def _rates(text: str, *, or_zero: bool) -> tuple[int, int]:
    up, colon, down = text.partition(":")
    rate = _rate(up, or_zero=or_zero)
    return rate, _rate(down, or_zero=or_zero) if colon else rate


def _rate(text: str, *, or_zero: bool) -> int:
    """Return bytes a second, `NO_LIMIT` or `PAUSE`."""
    word = text.lower()
    if word in ("off", "pause"):
        return NO_LIMIT if word == "off" else PAUSE
    if re.fullmatch(r"[0.]+", word):
        if or_zero:
            return NO_LIMIT
        raise Refused("`off` for no limit or `pause` for sending nothing, instead of `0` in a timetable")
    if re.fullmatch(r"[0-9.]+", word):
        raise Refused(f"a size with its unit, such as `{text}K`: `{text}` alone counts KiB in rclone only")
    try:
        rate = parse_size(text)
    except ValueError:
        raise Refused(BANDWIDTH_EXAMPLE) from None
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise Refused(f"a rate between `{format_size(LEAST_RATE)}` and `{format_size(MOST_RATE)}`, or `off`")
    return rate


def format_size(size: int) -> str:
    """Return the shortest spelling that `parse_size` reads as exactly `size` bytes."""
    if size == 0:
        return "0"
    for unit in reversed(_SIZE_UNITS):
        if size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}{'iB' if unit else 'B'}"
    raise AssertionError("every size is a multiple of one byte")


def format_duration(seconds: float) -> str:
    """Return what `parse_duration` reads as `seconds`, rounded to whole milliseconds."""
    rest_ms = round(seconds * 1000)
    if rest_ms == 0:
        return "0"
    steps = []
    for unit, unit_ms in _DURATION_UNITS_MS.items():
        count, rest_ms = divmod(rest_ms, unit_ms)
        if count:
            steps.append(f"{count}{unit}")
    return "".join(steps)


def _times(whole: str, fraction: str | None, unit: int) -> int | None:
    """Return ``whole.fraction`` times `unit`, exactly; None: that is no whole number."""
    fraction = fraction or ""
    product, rest = divmod(int(whole + fraction) * unit, 10 ** len(fraction))
    return None if rest else product
