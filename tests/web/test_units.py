"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.web import units
from tachograph.web.charts import Bar, Stack, stacked

S = 1_000_000_000


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "unknown"), (0, "0"), (812, "812"), (999, "999"), (1000, "1.00k"), (12_345, "12.3k"), (999_499, "999k"),
        (999_500, "1.00M"), (1_204_000, "1.20M"), (3_000_000_000, "3.00G"),
    ],
)  # fmt: skip
def test_tokens(number: int | None, shown: str) -> None:
    assert units.tokens(number) == shown


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [
        (None, "unpriced"), (0, "$0"), (1, "<$0.000001"), (11_000, "$0.000011"), (12_300_000, "$0.0123"),
        (999_000_000, "$0.9990"), (12_340_000_000, "$12.34"), (1_234_500_000_000, "$1,234"),
    ],
)  # fmt: skip
def test_money(nanousd: int | None, shown: str) -> None:
    assert units.money(nanousd) == shown


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (None, "unknown"), (0, "0 s"), (350_000, "350 µs"), (42_000_000, "42 ms"), (999_499_999, "999 ms"),
        (4_200_000_000, "4.2 s"), (59 * S, "59 s"), (60 * S, "1 m"), (80 * S, "1 m 20 s"), (3_600 * S, "1 h"),
        (7_500 * S, "2 h 5 m"), (273_600 * S, "3 d 4 h"), (-5, "0 s"),
    ],
)  # fmt: skip
def test_duration(nanoseconds: int | None, shown: str) -> None:
    assert units.duration(nanoseconds) == shown


@given(st.integers(0, 10**18))
def test_exact_money_loses_nothing(nanousd: int) -> None:
    whole, _, rest = units.exact_money(nanousd)[1:].replace(",", "").partition(".")
    assert int(whole) * S + int(rest.ljust(9, "0")) == nanousd


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_time_can_be_shown(time_ns: int) -> None:
    assert units.when(time_ns, UTC, 0)
    assert units.clock_time(time_ns, UTC)
    assert isinstance(units.stamp(time_ns, UTC), str)


@given(st.text(), st.integers(1, 60))
def test_an_excerpt_is_one_short_line(text: str, length: int) -> None:
    line = units.excerpt(text, length)
    assert len(line) <= length and "\n" not in line


def test_bars_add_up_to_the_peak() -> None:
    svg = stacked(Stack(["a", "<b>"], [Bar("one", [1.0, 3.0]), Bar("two", [0.0, 0.0])]), str, "name")
    assert 'height="25.00"' in svg and 'height="75.00"' in svg
    assert "<b>" not in svg.replace("<b ", "") and "&lt;b&gt;" in svg
    assert "style" not in svg


@pytest.mark.parametrize(
    ("value", "before", "is_share", "least", "told"),
    [
        (3, 1, False, 0, "×3.0"), (97, 10, False, 0, "×9.7"), (995, 100, False, 0, "×10"),
        (9e9, 1e4, False, 0, "×900,000"),
        (15, 10, False, 0, "+50 %"), (5, 10, False, 0, "−50 %"), (1000, 1001, False, 0, ""), (0, 4, False, 0, "−100 %"),
        (1, 10_000, False, 0, "−99.9 %"), (3, 1000, False, 0, "−99.7 %"),
        (0.453, 0.455, True, 0, ""), (0.7, 0.4, True, 0, "+30 points"), (0.1, 0.4, True, 0, "−30 points"),
        (8, 4, False, 10, ""), (20, 10, False, 10, "×2.0"),
        (None, 4, False, 0, ""), (4, None, False, 0, ""), (4, 0, False, 0, ""),
    ],
)  # fmt: skip
def test_a_change_is_told_where_it_can_be_seen(
    value: float | None, before: float | None, is_share: bool, least: float, told: str
) -> None:
    assert units.change(value, before, is_share=is_share, least=least) == told


def test_the_points_of_amounts_stand_below_each_other() -> None:
    amounts = [None, 0, 11_000, 12_300_000, 12_340_000_000, 1_234_500_000_000]
    places = units.decimals(amounts)
    assert places == 6 and units.decimals([None]) == units.decimals([]) == 0
    written = [units.money(amount) + units.filled(amount, places) for amount in amounts if amount is not None]
    behind = {len(text) - (text.find(".") if "." in text else text.find("\u2008")) for text in written}
    assert behind == {7}, written


def test_times_of_an_axis_are_told_apart() -> None:
    at = 1_795_222_530_007_836_751
    assert units.clock_times([at, at + 400_000_000], UTC) == ["00:55:30.007", "00:55:30.407"]
    assert units.clock_times([at, at + 60_000_000_000], UTC) == ["00:55:30", "00:56:30"]
    assert units.clock_times([0, 5], UTC) == [units.UNKNOWN, "00:00:00"] and units.clock_times([], UTC) == []
