"""Turns a Scan into SQL with parameters: one compiler, and one table of what each engine says differently."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from tachograph.errors import QueryError
from tachograph.scan import Agg, Any_, Bucket, Condition, Field, Function, Match, Not_, Scan
from tachograph.store.clock_steps import clock_step_s
from tachograph.store.identity import clean_text
from tachograph.store.schema import TABLES

ATTRIBUTES: Final = "attributes."
CALENDAR: Final = ("minute", "hour", "day", "week", "month")
_DAY_NS: Final = 86_400_000_000_000
# Units that are always of one length in UTC: nanoseconds, and where one of them begins; reckoning is much faster than
# a calendar. The first Monday is the fifth day.
_FIXED: Final = {
    "minute": (_DAY_NS // 1440, 0),
    "hour": (_DAY_NS // 24, 0),
    "day": (_DAY_NS, 0),
    "week": (7 * _DAY_NS, 4 * _DAY_NS),
}


@dataclass(frozen=True, slots=True)
class Engine:
    """How one engine writes what SQL engines disagree about; `{}` is filled with SQL, never with a value.

    `json_kinds` are the texts that an attribute's value has when it is read as text: they are compared as numbers or
    booleans where the asker's value is one.
    """

    parameter: str
    functions: dict[str, str]  # of one column {0}; a quantile gives a list, for the parts {1}
    element: str  # of list {0} the one at place {1}, from 1
    seconds: str  # bucket of {1} nanoseconds
    fixed: str  # bucket of {1} nanoseconds, one of which begins {2} nanoseconds after 1970, also of times before that
    calendar: str  # bucket of calendar unit {1} in time zone {2}
    attribute: str  # the value in JSON column {0} under JSON pointer {1}, as text, NULL where there is none
    number: str  # text as a number, NULL where it is none
    filtered: str  # aggregate {0} of the rows for which {1} holds
    contains: str
    prefix: str
    pattern: Callable[[str], str]  # what `contains` and `prefix` compare with, from the asker's text
    distinct: str  # unequal, NULL included


def literal_pattern(text: str) -> str:
    """The regular expression (RE2) that matches the text and nothing else."""
    return "".join(c if c.isalnum() or c == " " else f"\\x{{{ord(c):x}}}" for c in text)


# Regular expressions that ignore case search text four times as fast as lower() and contains() do.
DUCKDB: Final = Engine(
    parameter="?",
    functions={
        "count": "count({0})",
        "sum": "sum({0})",
        "min": "min({0})",
        "max": "max({0})",
        "avg": "avg({0})",
        "count_distinct": "count(DISTINCT {0})",
        "quantile": "quantile_cont({0}, [{1}])",
        "any": "any_value({0})",
        "count_if_true": "count_if({0})",
    },
    element="({0})[{1}]",
    seconds="({0} // {1}) * {1}",
    fixed="{0} - (({0} % {1}) + 2 * {1} - {2}) % {1}",
    calendar="epoch_ns(date_trunc('{1}', to_timestamp({0} // 1000000000) AT TIME ZONE '{2}') AT TIME ZONE '{2}')",
    attribute="json_extract_string({0}, {1})",
    number="try_cast({0} AS DOUBLE)",
    filtered="{0} FILTER (WHERE {1})",
    contains="regexp_matches({0}, {1}, 'i')",
    prefix="regexp_matches({0}, '^' || {1}, 'i')",
    pattern=literal_pattern,
    distinct="{0} IS DISTINCT FROM {1}",
)


@dataclass(slots=True)
class Compiled:
    """SQL, its parameters in order, and which columns of the answer are JSON text."""

    sql: str
    parameters: list[Any]
    json_names: list[str]


def compile_scan(scan: Scan, engine: Engine = DUCKDB) -> Compiled:
    """The SQL of a scan; raises QueryError for a table, column, function, operator or time zone that is not known."""
    return _Compiler(scan, engine).compile()


class _Compiler:
    """One scan on its way to SQL: `parameters` grow in the order in which they are written."""

    def __init__(self, scan: Scan, engine: Engine) -> None:
        if scan.table not in TABLES:
            raise _unknown("table", scan.table, TABLES)
        self.scan = scan
        self.engine = engine
        self.types = {column.name: column.type for column in TABLES[scan.table]}
        self.parameters: list[Any] = []

    def compile(self) -> Compiled:
        scan = self.scan
        if not scan.select:
            raise QueryError(f"scan of {scan.table}: got no columns; expected at least one in select")
        self._check_groups()
        parts = self._by_steps() if self._is_by_steps() else self._selected(self.value)
        if scan.order_by:
            parts.append("ORDER BY " + ", ".join(self.order(name, down) for name, down in scan.order_by))
        parts += self._limits()
        return Compiled(
            "\n".join(parts), self.parameters, [n for n, what in scan.select.items() if self._is_json(what)]
        )

    def _selected(self, value: Callable[[str | Agg | Bucket], str]) -> list[str]:
        """The scan up to its groups, each entry of select written by `value`."""
        scan = self.scan
        names = [f"{value(what)} AS {_quoted(name)}" for name, what in scan.select.items()]
        parts = [f"SELECT {', '.join(names)}", f"FROM {scan.table}"]
        if scan.where:
            parts.append("WHERE " + " AND ".join(self.condition(match) for match in scan.where))
        return parts + self._groups()

    def _groups(self) -> list[str]:
        names = list(self.scan.select)
        written = ", ".join(str(names.index(name) + 1) for name in self.scan.group_by)
        return [f"GROUP BY {written}"] if written else []

    def _is_by_steps(self) -> bool:
        """Whether the groups may be made of groups by clock steps, so that the calendar is asked for few."""
        scan = self.scan
        buckets = [what for what in scan.select.values() if isinstance(what, Bucket) and not _is_reckoned(what)]
        aggregates = [what for what in scan.select.values() if isinstance(what, Agg)]
        return (
            bool(buckets and scan.group_by)
            and all(agg.function in _MERGED for agg in aggregates)
            and all(name in scan.select for name, _ in scan.order_by)
            and all(_is_of_steps(bucket) for bucket in buckets)
        )

    def _by_steps(self) -> list[str]:
        """The same groups, made of those by clock steps."""

        def inner(what: str | Agg | Bucket) -> str:
            if isinstance(what, Bucket) and not _is_reckoned(what):
                self.bucket(what)  # says what is wrong with it
                step_ns = clock_step_s(what.timezone) * 1_000_000_000
                return self.engine.fixed.format(self.column(what.column), step_ns, 0)
            return self.value(what)

        def outer(name: str, what: str | Agg | Bucket) -> str:
            if isinstance(what, Agg):
                return self.engine.functions[_MERGED[what.function]].format(_quoted(name))
            if isinstance(what, Bucket) and not _is_reckoned(what):
                return self.engine.calendar.format(_quoted(name), what.width, what.timezone)
            return _quoted(name)

        names = [f"{outer(name, what)} AS {_quoted(name)}" for name, what in self.scan.select.items()]
        steps = "\n".join(self._selected(inner))
        return [f"SELECT {', '.join(names)}", f"FROM (\n{steps}\n)", *self._groups()]

    def _check_groups(self) -> None:
        scan = self.scan
        for name in scan.group_by:
            if name not in scan.select or isinstance(scan.select[name], Agg):
                raise _unknown("group", name, [n for n, what in scan.select.items() if not isinstance(what, Agg)])
        if scan.group_by or any(isinstance(what, Agg) for what in scan.select.values()):
            for name, what in scan.select.items():
                if not isinstance(what, Agg) and name not in scan.group_by:
                    raise QueryError(
                        f"scan of {scan.table}: got {name!r} beside aggregates; expected it in group_by",
                        f"group by {name!r}, or take Agg('any', ...) of it",
                    )

    def _limits(self) -> list[str]:
        scan = self.scan
        if (scan.limit is not None and scan.limit < 0) or scan.offset < 0:
            raise QueryError(f"scan of {scan.table}: got limit {scan.limit}, offset {scan.offset}; expected at least 0")
        limits = [] if scan.limit is None else [f"LIMIT {int(scan.limit)}"]
        return limits + ([f"OFFSET {int(scan.offset)}"] if scan.offset else [])

    def _is_json(self, what: str | Agg | Bucket) -> bool:
        if isinstance(what, Agg):
            return what.function in ("any", "min", "max") and self.types.get(what.column) == "json"
        return isinstance(what, str) and self.types.get(what) == "json"

    def value(self, what: str | Agg | Bucket) -> str:
        """SQL of one entry of select."""
        if isinstance(what, Agg):
            return self.aggregate(what)
        return self.bucket(what) if isinstance(what, Bucket) else self.column(what)

    def column(self, name: str) -> str:
        """SQL of a column, or of one attribute."""
        if name in self.types:
            return _quoted(name)
        if name.startswith(ATTRIBUTES) and "attributes" in self.types:
            key = name.removeprefix(ATTRIBUTES).replace("~", "~0").replace("/", "~1")
            return self.engine.attribute.format(_quoted("attributes"), _literal("/" + clean_text(key)))
        raise _unknown("column", name, self.types, f" of {self.scan.table}")

    def aggregate(self, agg: Agg) -> str:
        written = self._of_all(agg)
        if agg.where:
            written = self.engine.filtered.format(written, " AND ".join(self.condition(match) for match in agg.where))
        if agg.function != "quantile":
            return written
        return self.engine.element.format(written, self._quantiles(agg.column).index(float(agg.argument or 0)) + 1)

    def _of_all(self, agg: Agg) -> str:
        if agg.function not in self.engine.functions:
            raise _unknown("function", agg.function, self.engine.functions)
        if not agg.column:
            if agg.function != "count":
                raise QueryError(f"{agg.function}: got no column; expected one")
            return "count(*)"
        column = self.column(agg.column)
        kind, expected = self.types.get(agg.column), _ARGUMENTS.get(agg.function)
        if kind and expected and kind not in expected:
            raise QueryError(f"{agg.function} of {agg.column}: got a {kind} column; expected {' or '.join(expected)}")
        if agg.function in ("sum", "avg", "quantile") and agg.column not in self.types:
            column = self.engine.number.format(column)
        if agg.function == "quantile" and not (agg.argument is not None and 0 <= agg.argument <= 1):
            raise QueryError(f"quantile of {agg.column}: got {agg.argument!r}; expected a number from 0 to 1")
        parts = map(repr, self._quantiles(agg.column)) if agg.function == "quantile" else ()
        return self.engine.functions[agg.function].format(column, ", ".join(parts))

    def _quantiles(self, column: str) -> list[float]:
        """All that are asked of a column: asked as one list, its values are looked through once."""
        asked = (what for what in self.scan.select.values() if isinstance(what, Agg) and what.function == "quantile")
        return sorted({float(agg.argument or 0) for agg in asked if agg.column == column})

    def bucket(self, bucket: Bucket) -> str:
        column = self.column(bucket.column)
        if self.types.get(bucket.column) != "int":
            raise QueryError(f"bucket: got column {bucket.column!r}; expected one that holds nanoseconds")
        if isinstance(bucket.width, int):
            if bucket.width <= 0:
                raise QueryError(f"bucket: got {bucket.width} seconds; expected at least 1")
            return self.engine.seconds.format(column, bucket.width * 1_000_000_000)
        if bucket.width not in CALENDAR:
            raise _unknown("bucket", bucket.width, CALENDAR)
        check_timezone(bucket.timezone)
        if _is_reckoned(bucket):
            return self.engine.fixed.format(column, *_FIXED[bucket.width])
        return self.engine.calendar.format(column, bucket.width, bucket.timezone)

    def order(self, name: str, is_descending: bool) -> str:
        written = _quoted(name) if name in self.scan.select else self.column(name)
        return f"{written} {'DESC' if is_descending else 'ASC'} NULLS LAST"

    def condition(self, match: Condition) -> str:
        if isinstance(match, Any_):
            return "(" + (" OR ".join(self.condition(part) for part in match.matches) or "false") + ")"
        if isinstance(match, Not_):
            return f"NOT coalesce({self.condition(match.condition)}, false)"
        column, value = self.column(match.column), match.value
        if match.op in ("is_null", "not_null"):
            return f"{column} IS {'NOT ' if match.op == 'not_null' else ''}NULL"
        if match.op in ("contains", "prefix"):
            if not isinstance(value, str):
                raise QueryError(f"{match.column} {match.op}: got {value!r}; expected text")
            text = self.engine.contains if match.op == "contains" else self.engine.prefix
            return text.format(column, self.parameter(self.engine.pattern(clean_text(value))))
        if match.op == "in":
            return self._is_one_of(match, column)
        if match.op not in _COMPARE:
            raise _unknown("operator", match.op, [*_COMPARE, "in", "contains", "prefix", "is_null", "not_null"])
        if value is None and match.op in ("=", "!="):
            return f"{column} IS {'NOT ' if match.op == '!=' else ''}NULL"
        if isinstance(value, Field):
            written = self._other(match, value)
        else:
            column, value = self._comparable(match.column, column, value)
            written = self.parameter(value)
        return self.engine.distinct.format(column, written) if match.op == "!=" else f"{column} {match.op} {written}"

    def _other(self, match: Match, other: Field) -> str:
        """The column that another one is compared with; both are columns of one type."""
        written = self.column(other.column)
        kinds = [self.types.get(name, "an attribute") for name in (match.column, other.column)]
        if kinds[0] != kinds[1] or match.column not in self.types:
            raise QueryError(
                f"{match.column} {match.op} {other.column}: got {kinds[1]}; expected a column of {kinds[0]}"
            )
        return written

    def _is_one_of(self, match: Match, column: str) -> str:
        """Attributes may be compared with values of several types, so each type has its own list."""
        if isinstance(match.value, Scan):
            return f"{column} IN ({self._inner(match.value)})"
        if isinstance(match.value, str) or not isinstance(match.value, Collection):
            raise QueryError(f"{match.column} in: got {match.value!r}; expected a list")
        lists: dict[str, list[str]] = {}
        for value in match.value:
            written, compared = self._comparable(match.column, column, value)
            lists.setdefault(written, []).append(compared)
        tests = [f"{key} IN ({', '.join(self.parameter(v) for v in values)})" for key, values in lists.items()]
        return f"({' OR '.join(tests)})" if tests else "false"

    def _inner(self, scan: Scan) -> str:
        """SQL of a scan within this one; its parameters follow those written so far."""
        if len(scan.select) != 1:
            raise QueryError(f"scan of {scan.table} in a condition: got {len(scan.select)} columns; expected one")
        inner = _Compiler(scan, self.engine).compile()
        self.parameters += inner.parameters
        return inner.sql

    def _comparable(self, name: str, column: str, value: Any) -> tuple[str, Any]:
        """Column and value in one type."""
        kind = self.types.get(name)
        if kind is None:
            if isinstance(value, bool):
                return column, "true" if value else "false"
            return (self.engine.number.format(column), value) if isinstance(value, int | float) else (column, value)
        allowed = _VALUES[kind]
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind in ("int", "float")):
            raise QueryError(f"{name}: got {value!r}; expected {kind}")
        return column, value

    def parameter(self, value: Any) -> str:
        self.parameters.append(clean_text(value) if isinstance(value, str) else value)
        return self.engine.parameter


def _is_reckoned(bucket: Bucket) -> bool:
    """Whether no calendar is needed for it."""
    return isinstance(bucket.width, int) or (bucket.timezone == "UTC" and bucket.width in _FIXED)


def _is_of_steps(bucket: Bucket) -> bool:
    """Whether each clock step lies in one such bucket."""
    check_timezone(bucket.timezone)
    return bucket.width in CALENDAR and bucket.width != "minute" and clock_step_s(bucket.timezone) > 0


# Aggregates of a group that those of its parts make: the function that merges them.
_MERGED: Final[dict[str, Function]] = {
    "count": "sum",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "any": "any",
    "count_if_true": "sum",
}
_ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "sum": ("int", "float"),
    "avg": ("int", "float"),
    "quantile": ("int", "float"),
    "count_if_true": ("bool",),
}
_COMPARE: Final = ("=", "!=", "<", "<=", ">", ">=")
_VALUES: Final[dict[str, tuple[type, ...]]] = {
    "text": (str,),
    "json": (str,),
    "int": (int, float),
    "float": (int, float),
    "bool": (bool,),
}


def check_timezone(name: str) -> None:
    """Raise QueryError where the name is no time zone; one that passes is safe to write into SQL."""
    try:
        known = name == "UTC" or (name.isascii() and "'" not in name and zoneinfo.ZoneInfo(name) is not None)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError in a ValueError's place, by Python version
        known = False
    except KeyError:
        known = False
    if not known:
        raise QueryError(f"time zone: got {name!r}; expected a name like Europe/Berlin", "UTC is always known")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unknown(what: str, got: object, known: Collection[str], where: str = "") -> QueryError:
    return QueryError(f"{what}{where}: got {got!r}; expected one of {', '.join(sorted(known))}")
