"""Langfuse: spans under its own attribute names, never one that it would refuse a request for."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langfuse._client.attributes import LangfuseOtelSpanAttributes, create_generation_attributes, create_span_attributes
from langfuse._client.constants import ObservationTypeLiteral, get_observation_types_list
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fillings import NOON, SECOND
from notes import Notes
from sink import Reply, Request, Sink
from tachograph import destinations
from tachograph.config import Placed
from tachograph.errors import Busy, ConfigError, Rejected
from tachograph.forwarders import langfuse
from tachograph.forwarders.contract import Accepted, Item, Step
from tachograph.model import AGENT, MODEL_CALL, PROMPT, ROLES, TOOL_RUN, TURN
from told import CALL, SESSION, TRACE, golden, items, recorded, step

PUBLIC, SECRET = "pk-lf-1", "sk-lf-canary-0123456789"
KEYS = {"public_key": PUBLIC, "secret_key": SECRET}


def destination(**options: Any) -> destinations.Destination:
    table = Placed({"kind": "langfuse", **KEYS, **options}, "tachograph.toml:3: forwarders.lf", {})
    return destinations.read({"lf": table}, {"langfuse": langfuse.OPTIONS})[0]


def forwarder(**options: Any) -> langfuse.Langfuse:
    return langfuse.make(destination(**options), {})


def spans(request: Request) -> list[Any]:
    body = ExportTraceServiceRequest.FromString(request.body)
    return [span for group in body.resource_spans for scope in group.scope_spans for span in scope.spans]


def strict(request: Request) -> Reply:
    """As Langfuse answers: a bad key, a wrong type or one bad id refuses the request as a whole."""
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    if kind != "Basic" or b64decode(credentials).decode() != f"{PUBLIC}:{SECRET}":
        return Reply(401, b'{"message":"Invalid credentials"}')
    if request.path != "/api/public/otel/v1/traces":
        return Reply(404)
    if "application/x-protobuf" not in request.headers["content-type"]:
        return Reply(400)
    if any(len(s.trace_id) != 16 or len(s.span_id) != 8 or not any(s.span_id) for s in spans(request)):
        return Reply(400, b'{"message":"bad id"}')
    return Reply(200)


@pytest.fixture
def server() -> Iterator[Sink]:
    with Sink(strict) as made:
        yield made


def attributes(span: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {pair.key: plain(pair.value) for pair in span.attributes}


def sent(server: Sink, *steps: Step, **options: Any) -> list[Any]:
    to = forwarder(url=server.url, **options)
    parts = to.convert(items(*steps), Notes())
    assert to.send("traces", parts) == Accepted("200")
    to.close()
    return spans(server.requests[-1])


def told(server: Sink, given: Step, **options: Any) -> dict[str, Any]:
    return attributes(sent(server, given, **options)[0])


def test_a_request_is_protobuf_packed_with_the_keys_and_the_version(server: Sink) -> None:
    (span,) = sent(server, step(2, MODEL_CALL, 1, 0, 2))
    headers = server.requests[0].headers
    assert headers["content-encoding"] == "gzip"
    assert headers["x-langfuse-ingestion-version"] == "4"
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE, f"{2:016x}", f"{1:016x}")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (NOON, NOON + 2 * SECOND)
    assert span.name == "chat claude-sonnet-4-5-20250929"


def test_a_model_call_has_model_usage_and_cost_in_disjoint_parts(server: Sink) -> None:
    made = told(server, step(2, MODEL_CALL, 1))
    assert made["langfuse.observation.type"] == "generation"
    assert made["langfuse.observation.model.name"] == "claude-sonnet-4-5-20250929"
    usage = json.loads(made["langfuse.observation.usage_details"])
    assert usage == {
        "input": 100,
        "input_cached_tokens": 2000,
        "input_cache_creation_5m": 180,
        "input_cache_creation_1h": 120,
        "output": 30,
        "output_reasoning_tokens": 20,
    }
    assert sum(usage.values()) == 100 + 2000 + 300 + 50
    assert json.loads(made["langfuse.observation.cost_details"]) == {"total": 0.007}
    assert made["langfuse.observation.completion_start_time"] == "2026-11-20T12:00:00.500000Z"


def test_what_is_unknown_is_not_sent(server: Sink) -> None:
    call = {"operation": "chat", "status": "failed", "error_type": "timeout", "cost_nanousd": None, "ttft_ns": None}
    made = told(server, step(2, MODEL_CALL, 1, call=call, is_error=True, error_message="it took too long"))
    assert not [name for name in made if "usage" in name or "cost" in name or "completion_start" in name]
    assert made["langfuse.observation.level"] == "ERROR"
    assert made["langfuse.observation.status_message"] == "it took too long"


def test_what_was_stopped_is_a_warning(server: Sink) -> None:
    assert told(server, step(2, MODEL_CALL, 1, call=CALL | {"status": "aborted"}))["langfuse.observation.level"] == (
        "WARNING"
    )


def test_embeddings_are_embeddings(server: Sink) -> None:
    made = told(server, step(2, MODEL_CALL, 1, call=CALL | {"operation": "embeddings"}))
    assert made["langfuse.observation.type"] == "embedding"


def test_session_user_tags_and_environment_are_on_every_span(server: Sink) -> None:
    steps = [step(1, PROMPT), step(2, TURN, 1), step(3, MODEL_CALL, 2), step(4, TOOL_RUN, 2), step(5, AGENT, 4)]
    for span in sent(server, *steps, tags=["platform"], release="v2"):
        made = attributes(span)
        assert made["session.id"] == "s1"
        assert made["user.id"] == "ada"
        assert made["langfuse.trace.tags"] == ["agent:pi", "channel:telegram", "session:fork", "platform"]
        assert made["langfuse.environment"] == "prod-eu"
        assert made["langfuse.release"] == "v2"
        assert made["langfuse.trace.name"] == "pi"


def test_the_root_has_the_input_and_output_of_the_trace(server: Sink) -> None:
    texts: dict[str, Any] = {"prompt": "mend it", "answer": "done"}
    root, below = sent(server, step(1, PROMPT, **texts), step(2, PROMPT, 1, **texts))
    assert attributes(root)["langfuse.trace.input"] == attributes(root)["langfuse.observation.input"] == "mend it"
    assert attributes(root)["langfuse.trace.output"] == "done"
    assert "langfuse.trace.input" not in attributes(below)


def test_messages_are_chat_messages(server: Sink) -> None:
    call = {"type": "tool_call", "id": "t1", "name": "bash", "arguments": {"command": "ls"}}
    answer = [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "I look."}, call]
    given = step(
        2,
        MODEL_CALL,
        1,
        system="be brief",
        input_messages=[
            {"role": "user", "parts": [{"type": "text", "content": "look"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t0", "response": "a.py"}]},
        ],
        output_messages=[{"role": "assistant", "parts": answer}],
        tools=[{"name": "bash"}],
    )
    made = told(server, given)
    assert json.loads(made["langfuse.observation.input"]) == {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "look"},
            {"role": "tool", "tool_call_id": "t0", "content": "a.py"},
        ],
        "tools": [{"name": "bash"}],
    }
    function = {"name": "bash", "arguments": '{"command":"ls"}'}
    assert json.loads(made["langfuse.observation.output"]) == {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "t1", "type": "function", "function": function}],
    }


@pytest.mark.parametrize("size", [10_000, 950_000])
def test_a_long_history_stays_json_and_keeps_its_end(server: Sink, size: int) -> None:
    said = [{"role": "user", "parts": [{"type": "text", "content": f"{n}{'é' * size}"}]} for n in range(120)]
    made = told(server, step(2, MODEL_CALL, 1, input_messages=said[: 2_000_000 // size]))
    text = made["langfuse.observation.input"]
    assert len(text.encode()) < 1_000_000
    messages = json.loads(text)
    assert re.fullmatch(r"\[\d+ earlier messages? left out\]", messages[0]["content"])
    assert len(messages) > 1


def test_a_bad_id_is_mended_and_costs_nothing_else(server: Sink) -> None:
    bad = step(2, MODEL_CALL, 1, span_id="0" * 16)
    worse = step(3, TOOL_RUN, 0, trace_id="", span_id="?", parent_id="not hex")
    below = step(4, TOOL_RUN, 0, trace_id="", parent_id="?")
    made = sent(server, step(1, PROMPT), bad, worse, below)
    assert len(made) == 4
    assert all(any(span.span_id) and any(span.trace_id) for span in made)
    assert made[3].parent_span_id == made[2].span_id
    assert len(made[2].parent_span_id) == 8


def test_a_later_prompt_of_a_recorded_trace_has_a_trace_of_its_own(server: Sink) -> None:
    later = {"root_id": f"{3:016x}", "is_later_prompt": True}
    first, second, below = sent(
        server, step(1, PROMPT), step(3, PROMPT, 0, 20, 30, **later), step(4, TURN, 3, 20, 30, **later)
    )
    assert first.trace_id.hex() == TRACE
    assert second.trace_id == below.trace_id != first.trace_id
    assert attributes(second)["langfuse.observation.metadata.recorded_trace_id"] == TRACE


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Production", "production"),
        ("langfuse-eval", "env-langfuse-eval"),
        ("a b/c", "a-b-c"),
        ("x" * 60, "x" * 40),
        ("é", None),
    ],
)
def test_an_environment_is_one_that_is_allowed(server: Sink, name: str, expected: str | None) -> None:
    made = told(server, step(1, PROMPT), environment=name)
    assert made.get("langfuse.environment") == expected


def test_a_long_session_id_stays_its_own(server: Sink) -> None:
    made = [told(server, step(1, PROMPT, session_id="s" * 300 + end))["session.id"] for end in "ab"]
    assert len({*made}) == 2
    assert {len(one) for one in made} == {200}


def test_an_open_step_is_replaced_when_it_is_over(server: Sink) -> None:
    states = [
        (span.span_id, attributes(span)["langfuse.observation.metadata.is_over"])
        for is_over in (False, True)
        for span in sent(server, step(1, PROMPT, is_over=is_over))
    ]
    assert [state for _, state in states] == ["false", "true"]
    assert states[0][0] == states[1][0]
    assert forwarder().takes_changes


def test_traces_are_sampled_as_a_whole() -> None:
    to = forwarder(sample_rate=0.5)
    given = [step(n, TURN, 1, trace_id=f"1{int(n / 400 * 2**64):031x}") for n in range(1, 400)]
    kept = to.convert(items(*given, *given), Notes())
    traces = [part.value.trace_id for part in kept]
    assert len(traces) == 2 * len(set(traces))
    assert 195 < len(set(traces)) < 205
    assert forwarder(sample_rate=0).convert(items(*given), Notes()) == []


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_probe_leaves_nothing_and_tells_a_wrong_key(server: Sink) -> None:
    assert forwarder(url=server.url).probe() == Accepted("200")
    assert spans(server.requests[0]) == []
    with pytest.raises(ConfigError, match="401") as caught:
        forwarder(url=server.url, secret_key="sk-lf-canary-wrong-000").probe()
    assert "canary" not in str(caught.value)


def test_answers_are_understood(server: Sink) -> None:
    to = forwarder(url=server.url)
    parts = to.convert(items(step(1, PROMPT), step(2, TURN, 1)), Notes())
    server.reply = lambda _: Reply(429, headers={"retry-after": "17"})
    with pytest.raises(Busy) as caught:
        to.send("traces", parts)
    assert caught.value.retry_after_s == 17
    server.reply = lambda _: Reply(400, b'{"message":"bad id"}')
    with pytest.raises(Rejected):
        to.send("traces", parts)
    server.reply = lambda _: Reply(207, b'{"successes":[],"errors":[{"id":"1","status":400,"message":"bad"}]}')
    assert to.send("traces", parts) == Accepted("207", 1, "bad")
    server.reply = lambda _: Reply(207, b"[")
    assert to.send("traces", parts) == Accepted("207")
    to.close()


# -- settings ---------------------------------------------------------------------------------------------------------


def test_the_variables_of_the_sdk_are_enough() -> None:
    environ = {
        "LANGFUSE_PUBLIC_KEY": PUBLIC,
        "LANGFUSE_SECRET_KEY": SECRET,
        "LANGFUSE_HOST": "https://old.example",
        "LANGFUSE_BASE_URL": "https://lf.example/",
        "LANGFUSE_TRACING_ENVIRONMENT": "staging",
        "LANGFUSE_RELEASE": "r1",
        "LANGFUSE_SAMPLE_RATE": "0.25",
        "LANGFUSE_TIMEOUT": "5",
    }
    found = langfuse.from_environment(environ)
    assert found is not None
    assert found.options == {
        **KEYS,
        "url": "https://lf.example",
        "environment": "staging",
        "release": "r1",
        "sample_rate": 0.25,
        "timeout": 5.0,
    }
    assert langfuse.address(found) == "https://lf.example"
    del environ["LANGFUSE_BASE_URL"]
    older = langfuse.from_environment(environ | {"LANGFUSE_TRACING_ENABLED": "False"})
    assert older is not None
    assert (older.options["url"], older.is_enabled) == ("https://old.example", False)
    assert langfuse.from_environment({}) is None
    assert langfuse.address(destination()) == "https://cloud.langfuse.com"


@pytest.mark.parametrize(
    ("environ", "match"),
    [
        ({"LANGFUSE_SECRET_KEY": SECRET}, "LANGFUSE_SECRET_KEY: got no LANGFUSE_PUBLIC_KEY"),
        ({"LANGFUSE_PUBLIC_KEY": PUBLIC}, "LANGFUSE_PUBLIC_KEY: got no LANGFUSE_SECRET_KEY"),
        ({"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET, "LANGFUSE_HOST": "lf"}, "LANGFUSE_HOST: got"),
        (
            {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET, "LANGFUSE_SAMPLE_RATE": "2"},
            'LANGFUSE_SAMPLE_RATE: got "2"; expected a number from 0 to 1',
        ),
        (
            {"LANGFUSE_PUBLIC_KEY": PUBLIC, "LANGFUSE_SECRET_KEY": SECRET, "LANGFUSE_TIMEOUT": "soon"},
            "LANGFUSE_TIMEOUT: got",
        ),
    ],
)
def test_a_wrong_variable_is_named_without_the_secret(environ: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        langfuse.from_environment(environ)
    assert "canary" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    table = Placed({"kind": "langfuse", "public_key": PUBLIC}, "tachograph.toml:3: forwarders.lf", {})
    found = destinations.read({"lf": table}, {"langfuse": langfuse.OPTIONS})[0]
    with pytest.raises(ConfigError, match=r"tachograph.toml:3: forwarders.lf: got no secret_key"):
        langfuse.make(found, {})


# -- Langfuse's own words ---------------------------------------------------------------------------------------------


def test_attribute_names_are_those_of_the_sdk(server: Sink) -> None:
    known = {value for name, value in vars(LangfuseOtelSpanAttributes).items() if name.isupper()}
    steps = [step(1, PROMPT, prompt="p", answer="a"), step(2, MODEL_CALL, 1), step(3, TOOL_RUN, 1, arguments="{}")]
    used = {name for span in sent(server, *steps, release="r", tags=["t"]) for name in attributes(span)}
    # The SDK sets input and output of a trace by another way; the server reads these two.
    used -= {"langfuse.trace.input", "langfuse.trace.output"}
    metadata = (LangfuseOtelSpanAttributes.TRACE_METADATA, LangfuseOtelSpanAttributes.OBSERVATION_METADATA)
    assert {name for name in used if not name.startswith(tuple(f"{one}." for one in metadata))} <= known


def test_values_are_those_that_the_sdk_would_write(server: Sink) -> None:
    made = told(server, step(2, MODEL_CALL, 1, is_error=True, error_message="no"))
    theirs = create_generation_attributes(
        completion_start_time=datetime(2026, 11, 20, 12, 0, 0, 500_000, UTC),
        level="ERROR",
        status_message="no",
        model="claude-sonnet-4-5-20250929",
        usage_details=json.loads(made["langfuse.observation.usage_details"]),
        cost_details={"total": 0.007},
    )
    assert {name: _value(value) for name, value in theirs.items()} == {name: _value(made[name]) for name in theirs}
    tool = told(server, step(3, TOOL_RUN, 1, tool_name="bash", arguments='{"a":1}', result="ok"))
    theirs = create_span_attributes(input='{"a":1}', output="ok", level="DEFAULT", observation_type="tool")
    assert theirs.items() <= tool.items()


def _value(text: Any) -> Any:
    """JSON by its value, and times alike."""
    with suppress(ValueError):  # a plain text
        text = json.loads(text)
    if isinstance(text, str) and text[:4] == "2026":
        return datetime.fromisoformat(text)
    return text


def test_observation_types_are_known(server: Sink) -> None:
    known = get_observation_types_list(ObservationTypeLiteral)
    for role in ROLES:
        assert told(server, step(2, role, 1))["langfuse.observation.type"] in known


# -- anything ---------------------------------------------------------------------------------------------------------

anything = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)
parts_given = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(("text", "reasoning", "tool_call", "tool_call_response", "image"))})
    | st.fixed_dictionaries({"type": st.just("text"), "content": anything})
    | st.fixed_dictionaries({"type": st.just("tool_call"), "id": anything, "arguments": json_values}),
    max_size=4,
)
messages_given = st.lists(st.fixed_dictionaries({"role": anything, "parts": parts_given}), max_size=3)


@given(
    trace_id=anything,
    span_id=anything,
    parent_id=anything,
    role=st.sampled_from(ROLES),
    name=anything,
    start=st.integers(0, 2**63 - 1),
    texts=st.tuples(anything, anything, anything, anything),
    said=messages_given,
    session=st.dictionaries(st.sampled_from(sorted(SESSION)), anything),
)
def test_any_step_is_a_span_that_is_taken(
    trace_id: str,
    span_id: str,
    parent_id: str,
    role: str,
    name: str,
    start: int,
    texts: tuple[str, str, str, str],
    said: list[dict[str, Any]],
    session: dict[str, str],
) -> None:
    prompt, answer, arguments, result = texts
    given = step(2, role, 0, trace_id=trace_id, span_id=span_id, parent_id=parent_id, name=name, session=session)
    given.start_ns, given.end_ns, given.prompt, given.answer = start, start, prompt, answer
    given.arguments, given.result, given.input_messages, given.output_messages = arguments, result, said, said
    parts = forwarder().convert([Item("k", 1, given)], Notes())
    from tachograph import otlp_messages

    body = otlp_messages.traces([part.value for part in parts]).SerializeToString()
    (span,) = spans(Request("", {}, body))
    assert any(span.trace_id)
    assert any(span.span_id)
    assert len(span.parent_span_id) in (0, 8)


@pytest.mark.parametrize(
    "name", ["claude-code-subagent", "pi-spool-15-print", "codex-errors", "py-openai-genai-latest"]
)
def test_a_recording_is_sent_as_it_was(name: str, server: Sink, tmp_path: Path) -> None:
    to = forwarder(url=server.url)
    steps = recorded(name, tmp_path, takes_changes=True)
    to.send("traces", to.convert(steps, Notes()))
    to.close()
    made = [
        {
            "trace": span.trace_id.hex(),
            "span": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "name": span.name,
            "start_ns": span.start_time_unix_nano,
            "end_ns": span.end_time_unix_nano,
            "attributes": attributes(span),
        }
        for span in spans(server.requests[0])
    ]
    assert made == golden("langfuse", name, made, os.environ.get("TACHOGRAPH_GOLDEN") == "write")
    calls = [item.record.call for item in steps if isinstance(item.record, Step) and item.record.call]
    usage = [json.loads(one["attributes"].get("langfuse.observation.usage_details", "{}")) for one in made]
    tokens = sum((call["input_tokens"] or 0) + (call["output_tokens"] or 0) for call in calls)
    assert sum(sum(one.values()) for one in usage) == tokens > 0
    costs = [json.loads(one["attributes"].get("langfuse.observation.cost_details", "{}")) for one in made]
    assert round(sum(one.get("total", 0) for one in costs) * 1e9) == sum(call["cost_nanousd"] or 0 for call in calls)
