"""OpenClaw's spool: recorded runs against what the server billed, read whole and in pieces, and with anything in it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import CAPTURES, prepared, transcripts
from tachograph import ledger
from tachograph.hooks import openclaw
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, TURN, Batch, Meaning, Span
from tachograph.pricing import Prices
from tachograph.registry import files_of
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.transcripts import pi
from tachograph.tree import session_tree
from tachograph.tree.nodes import Node
from test_truth import Result, Truth, makers, orders, replayed

NOW_NS = 1_795_300_000_000_000_000
RUNS = ("gateway", "local", "none")
Line = dict[str, Any]


def folder_of(run: str) -> Path:
    """Where a recorded run lies."""
    return CAPTURES / f"openclaw-spool-{run}"


def spool_of(run: str) -> list[Path]:
    """The spool files of a recorded run."""
    return sorted((folder_of(run) / "spool").iterdir())


def truth_of(run: str) -> Result:
    """What the server billed, less the tokens of calls whose answer reached nobody who tells of it: a compaction's,
    which OpenClaw keeps to itself, and the one that a killed process waited for."""
    told = json.loads((folder_of(run) / "truth.json").read_text("utf-8"))
    untold = [c["input_tokens_total"] for c in told["calls"] if c["is_compaction"]]
    if run == "local":
        untold += [told["calls"][-1]["input_tokens_total"]]
    tokens = told["input_tokens_incl_cache"] - sum(untold)
    return Result(Truth(told["llm_calls_ok"], told["llm_calls_failed"], tokens), len(untold))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("parts", ["spool", "both"])
def test_every_call_once(run: str, parts: str, tmp_path: Path) -> None:
    """The spool alone and with OpenClaw's own database, in any order and twice."""
    batches = list(transcripts(folder_of(run) / "spool" if parts == "spool" else folder_of(run)))
    for order, made in orders(makers(batches), run).items():
        result = replayed(made, tmp_path / order, settle_each=order in ("backward", "twice"))
        assert (result.told, result.partial > 0) == (truth_of(run).told, truth_of(run).partial > 0), order


def in_pieces(path: Path, source: bytes, cuts: Iterable[int]) -> Iterator[Batch]:
    """The batches of a file that grew to each of `cuts` in turn and was read each time."""
    position = ""
    for cut in [*cuts, len(source)]:
        path.write_bytes(source[:cut])
        batch, position = openclaw.read(path, position)
        yield batch


@pytest.mark.parametrize("run", RUNS)
def test_pieces_tell_the_same(run: str, tmp_path: Path) -> None:
    """However a file grows while it is read, and in whatever order the pieces are kept."""
    rng = random.Random(run)
    batches: list[Batch] = []
    for path in spool_of(run):
        source = path.read_bytes()
        whole, _ = openclaw.read(path, "")
        for count in (25, 3):
            cuts = sorted(rng.sample(range(len(source)), count))
            pieces = list(in_pieces(tmp_path / path.name, source, cuts))
            assert last(pieces) == last([whole])
        batches += pieces
    made = orders(makers(batches), run)
    for order in ("backward", "twice"):
        assert replayed(made[order], tmp_path / order, settle_each=False).told == truth_of(run).told, order


def last(batches: Iterable[Batch]) -> dict[str, tuple[Any, ...]]:
    """The last state of each span, without what says that it was open then."""
    found: dict[str, tuple[Any, ...]] = {}
    for span in sorted((s for b in batches for s in b.spans), key=lambda s: s.end_ns):
        attributes = {name: value for name, value in span.attributes.items() if name != "tachograph.is_open"}
        found[span.span_id] = (span.name, span.parent_id, span.start_ns, span.end_ns, attributes, span.meaning)
    return found


def kept(folder: Path, batches: Iterable[Batch]) -> DuckStore:
    """A store with these batches, settled."""
    store = open_store(folder, lambda: NOW_NS)
    store.commit([prepared(batch) for batch in batches])
    while ledger.settle(store, Prices(None).price):
        pass
    return store


def outline(node: Node, depth: int = 0) -> list[str]:
    """A tree as lines: role, name and what failed."""
    told = [f"{'  ' * depth}{node.role or 'step'} {node.name}{' failed' if node.is_error else ''}"]
    return told + [line for child in node.children for line in outline(child, depth + 1)]


def test_the_tree_of_a_conversation(tmp_path: Path) -> None:
    store = kept(tmp_path / "store", [openclaw.read(path, "")[0] for path in spool_of("gateway")])
    child = next(s.meaning.session_id for s in spans("gateway") if s.meaning and s.meaning.lineage)
    try:
        assert outline(session_tree(store, "s-task").root) == [
            "session s-task",
            "  prompt openclaw.request",
            "    turn openclaw.agent.turn",
            "      model_call chat gpt-5.1",
            "      tool_run tool.sessions_spawn",
            f"        agent {child}",
            "          prompt openclaw.request",
            "            turn openclaw.agent.turn",
            "              model_call chat gpt-5.1",
            "      model_call chat gpt-5.1",
            "  prompt openclaw.request",
            "    turn openclaw.agent.turn",
            "      model_call chat gpt-5.1",
        ]
        assert outline(session_tree(store, "s-errors").root) == [
            "session s-errors",
            "  prompt openclaw.request",
            "    turn openclaw.agent.turn",
            "      model_call chat gpt-5.1 failed",
            "    turn openclaw.agent.turn",
            "      model_call chat gpt-5.1",
            "      tool_run tool.read failed",
            "      model_call chat gpt-5.1",
        ]
        assert outline(session_tree(store, "s-tools").root)[-2:] == [
            "  step openclaw.compaction",
            "    model_call chat gpt-5.1",
        ]
    finally:
        store.close()


def spans(run: str) -> list[Span]:
    """All spans of a recorded run."""
    return [span for path in spool_of(run) for span in openclaw.read(path, "")[0].spans]


def meanings(run: str, role: str) -> list[Meaning]:
    """What the spans with this role mean."""
    return [span.meaning for span in spans(run) if span.meaning and span.meaning.role == role]


def test_what_a_span_says() -> None:
    calls = meanings("gateway", MODEL_CALL)
    failed = [call for call in calls if call.is_error]
    assert [(c.http_status, c.error_type, c.usage, c.attempt) for c in failed] == [
        (429, "429", None, 1),
        (400, "400", None, 1),
    ]
    assert sorted(c.attempt or 0 for c in calls if c.session_id == "s-errors") == [1, 1, 2]
    answered = next(c for c in calls if c.usage)
    assert answered.provider == "fake" and answered.request_model == "gpt-5.1" and answered.ttft_ns
    assert answered.response_id.startswith("chatcmpl-") and answered.cost_kind == "source_estimate"
    channels = {m.channel: m for m in meanings("gateway", PROMPT)}
    assert set(channels) == {"", "webchat", "cron", "subagent"}
    assert len(channels["webchat"].user) == 12 and channels["cron"].user == "dev"
    triggers = {s.attributes.get("openclaw.trigger") for s in spans("gateway") if s.name == "openclaw.request"}
    assert triggers == {"user", "cron", "heartbeat"}
    (child,) = {(m.parent_session_id, m.lineage, m.subagent, m.parent_tool_call_id != "") for m in calls if m.lineage}
    assert child == ("s-task", "subagent", "scan", True)
    tools = meanings("gateway", TOOL_RUN)
    assert {t.tool_name for t in tools} == {"exec", "read", "edit", "sessions_spawn"}
    assert all(s.end_ns > s.start_ns for s in spans("gateway") if s.meaning and s.meaning.role in (TURN, TOOL_RUN))


def test_ids_are_those_that_model_servers_are_told() -> None:
    """The traceparent that OpenClaw sends names the span of the call."""
    lines = [json.loads(line) for line in spool_of("gateway")[0].read_text("utf-8").splitlines()]
    begun = {tuple(line["tr"][:2]) for line in lines if line["e"] == "model_call_started"}
    assert {(s.trace_id, s.span_id) for s in spans("gateway") if s.meaning and s.meaning.is_call} == begun


def test_without_content_no_text_is_left() -> None:
    (path,) = spool_of("none")
    batch, _ = openclaw.read(path, "")
    assert "SCENARIO" not in path.read_text("utf-8")
    assert not any(span.contents for span in batch.spans) and not any(event.contents for event in batch.events)
    assert sum(s.meaning is not None and s.meaning.is_call for s in batch.spans) == 3


def test_a_session_that_pi_tells_as_well_is_one(tmp_path: Path) -> None:
    """OpenClaw runs Pi's loop: the same answers in a session file of Pi's are the same calls."""
    entries = [line["message"] | {"entry": n} for n, line in enumerate(answers("gateway", "s-tools"))]
    header = {"type": "session", "version": 3, "id": "s-tools", "timestamp": "2026-11-21T06:37:30Z", "cwd": "/w"}
    told = [header] + [
        {"type": "message", "id": f"{e['entry']:08x}", "timestamp": "2026-11-21T06:37:46.500Z", "message": e}
        for e in entries
    ]
    path = tmp_path / "2026-11-21T06-37-30-000Z_s-tools.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in told), "utf-8")
    batches = [openclaw.read(spool_of("gateway")[0], "")[0], pi.read(path, "")[0]]
    for order, made in orders(makers(batches), "pi").items():
        assert replayed(made, tmp_path / order, settle_each=True).told == truth_of("gateway").told, order


def answers(run: str, session: str) -> list[Line]:
    """The answers of a session as its file would hold them."""
    lines = [json.loads(line) for line in spool_of(run)[0].read_text("utf-8").splitlines()]
    told = [line for line in lines if line["e"] == "assistant" and line["k"].endswith(session)]
    return [{"message": {**line, "role": "assistant", "stopReason": line["stop"]}} for line in told]


def written(folder: Path, *lines: Line) -> Path:
    """A spool file with these lines, 10 ms apart."""
    path = folder / "1-1-1.jsonl"
    start = 1_795_243_000_000
    begin = {"e": "open", "v": 1, "pid": 1, "openclaw": "2026.9.6", "user": "dev", "resource": "tenant.id=acme"}
    told = [{"t": start + 10 * n, **line} for n, line in enumerate([begin, *lines])]
    path.write_text("".join(json.dumps(line) + "\n" for line in told), "utf-8")
    return path


KEY = "agent:ops:telegram:direct:0123456789ab"
AT = {"k": KEY, "s": "s-1", "r": "r-1", "a": "ops"}
CALL = {"callId": "r-1:model:1", "provider": "anthropic", "model": "claude-sonnet-4-5"}
ANSWER = {
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "responseId": "msg_0123456789abcdefghij",
    "stop": "stop",
    "usage": {"input": 3, "output": 2, "cacheRead": 10, "cacheWrite": 5, "reasoningTokens": 1},
}


def test_without_access_to_conversations(tmp_path: Path) -> None:
    """No line tells of runs then; calls and tools still make a tree, and the session key names the channel."""
    path = written(
        tmp_path,
        {"e": "message_received", "k": KEY, "channel": "telegram", "sender": "0123456789ab", "text": "hi"},
        {"e": "model_call_started", **AT, **CALL},
        {"e": "model_call_ended", **AT, **CALL, "durationMs": 9, "outcome": "completed"},
        {"e": "assistant", "k": KEY, **ANSWER},
        {"e": "after_tool_call", **AT, "id": "c1", "name": "exec", "durationMs": 5},
    )
    batch, _ = openclaw.read(path, "")
    by_name = {span.name: span for span in batch.spans}
    request, turn = by_name["openclaw.request"], by_name["openclaw.agent.turn"]
    call, tool = by_name["chat claude-sonnet-4-5"], by_name["tool.exec"]
    assert (call.parent_id, tool.parent_id, turn.parent_id) == (turn.span_id, turn.span_id, request.span_id)
    assert call.meaning and call.meaning.usage and call.meaning.usage.input_total == 18
    assert call.meaning.usage.reasoning == 1
    assert (call.meaning.channel, call.meaning.user, call.meaning.tenant) == ("telegram", "0123456789ab", "acme")
    assert call.meaning.subagent == "ops"
    assert request.contents and request.contents[0].pieces == ["hi"]


def test_what_openclaw_itself_says_is_no_call(tmp_path: Path) -> None:
    mirror = {**ANSWER, "provider": "openclaw", "model": "delivery-mirror", "responseId": None}
    path = written(tmp_path, {"e": "llm_input", **AT}, {"e": "assistant", "k": KEY, **mirror}, {"e": "agent_end", **AT})
    batch, _ = openclaw.read(path, "")
    assert [span.name for span in batch.spans] == ["openclaw.agent.turn", "openclaw.request"]


def test_a_calls_message_may_come_before_its_end(tmp_path: Path) -> None:
    begun = {"e": "model_call_started", **AT, **CALL, "t": 1_795_243_000_500}
    ended = {"e": "model_call_ended", **AT, **CALL, "durationMs": 90, "outcome": "completed", "t": 1_795_243_000_600}
    message = {"e": "assistant", "k": KEY, **ANSWER, "timestamp": 1_795_243_000_500, "t": 1_795_243_000_590}
    for lines in ([begun, ended, message], [begun, message, ended]):
        batch, _ = openclaw.read(written(tmp_path, {"e": "llm_input", **AT}, *lines), "")
        (call,) = [span for span in batch.spans if span.meaning and span.meaning.is_call]
        assert call.end_ns - call.start_ns == 90_000_000
        assert call.meaning and call.meaning.response_id == ANSWER["responseId"]
        assert not batch.events


def test_the_answer_that_goes_out_ends_the_request(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"e": "llm_input", **AT},
        {"e": "agent_end", **AT, "success": True},
        {"e": "llm_output", **AT, "usage": {"input": 7}},
        {"e": "message_sent", "k": KEY, "success": False, "error": "chat is gone"},
    )
    batch, _ = openclaw.read(path, "")
    request = max((s for s in batch.spans if s.name == "openclaw.request"), key=lambda s: s.end_ns)
    assert request.end_ns - request.start_ns == 30_000_000
    (sent,) = batch.events
    assert sent.name == "openclaw.message_sent" and sent.meaning and sent.meaning.is_error
    (turn,) = [s for s in batch.spans if s.name == "openclaw.agent.turn"]
    assert turn.attributes["openclaw.turn.input_tokens"] == 7 and turn.meaning and not turn.meaning.is_call


def test_many_conversations_are_not_remembered_for_ever(tmp_path: Path) -> None:
    lines = [{"e": "llm_input", "k": f"agent:main:{n}", "s": str(n), "r": str(n)} for n in range(500)]
    _, position = openclaw.read(written(tmp_path, *lines), "")
    assert len(position) < 200_000


def test_who_wrote_a_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    kind = files_of(path)
    assert kind is not None and (kind.agent, kind.origin) == ("openclaw", "hook")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
EVENTS = [
    "open",
    "lost",
    "gateway_start",
    "cron_changed",
    "subagent_spawned",
    *("user", "message_received", "message_sent", "llm_input", "llm_output", "agent_end", "assistant"),
    *("model_call_started", "model_call_ended", "before_tool_call", "after_tool_call", "before_compaction"),
    *("after_compaction", "session_start", "session_end", "before_reset", "subagent_ended"),
]
KNOWN = {
    "k": st.sampled_from(["a", "b"]),
    "s": st.sampled_from(["s1", "s2"]),
    "r": st.sampled_from(["r1", "r2", "r1:compaction:x"]),
    "tr": st.sampled_from([["a" * 32, "b" * 16, None], ["a" * 32, "c" * 16], ["A" * 32], "x"]),
    "timestamp": st.integers(),
    "id": st.sampled_from(["t1", "t2"]),
    "callId": st.sampled_from(["c1", "c2"]),
    "child": st.sampled_from(["a", "c"]),
    "parent": st.sampled_from(["a", "b"]),
    "usage": st.dictionaries(st.sampled_from(["input", "output", "cost", "cacheRead"]), JSON),
    **dict.fromkeys(("provider", "model", "stop", "error", "content", "text", "params", "success", "resource"), JSON),
}
LINES = st.lists(
    st.tuples(
        st.sampled_from(EVENTS),
        st.one_of(st.integers(0, 4_000_000_000_000), JSON),
        st.fixed_dictionaries({}, optional={name: values | JSON for name, values in KNOWN.items()}),
    ),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(lines=LINES, cut=st.integers(0, 4000))
def test_anything_at_all(tmp_path_factory: pytest.TempPathFactory, lines: list[Any], cut: int) -> None:
    """Every line gives records or nothing; no call is told twice; and all of it can be kept."""
    path = tmp_path_factory.mktemp("spool") / "1-1-1.jsonl"
    source = "".join(json.dumps({"e": e, "t": t, **rest}) + "\n" for e, t, rest in lines).encode()
    batches = list(in_pieces(path, source, [min(cut, len(source))]))
    calls = [(s.trace_id, s.span_id) for b in batches for s in b.spans if s.meaning and s.meaning.is_call]
    assert len(calls) <= sum(e in ("assistant", "model_call_started", "model_call_ended") for e, _, _ in lines)
    for batch in batches:
        prepared(batch)
