"""Scans give what Python computes from the same rows; what cannot be asked is said; SQL can only read."""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import MONDAY_NS, SECOND_NS, batch, call, event, opened, rows, said, span
from tachograph.errors import QueryError
from tachograph.model import Meaning, Usage
from tachograph.scan import Agg, Any_, Bucket, Field, Match, Scan
from tachograph.store.duckdb import DuckStore

Select = dict[str, str | Agg | Bucket]

HOUR_NS = 3600 * SECOND_NS
AGENTS = ("claude-code", "Codex", "pi", "", "50%_off", "grün")


def _span(number: int) -> Any:
    attributes: dict[str, Any] = {"n": number, "text": f"t{number % 3}", "half": number / 2, "on": number % 2 == 0}
    if number % 4 == 0:
        attributes["a/b~c.d"] = f"it's {number}"
    usage = Usage(number, 1, None, None, number * 2) if number % 3 else None
    return span(
        number,
        attributes,
        start_ns=MONDAY_NS + number * 5 * HOUR_NS + number,
        end_ns=MONDAY_NS + number * 5 * HOUR_NS + number + (number % 10) * SECOND_NS,
        meaning=call(agent=AGENTS[number % 6], usage=usage, is_error=number % 5 == 0, session_id=f"s{number % 9}"),
        contents=said(f"Text {number}") if number % 2 else None,
    )


SPANS = [_span(number) for number in range(200)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    with opened(tmp_path_factory.mktemp("scan")) as made:
        made.commit([batch(*(_span(number) for number in range(200)), event(1, meaning=Meaning(agent="pi")))])
        yield made


def ids(store: DuckStore, *where: Match | Any_) -> list[Any]:
    """Ids of the spans for which the conditions hold."""
    return store.scan(Scan("spans", {"n": "kind", "id": "span_id"}, where, order_by=(("span_id", False),))).data["id"]


def expected(test: Callable[[Any], Any]) -> list[str]:
    """The same, as Python judges."""
    return [one.span_id for one in SPANS if test(one)]


CONDITIONS: list[tuple[Match | Any_, Callable[[Any], Any]]] = [
    (Match("agent", "=", "pi"), lambda s: s.meaning.agent == "pi"),
    (Match("agent", "!=", "pi"), lambda s: s.meaning.agent != "pi"),
    (Match("agent", "contains", "CODE"), lambda s: "code" in s.meaning.agent.lower()),
    (Match("agent", "contains", "%_"), lambda s: "%_" in s.meaning.agent),
    (Match("agent", "contains", "."), lambda s: False),
    (Match("agent", "contains", ""), lambda s: True),
    (Match("agent", "prefix", "^"), lambda s: False),
    (Match("agent", "prefix", "50%_O"), lambda s: s.meaning.agent == "50%_off"),
    (Match("agent", "contains", "GRÜ"), lambda s: "grü" in s.meaning.agent),
    (Match("agent", "prefix", "cO"), lambda s: s.meaning.agent.lower().startswith("co")),
    (Match("agent", "in", ["pi", "Codex"]), lambda s: s.meaning.agent in ("pi", "Codex")),
    (Match("agent", "in", []), lambda s: False),
    (Match("output_tokens", "is_null"), lambda s: s.meaning.usage is None),
    (Match("output_tokens", "=", None), lambda s: s.meaning.usage is None),
    (Match("output_tokens", "not_null"), lambda s: s.meaning.usage is not None),
    (Match("output_tokens", "!=", 10), lambda s: s.meaning.usage is None or s.meaning.usage.output != 10),
    (Match("output_tokens", ">=", 100), lambda s: s.meaning.usage and s.meaning.usage.output >= 100),
    (Match("output_tokens", "<", 7.5), lambda s: s.meaning.usage and s.meaning.usage.output < 7.5),
    (Match("is_error", "=", True), lambda s: s.meaning.is_error),
    (Match("attributes.n", "=", 7), lambda s: s.attributes["n"] == 7),
    (Match("attributes.n", ">", 9), lambda s: s.attributes["n"] > 9),
    (Match("attributes.half", "<=", 2.5), lambda s: s.attributes["half"] <= 2.5),
    (Match("attributes.on", "=", True), lambda s: s.attributes["on"]),
    (Match("attributes.text", "=", "t1"), lambda s: s.attributes["text"] == "t1"),
    (Match("attributes.text", "in", ["t1", 3, "t9"]), lambda s: s.attributes["text"] == "t1"),
    (Match("attributes.n", "in", [1, 2.0, 3, "4"]), lambda s: s.attributes["n"] in (1, 2, 3, 4)),
    (Match("attributes.a/b~c.d", "contains", "it's 8"), lambda s: "it's 8" in s.attributes.get("a/b~c.d", "")),
    (Match("attributes.a/b~c.d", "is_null"), lambda s: "a/b~c.d" not in s.attributes),
    (Match("attributes.' OR 1=1 --", "not_null"), lambda s: False),
    (Match("name", "=", "' OR 1=1 --"), lambda s: False),
    (Any_((Match("agent", "=", "pi"), Match("is_error", "=", True))),
     lambda s: s.meaning.is_error or s.meaning.agent == "pi"),
    (Any_(()), lambda s: False),
]  # fmt: skip


@pytest.mark.parametrize("condition, test", CONDITIONS, ids=[str(condition) for condition, _ in CONDITIONS])
def test_conditions(store: DuckStore, condition: Match | Any_, test: Callable[[Any], Any]) -> None:
    assert ids(store, condition) == expected(test)


def test_conditions_hold_together(store: DuckStore) -> None:
    found = ids(store, Match("agent", "=", "pi"), Match("is_error", "=", True))
    assert found == expected(lambda s: s.meaning.agent == "pi" and s.meaning.is_error)


def test_aggregates(store: DuckStore) -> None:
    groups: dict[str, list[Any]] = defaultdict(list)
    for one in SPANS:
        groups[one.meaning.agent].append(one)
    select: Select = {
        "agent": "agent",
        "n": Agg("count"),
        "known": Agg("count", "output_tokens"),
        "sum": Agg("sum", "output_tokens"),
        "min": Agg("min", "output_tokens"),
        "max": Agg("max", "duration_ns"),
        "avg": Agg("avg", "duration_ns"),
        "sessions": Agg("count_distinct", "session_id"),
        "median": Agg("quantile", "duration_ns", 0.5),
        "some": Agg("any", "attributes"),
        "errors": Agg("count_if_true", "is_error"),
        "attribute": Agg("sum", "attributes.n"),
    }
    found = store.scan(Scan("spans", select, group_by=("agent",))).rows()
    assert {row["agent"] for row in found} == set(AGENTS)
    for row in found:
        group = groups[row["agent"]]
        outputs = [one.meaning.usage.output for one in group if one.meaning.usage]
        durations = [one.end_ns - one.start_ns for one in group]
        assert (row["n"], row["known"]) == (len(group), len(outputs))
        assert (row["sum"], row["min"]) == ((sum(outputs), min(outputs)) if outputs else (None, None))
        assert (row["max"], row["avg"]) == (max(durations), pytest.approx(statistics.fmean(durations)))
        assert row["sessions"] == len({one.meaning.session_id for one in group})
        assert row["median"] == pytest.approx(statistics.median(durations))
        assert row["errors"] == sum(one.meaning.is_error for one in group)
        assert row["attribute"] == sum(one.attributes["n"] for one in group)
        assert row["some"] in [one.attributes for one in group]


def test_aggregates_of_some_rows(store: DuckStore) -> None:
    """Of the rows of a group for which a condition holds; time buckets by steps keep it."""
    failed = (Match("is_error", "=", True), Match("attributes.n", ">", 20))
    aggs = {"n": Agg("count", where=failed), "sum": Agg("sum", "output_tokens", where=failed), "all": Agg("count")}
    aggs |= {"median": Agg("quantile", "duration_ns", 0.5, failed), "whole": Agg("quantile", "duration_ns", 0.5)}
    select: Select = {"agent": "agent", **aggs}
    for row in store.scan(Scan("spans", select, (Match("kind", ">=", 0),), group_by=("agent",))).rows():
        group = [one for one in SPANS if one.meaning.agent == row["agent"]]
        kept = [one for one in group if one.meaning.is_error and one.attributes["n"] > 20]
        outputs = [one.meaning.usage.output for one in kept if one.meaning.usage]
        durations = [[one.end_ns - one.start_ns for one in part] for part in (kept, group)]
        assert (row["n"], row["sum"], row["all"]) == (len(kept), sum(outputs) if outputs else None, len(group))
        medians = [pytest.approx(statistics.median(part)) if part else None for part in durations]
        assert [row["median"], row["whole"]] == medians
    by_day: Select = {"day": Bucket("start_ns", "day", "Europe/Berlin"), "n": aggs["n"]}
    days = store.scan(Scan("spans", by_day, (Match("kind", ">=", 0),), group_by=("day",)))
    assert sum(days.data["n"]) == sum(one.meaning.is_error and one.attributes["n"] > 20 for one in SPANS)


def test_columns_compared_with_each_other(store: DuckStore) -> None:
    assert ids(store, Match("end_ns", ">", Field("start_ns"))) == expected(lambda s: s.end_ns > s.start_ns)
    same = expected(lambda s: s.end_ns != s.start_ns)
    assert ids(store, Match("end_ns", "!=", Field("start_ns"))) == same
    assert len(ids(store, Match("output_tokens", "!=", Field("duration_ns")))) == 200  # unknown is not the same


def test_totals_without_groups_and_of_nothing(store: DuckStore) -> None:
    select: Select = {"n": Agg("count"), "sum": Agg("sum", "output_tokens")}
    assert store.scan(Scan("spans", select)).rows()[0]["n"] == 200
    nothing = store.scan(Scan("spans", select, (Match("agent", "=", "none"),)))
    assert nothing.rows() == [{"n": 0, "sum": None}]
    empty = store.scan(Scan("spans", {"a": "agent"}, (Match("agent", "=", "none"),)))
    assert (len(empty), empty.names, empty.data) == (0, ["a"], {"a": []})


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/St_Johns")


def floor(time_ns: int, width: str | int, zone: str) -> int:
    """The start of the bucket, as Python's calendar has it."""
    if isinstance(width, int):
        return time_ns // (width * SECOND_NS) * width * SECOND_NS
    local = datetime.fromtimestamp(time_ns // SECOND_NS, ZoneInfo(zone)).replace(tzinfo=None)
    parts = {"minute": 0, "hour": 1, "day": 2, "week": 2, "month": 3}[width]
    fields: dict[str, int] = {"second": 0, "microsecond": 0}
    fields |= dict.fromkeys(("minute", "hour")[:parts], 0)
    start = local.replace(**fields)  # type: ignore[arg-type]
    if width == "week":
        start -= timedelta(days=start.weekday())
    if width == "month":
        start = start.replace(day=1)
    return int(start.replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND_NS


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("width", ["minute", "hour", "day", "week", "month", 60, 900, 86_400])
def test_time_buckets(store: DuckStore, width: str | int, zone: str) -> None:
    select: Select = {"bucket": Bucket("start_ns", width, zone), "n": Agg("count")}
    found = store.scan(Scan("spans", select, group_by=("bucket",), order_by=(("bucket", True),)))
    counts: dict[int, int] = defaultdict(int)
    for one in SPANS:
        counts[floor(one.start_ns, width, zone)] += 1
    assert dict(zip(found.data["bucket"], found.data["n"], strict=True)) == counts
    assert found.data["bucket"] == sorted(counts, reverse=True)


def test_order_limit_and_offset(store: DuckStore) -> None:
    select: Select = {"o": "output_tokens"}
    found = store.scan(Scan("spans", select, order_by=(("output_tokens", True), ("span_id", False)), limit=3, offset=2))
    outputs = sorted((one.meaning.usage.output for one in SPANS if one.meaning and one.meaning.usage), reverse=True)
    assert found.data["o"] == outputs[2:5]
    last = store.scan(Scan("spans", {"x": "output_tokens"}, order_by=(("x", True),))).data["x"][-1]
    assert last is None
    assert len(store.scan(Scan("spans", select, limit=0))) == 0


WRONG = [
    (Scan("spams", {"n": Agg("count")}), "spans"),
    (Scan("spans", {}), "at least one"),
    (Scan("spans", {"x": "agnt"}), "agent"),
    (Scan("commits", {"x": "attributes.a"}), "is_demo"),
    (Scan("spans", {"x": Agg("median", "kind")}), "quantile"),  # type: ignore[arg-type]
    (Scan("spans", {"x": Agg("sum")}), "column"),
    (Scan("spans", {"x": Agg("quantile", "kind", 2)}), "0 to 1"),
    (Scan("spans", {"x": Agg("quantile", "kind")}), "0 to 1"),
    (Scan("spans", {"x": Agg("sum", "agent")}), "int or float"),
    (Scan("spans", {"x": Agg("count_if_true", "agent")}), "bool"),
    (Scan("spans", {"x": Bucket("start_ns", "fortnight")}), "week"),
    (Scan("spans", {"x": Bucket("start_ns", 0)}), "at least 1"),
    (Scan("spans", {"x": Bucket("agent", "day")}), "nanoseconds"),
    (Scan("spans", {"x": Bucket("start_ns", "day", "Mars/Olympus")}), "Europe/Berlin"),
    (Scan("spans", {"x": Bucket("start_ns", "day", "'; DROP TABLE spans_hot; --")}), "Europe/Berlin"),
    (Scan("spans", {"x": Bucket("start_ns", "day", "../../etc/passwd")}), "Europe/Berlin"),
    (Scan("spans", {"x": Bucket("start_ns", "day", "")}), "Europe/Berlin"),
    (Scan("spans", {"x": "agent"}, (Match("agent", "~", "x"),)), "contains"),  # type: ignore[arg-type]
    (Scan("spans", {"x": "agent"}, (Match("agent", "=", 3),)), "text"),
    (Scan("spans", {"x": "agent"}, (Match("kind", "=", "3"),)), "int"),
    (Scan("spans", {"x": "agent"}, (Match("kind", "=", True),)), "int"),
    (Scan("spans", {"x": "agent"}, (Match("kind", "in", 3),)), "list"),
    (Scan("spans", {"x": "agent"}, (Match("agent", "in", "abc"),)), "list"),
    (Scan("spans", {"x": "agent"}, (Match("agent", "contains", None),)), "text"),
    (Scan("spans", {"x": "agent"}, (Match("agent", "=", Field("kind")),)), "text"),
    (Scan("spans", {"x": "agent"}, (Match("agent", "=", Field("knd")),)), "kind"),
    (Scan("spans", {"x": "agent"}, (Match("attributes.a", "=", Field("attributes.b")),)), "column"),
    (Scan("spans", {"x": Agg("count", where=(Match("agnt", "=", ""),))}), "agent"),
    (Scan("spans", {"x": "agent", "n": Agg("count")}), "group_by"),
    (Scan("spans", {"n": Agg("count")}, group_by=("n",)), "expected one of"),
    (Scan("spans", {"x": "agent"}, group_by=("agent",)), "x"),
    (Scan("spans", {"x": "agent"}, order_by=(("y", True),)), "agent"),
    (Scan("spans", {"x": "agent"}, limit=-1), "at least 0"),
]


@pytest.mark.parametrize("scan, told", WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_what_cannot_be_asked_is_said(store: DuckStore, scan: Scan, told: str) -> None:
    with pytest.raises(QueryError) as error:
        store.scan(scan)
    assert told in error.value.what


def test_contains_takes_any_text_literally(tmp_path_factory: pytest.TempPathFactory, store: DuckStore) -> None:
    """Every character of ASCII, and what regular expressions would make of some."""
    texts = [chr(code) for code in range(128)] + ["a.c", "a|b", "(?i)x", "\\d", "x*", "[a]", "a\nb", "é", "🦆"]
    with opened(tmp_path_factory.mktemp("texts")) as made:
        made.commit([batch(*(span(n, name=f"<{text}>") for n, text in enumerate(texts)))])
        for text in texts:
            found = made.scan(Scan("spans", {"n": "name"}, (Match("name", "contains", text),))).data["n"]
            assert sorted(found) == sorted(f"<{t}>" for t in texts if text.lower() in f"<{t}>".lower()), text
            found = made.scan(Scan("spans", {"n": "name"}, (Match("name", "prefix", "<" + text),))).data["n"]
            assert sorted(found) == sorted(f"<{t}>" for t in texts if t.lower().startswith(text.lower())), text


@given(name=st.text(max_size=20), value=st.none() | st.text() | st.integers() | st.floats() | st.booleans())
def test_any_name_and_value_is_answered_or_a_query_error(store: DuckStore, name: str, value: Any) -> None:
    for match in (Match("attributes." + name, "=", value), Match("name", "contains", value), Match(name, "<", value)):
        try:
            found = store.scan(Scan("spans", {name: "span_id"}, (match,), order_by=((name, True),), limit=1))
        except QueryError as error:
            assert error.what
        else:
            assert found.names == [name]


# --- sql ------------------------------------------------------------------------------------------------------------

READING = [
    "SELECT 1 AS x",
    "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
    "FROM spans LIMIT 1",
    "VALUES (1)",
    "DESCRIBE spans",
    "SHOW TABLES",
    "SUMMARIZE commits",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; ",
]


@pytest.mark.parametrize("query", READING)
def test_sql_reads(store: DuckStore, query: str) -> None:
    assert len(store.sql(query)) >= 1


NOT_READING = [
    "",
    "SELECT 1; SELECT 2",
    "DELETE FROM spans_hot",
    "EXPLAIN ANALYZE DELETE FROM spans_hot",
    "INSERT INTO digests VALUES (1, 'a')",
    "CREATE TABLE x (a INT)",
    "DROP VIEW spans",
    "COPY spans TO '{folder}/x.csv'",
    "EXPORT DATABASE '{folder}/x'",
    "ATTACH '{folder}/x.duckdb'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '1TB'",
    "RESET memory_limit",
    "PRAGMA disable_checkpoint_on_shutdown",
    "CALL pragma_version()",
    "CHECKPOINT",
    "BEGIN",
    "ROLLBACK",
    "USE memory",
    "SELECT * FROM read_text('{folder}/lock')",
    "SELECT * FROM '{folder}/tachograph.duckdb'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM 'https://127.0.0.1:1/x.parquet'",
    "SELECT * FROM read_blob('sealed/../lock')",
    "SELECT * FROM read_blob('{folder}/sealed/../lock')",
    "WITH x AS (DELETE FROM spans_hot RETURNING *) SELECT * FROM x",
]


@pytest.mark.parametrize("query", NOT_READING)
def test_sql_does_nothing_but_read(store: DuckStore, query: str) -> None:
    with pytest.raises(QueryError) as error:
        store.sql(query.format(folder=store.path))
    assert error.value.what.startswith("sql: ")
    assert store.scan(Scan("spans", {"n": Agg("count")})).data["n"] == [200]


def test_sql_errors_have_a_position(store: DuckStore) -> None:
    long = (
        "SELECT " + ", ".join(f"agent AS name_{n}" for n in range(30)) + ",\n  nothing, " + "1, " * 90 + "2 FROM spans"
    )
    for query, part in (
        ("SELECT agnt FROM spans", "agnt"),
        ("SELEC 1", "SELEC"),
        (long, "nothing"),
        ("SELECT 1,\n\n   foo(2)", "foo"),
    ):
        with pytest.raises(QueryError) as error:
            store.sql(query)
        assert error.value.position == query.index(part)
        assert "LINE" not in error.value.what


def test_sql_limits_names_and_types(store: DuckStore) -> None:
    found = store.sql("SELECT span_id, kind FROM spans ORDER BY span_id", limit=3)
    assert (found.names, len(found)) == (["span_id", "kind"], 3)
    assert store.sql("SELECT 1 AS x WHERE false").data == {"x": []}
    assert store.sql("SELECT 1 AS x, 2 AS x").names == ["x", "x_1"]


def test_any_text_is_an_answer_or_a_query_error(store: DuckStore) -> None:
    for query in ("\0", "SELECT '\0'", "\ud800", "SELECT $1", "SELECT ?", "🦆", "SELECT 1/", "--", "(((((" * 500):
        try:
            store.sql(query)
        except QueryError as error:
            assert error.what


def test_rows_see_each_commit_at_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(1, 4):
            store.commit([batch(span(number))])
            assert rows(store, "SELECT count(*) AS n FROM spans") == [{"n": number}]


def test_a_query_is_given_up_when_nobody_waits_for_it(store: DuckStore) -> None:
    stop = threading.Event()
    stop.set()
    endless = "SELECT count(*) FROM range(10000000000) a, range(10000000000) b"
    with pytest.raises(QueryError, match="stopped"):
        store.sql(endless, stop=stop)
    assert store.sql("SELECT 1 AS x", stop=threading.Event()).data == {"x": [1]}
