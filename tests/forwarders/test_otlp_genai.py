"""Steps as GenAI spans: the names of each generation, and the same ledger in whoever reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fillings import price
from notes import Notes
from recordings import CAPTURES, prepared, requests, transcripts
from tachograph import ledger, otlp_messages
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.forwarders import otlp
from tachograph.forwarders.contract import AGAIN, Item, Step
from tachograph.forwarders.otlp_genai import Conventions
from tachograph.forwarders.temporality import CUMULATIVE, DELTA
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Batch, Point, Span
from tachograph.pipeline.stepping import Steps
from tachograph.pipeline.waiting import QUIET_NS
from tachograph.receivers import otlp as receiver
from tachograph.scan import Agg, Match, Scan
from tachograph.store.contract import Store
from tachograph.store.duckdb import open_store

GOLDEN = Path(__file__).parents[1] / "data" / "forwarders" / "otlp"
NOW_NS = 1_795_300_000_000_000_000
SETS = (
    "claude-code-content",
    "codex-json",
    "copilot-cli-content",
    "gemini-cli-grpc",
    "opencode-tools",
    "pi-spool-087-rpc",
)
CUT_CHARS = 200  # of a text in a golden wire


def step(**also: Any) -> Step:
    made = Step(
        "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7", "", MODEL_CALL, "call", 1_000, 2_000, "s1",
        {"agent": "pi", "user": "jo", "project": "web", "title": "look"}, prompt_id="p1",
    )  # fmt: skip
    for name, value in also.items():
        setattr(made, name, value)
    return made


CALL = {
    "call_id": "c1", "operation": "chat", "provider": "gcp.gemini", "request_model": "large", "response_id": "r1",
    "response_model": "large-1", "input_tokens": 110, "output_tokens": 7, "cache_read_tokens": 90,
    "cache_write_tokens": 5, "reasoning_tokens": 2, "finish_reason": "tool_call", "is_streaming": True,
    "ttft_ns": 250_000_000, "duration_ns": 2_000_000_000, "cost_nanousd": 1_500_000_000, "cost_kind": "computed",
    "is_notional": False, "status": "ok",
}  # fmt: skip
SAID = {
    "system": "be brief",
    "input_messages": [
        {"role": "user", "parts": [{"type": "text", "content": "look"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t0", "response": {"ok": 1}}]},
    ],
    "output_messages": [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "so"},
                {"type": "tool_call", "id": "t1", "name": "bash", "arguments": {"cmd": "ls"}},
            ],
        }
    ],
}


def span(generation: str, told: Step) -> Span:
    return next(iter(Conventions(generation).spans([Item("k", 1, told)])))[1]


def test_a_call_in_generation_b() -> None:
    told = span("B", step(call=CALL, **SAID))
    assert (told.name, told.kind, told.status_code) == ("chat large", 3, 0)
    assert {name: value for name, value in told.attributes.items() if "messages" not in name} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "s1",
        "gen_ai.agent.name": "pi",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "large",
        "gen_ai.response.model": "large-1",
        "gen_ai.response.id": "r1",
        "gen_ai.response.finish_reasons": ["tool_call"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 110,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 90,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "gen_ai.system_instructions": '[{"type":"text","content":"be brief"}]',
        "enduser.id": "jo",
        "tachograph.role": "model_call",
        "tachograph.prompt.id": "p1",
        "tachograph.project": "web",
        "tachograph.session.title": "look",
        "tachograph.call.id": "c1",
        "tachograph.cost.usd": 1.5,
        "tachograph.cost.kind": "computed",
        "tachograph.cost.is_notional": False,
    }
    assert json.loads(told.attributes["gen_ai.input.messages"]) == SAID["input_messages"]
    assert json.loads(told.attributes["gen_ai.output.messages"])[0]["finish_reason"] == "tool_call"


def test_generation_c_says_what_was_written_to_the_cache_in_both_names() -> None:
    told = span("C", step(call=CALL, **SAID))
    assert told.attributes["gen_ai.usage.cache_write.input_tokens"] == 5
    assert told.attributes["gen_ai.usage.cache_creation.input_tokens"] == 5
    assert "finish_reason" not in json.loads(told.attributes["gen_ai.output.messages"])[0]


def test_generation_a_has_a_system_and_an_event_for_each_message() -> None:
    told = span("A", step(call=CALL, **SAID))
    assert told.attributes["gen_ai.system"] == "gemini"
    assert not {"gen_ai.provider.name", "gen_ai.input.messages", "gen_ai.output.messages"} & told.attributes.keys()
    events = {one["name"]: one["attributes"] for one in told.events or ()}
    assert [*events] == ["gen_ai.system.message", "gen_ai.user.message", "gen_ai.tool.message", "gen_ai.choice"]
    assert events["gen_ai.tool.message"] == {"id": "t0", "content": '{"ok":1}', "gen_ai.system": "gemini"}
    said = json.loads(events["gen_ai.choice"]["message"])
    assert said["content"] == "so"
    assert json.loads(said["tool_calls"])[0]["function"] == {"name": "bash", "arguments": {"cmd": "ls"}}


@pytest.mark.parametrize("generation", ["A", "B", "C"])
def test_tools_and_prompts_have_their_operations(generation: str) -> None:
    run = span(generation, step(role=TOOL_RUN, tool_name="bash", tool_call_id="t1", arguments="{}", result="done"))
    assert (run.name, run.kind) == ("execute_tool bash", 1)
    assert run.attributes["gen_ai.tool.call.arguments"] == "{}"
    assert run.attributes["gen_ai.tool.call.result"] == "done"
    asked = span(generation, step(role=PROMPT, prompt="look", answer="seen"))
    assert (asked.name, asked.attributes["gen_ai.operation.name"]) == ("invoke_agent pi", "invoke_agent")
    assert json.loads(asked.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == "look"
    turn = span(generation, step(role="turn"))
    assert turn.name == "turn"
    assert "gen_ai.operation.name" not in turn.attributes


def test_what_failed_says_so() -> None:
    told = span("B", step(call=CALL, is_error=True, error_type="429", error_message="too many"))
    assert (told.status_code, told.status_message, told.attributes["error.type"]) == (2, "too many", "429")


def test_the_session_of_a_trace_is_no_conversation() -> None:
    assert "gen_ai.conversation.id" not in span("B", step(session_id="trace:0af7")).attributes


# -- metrics -----------------------------------------------------------------------------------------------------------


def items(*steps: Step) -> list[Item]:
    return [Item(str(number), number, one) for number, one in enumerate(steps)]


def points(generation: str, memory: Notes, target: int, *steps: Step) -> dict[str, Point]:
    found = [point for _, point in Conventions(generation).points(items(*steps), target, memory)]
    return {point.name + str(point.attributes.get("gen_ai.token.type", "")): point for point in found}


def test_calls_are_counted_on_from_window_to_window() -> None:
    memory = Notes()
    points("B", memory, CUMULATIVE, step(call=CALL), step(call=CALL))
    found = points("B", memory, CUMULATIVE, step(call=CALL), step(role=TOOL_RUN))
    assert sorted(found) == [
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usageinput",
        "gen_ai.client.token.usageoutput",
    ]
    tokens = found["gen_ai.client.token.usageinput"]
    assert (tokens.count, tokens.sum, tokens.temporality, tokens.start_ns) == (3, 330, CUMULATIVE, 1_000)
    assert found["gen_ai.client.operation.duration"].sum == 6.0
    assert "gen_ai.conversation.id" not in tokens.attributes
    memory.put(AGAIN, b"1")
    assert points("B", memory, CUMULATIVE, step(call=CALL)) == {}


def test_deltas_are_those_of_the_window() -> None:
    memory = Notes()
    points("B", memory, DELTA, step(call=CALL))
    found = points("B", memory, DELTA, step(call=CALL), step(call=CALL))
    assert (found["gen_ai.client.token.usageinput"].count, found["gen_ai.client.token.usageinput"].sum) == (2, 220)


def test_generation_c_counts_tokens_as_counters() -> None:
    found = points("C", Notes(), CUMULATIVE, step(call=CALL), step(call=CALL))
    assert found["gen_ai.client.inference.usage.cache_write.input_tokens"].value == 10
    assert found["gen_ai.client.inference.usage.input_tokens"].is_monotonic
    assert found["gen_ai.client.inference.duration"].count == 2


def test_what_nobody_told_is_no_measurement() -> None:
    unknown = {**CALL, "input_tokens": None, "output_tokens": None, "duration_ns": None, "ttft_ns": None}
    assert points("B", Notes(), CUMULATIVE, step(call=unknown)) == {}


def test_metrics_alone_cannot_be_counted() -> None:
    with pytest.raises(ConfigError, match="signals"):
        otlp.make(Destination("a", "otlp", "here", {"shape": "normalised"}, signals=("metrics",)), {})


# -- from recordings ---------------------------------------------------------------------------------------------------


def settled(store: Store) -> Store:
    while ledger.settle(store, price):
        pass
    return store


def recorded(name: str) -> list[Batch]:
    """All that was recorded of a set, by telemetry where there is any, else by our plug-in's files."""
    batches = requests if any((CAPTURES / name).glob("*.bin")) else transcripts
    return [prepared(batch, "full") for batch in batches(CAPTURES / name)]


def told(store: Store, privacy: str, memory: Notes) -> Iterator[list[Item]]:
    feed = Steps(store, Destination("a", "otlp", "a", privacy=privacy), takes_changes=False)
    until = store.sequence()
    yield from feed.read(0, until, memory)
    yield from feed.due(NOW_NS + 2 * QUIET_NS, until, memory)


def sums(store: Store) -> dict[str, Any]:
    columns = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    select: dict[str, Any] = {name: Agg("sum", name) for name in columns}
    rows = store.scan(Scan("calls", {"calls": Agg("count"), **select}, (Match("status", "=", "ok"),))).rows()
    return rows[0]


@pytest.mark.parametrize("generation", ["A", "B", "C"])
def test_whoever_reads_the_conventions_has_the_same_calls(generation: str, tmp_path: Path) -> None:
    options = {"endpoint": "http://localhost:1", "shape": "normalised", "generation": generation}
    with (
        closing(open_store(tmp_path / "a", lambda: NOW_NS)) as a,
        closing(open_store(tmp_path / "b", lambda: NOW_NS)) as b,
        closing(otlp.make(Destination("a", "otlp", "a", options, privacy="full"), {})) as forwarder,
    ):
        for name in SETS:
            a.commit(recorded(name))
        memory = Notes()
        for some in told(settled(a), "full", memory):
            made = [part.value for part in forwarder.convert(some, memory) if part.route == "traces"]
            body = otlp_messages.traces(made).SerializeToString()
            batch = receiver.decode("traces", body, "application/x-protobuf")
            assert not batch.rejected
            b.commit([prepared(batch, "full")])
        settled(b)
        assert sums(a)["calls"] > 20
        assert sums(b) == sums(a)
        runs = Scan("sessions", {"runs": Agg("sum", "tool_runs"), "prompts": Agg("sum", "prompts")})
        assert b.scan(runs).data["runs"] == a.scan(runs).data["runs"]


@pytest.mark.parametrize("privacy", ["full", "redacted", "none"])
def test_a_canary_leaves_in_no_mode(privacy: str, tmp_path: Path) -> None:
    canary = "sk-ant-api03-abcdefghijklmnop1234567890"
    with closing(open_store(tmp_path / "a", lambda: NOW_NS)) as store:
        for planted in recorded("copilot-cli-content"):
            contents = [one.contents for one in planted.spans] + [one.contents for one in planted.events]
            for kept in contents:
                for content in kept or ():
                    content.pieces = [f"{canary} {piece}" for piece in content.pieces]
            store.commit([planted])
        bodies = b""
        texts = 0
        for some in told(settled(store), privacy, Notes()):
            spans = [made for _, made in Conventions("B").spans(some)]
            bodies += otlp_messages.traces(spans).SerializeToString()
            texts += sum("gen_ai.output.messages" in one.attributes for one in spans)
        assert canary.encode() not in bodies
        assert b"sk-ant" not in bodies
        assert (texts > 0) == (privacy != "none")


@pytest.mark.parametrize("name", ["claude-code-content", "copilot-cli-content", "pi-spool-087-subagent"])
def test_the_wire_of_a_recording(name: str, tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "a", lambda: NOW_NS)) as store:
        store.commit(recorded(name))
        spans = [
            made for some in told(settled(store), "redacted", Notes()) for _, made in Conventions("B").spans(some[:6])
        ]
        wire = json.loads(otlp_messages.to_json(otlp_messages.traces(spans[:6])))
    shown = json.dumps(_cut(wire), indent=1, sort_keys=True) + "\n"
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("TACHOGRAPH_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:CUT_CHARS]
    if isinstance(value, list):
        return [_cut(one) for one in value]
    return {name: _cut(one) for name, one in value.items()} if isinstance(value, dict) else value
