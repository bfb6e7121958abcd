"""The questions that pages, commands and APIs ask: usage, sessions, calls, provenance, search, arrivals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fillings import NOON, SECOND, Filling
from tachograph import questions
from tachograph.errors import QueryError
from tachograph.model import Content, Meaning, Point, Source, Usage
from tachograph.questions.arrivals import RULES
from tachograph.questions.counting import Tally
from tachograph.questions.lookup import CALL_COLUMNS, SESSION_COLUMNS
from tachograph.scan import Match
from tachograph.store.duckdb import open_store
from tachograph.store.schema import TABLES

FULL = Usage(input_uncached=10, cache_read=100, cache_write=5, output=7, reasoning=2)
HOUR = 3600 * SECOND


@pytest.fixture
def filling(tmp_path: Path) -> Iterator[Filling]:
    """An empty store to be filled."""
    folder = tmp_path / "store"
    folder.mkdir()
    with closing(open_store(folder, lambda: NOON)) as store:
        yield Filling(store)


def test_empty_store_has_used_nothing(filling: Filling) -> None:
    totals = questions.usage(filling.done())["totals"]
    assert totals["calls"] == totals["failed_calls"] == totals["input_tokens"] == totals["unpriced_calls"] == 0
    assert totals["cost_usd"] == 0.0
    assert totals["first_ns"] is None


def test_every_kind_of_call_counts_as_what_it_is(filling: Filling) -> None:
    filling.call("big", usage=FULL, session_id="s1")
    filling.call("small", usage=FULL, session_id="s1", cost_nanousd=2_000, cost_kind="billed")
    filling.call("small", usage=FULL, session_id="s1", cost_nanousd=3_000, cost_kind="source_estimate")
    filling.call(
        "small", usage=FULL, session_id="s1", cost_nanousd=4_000, cost_kind="source_estimate", is_notional=True
    )
    filling.call("free", usage=FULL, session_id="s1")
    filling.call("free", session_id="s1")
    filling.call("big", session_id="s1", is_error=True, error_type="429")
    filling.call("big", session_id="s1", is_error=True, error_type="aborted")
    totals = questions.usage(filling.done())["totals"]
    assert totals["calls"] == 6
    assert totals["failed_calls"] == 2
    assert totals["aborted_calls"] == 1
    assert totals["partial"] == 1
    assert totals["unpriced_calls"] == 2  # the failed ones used nothing that could be priced
    assert totals["input_tokens"] == 5 * 115
    assert totals["cache_read_tokens"] == 500
    assert totals["cache_write_tokens"] == 25
    assert totals["output_tokens"] == 35
    assert totals["reasoning_tokens"] == 10
    assert totals["cost_billed_usd"] == 2_000 / 1e9
    assert totals["cost_source_estimate_usd"] == 3_000 / 1e9
    assert totals["cost_notional_usd"] == 4_000 / 1e9
    assert totals["cost_computed_usd"] == 1_000_000 / 1e9
    assert totals["cost_usd"] == pytest.approx(1_009_000 / 1e9, abs=1e-15)
    assert (totals["first_ns"], totals["last_ns"]) == (NOON, NOON)


def test_unknown_is_not_nothing(filling: Filling) -> None:
    filling.call("free", session_id="s1")
    totals = questions.usage(filling.done())["totals"]
    assert totals["input_tokens"] is None
    assert totals["output_tokens"] is None
    assert totals["cost_usd"] is None
    assert (totals["calls"], totals["partial"], totals["unpriced_calls"]) == (1, 1, 1)


def test_failed_calls_alone_have_used_nothing(filling: Filling) -> None:
    filling.call("big", session_id="s1", is_error=True, error_type="400")
    totals = questions.usage(filling.done())["totals"]
    assert (totals["calls"], totals["failed_calls"], totals["input_tokens"]) == (0, 1, 0)
    assert (totals["cost_usd"], totals["unpriced_calls"]) == (0.0, 0)


def test_days_are_those_of_the_time_zone(filling: Filling) -> None:
    filling.call("big", at_ns=NOON + 11 * HOUR, usage=FULL, session_id="s1")  # 23:00 UTC, the next day in Berlin
    filling.call("big", at_ns=NOON, usage=FULL, session_id="s1")
    store = filling.done()
    days = {row["day"]: row["calls"] for row in questions.usage(store, "day")["rows"]}
    assert days == {"2026-11-20": 2}
    berlin = questions.usage(store, "day", timezone="Europe/Berlin")["rows"]
    assert [(row["day"], row["calls"]) for row in berlin] == [("2026-11-20", 1), ("2026-11-21", 1)]
    assert questions.usage(store, "week")["rows"][0]["week"] == "2026-W47"
    assert questions.usage(store, "month")["rows"][0]["month"] == "2026-11"
    assert [row["hour"] for row in questions.usage(store, "hour")["rows"]] == ["2026-11-20 12:00", "2026-11-20 23:00"]


def test_period_takes_its_start_and_leaves_its_end(filling: Filling) -> None:
    for hours in range(3):
        filling.call("big", at_ns=NOON + hours * HOUR, usage=FULL, session_id="s1")
    store = filling.done()
    assert questions.usage(store, since_ns=NOON, until_ns=NOON + 2 * HOUR)["totals"]["calls"] == 2
    assert questions.usage(store, where=[Match("start_ns", "=", NOON)])["totals"]["calls"] == 1


def test_two_dimensions_come_by_time_then_cost(filling: Filling) -> None:
    filling.call("small", at_ns=NOON, usage=FULL, session_id="s1")
    filling.call("big", at_ns=NOON, usage=FULL, session_id="s1")
    filling.call("small", at_ns=NOON - 24 * HOUR, usage=FULL, session_id="s1")
    rows = questions.usage(filling.done(), ("model", "day"))["rows"]
    assert [(row["day"], row["model"]) for row in rows] == [
        ("2026-11-19", "small"),
        ("2026-11-20", "big"),
        ("2026-11-20", "small"),
    ]


def test_a_call_without_session_belongs_to_the_session_of_its_trace(filling: Filling) -> None:
    filling.call("big", usage=FULL, trace_id="a" * 32)
    filling.call("big", usage=FULL, session_id="named")
    rows = {row["session"]: row["calls"] for row in questions.usage(filling.done(), "session")["rows"]}
    assert rows == {"trace:" + "a" * 32: 1, "named": 1}


@pytest.mark.parametrize("by", sorted((*questions.DIMENSIONS, *questions.TIMES)))
def test_rows_add_up_to_the_totals(filling: Filling, by: str) -> None:
    for number in range(6):
        filling.call(
            ("big", "small", "free")[number % 3],
            at_ns=NOON + number * 7 * HOUR,
            usage=FULL if number % 2 else None,
            session_id=f"s{number % 2}",
            project=f"p{number % 4}",
            is_error=number == 4,
        )
    answer = questions.usage(filling.done(), by)
    for name in ("calls", "failed_calls", "partial", "unpriced_calls", "input_tokens", "output_tokens"):
        assert sum(row[name] or 0 for row in answer["rows"]) == answer["totals"][name]
    assert sum(row["cost_usd"] or 0 for row in answer["rows"]) == pytest.approx(answer["totals"]["cost_usd"])


def test_wrong_questions_are_told(filling: Filling) -> None:
    with pytest.raises(QueryError, match="expected one of hour, day"):
        questions.usage(filling.store, "colour")
    with pytest.raises(QueryError, match="time zone"):
        questions.usage(filling.store, "day", timezone="Mars/Olympus")


GROUP = st.fixed_dictionaries(
    {
        "count": st.integers(1, 9),
        "status": st.sampled_from(["ok", "failed", "aborted"]),
        "usage_status": st.sampled_from(["reported", "partial", "unknown"]),
        "is_notional": st.booleans(),
        "is_cut_short": st.booleans(),
        "first_ns": st.one_of(st.none(), st.integers(1, 99)),
        "last_ns": st.one_of(st.none(), st.integers(1, 99)),
        **{
            name: st.one_of(st.none(), st.integers(0, 99))
            for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
        },
    }
).flatmap(
    lambda group: st.sampled_from(
        [
            group | {"cost_kind": "", "cost_nanousd": None},
            group | {"cost_kind": "billed", "cost_nanousd": 3},
            group | {"cost_kind": "computed", "cost_nanousd": 5},
        ]
    )
)


@given(st.lists(GROUP, max_size=8), st.randoms(use_true_random=False))
def test_a_tally_does_not_depend_on_the_order(groups: list[dict[str, object]], random: object) -> None:
    one, other = Tally(), Tally()
    for group in groups:
        one.add(group)
    shuffled = list(groups)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for group in shuffled:
        other.add(group)
    assert one.as_dict() == other.as_dict()
    parts = one.as_dict()
    if parts["cost_usd"] is not None:
        kinds = ("billed", "source_estimate", "computed", "notional")
        assert sum(parts[f"cost_{kind}_usd"] for kind in kinds) == pytest.approx(parts["cost_usd"])


def test_all_columns_are_asked_for() -> None:
    assert {column.name for column in TABLES["sessions"]} == set(SESSION_COLUMNS)
    # When a call became another one is for those who follow calls, not for who asks what it is.
    assert {column.name for column in TABLES["calls"]} - {"changed_seq"} == set(CALL_COLUMNS)


def test_sessions_come_newest_first_and_can_be_filtered(filling: Filling) -> None:
    for number in range(3):
        at_ns = NOON + number * 100 * SECOND
        filling.call(usage=FULL, at_ns=at_ns, session_id=f"session-{number}", project=f"Project {number}")
    store = filling.done()
    assert [row["session_id"] for row in questions.sessions(store)] == ["session-2", "session-1", "session-0"]
    assert [row["session_id"] for row in questions.sessions(store, limit=1, offset=1)] == ["session-1"]
    assert [row["session_id"] for row in questions.sessions(store, text="project 1")] == ["session-1"]
    assert [row["session_id"] for row in questions.sessions(store, until_ns=NOON + 1)] == ["session-0"]
    assert questions.session(store, "session-1")["project"] == "Project 1"  # type: ignore[index]
    assert questions.session(store, "nothing") is None


def test_calls_of_a_session_and_of_a_trace(filling: Filling) -> None:
    filling.call(usage=FULL, session_id="s", trace_id="a" * 32, at_ns=NOON + SECOND)
    filling.call(usage=FULL, session_id="s", trace_id="b" * 32, at_ns=NOON)
    filling.call(usage=FULL, trace_id="c" * 32)
    store = filling.done()
    assert [row["trace_id"][0] for row in questions.calls_of(store, "s")] == ["b", "a"]
    assert [row["trace_id"][0] for row in questions.calls_of(store, "s", is_newest_first=True)] == ["a", "b"]
    assert len(questions.calls_of(store, trace_id="a" * 32)) == 1
    assert len(questions.calls_of(store, "trace:" + "c" * 32)) == 1
    assert [row["trace_id"][0] for row in questions.traces_of(store, "s")] == ["b", "a"]
    assert [row["spans"] for row in questions.traces_of(store, "trace:" + "c" * 32)] == [1]


def test_ids_may_be_cut_short_but_not_ambiguous(filling: Filling) -> None:
    filling.call(usage=FULL, session_id="alpha-one")
    filling.call(usage=FULL, session_id="alpha-two", at_ns=NOON + SECOND)
    store = filling.done()
    assert questions.find(store, "alpha-o") == ("session", "alpha-one")
    assert questions.find(store, "alpha-one") == ("session", "alpha-one")
    assert questions.find(store, "last") == ("session", "alpha-two")
    with pytest.raises(QueryError, match="several ids"):
        questions.find(store, "alpha")
    with pytest.raises(QueryError, match="nothing has"):
        questions.find(store, "beta")
    with pytest.raises(QueryError, match="nothing has"):
        questions.find(store, "")


def test_last_of_nothing(filling: Filling) -> None:
    with pytest.raises(QueryError, match="empty store"):
        questions.find(filling.store, "last")


def test_explain_names_the_report_of_each_field(filling: Filling) -> None:
    filling.call("big", usage=FULL, session_id="s", request_id="req_0123456789abcdef0123", user="ada")
    told = Meaning(
        dialect="claude-code",
        is_call=True,
        session_id="s",
        response_model="big",
        request_id="req_0123456789abcdef0123",
        usage=Usage(input_uncached=10, cache_read=100, cache_write=5, output=6),
        cost_nanousd=42,
        cost_kind="source_estimate",
    )
    filling.event("api_request", told)
    store = filling.done()
    call_id = questions.find(store, "last", ("call",)).id
    explained = questions.explain(store, call_id)
    assert explained["call"]["call_id"] == call_id
    origins = {report["report_id"]: report["origin"] for report in explained["reports"]}
    assert sorted(origins.values()) == ["log", "span"]
    fields = {field["field"]: field for field in explained["fields"]}
    assert origins[fields["user"]["report_id"]] == "span"
    output = fields["output_tokens"]
    assert {output["value"], *(other["value"] for other in output["others"])} == {6, 7}
    assert [(shared["id"], len(shared["report_ids"])) for shared in explained["shared"]] == [("request_id", 2)]
    assert explained["price"]["cost_kind"] == "source_estimate"
    assert [told["cost_nanousd"] for told in explained["price"]["told"]] == [42]


def test_explain_of_no_call(filling: Filling) -> None:
    with pytest.raises(QueryError, match="expected the id of a call"):
        questions.explain(filling.store, "call_nothing")


def test_search_finds_a_text_once_with_its_records(filling: Filling) -> None:
    prompt = Content("prompt", "prompt", ["Please fix the PARSER, it drops the last line" + " and more" * 30])
    filling.event("user_prompt", Meaning(role="prompt", session_id="s"), [prompt])
    store = filling.done()
    again = Content("input", "input", list(prompt.pieces))
    filling.event("api_request", Meaning(session_id="s"), [again], NOON + SECOND)
    store = filling.done()
    (hit,) = questions.search(store, "parser")
    assert "PARSER" in hit["excerpt"]
    assert hit["excerpt"].endswith("…")
    assert [(record["slot"], record["session_id"]) for record in hit["records"]] == [("prompt", "s")]
    assert questions.search(store, "nowhere") == []
    assert questions.search(store, "") == []
    assert questions.search(store, "100%_") == []


def test_filters_of_the_caller_hold(filling: Filling) -> None:
    filling.call("big", usage=FULL, session_id="s")
    filling.call("small", usage=FULL, session_id="s")
    store = filling.done()
    assert [row["model"] for row in questions.calls_of(store, where=[Match("model", "=", "small")])] == ["small"]


def names(filling: Filling, has_content: bool = True) -> list[str]:
    return [finding.rule for finding in questions.findings(filling.done(), has_content=has_content)]


def test_nothing_arrives_and_nothing_is_missing(filling: Filling) -> None:
    assert questions.arrivals(filling.store) == []
    assert questions.findings(filling.store) == []


def test_signals_are_counted_by_service(filling: Filling) -> None:
    filling.call(usage=FULL, session_id="s")
    filling.event("something", Meaning(dialect="genai"), at_ns=NOON + 5)
    filling.batch.points.append(Point(filling.source, "gen_ai.client.token.usage", {}, NOON, "sum", value=1))
    (arrival,) = questions.arrivals(filling.done())
    assert (arrival.service, arrival.version) == ("tester", "1")
    assert {name: signal.count for name, signal in arrival.signals.items()} == {"traces": 1, "logs": 1, "metrics": 1}
    assert arrival.signals["logs"].first_ns == NOON + 5
    assert arrival.dialects == ["genai"]


def test_claude_code_without_traces_is_told_the_line(filling: Filling) -> None:
    filling.source = Source({"service.name": "claude-code"})
    said = Meaning(dialect="claude-code", agent="claude-code")
    filling.event("user_prompt", said, [Content("prompt", "prompt", ["hello"])])
    findings = {finding.rule: finding for finding in questions.findings(filling.done())}
    assert findings["claude-code-traces"].lines == [
        "CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1",
        "OTEL_TRACES_EXPORTER=otlp",
    ]
    assert "claude-code-logs" not in findings
    assert "claude-code-content" not in findings


def test_hidden_texts_are_told_unless_none_are_wanted(filling: Filling) -> None:
    filling.source = Source({"service.name": "claude-code"})
    filling.event("user_prompt", Meaning(dialect="claude-code", agent="claude-code"))
    assert "claude-code-content" in names(filling)
    assert "claude-code-content" not in names(filling, has_content=False)


def test_transcripts_alone_are_no_telemetry_to_complete(filling: Filling) -> None:
    filling.source = Source({"service.name": "codex"})
    filling.event("message", Meaning(dialect="codex", agent="codex"), [Content("prompt", "", ["hello"])])
    filling.batch.events[0].origin = "transcript"
    store = filling.done()
    assert list(questions.arrivals(store)[0].signals) == ["transcripts"]
    assert questions.findings(store) == []


def test_states_of_calls_are_findings(filling: Filling) -> None:
    filling.call("free", usage=FULL, session_id="s", provider="acme")
    filling.call("big", session_id="s")
    findings = {finding.rule: finding for finding in questions.findings(filling.done())}
    unpriced = [finding.who for finding in questions.findings(filling.store) if finding.rule == "unpriced"]
    assert unpriced == ["acme/free"], "of the other the tokens are unknown, which no price mends"
    assert findings["unpriced"].what == "1 call without a price"
    assert findings["partial"].who == "tester"


def test_metrics_alone_are_never_calls(filling: Filling) -> None:
    filling.batch.points.append(Point(filling.source, "gen_ai.client.token.usage", {}, NOON, "sum", value=1))
    assert names(filling) == ["metrics-only"]


def test_metrics_of_something_else_are_no_finding(filling: Filling) -> None:
    filling.batch.points.append(Point(filling.source, "http.server.duration", {}, NOON, "sum", value=1))
    assert names(filling) == []


def test_every_rule_says_what_to_write_and_where() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.lines and rule.where and rule.what
