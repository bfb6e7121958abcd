"""The small things of the command line: times, numbers, cells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.cli import formats
from tachograph.cli.periods import parse
from tachograph.cli.tables import Column, fit, folded, shorten, width
from tachograph.errors import ConfigError

NOW = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)


def at(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("7d", NOW - timedelta(days=7)),
        ("24h", NOW - timedelta(hours=24)),
        ("90 m", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("today", NOW.replace(hour=0, minute=0)),
        ("Yesterday", NOW.replace(day=20, hour=0, minute=0)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ],
)
def test_times_as_people_type_them(text: str, moment: datetime) -> None:
    assert parse(text, NOW, "--since") == at(moment)


def test_days_begin_where_the_asker_is() -> None:
    berlin = NOW.astimezone(ZoneInfo("Europe/Berlin"))
    assert parse("today", berlin, "--since") == at(NOW.replace(day=20, hour=23, minute=0))
    assert parse("2026-11-01", berlin, "--since") == at(datetime(2026, 10, 31, 23, tzinfo=UTC))
    assert parse("all", berlin, "--since") == 0


@given(st.text(max_size=20))
def test_any_other_text_is_our_error(text: str) -> None:
    try:
        assert isinstance(parse(text, NOW, "--since"), int)
    except ConfigError as error:
        assert "--since" in error.what


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unpriced"),
        (0.0, "$0"),
        (1234.5, "$1,234.50"),
        (0.0123, "$0.0123"),
        (0.000012, "$0.000012"),
        (0.00000003, "<$0.000001"),
    ],
)
def test_money(value: float | None, text: str) -> None:
    assert formats.usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0 ms"),
        (850_000_000, "850 ms"),
        (4_200_000_000, "4.2 s"),
        (200_000_000_000, "3 m 20 s"),
        (7_500_000_000_000, "2 h 5 m"),
        (260_000_000_000_000, "3 d 0 h"),
    ],
)
def test_durations(value: int | None, text: str) -> None:
    assert formats.duration(value) == text


def test_unknown_is_never_a_number() -> None:
    assert formats.count(None) == "unknown"
    assert formats.count(0) == "0"
    assert formats.moment(None, UTC) == "unknown"
    assert formats.text(None) == ""


@given(st.text(max_size=60))
def test_no_text_commands_the_terminal(text: str) -> None:
    shown = formats.printable(text)
    assert shown.isprintable()
    assert formats.printable("\x1b[31mred\x1b]0;title\x07\nnext") == "�[31mred�]0;title� next"


@given(st.text(max_size=60), st.integers(1, 40))
def test_shortened_texts_fit(text: str, columns: int) -> None:
    shown = shorten(formats.printable(text), columns)
    assert width(shown) <= columns


COLUMN = st.tuples(st.integers(0, 5), st.sampled_from([0, 4, 8]), st.sampled_from([0, 12]), st.integers(1, 60))
COLUMNS = st.lists(COLUMN, min_size=1, max_size=8)


@given(COLUMNS, st.integers(1, 200))
def test_columns_fit_or_only_what_must_stay_is_left(columns: list[tuple[int, int, int, int]], available: int) -> None:
    described = [Column(str(i), False, *told) for i, (*told, _) in enumerate(columns)]
    widths = [size for *_, size in columns]
    fitted = fit(described, widths, available)
    assert all(0 <= new <= old for new, old in zip(fitted, widths, strict=True))
    used = sum(size + 2 for size in fitted if size) - 2
    if used > available:
        kept = [(column, size) for column, size in zip(described, fitted, strict=True) if size]
        assert all(column.rank == 0 for column, _ in kept)
        assert all(size <= column.width_min or not column.width_min for column, size in kept)
    if any(column.rank and size for column, size in zip(described, fitted, strict=True)):
        for column, old, new in zip(described, widths, fitted, strict=True):
            assert not new or new >= min(old, column.width_good)  # names are readable as long as others may go
    if sum(widths) + 2 * (len(widths) - 1) <= available:
        assert fitted == widths


@given(st.text(st.sampled_from("ab d漢 "), max_size=80), st.integers(1, 40))
def test_folded_sentences_lose_nothing_and_fit_as_far_as_their_words_do(text: str, columns: int) -> None:
    lines = folded(text, columns)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    indent = len(text) - len(text.lstrip(" "))
    assert all(width(line) <= columns or " " not in line[indent:].rstrip(" ") for line in lines)
