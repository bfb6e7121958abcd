"""Pi's spool: one tree for each session, and every attempt one call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi_spools import (
    MS,
    NOW_NS,
    SESSION,
    START_MS,
    USAGE,
    Spool,
    calls,
    keep,
    named,
    outline,
    read,
    told,
    whole_session,
)
from tachograph.config import Surroundings
from tachograph.hooks import pi
from tachograph.model import Event, Point, Span
from tachograph.scan import Scan
from tachograph.store.duckdb import DuckStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    """A store of the test's own."""
    kept = open_store(tmp_path / "store", lambda: NOW_NS)
    yield kept
    kept.close()


def test_discovery_and_recognition(tmp_path: Path) -> None:
    where = Surroundings(tmp_path, {}, tmp_path / "spool")
    assert list(pi.discover(where)) == []
    (tmp_path / "spool" / "pi").mkdir(parents=True)
    later = Spool(start_ms=START_MS + 5).open().write(tmp_path / "spool" / "pi")
    first = Spool().open().write(tmp_path / "spool" / "pi")
    assert list(pi.discover(where)) == [first, later]
    assert pi.is_mine(first, json.loads(first.read_text().splitlines()[0]))
    assert not pi.is_mine(first, {"type": "session", "version": 3, "cwd": "/"})


def test_a_session_is_one_tree(tmp_path: Path, store: DuckStore) -> None:
    keep(store, read(whole_session().write(tmp_path)))
    assert outline(store, SESSION) == [
        "session",
        "  agent.prompt",
        "    agent.turn",
        "      chat claude-sonnet-4-5 ok",
        "      tool.bash",
        "    agent.turn",
        "      chat claude-sonnet-4-5 ok",
        "  agent.prompt",
        "    agent.turn",
        "      chat claude-sonnet-4-5 failed",
        "    agent.turn",
        "      chat claude-sonnet-4-5 ok",
    ]
    row = store.scan(Scan("sessions", {n: n for n in ("title", "prompts", "tool_runs", "user", "project", "calls")}))
    assert [row.data[n][0] for n in row.names] == ["mend the till", 2, 1, "ann@shop.example", "shop", 3]


def test_who_and_where(tmp_path: Path) -> None:
    """The operator's own words go before what the machine says; all records say the same."""
    batch = read(whole_session().write(tmp_path))
    records: list[Span | Event] = [*batch.spans, *batch.events]
    for record in records:
        meaning = told(record)
        assert (meaning.agent, meaning.session_id) == ("pi", SESSION)
        assert (meaning.user, meaning.tenant, meaning.environment) == ("ann@shop.example", "t1", "prod")
        assert (meaning.host, meaning.project, meaning.branch) == ("box", "shop", "main")
        assert record.source.resource["service.name"] == "pi"
        assert record.source.scope_name == "tachograph.hook.pi"
    named_service = read(Spool(pid=7).open(service="till-agent").ask().turn().write(tmp_path))
    assert named_service.spans[0].source.resource["service.name"] == "till-agent"


def test_a_model_call(tmp_path: Path) -> None:
    (call,) = named(read(Spool().open().ask().turn(thinking="high").settle().write(tmp_path)), "chat ")
    meaning = told(call)
    assert (call.name, call.kind) == ("chat claude-sonnet-4-5", 3)
    assert meaning.usage is not None
    assert (meaning.usage.input_total, meaning.usage.output, meaning.usage.reasoning) == (100, 4, 1)
    assert (meaning.cost_nanousd, meaning.cost_kind) == (2_000_000, "source_estimate")
    assert (meaning.finish_reason, meaning.provider, meaning.is_streaming) == ("stop", "anthropic", True)
    assert meaning.message_id == "e1001"
    assert meaning.response_id == "msg_00000001000000000001"
    assert meaning.ttft_ns is not None
    assert abs(meaning.ttft_ns - 100 * MS) <= MS
    assert meaning.attempt == 1
    assert call.attributes["gen_ai.usage.input_tokens"] == 100
    assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"]


def test_attempts_that_pi_repeats(tmp_path: Path) -> None:
    """Each is a call; what it used is unknown, not nothing; the prompt holds them all."""
    spool = Spool().open().ask().turn("error").line("agent_end").line("agent_start").turn("error")
    spool.line("agent_end").line("agent_start").turn().settle(aborted=False).ask().turn().settle().end()
    batch = read(spool.write(tmp_path))
    made = [(told(s).attempt, told(s).http_status, told(s).is_error, told(s).usage) for s in named(batch, "chat ")]
    assert [m[:3] for m in made] == [(1, 429, True), (2, 429, True), (3, None, False), (1, None, False)]
    assert [m[3] is None for m in made] == [True, True, False, False]
    assert [s.status_code for s in named(batch, "chat ")] == [2, 2, 0, 0]
    assert len(named(batch, "agent.prompt")) == 2
    assert [c.status for c in calls(batch)] == ["failed", "failed", "ok", "ok"]


def exchange(spool: Spool, number: int, status: int | None, **facts: Any) -> Spool:
    """A request on the wire."""
    spool.line("http", phase="create", n=number, method="POST", origin="https://api", path="/v1")
    if status is None:
        return spool.line("http", phase="error", n=number, error="ECONNRESET")
    return spool.line("http", phase="headers", n=number, status=status, **facts)


def test_attempts_that_an_sdk_hides(tmp_path: Path) -> None:
    """Pi tells of one answer; the network saw three requests."""
    spool = Spool().open().ask().line("turn_start", turn=0).line("request", model="claude-sonnet-4-5", stream=True)
    sent = int(spool.now_ms)
    exchange(spool, 1, 503)
    exchange(spool, 2, None)
    exchange(spool, 3, 200, ids={"request-id": "req_3"})
    spool.line("message_end", stop="stop", usage=USAGE, model="claude-sonnet-4-5", timestamp=sent)
    spool.line("turn_end", turn=0, outcome="completed").settle().end()
    batch = read(spool.write(tmp_path))
    made = [(told(s).attempt, told(s).http_status, told(s).error_type) for s in named(batch, "chat ")]
    assert sorted(made, key=str) == [(1, 503, "503"), (2, None, "ECONNRESET"), (3, 200, "")]
    assert told(named(batch, "chat ")[0]).request_id == "req_3"
    assert [c.status for c in calls(batch)].count("failed") == 2


def test_a_connection_torn_down_after_the_answer_is_no_failure(tmp_path: Path) -> None:
    """Readers close it when they have what they want."""
    spool = Spool().open().ask().line("turn_start", turn=0).line("request", model="claude-sonnet-4-5")
    exchange(spool, 1, 200).line("http", phase="error", n=1, error="UND_ERR_ABORTED")
    spool.line("message_end", stop="stop", usage=USAGE, timestamp=int(spool.now_ms)).settle()
    assert [c.status for c in calls(read(spool.write(tmp_path)))] == ["ok"]


def test_the_last_request_of_a_failed_attempt_is_its_own(tmp_path: Path) -> None:
    spool = Spool().open().ask().line("turn_start", turn=0).line("request", model="claude-sonnet-4-5")
    exchange(spool, 1, 503)
    exchange(spool, 2, 503, ids={"x-request-id": "req_2"})
    spool.line("message_end", stop="error", error="503: down", timestamp=int(spool.now_ms)).settle()
    batch = read(spool.write(tmp_path))
    assert sorted((told(s).attempt or 0, told(s).request_id) for s in named(batch, "chat ")) == [(1, ""), (2, "req_2")]


def test_an_aborted_run_is_no_failure(tmp_path: Path) -> None:
    spool = Spool().open().ask().line("turn_start", turn=0)
    partial = {"input": 40, "output": 1, "cacheRead": 5, "cacheWrite": 0}
    spool.answer(stop="aborted", error="Request was aborted", usage=partial, responseId=None)
    spool.line("turn_end", turn=0, outcome="aborted").settle(aborted=True).end()
    batch = read(spool.write(tmp_path))
    (call,) = calls(batch)
    assert call.status == "aborted"
    assert call.meaning.usage is not None
    assert call.meaning.usage.input_total == 45
    (prompt,) = named(batch, "agent.prompt")
    assert (prompt.status_code, prompt.attributes["agent.outcome"]) == (0, "aborted")
    assert "agent.aborted" in {e.name for e in batch.events}


def test_a_stream_that_dies_leaves_its_tokens_unknown(tmp_path: Path) -> None:
    spool = Spool().open().ask().turn("error", error="Stream ended without finish_reason").settle()
    (call,) = calls(read(spool.write(tmp_path)))
    assert (call.status, call.usage_status, call.meaning.error_message) == (
        "failed",
        "unknown",
        "Stream ended without finish_reason",
    )


def test_the_old_pi_closes_prompts_by_the_next(tmp_path: Path) -> None:
    """0.73 never says that a prompt is settled: it ended when the agent stopped for the last time."""
    spool = Spool().open().ask().turn("error").line("agent_end").line("agent_start").turn().line("agent_end")
    stopped = round(spool.now_ms * MS)
    spool.line("input", 5000.0, text="more").line("agent_start").turn().line("agent_end").end()
    prompts = named(read(spool.write(tmp_path)), "agent.prompt")
    assert len(prompts) == 2
    assert abs(prompts[0].end_ns - stopped) < MS


def test_calls_beside_the_conversation(tmp_path: Path) -> None:
    """Summaries, a warmed cache and tools that ask models themselves cost money, too."""
    spool = Spool().open().ask().line("turn_start", turn=0).answer(stop="toolUse")
    spool.tool("call_1", "oracle", usage={**USAGE, "input": 33}).line("turn_end", turn=0, results=["aa11"])
    spool.settle().line("compact_start", reason="manual")
    spool.line("compact_end", 80.0, entry="c1", usage={**USAGE, "input": 44}, model="claude-haiku-4-5", summary="short")
    spool.line("tree_start").line("tree", entry="b1", usage={**USAGE, "input": 55}, summary="left")
    spool.line("usage", entry="w1", kind="cache_warm", usage={**USAGE, "input": 66}, at=int(spool.now_ms)).end()
    batch = read(spool.write(tmp_path))
    made = {}
    for span in named(batch, "chat "):
        usage = told(span).usage
        assert usage is not None
        made[span.attributes.get("pi.call.kind", "answer")] = (usage.input_uncached, told(span).message_id)
    assert made == {
        "answer": (10, "e1001"),
        "tool_usage": (33, "aa11:usage"),
        "compaction": (44, "c1"),
        "branch_summary": (55, "b1"),
        "cache_warm": (66, "w1"),
    }
    assert len(calls(batch)) == 5
    (tool,) = named(batch, "tool.")
    nested = next(s for s in named(batch, "chat ") if s.attributes.get("pi.call.kind") == "tool_usage")
    assert nested.parent_id == tool.span_id


def test_a_compaction_of_the_old_pi_is_a_call_of_unknown_usage(tmp_path: Path) -> None:
    spool = Spool().open().line("compact_start").line("compact_end", entry="c1", model="m", fromExtension=False)
    (call,) = calls(read(spool.write(tmp_path)))
    assert (call.usage_status, call.status) == ("unknown", "ok")
    by_extension = Spool().open().line("compact_start").line("compact_end", entry="c1", fromExtension=True)
    assert calls(read(by_extension.write(tmp_path))) == []


def test_a_compaction_that_failed(tmp_path: Path) -> None:
    """Calls are what was asked of the provider: a session too small to compact asks nothing."""
    spool = Spool().open().line("compact_start").line("compact_failed", error="Nothing to compact", aborted=False)
    assert calls(read(spool.write(tmp_path))) == []
    spool = Spool().open().line("compact_start")
    exchange(spool, 1, 529)
    exchange(spool, 2, 529)
    spool.line("compact_failed", error="529 overloaded", aborted=False)
    assert [c.status for c in calls(read(spool.write(tmp_path)))] == ["failed", "failed"]


def test_tools(tmp_path: Path) -> None:
    """Nested runs lie in each other; a run that never ended is told of with its turn."""
    spool = Spool().open().ask().line("turn_start", turn=0).answer(stop="toolUse")
    spool.line("tool_start", id="a", name="codemode", args={"code": "x"})
    spool.line("tool_start", id="a/1", name="read", parent="a")
    spool.line("tool_end", id="a/1", name="read", isError=True, error="ENOENT: till.txt", parent="a")
    spool.line("tool_end", id="a", name="codemode", isError=False, durationMs=7)
    spool.line("tool_start", id="b", name="sleep").line("turn_end", turn=0, outcome="aborted").settle(aborted=True)
    batch = read(spool.write(tmp_path))
    tools = {s.name: s for s in named(batch, "tool.")}
    assert tools["tool.read"].parent_id == tools["tool.codemode"].span_id
    assert (told(tools["tool.read"]).error_type, told(tools["tool.read"]).error_message) == (
        "tool_error",
        "ENOENT: till.txt",
    )
    assert told(tools["tool.codemode"]).duration_ns == 7 * MS
    assert tools["tool.sleep"].attributes["tachograph.is_unfinished"] is True
    assert tools["tool.sleep"].status_code == 0


def test_tool_call_ids_that_come_again(tmp_path: Path) -> None:
    """Local servers count them from 0 in every answer."""
    spool = Spool().open().ask()
    for _ in range(3):
        spool.line("turn_start", turn=0).answer(stop="toolUse").tool("call_0").line("turn_end", turn=0)
    tools = named(read(spool.settle().write(tmp_path)), "tool.")
    assert len({s.span_id for s in tools}) == 3


def test_what_the_user_does(tmp_path: Path) -> None:
    spool = Spool().open().ask().line("turn_start", turn=0)
    spool.line("input", text="faster", behavior="steer", source="rpc").line("ui_prompt_start", kind="confirm")
    spool.line("ui_prompt_end", 2000.0, kind="confirm", title="go on?").answer().line("turn_end", turn=0).settle()
    spool.line("user_bash", command="git status").line("cache_warming", action="warm", warmCost=0.1).end()
    batch = read(spool.write(tmp_path))
    assert len(named(batch, "agent.prompt")) == 1
    (wait,) = named(batch, "waiting")
    assert round((wait.end_ns - wait.start_ns) / MS) == 2000
    events = {e.name: e for e in batch.events}
    assert events.keys() >= {"input", "input.steer", "user.bash", "cache_warming"}
    assert [c.pieces for c in events["input.steer"].contents or ()] == [["faster"]]


def test_names_that_people_have_dashboards_for(tmp_path: Path) -> None:
    batch = read(whole_session().write(tmp_path))
    points: dict[str, list[Point]] = {}
    for point in batch.points:
        points.setdefault(point.name, []).append(point)
        assert point.temporality == 1
        assert 0 < point.start_ns <= point.time_ns
    sums = {name: sum(p.value or 0 for p in some) for name, some in points.items() if some[0].type == "sum"}
    assert sums == {
        "pi.tokens.input": 300,
        "pi.tokens.output": 12,
        "pi.tool.calls": 1,
        "pi.prompts": 2,
        "pi.turns": 4,
    }
    (duration,) = points["pi.tool.duration"]
    assert (duration.unit, duration.sum, duration.attributes) == ("ms", 29.0, {"tool.name": "bash"})
    assert duration.buckets is not None
    assert duration.buckets["counts"][4] == 1
    assert points["pi.tokens.input"][0].attributes == {"llm.model": "claude-sonnet-4-5"}
    (session,) = points["pi.session.duration"]
    assert session.unit == "s"
    on_turns = [e["name"] for s in named(batch, "agent.turn") for e in s.events or ()]
    assert on_turns == ["llm.request"] * 4
    (span,) = named(batch, "session")
    assert [e["name"] for e in span.events or ()] == ["model.changed"]


def test_without_texts_the_tree_is_the_same(tmp_path: Path, store: DuckStore) -> None:
    """What `content` = none leaves out."""
    spool = whole_session()
    for line in spool.lines:
        for name in ("text", "args", "result", "content", "command", "error"):
            line.pop(name, None)
    batch = read(spool.write(tmp_path))
    records: list[Span | Event] = [*batch.spans, *batch.events]
    assert not any(record.contents for record in records)
    keep(store, batch)
    assert len(outline(store, SESSION)) == 12


def test_a_session_goes_by_the_name_that_it_was_given(tmp_path: Path, store: DuckStore) -> None:
    spool = Spool().open(name="the till").ask().turn().settle().line("session_info_changed", name="the new till").end()
    batch = read(spool.write(tmp_path))
    assert [e.name for e in batch.events].count("session_name") == 2
    keep(store, batch)
    assert store.scan(Scan("sessions", {"title": "title"})).data["title"] == ["the new till"]


def test_what_was_lost_is_said(tmp_path: Path) -> None:
    spool = Spool().open().line("lost", bytes=4096, why="spool_full").line("lost", lines=2, why="write_error")
    lost = [e.attributes for e in read(spool.write(tmp_path)).events if e.name == "spool.lost"]
    assert lost == [
        {"pi.lost.why": "spool_full", "pi.lost.bytes": 4096},
        {"pi.lost.why": "write_error", "pi.lost.lines": 2},
    ]


def test_a_program_that_pi_was_started_in_is_linked(tmp_path: Path) -> None:
    batch = read(Spool().open(traceparent=f"00-{'a' * 32}-{'b' * 16}-01").end().write(tmp_path))
    (session,) = named(batch, "session")
    assert [(link["trace_id"], link["span_id"]) for link in session.links or ()] == [("a" * 32, "b" * 16)]
