"""Sizes, durations and shares as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config import units

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
        ("2H", 7200.0),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Units from days to milliseconds add up to seconds."""
    assert seconds == units.parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "2", "1.5", "-1s", "30m1h", "1s1s", "1ms1s", "s", "1w", "1 hour", "PT1H", "1:30", "1h30", "٢s",
     "1\u017f", "1s!", "9" * 19 + "s"],
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
