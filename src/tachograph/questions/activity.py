"""What went on in a period beside its calls: sessions, prompts, tools; today against the usual day, the month."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from statistics import median
from typing import Any, Final, NamedTuple

from tachograph.questions.counting import TIMES, zone_of
from tachograph.scan import Agg, Bucket, Condition, Match, Reader, Scan

_NANO: Final = 1_000_000_000
_WEEKS: Final = 4  # of the usual day: fewer say little, more say how it was before summer
_FORECAST_DAYS: Final = 14  # whose mean a day of the rest of the month is taken for
_FORECAST_DAYS_MIN: Final = 3  # with fewer days of data nothing is foretold
_COUNTS: Final = ("prompts", "tool_runs", "tool_errors")


def activity(
    reader: Reader, since_ns: int | None = None, until_ns: int | None = None, where: Sequence[Condition] = ()
) -> dict[str, int]:
    """How many sessions were alive in [since, until), and the prompts and tool runs of these sessions, whole.

    A session that began before the period counts with all its prompts: they are counted by session, not by hour.
    """
    conditions: list[Condition] = [*where]
    conditions += [Match("end_ns", ">=", since_ns)] if since_ns is not None else []
    conditions += [Match("start_ns", "<", until_ns)] if until_ns is not None else []
    select: dict[str, Any] = {"sessions": Agg("count"), **{name: Agg("sum", name) for name in _COUNTS}}
    row = reader.scan(Scan("sessions", select, tuple(conditions))).rows()[0]
    return {name: int(value or 0) for name, value in row.items()}


class Outlook(NamedTuple):
    """Money by hour today and on a usual day, and by the end of the month; dollars, None = too little to say.

    `today` and `usual` are sums from midnight on, one for each hour begun (24 for the usual day).
    """

    today: list[float]
    usual: list[float] | None
    weekday: str
    month_so_far: float
    month_forecast: float | None


def outlook(reader: Reader, now_ns: int, timezone: str, where: Sequence[Condition] = ()) -> Outlook:
    """How today compares with the same weekday of the last weeks (median by hour), and where the month is going.

    The rest of the month is foretold from the mean of the last 14 full days (of fewer, where there is no more).
    Notional amounts are left out: they are not money spent.
    """
    zone = zone_of(timezone)
    now = datetime.fromtimestamp(now_ns / _NANO, zone)
    begin = min(_midnight(now) - timedelta(days=7 * _WEEKS), _midnight(now).replace(day=1))
    spent = _spent(reader, int(begin.timestamp()) * _NANO, timezone, where)
    days = [_hours(spent, _midnight(now) - timedelta(days=7 * week), zone) for week in range(1, _WEEKS + 1)]
    seen = [day for day in days if any(day)]
    usual = [median(day[hour] for day in seen) for hour in range(24)] if len(seen) >= 2 else None
    today = _hours(spent, _midnight(now), zone)[: now.hour + 1]
    so_far, forecast = _month(spent, now)
    return Outlook(today, usual, f"{now:%A}", so_far, forecast)


def _spent(reader: Reader, since_ns: int, timezone: str, where: Sequence[Condition]) -> dict[str, float]:
    """Hour, as `usage` names it -> dollars of the calls that began in it, the notional ones left out.

    Every hour with a call is there. The slim question of one column is a third of the work of `usage`.
    """
    zone = zone_of(timezone)
    spent = (Match("cost_kind", "!=", ""), Match("is_notional", "!=", True))
    select: dict[str, Any] = {"hour": Bucket("start_ns", "hour", timezone)}
    select |= {"nanousd": Agg("sum", "cost_nanousd", where=spent)}
    asked = (Match("start_ns", ">=", since_ns), *where)
    nanousd: dict[str, int] = {}
    for row in reader.scan(Scan("calls", select, asked, ("hour",))).rows():
        # Where clocks are set back two hours have one name.
        hour = datetime.fromtimestamp(row["hour"] // _NANO, zone).strftime(TIMES["hour"])
        nanousd[hour] = nanousd.get(hour, 0) + int(row["nanousd"] or 0)
    return {hour: amount / _NANO for hour, amount in nanousd.items()}


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _hours(spent: dict[str, float], day: datetime, zone: tzinfo) -> list[float]:
    """Sums from midnight on at the end of each of 24 hours."""
    sums, total = [], 0.0
    for hour in range(24):
        total += spent.get(day.replace(hour=hour).strftime(TIMES["hour"]), 0.0)
        sums.append(total)
    return sums


def _month(spent: dict[str, float], now: datetime) -> tuple[float, float | None]:
    by_day: dict[date, float] = {}
    for label, amount in spent.items():
        day = datetime.strptime(label, TIMES["hour"]).date()
        by_day[day] = by_day.get(day, 0.0) + amount
    today = now.date()
    so_far = sum(amount for day, amount in by_day.items() if (day.year, day.month) == (today.year, today.month))
    past = [today - timedelta(days=back) for back in range(1, _FORECAST_DAYS + 1)]
    first = min((day for day in by_day if day < today), default=today)
    known = [day for day in past if day >= first]
    if len(known) < _FORECAST_DAYS_MIN:
        return so_far, None
    mean = sum(by_day.get(day, 0.0) for day in known) / len(known)
    left = monthrange(today.year, today.month)[1] - today.day
    # Of today what is still to come, of the days after it a whole day each.
    rest_of_today = max(0.0, mean - by_day.get(today, 0.0))
    return so_far, so_far + rest_of_today + left * mean
