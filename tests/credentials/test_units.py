"""Durations and sizes in the config."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("250ms", 0.25), ("5s", 5), ("2m", 120), ("3h", 10_800), ("1d", 86_400), ("365d", 31_536_000)],
)
def test_duration_is_a_whole_number_and_a_unit(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0B", 0), ("1B", 1), ("64KiB", 65_536), ("100MiB", 104_857_600), ("2GiB", 2_147_483_648)]
)
def test_size_is_a_whole_number_and_a_unit(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("raw", [0, 5, 1.5])
def test_bare_number_is_reported_to_need_a_unit(raw: float) -> None:
    with pytest.raises(ValueError, match=r"the unit is missing: .* such as 5s"):
        units.parse_duration(raw)
    with pytest.raises(ValueError, match=r"the unit is missing: .* such as 64KiB"):
        units.parse_size(raw)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "s",
        "5",
        "5 s",
        " 5s",
        "5s ",
        "-5s",
        "+5s",
        "1.5s",
        "05s",
        "5S",
        "5sec",
        "1m30s",
        "5s\n",
        "\u0665s",
        True,
        None,
        [],
    ],
)
def test_invalid_duration_is_an_error(raw: object) -> None:
    with pytest.raises(ValueError, match="such as 5s"):
        units.parse_duration(raw)


@pytest.mark.parametrize("raw", ["64KB", "64kib", "64K", "1TiB", "64 KiB", "0x10B", "5s"])
def test_invalid_size_is_an_error(raw: object) -> None:
    with pytest.raises(ValueError, match="such as 64KiB"):
        units.parse_size(raw)


@pytest.mark.parametrize("text", ["366d", "8761h", "999999999999999d"])
def test_duration_is_at_most_a_year(text: str) -> None:
    with pytest.raises(ValueError, match="at most 365d"):
        units.parse_duration(text)


def test_size_is_at_most_a_tebibyte() -> None:
    with pytest.raises(ValueError, match="at most 1024GiB"):
        units.parse_size("1025GiB")


@given(st.integers(min_value=0, max_value=int(units.MAX_DURATION) * 1000))
def test_formatted_duration_parses_to_the_same_value(milliseconds: int) -> None:
    assert units.parse_duration(units.format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(min_value=0, max_value=units.MAX_SIZE))
def test_formatted_size_parses_to_the_same_value(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (75, "75s"), (120, "2m"), (86_400, "1d")])
def test_duration_is_written_in_the_largest_unit_that_divides_it(seconds: float, text: str) -> None:
    """75 seconds stay seconds, two minutes become minutes."""
    assert units.format_duration(seconds) == text
