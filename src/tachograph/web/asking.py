"""What the address of a page asks for: period, filter, order, page; and the addresses of everything near it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request

from tachograph.errors import QueryError
from tachograph.questions import TIMES
from tachograph.questions.filters import Table, conditions
from tachograph.scan import Agg, Condition, Match, Reader, Scan
from tachograph.store.schema import TABLES
from tachograph.web.rendering import Look, Site, look_of

_NANO: Final = 1_000_000_000
_FILTER_CHARS_MAX: Final = 1000
_PAGE_MAX: Final = 100_000
# The columns of each table with their types: fields of a filter under their own names.
COLUMNS: Final = {name: {column.name: column.type for column in columns} for name, columns in TABLES.items()}


class Range(NamedTuple):
    """A period to look at: the width of its buckets, how many of them make one bar, and how many days it has."""

    name: str
    words: str
    width: str
    per_bar: int
    days: int | None


RANGES: Final = {
    one.name: one
    for one in (
        Range("24h", "24 hours", "hour", 1, 1),
        Range("7d", "7 days", "hour", 4, 7),
        Range("30d", "30 days", "day", 1, 30),
        Range("90d", "90 days", "day", 1, 90),
        Range("all", "all time", "day", 1, None),
    )
}


class Period(NamedTuple):
    """[since, until) in nanoseconds, None where it is open; `labels` are its buckets as `usage` names them."""

    since_ns: int | None
    until_ns: int | None
    width: str
    per_bar: int
    labels: list[str]
    words: str


class Asked:
    """One request's wishes; `params` are those of the address, for links that keep them."""

    def __init__(self, site: Site, request: Request, default_range: str = "7d") -> None:
        self.site = site
        self.look: Look = look_of(site, request)
        self.path = request.url.path
        self.params: dict[str, str] = dict(request.query_params)
        self.range = RANGES.get(self.params.get("range", ""), RANGES[default_range])
        self.ranges = tuple(RANGES.values())
        self.filter = self.params.get("q", "").strip()[:_FILTER_CHARS_MAX]
        self.error: QueryError | None = None  # of the filter
        page = self.params.get("page", "")
        self.page = min(max(1, int(page)), _PAGE_MAX) if page.isdecimal() and len(page) < 9 else 1

    def order(self, known: Mapping[str, Any], default: str) -> tuple[str, bool]:
        """What `?order=` names among the known ones ("-" before it: the smallest first), and whether it descends."""
        asked = self.params.get("order", "")
        name = asked.removeprefix("-")
        return (name, not asked.startswith("-")) if name in known else (default, True)

    def choice(self, name: str, known: Mapping[str, Any], default: str) -> str:
        """The value of a parameter where it is a known one."""
        value = self.params.get(name, "")
        return value if value in known else default

    def where(self, table: Table) -> tuple[Condition, ...]:
        """The filter as conditions on a table; one that cannot be read finds nothing and is told by `error`."""
        try:
            return conditions(self.site.reader, self.filter, table, COLUMNS[table])
        except QueryError as error:
            self.error = error
            return (Match("session_id", "in", []),)

    def during(self, table: Table, period: Period) -> tuple[Condition, ...]:
        """The filter and the period as conditions: calls that began in it, sessions that were alive in it."""
        last = "start_ns" if table == "calls" else "end_ns"
        since = (Match(last, ">=", period.since_ns),) if period.since_ns is not None else ()
        until = (Match("start_ns", "<", period.until_ns),) if period.until_ns is not None else ()
        return (*self.where(table), *since, *until)

    def period(self) -> Period:
        """The period: `?from=` and `?to=` (days or times, in the browser's zone), else `?range=`."""
        now = self._now()
        start, end = self._moment("from", now), self._moment("to", now)
        if start is not None or end is not None:
            return _between(self.site.reader, start, end, now)
        return _ranged(self.site.reader, self.range, now)

    def is_backwards(self) -> bool:
        """Whether the period would end before it begins."""
        start, end = self._moment("from", self._now()), self._moment("to", self._now())
        return start is not None and end is not None and end <= start

    def before(self, period: Period) -> tuple[int, int] | None:
        """The period of the same length just before, None where it is open at its start."""
        if period.since_ns is None:
            return None
        until = period.until_ns if period.until_ns is not None else self.look.now_ns
        return 2 * period.since_ns - until, period.since_ns

    def link(self, path: str = "", **changes: str | int | None) -> str:
        """The address of a page with the same wishes but for the changes; None takes one away.

        What is counted from the first row on (`page`) starts anew with every change.
        """
        kept = {key: value for key, value in self.params.items() if key not in ("page", *changes)}
        if path and path != self.path:
            kept = {key: value for key, value in kept.items() if key in ("range", "from", "to", "q")}
            kept = {key: value for key, value in kept.items() if key not in changes}
        kept |= {key: str(value) for key, value in changes.items() if value is not None}
        return (path or self.path) + ("?" + urlencode(kept) if kept else "")

    def narrowed(self, path: str, field: str, value: str) -> str:
        """The address of a page whose filter has this term as well: what is behind a number."""
        return self.link(path, q=f"{self.filter} {term(field, value)}".strip())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.look.now_ns / _NANO, self.look.zone)

    def _moment(self, name: str, now: datetime) -> datetime | None:
        text = self.params.get(name, "")
        try:
            given = datetime.fromisoformat(text) if text else None
        except ValueError:
            return None
        if given is None or not 1970 < given.year < 2200:
            return None
        given = given if given.tzinfo else given.replace(tzinfo=now.tzinfo)
        return given + timedelta(days=1) if name == "to" and len(text) == len("2026-11-01") else given


def term(field: str, value: str) -> str:
    """A filter's term for exactly this value."""
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{field}={quoted}"


def _ranged(reader: Reader, range_: Range, now: datetime) -> Period:
    if range_.days is None:
        start = _first(reader, now)
        width = _width((now - start).days)
        return Period(None, None, width, 1, labels(start, now, width), range_.words)
    if range_.width == "hour" and range_.days == 1:
        start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    else:
        start = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=range_.days - 1)
    since_ns = int(start.timestamp()) * _NANO
    return Period(since_ns, None, range_.width, range_.per_bar, labels(start, now, range_.width), range_.words)


def _between(reader: Reader, start: datetime | None, end: datetime | None, now: datetime) -> Period:
    first = start or _first(reader, now)
    last = max(end or now, first + timedelta(seconds=1))
    days = (last - first).days
    width = "hour" if days <= 2 else _width(days)
    since_ns = int(first.timestamp()) * _NANO if start is not None else None
    until_ns = int(last.timestamp()) * _NANO if end is not None else None
    shown = last - timedelta(microseconds=1)
    words = f"{first:%Y-%m-%d} to {shown:%Y-%m-%d}"
    return Period(since_ns, until_ns, width, 1, labels(first, shown, width), words)


def _width(days: int) -> str:
    return "day" if days < 100 else "week" if days < 700 else "month"


def _first(reader: Reader, now: datetime) -> datetime:
    """When the first call was; not before 20 years ago: a broken clock must not draw a bar a week since 1970."""
    first = reader.scan(Scan("calls", {"first": Agg("min", "start_ns")})).data["first"][0]
    start = datetime.fromtimestamp(first / _NANO, now.tzinfo) if first else now
    return max(start, now - timedelta(days=7305)).replace(hour=0, minute=0, second=0, microsecond=0)


def labels(start: datetime, end: datetime, width: str) -> list[str]:
    """Every bucket from start to end by the name that `usage` gives it."""
    step = timedelta(hours=1) if width == "hour" else timedelta(days=1)
    found: dict[str, None] = {}
    at = start
    while at <= end:
        found[at.strftime(TIMES[width])] = None
        at += step
    return list(found)
