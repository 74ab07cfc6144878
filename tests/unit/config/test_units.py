"""Sizes, durations and shares as people write them."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config import units
from syncd.core.backoff import Limit, clock_words

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0B", 0),
        ("1B", 1),
        ("512K", 512 * KIB),
        ("512k", 512 * KIB),
        ("8MiB", 8 * MIB),
        ("8mib", 8 * MIB),
        ("16MB", 16 * MIB),
        ("1G", GIB),
        ("1.5GiB", GIB + 512 * MIB),
        (" 8 MiB ", 8 * MIB),
        ("5T", 5 << 40),
        ("1PiB", 1 << 50),
    ],
)
def test_sizes_are_binary_whatever_the_spelling(text: str, size: int) -> None:
    """K, KB and KiB are all 1024 bytes, and so on upward."""
    assert size == units.parse_size(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "8", "1000000", "-1MiB", "+1MiB", "MiB", "8 Mi B", "8Mi", "1e6", "8MiB/s", "٨MiB", "8\u212a",
     "1,5G", "0x10K", "8MiBs", "1.G", ".5G", "9" * 19 + "B", "1E", "nan", "8\x00M"],
)  # fmt: skip
def test_a_size_without_a_clear_unit_is_refused(text: str) -> None:
    """A bare number other than 0, a sign, or an unknown unit is an error that shows how to write a size."""
    with pytest.raises(ValueError, match="a size with its unit, such as `8MiB`"):
        units.parse_size(text)


def test_a_size_is_whole_bytes() -> None:
    """A fraction that leaves parts of a byte is refused, not rounded."""
    assert units.parse_size("0.5KiB") == 512
    with pytest.raises(ValueError, match="whole bytes"):
        units.parse_size("0.1KiB")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("90s", 90.0),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1d2h3m4s5ms", 93784.005),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Units from days to milliseconds add up to seconds."""
    assert seconds == units.parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "2", "1.5", "-1s", "30m1h", "1s1s", "1ms1s", "s", "1w", "1 hour", "PT1H", "1:30", "1h30", "٢s",
     "1M", "2H", "1\u017f", "1s!", "9" * 19 + "s"],
)  # fmt: skip
def test_a_duration_without_a_clear_unit_is_refused(text: str) -> None:
    """A bare number other than 0, an unknown, repeated or misplaced unit shows how to write a duration."""
    with pytest.raises(ValueError, match="a duration with its unit, such as `500ms`"):
        units.parse_duration(text)


def test_a_duration_is_whole_milliseconds() -> None:
    """A finer resolution than the clock of the daemon is refused, not rounded."""
    with pytest.raises(ValueError, match="whole milliseconds"):
        units.parse_duration("0.0001s")


@pytest.mark.parametrize(("text", "share"), [("25%", 0.25), ("0%", 0.0), ("100%", 1.0), ("12.5 %", 0.125)])
def test_shares_are_fractions(text: str, share: float) -> None:
    """A percentage is read as a fraction of one."""
    assert share == units.parse_share(text)


@pytest.mark.parametrize("text", ["", "25", "101%", "-1%", "%", "1000000%"])
def test_a_share_is_between_none_and_all(text: str) -> None:
    """A number without the sign, or beyond 100 percent, is no share."""
    with pytest.raises(ValueError, match="a share between `0%` and `100%`"):
        units.parse_share(text)


@given(st.integers(min_value=0, max_value=(1 << 53) - 1))
def test_a_formatted_size_reads_back(size: int) -> None:
    """Format and parse are inverse for every size."""
    assert size == units.parse_size(units.format_size(size))


@given(st.integers(min_value=0, max_value=10**12))
def test_a_formatted_duration_reads_back(milliseconds: int) -> None:
    """Format and parse are inverse for every duration in milliseconds."""
    assert milliseconds / 1000 == units.parse_duration(units.format_duration(milliseconds / 1000))


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from("KMGTP"), st.sampled_from(["", "B", "iB"]))
def test_a_size_grows_by_1024_from_unit_to_unit(number: int, unit: str, ending: str) -> None:
    """The unit is a power of 1024, whatever follows its letter."""
    assert number * 1024 ** ("KMGTP".index(unit) + 1) == units.parse_size(f"{number}{unit}{ending}")


@given(st.text())
def test_any_text_is_read_or_refused_with_what_was_expected(text: str) -> None:
    """No text raises anything but ValueError, and a text that is read is never negative."""
    for parse in (units.parse_size, units.parse_duration, units.parse_share):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert value >= 0
    with suppress(ValueError):
        assert units.parse_bandwidth(text).up.entries


def test_the_shortest_exact_spelling_is_chosen() -> None:
    """A size is shown in the largest unit that divides it, a duration in its natural units."""
    assert [units.format_size(size) for size in (0, 1000, 8 * MIB, GIB + MIB)] == [
        "0",
        "1000B",
        "8MiB",
        "1025MiB",
    ]
    assert [units.format_duration(s) for s in (0, 0.5, 5400, 86400)] == ["0", "500ms", "1h30m", "1d"]


@pytest.mark.parametrize(
    ("text", "bound"),
    [("0", (0, 1.0)), ("1000", (1000, 1.0)), ("25%", ((1 << 63) - 1, 0.25)), ("25", (25, 1.0))],
)
def test_a_bound_is_a_number_or_a_share(text: str, bound: tuple[int, float]) -> None:
    """The one that is not given is unlimited."""
    assert units.parse_bound(text) == bound


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101%", "many", str(1 << 63)])
def test_what_is_no_bound_is_refused(text: str) -> None:
    """With both forms."""
    with pytest.raises(ValueError, match="a share of them"):
        units.parse_bound(text)


# ---- bandwidth --------------------------------------------------------------------------------------------


def table(text: str) -> dict[str, int]:
    """The entries for what goes out, as people say them."""
    return {clock_words(minute): rate for minute, rate in units.parse_bandwidth(text).up.entries}


def test_rclones_own_examples_mean_what_its_manual_says() -> None:
    """With days and without, with blanks or semicolons; its bare KiB apart, which are refused."""
    daily = table("08:00,512k 12:00,10M 13:00,512k 18:00,30M 23:00,off")
    assert len(daily) == 35
    assert (daily["Mon 08:00"], daily["Sun 12:00"], daily["Wed 23:00"]) == (512 * KIB, 10 * MIB, 0)
    assert daily == table("08:00,512k;12:00,10M;13:00,512k;18:00,30M;23:00,off")
    weekly = "Mon-00:00,512K Fri-23:59,10M Sat-10:00,1M Sun-20:00,off"
    assert table(weekly) == {
        "Mon 00:00": 512 * KIB,
        "Fri 23:59": 10 * MIB,
        "Sat 10:00": MIB,
        "Sun 20:00": 0,
    }
    assert table(weekly) == table("sunday-20:00,OFF; monday-00:00,512kb; Saturday-10:00,1MiB; fri-23:59,10m")
    mixed = table("Mon-00:00,512K 12:00,1M Sun-20:00,off")
    assert len(mixed) == 9
    assert (mixed["Mon 00:00"], mixed["Mon 12:00"], mixed["Sun 12:00"]) == (512 * KIB, MIB, MIB)


def test_an_entry_for_a_day_replaces_that_for_every_day() -> None:
    """Wherever it stands."""
    for text in ("Sat-12:00,off 12:00,1M", "12:00,1M Sat-12:00,off"):
        assert table(text)["Sat 12:00"] == 0
        assert table(text)["Fri 12:00"] == MIB


@pytest.mark.parametrize(
    ("text", "up", "down"),
    [
        ("0", 0, 0),
        ("off", 0, 0),
        ("10M", 10 * MIB, 10 * MIB),
        ("10M:100k", 10 * MIB, 100 * KIB),
        ("10M:off", 10 * MIB, 0),
    ],
)
def test_a_rate_without_a_time_holds_always(text: str, up: int, down: int) -> None:
    """Up and down may differ, as in rclone."""
    found = units.parse_bandwidth(text)
    assert (found.up.at(77), found.down.at(77)) == (Limit(up), Limit(down))


def test_a_pause_may_be_for_one_direction() -> None:
    """A restore goes on while nothing is sent."""
    found = units.parse_bandwidth("12:00,pause:1M 19:00,off")
    assert found.up.at(12 * 60).is_paused
    assert found.down.at(12 * 60).rate == MIB


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("08:00,0 19:00,off", "`off` for no limit or `pause` for sending nothing"),
        ("08:00,1M:0", "`off` for no limit or `pause`"),
        ("08:00,512", "`512K`"),
        ("512", "`512K`"),
        ("1K", "between `16KiB` and `1PiB`"),
        ("pause", "`syncd pause`"),
        ("08:00,pause 19:00,pause", "an entry that is not `pause`"),
        ("08:00,pause:1M 19:00,pause:off", "an entry that is not `pause`"),
        ("8:00,1M", "not `8:00,1M`"),
        ("24:00,1M", "not `24:00,1M`"),
        ("08:60,1M", "not `08:60,1M`"),
        ("Mo-08:00,1M", "not `Mo`"),
        ("08:00,1M 08:00,2M", "one entry for Mon 08:00"),
        ("Tue-08:00,1M tuesday-08:00,2M", "one entry for Tue 08:00"),
        ("08:00,fast", "a timetable"),
        ("1M 2M", "a timetable"),
        ("", "a timetable"),
        (";", "a timetable"),
        ("08:00,", "not `08:00,`"),
    ],
)
def test_what_is_no_bandwidth_is_refused(text: str, expected: str) -> None:
    """With what was expected in its place."""
    with pytest.raises(ValueError, match=re.escape(expected)):
        units.parse_bandwidth(text)
