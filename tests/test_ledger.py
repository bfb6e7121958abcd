"""The merge of reports into calls: the same calls in any order, in any pieces, however often a report comes."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tachograph import ledger
from tachograph.ledger import identity
from tachograph.ledger.working import calls_of
from tachograph.model import MODEL_CALL, Batch, Call, Event, Meaning, Report, Source, Span, Usage
from tachograph.pricing import Prices
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store

SECOND = 1_000_000_000
START = 1_795_000_000 * SECOND
LONG_IDS = [f"chatcmpl-{letter * 24}" for letter in "abc"]
REQUEST_IDS = [f"req_{letter * 24}" for letter in "xyz"]

tokens = st.sampled_from([None, 0, 7, 10_036])
usages = st.none() | st.builds(
    Usage,
    input_uncached=st.sampled_from([None, 3, 100]),
    cache_read=tokens,
    cache_write=tokens,
    output=st.sampled_from([None, 1, 50]),
    reasoning=st.sampled_from([None, 0, 1]),
)
meanings = st.builds(
    Meaning,
    dialect=st.just("genai"),
    role=st.just(MODEL_CALL),
    agent=st.sampled_from(["claude-code", "codex"]),
    session_id=st.sampled_from(["", "session-1", "session-2"]),
    request_model=st.sampled_from(["", "gpt-5.1", "gpt-5.1-2026-01-01", "claude-sonnet-4-5"]),
    response_id=st.sampled_from(["", "1", *LONG_IDS]),
    request_id=st.sampled_from(["", "", *REQUEST_IDS]),
    message_id=st.sampled_from(["", "", "m1"]),
    usage=usages,
    is_call=st.just(True),
    is_rollup=st.sampled_from([False, False, False, True]),
    is_error=st.booleans(),
    http_status=st.sampled_from([None, 200, 429]),
    failed_attempts=st.sampled_from([0, 0, 0, 1]),
    cost_nanousd=st.sampled_from([None, 5, 9]),
    cost_kind=st.sampled_from(["source_estimate", "billed"]),
)
SPANS = [f"{number:016x}" for number in range(1, 6)]
TRACES = ["a" * 32, "b" * 32]
# One tree for both traces: 1 > 2 > 3, 1 > 4; the fifth is a root of its own.
PARENTS = {SPANS[0]: "", SPANS[1]: SPANS[0], SPANS[2]: SPANS[1], SPANS[3]: SPANS[0], SPANS[4]: ""}


@st.composite
def reports(draw: st.DrawFn) -> list[Report]:
    """A set of reports of one to three sources about a few calls."""
    made: dict[str, Report] = {}
    for number in range(draw(st.integers(1, 9))):
        origin = draw(st.sampled_from(["span", "log", "transcript"]))
        start = START + draw(st.sampled_from([0, 1, 3, 20])) * SECOND
        trace = draw(st.sampled_from(TRACES)) if origin != "transcript" else ""
        span = (
            draw(st.sampled_from(SPANS)) if origin == "span" else draw(st.sampled_from(["", *SPANS])) if trace else ""
        )
        told = Report(
            report_id=f"s{trace}{span}" if origin == "span" else f"{origin[0]}{number}",
            origin=origin,
            rank=identity.RANKS[origin],
            trace_id=trace,
            span_id=span,
            start_ns=start,
            end_ns=start + draw(st.sampled_from([0, 1, 9])) * SECOND,
            name=draw(st.sampled_from(["chat", "api_request"])),
            service=draw(st.sampled_from(["scope-1", "scope-2"])),
            meaning=draw(meanings),
        )
        made[told.report_id] = told
    return list(made.values())


def resolved(given_reports: list[Report]) -> list[bytes]:
    sessions = {r.report_id: r.meaning.session_id for r in given_reports}
    calls = calls_of(given_reports, sessions, dict.fromkeys(TRACES, PARENTS))
    return sorted(map(spelled, calls))


def spelled(call: Call) -> bytes:
    return msgspec.json.encode(call, order="deterministic")


@given(reports(), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same_calls(told: list[Report], rng: random.Random) -> None:
    expected = resolved(told)
    again = told + [rng.choice(told) for _ in range(4)]
    rng.shuffle(again)
    assert resolved(again) == expected


@given(reports())
def test_every_report_is_in_a_call_and_no_leaf_in_two(told: list[Report]) -> None:
    calls = calls_of(told, {r.report_id: r.meaning.session_id for r in told}, dict.fromkeys(TRACES, PARENTS))
    seen = [report_id for call in calls if "." not in call.call_id for report_id in call.reports]
    assert set(seen) == {r.report_id for r in told}
    assert len(seen) == len(set(seen))
    assert len({call.call_id for call in calls}) == len(calls)


@given(reports())
def test_the_ids_of_the_provider_are_never_joined_against_each_other(told: list[Report]) -> None:
    """A call has reports with different response ids only where some report ties them by another strong id."""
    for call in calls_of(told, {r.report_id: r.meaning.session_id for r in told}, {}):
        by_id = {r.report_id: r for r in told}
        members = [by_id[i] for i in call.reports]
        requests = {r.meaning.request_id for r in members if r.meaning.request_id}
        responses = {r.meaning.response_id for r in members if r.meaning.response_id in LONG_IDS}
        messages = {r.meaning.message_id for r in members if r.meaning.message_id}
        short = {r.meaning.response_id for r in members if r.meaning.response_id == "1"}
        if not requests and not messages and not short:
            assert len(responses) <= 1


# Each example opens a store: no shrinking, which would open thousands.
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(reports(), st.randoms(use_true_random=False))
def test_pieces_through_the_store_give_the_same_as_all_at_once(
    tmp_path_factory: object, told: list[Report], rng: random.Random
) -> None:
    """Commit and settle in random pieces, some twice: the stored calls are those of the whole set."""
    folder = Path(str(tmp_path_factory.mktemp("pieces")))  # type: ignore[attr-defined]
    pieces = [msgspec.json.decode(msgspec.json.encode(r), type=Report) for r in told]
    pieces += [msgspec.json.decode(msgspec.json.encode(rng.choice(told)), type=Report) for _ in range(3)]
    rng.shuffle(pieces)
    store = open_store(folder, lambda: START)
    try:
        store.commit([Batch(spans=[tree_span(trace, span) for trace in TRACES for span in SPANS])])
        for told_piece in pieces:
            store.commit([Batch(reports=[told_piece])])
            if rng.random() < 0.5:
                settle_all(store)
        settle_all(store)
        kept = store.scan(Scan("calls", {"reports": "reports", "status": "status", "input": "input_tokens"}))
    finally:
        store.close()
    sessions = {r.report_id: r.meaning.session_id for r in told}
    expected = calls_of(told, sessions, dict.fromkeys(TRACES, PARENTS))
    assert sorted(map(repr, zip(kept.data["reports"], kept.data["status"], kept.data["input"], strict=True))) == sorted(
        repr((c.reports, c.status, c.meaning.usage.input_total if c.meaning.usage else None)) for c in expected
    )


def settle_all(store: DuckStore) -> None:
    prices = Prices(None)
    while ledger.settle(store, prices.price):
        pass


def tree_span(trace: str, span: str) -> Span:
    return Span(Source({}), trace, span, PARENTS[span], "step", 1, START, START + SECOND, {}, meaning=Meaning())


def call_report(report_id: str, origin: str, **fields: object) -> Report:
    meaning = Meaning(role=MODEL_CALL, is_call=True, session_id="s", **fields)  # type: ignore[arg-type]
    return Report(
        report_id, origin, identity.RANKS[origin], end_ns=START + SECOND, start_ns=START, name=origin, meaning=meaning
    )


def one(*told: Report) -> Call:
    calls = calls_of(told, {r.report_id: "s" for r in told}, {})
    assert len(calls) == 1
    return calls[0]


def test_the_finer_telling_of_the_same_total_wins() -> None:
    coarse = call_report("s1", "span", usage=Usage(input_uncached=1000, output=5))
    fine = call_report("l1", "log", usage=Usage(100, 900, 0, None, 5, 2))
    call = one(coarse, fine)
    assert call.meaning.usage == Usage(100, 900, 0, None, 5, 2)
    assert call.provenance["usage.cache_read"] == "l1"


def test_a_line_written_while_the_answer_streamed_does_not_cut_the_output() -> None:
    early = call_report("t1", "transcript", request_id=REQUEST_IDS[0], usage=Usage(5, 0, 0, 0, 1))
    final = call_report("l1", "log", request_id=REQUEST_IDS[0], usage=Usage(5, 0, 0, 0, 200))
    call = one(early, final)
    assert call.meaning.usage is not None
    assert call.meaning.usage.output == 200


def test_a_failure_told_later_is_not_made_up_a_second_time(tmp_path: Path) -> None:
    """Though it tells of tokens, as an answer that broke off does."""
    store = open_store(tmp_path, lambda: START)
    try:
        store.commit([Batch(reports=[call_report("s1", "span", failed_attempts=1)])])
        settle_all(store)
        assert sorted(store.scan(Scan("calls", {"status": "status"})).data["status"]) == ["failed", "ok"]
        broken = call_report("l1", "log", usage=Usage(100, output=5), is_error=True, http_status=529)
        store.commit([Batch(reports=[broken])])
        settle_all(store)
        kept = store.scan(Scan("calls", {"reports": "reports", "status": "status"})).rows()
    finally:
        store.close()
    assert sorted((row["reports"], row["status"]) for row in kept) == [(["l1"], "failed"), (["s1"], "ok")]


def test_a_failure_of_nobody_is_no_attempt_of_another() -> None:
    """Calls without session and trace have nothing in common."""
    told = [
        Report(f"t{n}", "transcript", 30, start_ns=START, end_ns=START + SECOND, meaning=meaning)
        for n, meaning in enumerate(
            [Meaning(is_call=True, is_error=True, response_id="a"), Meaning(is_call=True, failed_attempts=1)]
        )
    ]
    assert sorted(call.status for call in calls_of(told, {}, {})) == ["failed", "failed", "ok"]


def test_a_loop_that_sends_the_same_request_again_is_counted_each_time() -> None:
    def at(report_id: str, origin: str, second: int) -> Report:
        told = call_report(report_id, origin, usage=Usage(100, 0, 0, 0, 5))
        told.start_ns, told.end_ns = START + second * SECOND, START + second * SECOND + SECOND // 2
        return told

    told = [at(f"l{n}", "log", n) for n in range(4)] + [at(f"t{n}", "transcript", n) for n in range(4)]
    calls = calls_of(told, {r.report_id: "s" for r in told}, {})
    assert [len(c.reports) for c in calls] == [2, 2, 2, 2]
    assert all({r[1:] for r in c.reports} == {c.reports[0][1:]} for c in calls)


def test_short_ids_of_a_local_server_are_no_identity_across_sessions() -> None:
    told = [
        Report(
            f"s{n}",
            "span",
            10,
            trace_id=str(n) * 32,
            span_id=str(n) * 16,
            start_ns=START,
            end_ns=START,
            meaning=Meaning(role=MODEL_CALL, is_call=True, response_id="chatcmpl-123", usage=Usage(1, output=1)),
        )
        for n in (1, 2)
    ]
    assert len(calls_of(told, {}, {})) == 2


def test_unknown_stays_unknown() -> None:
    call = one(call_report("s1", "span"))
    assert (call.usage_status, call.cost_nanousd, call.meaning.usage) == ("unknown", None, None)
    half = one(call_report("s1", "span", usage=Usage(output=5)))
    assert half.usage_status == "partial"


def test_reports_are_made_of_calls_only() -> None:
    source = Source({"service.name": "x"})
    spans = [
        Span(source, "a" * 32, f"{n:016x}", "", "chat", 3, START, START + 1, {}, meaning=Meaning(is_call=n == 1))
        for n in (1, 2)
    ]
    event = Event(source, START, "api_request", {}, meaning=Meaning(is_call=True))
    batch = Batch(spans=spans, events=[event])
    identity.report(batch)
    assert [r.origin for r in batch.reports] == ["span", "log"]


def announced(report_id: str, second: int) -> Report:
    """A request of Codex that was accepted: its stream tells the tokens when it completes."""
    told = call_report(report_id, "log", is_rollup=True, http_status=200)
    told.name, told.start_ns, told.end_ns = "codex.api_request", START + second * SECOND, START + (second + 1) * SECOND
    return told


def completed(report_id: str, second: int, tokens_in: int) -> Report:
    told = call_report(report_id, "log", is_timed=False, usage=Usage(tokens_in, output=5))
    told.name = "codex.sse_event"
    told.start_ns = told.end_ns = START + second * SECOND
    return told


def test_an_announced_call_is_the_one_that_completes_after_it() -> None:
    told = [announced("l1", 0), completed("l2", 8, 100), announced("l3", 20), completed("l4", 40, 200)]
    calls = calls_of(told, {r.report_id: "s" for r in told}, {})
    assert [sorted(c.reports) for c in sorted(calls, key=lambda c: c.start_ns)] == [["l1", "l2"], ["l3", "l4"]]
    first = min(calls, key=lambda c: c.start_ns)
    assert (first.start_ns, first.end_ns) == (START, START + 8 * SECOND), "from the request to the end of its stream"


def test_an_announced_call_whose_end_was_lost_is_a_call_of_unknown_usage() -> None:
    told = [announced("l1", 0), completed("l2", 8, 100), announced("l3", 20)]
    calls = sorted(calls_of(told, {r.report_id: "s" for r in told}, {}), key=lambda c: c.start_ns)
    assert [(c.status, c.usage_status) for c in calls] == [("ok", "reported"), ("ok", "unknown")]


def _line(message_id: str, second: int, output: int, finish_reason: str = "") -> Event:
    usage = Usage(input_uncached=3, cache_read=100, output=output)
    meaning = Meaning(
        role=MODEL_CALL, is_call=True, response_id=message_id, usage=usage, finish_reason=finish_reason, session_id="s"
    )
    return Event(
        source=Source({}, scope_name="transcript.claude-code"),
        time_ns=START + second * SECOND,
        name="assistant",
        attributes={},
        origin="transcript",
        meaning=meaning,
    )


def test_lines_of_one_answer_make_one_report_that_is_the_first_lines() -> None:
    one, other = "msg_" + "a" * 24, "msg_" + "b" * 24
    lines = [_line(one, 1, 1), _line(other, 2, 5), _line(one, 3, 1), _line(one, 4, 50, "stop")]
    batch, first, short = (
        Batch(events=lines),
        Batch(events=[_line(one, 1, 1)]),
        Batch(events=[_line("msg_1", 1, 1)] * 2),
    )
    for each in (batch, first, short):
        identity.report(each)
    told, _ = batch.reports
    assert len(batch.reports) == 2
    assert told.report_id == first.reports[0].report_id
    assert told.meaning.usage is not None
    assert (told.meaning.usage.output, told.meaning.finish_reason, told.end_ns) == (50, "stop", START + SECOND)
    assert lines[0].meaning is not None
    assert lines[0].meaning.finish_reason == ""  # the record stays as it was
    assert len(short.reports) == 2  # an id that may come again for another call joins nothing by itself


def test_lines_with_one_id_that_disagree_stay_apart() -> None:
    lines = [_line("msg_" + "a" * 24, second, 1) for second in (1, 2)]
    assert lines[1].meaning is not None
    assert lines[1].meaning.usage is not None
    lines[1].meaning.usage.cache_read = 7
    batch = Batch(events=lines)
    identity.report(batch)
    assert len(batch.reports) == 2
