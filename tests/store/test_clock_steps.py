"""Time buckets counted by clock steps are what the calendar makes of each row, also where clocks change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from made import SECOND_NS, batch, call, opened, span
from tachograph.model import Usage
from tachograph.scan import Agg, Bucket, Scan
from tachograph.store.clock_steps import clock_step_s
from tachograph.store.compile import compile_scan
from tachograph.store.duckdb import DuckStore

MINUTE_NS = 60 * SECOND_NS
# Around these clocks change: in Berlin, New York, Chatham (at a quarter to an hour), Lord Howe (by half an hour),
# St John's (a minute past midnight), in Cairo and Santiago at midnight; and around 1970 times are negative.
CHANGES = (
    "2026-03-29T01:00",
    "2026-10-25T01:00",
    "2026-03-08T07:00",
    "2026-11-01T06:00",
    "2026-04-04T14:00",
    "2026-10-03T15:30",
    "2009-11-01T02:31",
    "2026-04-23T22:00",
    "2026-09-06T04:00",
    "1970-01-01T00:00",
)
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Pacific/Chatham", "Australia/Lord_Howe", "Africa/Cairo"),
    *("America/St_Johns", "America/Santiago", "Asia/Kathmandu", "Asia/Kolkata"),
)


def _spans() -> Iterator[Any]:
    for place, change in enumerate(CHANGES):
        middle_ns = int(datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp()) * SECOND_NS
        for number in range(-40, 40):
            at_ns = middle_ns + number * 7 * MINUTE_NS
            told = call(
                agent=f"agent-{number % 3}",
                usage=Usage(1, 0, None, None, abs(number)) if number % 4 else None,
                is_error=number % 5 == 0,
            )
            yield span(place * 100 + number + 40, {"place": 1}, start_ns=at_ns, end_ns=at_ns + 1, meaning=told)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    with opened(tmp_path_factory.mktemp("steps")) as made:
        made.commit([batch(*_spans())])
        yield made


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("width", ["minute", "hour", "day", "week", "month"])
def test_steps_count_as_the_calendar_does(store: DuckStore, width: str, zone: str) -> None:
    select: dict[str, Any] = {"bucket": Bucket("start_ns", width, zone), "agent": "agent", "n": Agg("count")}
    select |= {"known": Agg("count", "output_tokens"), "errors": Agg("count_if_true", "is_error")}
    select |= {name: Agg(name, "output_tokens") for name in ("sum", "min", "max")}
    select |= {"some": Agg("any", "attributes")}
    # A mean cannot be made of the means of parts, so this one asks the calendar for each row.
    row_by_row = select | {"mean": Agg("avg", "output_tokens")}
    order = (("bucket", False), ("agent", True))
    scans = [Scan("spans", one, group_by=("bucket", "agent"), order_by=order) for one in (select, row_by_row)]
    found, wanted = (store.scan(scan).rows() for scan in scans)
    assert found == [{name: row[name] for name in select} for row in wanted]
    assert sum(row["n"] for row in found) == len(CHANGES) * 80


@pytest.mark.parametrize("width", ["minute", "hour", "day", "week", "month"])
def test_reckoning_in_utc_is_what_the_calendar_says(store: DuckStore, width: str) -> None:
    """Before 1970 too; `Etc/UTC` is the same zone, and its calendar is asked."""
    first = (("b", False),)
    plain, asked = (
        store.scan(
            Scan("spans", {"b": Bucket("start_ns", width, zone), "n": Agg("avg", "kind")}, (), ("b",), first)
        ).data["b"]
        for zone in ("UTC", "Etc/UTC")
    )
    assert plain == asked and plain[0] < 0


def test_the_calendar_is_asked_for_steps_alone() -> None:
    def sql(width: str, zone: str) -> str:
        scan = Scan("calls", {"b": Bucket("start_ns", width, zone), "n": Agg("count")}, group_by=("b",))
        return compile_scan(scan).sql

    assert "date_trunc" not in sql("hour", "UTC")
    assert "3600000000000" in sql("day", "Europe/Berlin") and "FROM (" in sql("day", "Europe/Berlin")
    assert "900000000000" in sql("hour", "Asia/Kathmandu")
    assert "FROM (" not in sql("hour", "America/St_Johns")


@pytest.mark.parametrize(
    "zone, step_s",
    [
        ("UTC", 3600), ("Europe/Berlin", 3600), ("Asia/Kolkata", 1800), ("Australia/Lord_Howe", 1800),
        ("Pacific/Chatham", 900), ("America/St_Johns", 0), ("Antarctica/Casey", 0),
    ],
)  # fmt: skip
def test_steps_of_zones(zone: str, step_s: int) -> None:
    assert clock_step_s(zone) == step_s


def test_quantiles_of_one_column_are_asked_together(store: DuckStore) -> None:
    parts = {"low": 0.1, "middle": 0.5, "high": 0.9, "most": 1, "again": 0.5}
    together: dict[str, Any] = {name: Agg("quantile", "output_tokens", part) for name, part in parts.items()}
    together |= {"other": Agg("quantile", "start_ns", 0.25), "attribute": Agg("quantile", "attributes.place", 0.5)}
    found = store.scan(Scan("spans", {"agent": "agent", **together}, group_by=("agent",))).rows()
    for name, agg in together.items():
        alone = store.scan(Scan("spans", {"agent": "agent", name: agg}, group_by=("agent",))).rows()
        assert {row["agent"]: row[name] for row in found} == {row["agent"]: row[name] for row in alone}
    assert all(row["low"] <= row["middle"] == row["again"] <= row["high"] <= row["most"] for row in found)
