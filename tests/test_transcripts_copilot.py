"""Copilot CLI's event logs, its store and its telemetry file: each call once, alone and together."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import CAPTURES, MANIFEST, requests, transcripts
from tachograph import registry
from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.model import MODEL_CALL, PROMPT, STEP, TOOL_RUN, Batch, Event, Meaning, Usage
from tachograph.transcripts import copilot, copilot_otel
from test_transcripts import ANYTHING, in_pieces, made, plain, reports_of
from test_truth import Truth, makers, orders, replayed, truth_of

RECORDED = Path(__file__).parent / "data" / "transcripts" / "copilot"
STORE = RECORDED / "transcript" / "session-store.db"
LOG = next(path for path in RECORDED.rglob("events.jsonl") if path.stat().st_size > 10_000)
BILLED = json.loads((RECORDED / "truth.json").read_text(encoding="utf-8"))
TRUTH = Truth(BILLED["llm_calls_ok"], BILLED["llm_calls_failed"], BILLED["input_tokens_incl_cache"])
# The file exporter's telemetry lies beside the log of the same session.
FILE = CAPTURES / "copilot-cli-file" / "copilot-otel.jsonl"
ALONE = sorted(n for n in MANIFEST if n.startswith("copilot-cli-") and n != "copilot-cli-errors")


def events_of(path: Path) -> list[Event]:
    """All events of a file, read once."""
    return copilot.read(path, "")[0].events


def meanings(events: list[Event], role: str) -> list[Meaning]:
    """What the events of a role say."""
    return [e.meaning for e in events if e.meaning is not None and e.meaning.role == role]


def line(type_: str, agent: str = "", **data: Any) -> dict[str, Any]:
    """An event as the log has it."""
    told = {"type": type_, "data": data, "id": "e", "timestamp": "2026-11-21T06:00:00.000Z", "parentId": None}
    return {**told, "agentId": agent} if agent else told


def test_the_files_are_known() -> None:
    for path, read in ((STORE, copilot.read), (LOG, copilot.read), (FILE, copilot_otel.read)):
        found = registry.files_of(path)
        assert found is not None and found.read is read, path


@pytest.mark.parametrize("name", ALONE)
def test_the_files_alone_are_the_truth(name: str, tmp_path: Path) -> None:
    for order, batches in orders(makers(transcripts(CAPTURES / name)), name).items():
        assert replayed(batches, tmp_path / order, settle_each=True).told == truth_of(name), order


@pytest.mark.parametrize("files", [[LOG, *LOG.parent.parent.glob("9f*/*")], [STORE], [LOG, STORE]], ids=len)
def test_log_and_store(files: list[Path], tmp_path: Path) -> None:
    """Each has every call that was answered, compaction too; failures stand in the log, retries in neither."""
    batches = [copilot.read(path, "")[0] for path in files]
    for order, made_ in orders(makers(batches), "copilot").items():
        result = replayed(made_, tmp_path / order, settle_each=True)
        assert result.told == TRUTH._replace(failed=int(len(files) == 2 and STORE not in files)), order


def test_with_what_it_exports(tmp_path: Path) -> None:
    batches = [*requests(RECORDED), *transcripts(RECORDED)]
    for order, made_ in orders(makers(batches), "copilot").items():
        result = replayed(made_, tmp_path / order, settle_each=order in ("backward", "twice"))
        assert result == (TRUTH, 0), order


def test_a_session_with_a_subagent() -> None:
    events = events_of(LOG)
    prompts = meanings(events, PROMPT)
    assert [bool(m.subagent) for m in prompts] == [False, False]
    inside = [m for m in meanings(events, MODEL_CALL) if m.is_call and m.subagent]
    assert {m.subagent for m in inside} == {"general-purpose"} and len(inside) == 2
    assert all(m.prompt_id == prompts[0].prompt_id for m in inside)
    tools = meanings(events, TOOL_RUN)
    assert [(m.tool_name, m.subagent, m.is_error) for m in tools] == [
        ("bash", "general-purpose", False),
        ("task", "", False),
        ("view", "", True),
    ]
    assert all(m.duration_ns is not None for m in tools)


def test_read_as_it_grows(tmp_path: Path) -> None:
    source = LOG.read_bytes()
    file = tmp_path / "events.jsonl"
    file.write_bytes(source)
    whole = plain(events_of(file))
    ends = list(range(0, len(source), 997))
    assert plain(in_pieces(file, source, ends, copilot.read)) == whole


def test_the_store_goes_on_after_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "session-store.db"
    path.write_bytes(STORE.read_bytes())
    with closing(sqlite3.connect(path)) as agent:
        rows = agent.execute("SELECT * FROM assistant_usage_events ORDER BY id").fetchall()
        agent.execute("DELETE FROM assistant_usage_events")
        agent.commit()
        position, found = "", []
        for row in rows:
            agent.execute(f"INSERT INTO assistant_usage_events VALUES ({', '.join('?' * len(row))})", row)
            agent.commit()
            batch, position = copilot.read(path, position)
            found += [event.attributes["id"] for event in batch.events]
            assert copilot.read(path, position)[1] == position
        assert found == [row[0] for row in rows]
        # Made anew, it counts from 1 again.
        agent.execute("DELETE FROM assistant_usage_events")
        agent.execute(f"INSERT INTO assistant_usage_events VALUES (1{', ?' * (len(rows[0]) - 1)})", rows[0][1:])
        agent.commit()
        assert [e.attributes["id"] for e in copilot.read(path, position)[0].events] == [1]


def test_credits_are_the_list_price_of_a_plan(tmp_path: Path) -> None:
    usage = {"model": "claude-sonnet-4.6", "inputTokens": 2000, "outputTokens": 50, "cacheReadTokens": 1500}
    paid = {**usage, "cacheWriteTokens": 300, "copilotUsage": {"totalNanoAiu": 1_400_000_000}, "apiCallId": "msg_1"}
    own = {**usage, "isByok": True, "providerType": "anthropic"}
    rows = (line("session.start", sessionId="s"), line("session.usage_record", usage=paid))
    credited, byok = meanings(
        events_of(made(tmp_path / "events.jsonl", *rows, line("session.usage_record", usage=own))), MODEL_CALL
    )
    assert (credited.cost_nanousd, credited.cost_kind, credited.is_notional) == (14_000_000, "source_estimate", True)
    assert credited.usage == Usage(input_uncached=200, cache_read=1500, cache_write=300, output=50)
    assert (byok.cost_nanousd, byok.provider) == (None, "anthropic")


def test_totals_are_no_calls(tmp_path: Path) -> None:
    """They add up from the session's start, and come again with each end of it."""
    metrics = {"gpt-5": {"requests": {"count": 3}, "usage": {"inputTokens": 9}, "totalNanoAiu": 7}}
    rows = (line("session.shutdown", modelMetrics=metrics), line("session.usage_checkpoint", totalNanoAiu=7))
    assert not events_of(made(tmp_path / "events.jsonl", line("session.start", sessionId="s"), *rows))


def test_who_speaks_as_the_user(tmp_path: Path) -> None:
    rows = (
        line("user.message", content="mine", interactionId="i"),
        line("user.message", content="a skill's", source="skill-pdf"),
        line("user.message", content="go on", isAutopilotContinuation=True),
        line("user.message", "a-1", content="a task"),
    )
    events = events_of(made(tmp_path / "events.jsonl", *rows, spaced=True))
    assert [e.meaning.role for e in events if e.meaning is not None] == [PROMPT, STEP, STEP, STEP]


def test_errors(tmp_path: Path) -> None:
    """Only what carries an HTTP status is a call that failed."""
    rows = (line("session.start", selectedModel="gpt-5", sessionId="s"), line("session.error", message="no terminal"))
    failed = line("session.error", statusCode=429, message="slow down", errorType="rate_limit")
    events = events_of(made(tmp_path / "events.jsonl", *rows, failed))
    (call,) = meanings(events, MODEL_CALL)
    assert (call.http_status, call.is_error, call.request_model) == (429, True, "gpt-5")
    assert [m.error_message for m in meanings(events, STEP)] == ["no terminal"]


def test_the_telemetry_file() -> None:
    batch, position = copilot_otel.read(FILE, "")
    assert copilot_otel.read(FILE, position)[1] == position and not batch.events and not batch.points
    assert {span.meaning for span in batch.spans} == {None}  # the dialect says what they mean
    kinds = {span.name.split()[0]: span.kind for span in batch.spans}
    assert kinds == {"execute_tool": 1, "chat": 3, "invoke_agent": 1}
    root = next(span for span in batch.spans if not span.parent_id)
    assert root.end_ns - root.start_ns == 423_000_000 and root.source.scope_name == "github.copilot"
    assert len({id(span.source) for span in batch.spans}) == 1


def test_discovered(tmp_path: Path) -> None:
    home = tmp_path / ".copilot"
    own = tmp_path / "spans.jsonl"
    files = [home / "session-state" / "a" / "events.jsonl", home / "session-store.db", home / "otel" / "x.jsonl"]
    for file in [*files, own, home / "session-state" / "events.jsonl"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    here = Surroundings(tmp_path, {}, tmp_path)
    assert sorted([*copilot.discover(here), *copilot_otel.discover(here)]) == sorted(files)
    moved = Surroundings(tmp_path / "else", {"COPILOT_HOME": str(home)}, tmp_path)
    assert sorted([*copilot.discover(moved), *copilot_otel.discover(moved)]) == sorted(files)
    named = Surroundings(tmp_path / "else", {"COPILOT_OTEL_FILE_EXPORTER_PATH": str(own)}, tmp_path)
    assert list(copilot_otel.discover(named)) == [own]


TYPES = st.sampled_from([*copilot._EVENTS, "session.shutdown", "span", "x"])
KEYS = (
    *("sessionId", "context", "content", "interactionId", "usage", "toolCallId", "toolName", "arguments", "result"),
    *("error", "success", "statusCode", "message", "agentName", "newModel", "toolRequests", "compactionTokensUsed"),
)
USAGE = ("model", "inputTokens", "outputTokens", "cacheReadTokens", "duration", "copilotUsage", "apiCallId", "isByok")
DATA = st.dictionaries(st.sampled_from(KEYS), ANYTHING | st.dictionaries(st.sampled_from(USAGE), ANYTHING), max_size=6)
LINES = st.fixed_dictionaries(
    {"type": TYPES}, optional={"data": DATA | ANYTHING, "agentId": ANYTHING, "timestamp": ANYTHING}
)
SPAN = ("parentSpanId", "name", "kind", "startTime", "endTime", "attributes", "status", "events", "resource")
SPANS = st.dictionaries(st.sampled_from([*SPAN, "instrumentationScope", "traceId"]), ANYTHING, max_size=8)


@settings(max_examples=150)
@given(st.lists(LINES, max_size=6), st.lists(SPANS, max_size=4))
def test_any_values(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], spans: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    batch, position = copilot.read(made(folder / "events.jsonl", *rows), "")
    copilot.read(folder / "events.jsonl", position)
    for event in batch.events:
        assert event.meaning is not None and 0 <= event.time_ns < 2**63
        msgspec.convert(msgspec.to_builtins(event.meaning), Meaning, strict=True)
    ids = {"type": "span", "traceId": "a" * 32, "spanId": "b" * 16}
    read, _ = copilot_otel.read(made(folder / "otel.jsonl", *({**ids, **span} for span in spans)), "")
    for span in read.spans:
        assert 0 <= span.start_ns <= span.end_ns < 2**63 and 1 <= span.kind <= 5 and 0 <= span.status_code <= 2
    registry.normalise(read)
    reports_of(batch, read)


VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary(max_size=8)


@settings(max_examples=80)
@given(st.lists(st.lists(VALUES, min_size=15, max_size=15), max_size=4))
def test_any_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[list[Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "session-store.db"
    with closing(sqlite3.connect(path)) as agent:
        agent.execute(f"CREATE TABLE assistant_usage_events ({', '.join(copilot._COLUMNS)})")
        agent.execute("CREATE TABLE sessions (id, cwd, branch)")
        for row in rows:
            agent.execute(f"INSERT INTO assistant_usage_events VALUES ({', '.join('?' * 13)})", row[:13])
            agent.execute("INSERT INTO sessions VALUES (?, ?, ?)", (row[1], row[13], row[14]))
        agent.commit()
    try:
        batch, position = copilot.read(path, "")
    except Rejected:
        return
    copilot.read(path, position)
    for event in batch.events:
        assert event.meaning is not None and 0 <= event.time_ns < 2**63
    reports_of(Batch(events=batch.events))
