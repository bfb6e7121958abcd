"""PostHog: events as its pages read them, and the settings of its extension for Pi without that one's errors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import posthog
import pytest
from hypothesis import given
from hypothesis import strategies as st
from posthog.ai.types import FormattedMessage
from posthog.request import AI_EVENTS_ENDPOINT, EVENTS_ENDPOINT, determine_server_host

from notes import Notes
from sink import Reply, Request, Sink
from tachograph import __version__, destinations
from tachograph.config import Placed
from tachograph.errors import Busy, ConfigError, Rejected
from tachograph.forwarders import posthog as forwarders_posthog
from tachograph.forwarders.contract import Accepted, Item, Step
from tachograph.model import AGENT, MODEL_CALL, PROMPT, ROLES, TOOL_RUN, TURN
from told import CALL, SESSION, TRACE, golden, items, recorded, step

KEY = "phc_canary0123456789"


def destination(**options: Any) -> destinations.Destination:
    table = Placed({"kind": "posthog", "api_key": KEY, **options}, "tachograph.toml:3: forwarders.ph", {})
    return destinations.read({"ph": table}, {"posthog": forwarders_posthog.OPTIONS})[0]


def forwarder(**options: Any) -> forwarders_posthog.PostHog:
    return forwarders_posthog.make(destination(**options), {})


def as_posthog(request: Request) -> Reply:
    """As PostHog answers: a wrong key and a malformed event refuse the request; what is too large vanishes."""
    body = json.loads(request.body)
    if body["api_key"] != KEY:
        return Reply(401, f"API key {body['api_key']} is not valid".encode())
    for event in body.get("batch", ()):
        if not event["event"] or not event["distinct_id"] or "properties" not in event:
            return Reply(400)
    return Reply(200, b'{"status":1}')


@pytest.fixture
def server() -> Iterator[Sink]:
    with Sink(as_posthog) as made:
        yield made


def events(*steps: Step, memory: Notes | None = None, **options: Any) -> list[dict[str, Any]]:
    to = forwarder(**options)
    parts = to.convert(items(*steps), Notes() if memory is None else memory)
    to.close()
    return [json.loads(part.value) for part in parts]


def properties(given: Step, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = events(given, **options)[-1]["properties"]
    return found


def test_a_batch_is_packed_json_with_the_key(server: Sink) -> None:
    to = forwarder(host=server.url)
    parts = to.convert(items(step(1, PROMPT), step(2, MODEL_CALL, 1)), Notes())
    assert to.send("events", parts) == Accepted("200")
    to.close()
    (request,) = server.requests
    assert request.path == EVENTS_ENDPOINT
    assert request.headers["content-encoding"] == "gzip"
    body = json.loads(request.body)
    assert set(body) == {"api_key", "batch"}
    assert [event["event"] for event in body["batch"]] == ["$ai_trace", "$ai_generation"]


def test_the_events_of_a_session_are_a_tree() -> None:
    steps = (step(1, PROMPT), step(2, TURN, 1), step(3, MODEL_CALL, 2), step(4, TOOL_RUN, 2, tool_name="bash"))
    found = events(*steps)
    assert [event["event"] for event in found] == ["$ai_trace", "$ai_span", "$ai_generation", "$ai_span"]
    told = [event["properties"] for event in found]
    assert {one["$ai_trace_id"] for one in told} == {TRACE}
    assert "$ai_span_id" not in told[0]
    assert [one["$ai_parent_id"] for one in told[1:]] == [TRACE, told[1]["$ai_span_id"], told[1]["$ai_span_id"]]
    assert [one["$ai_span_name"] for one in told] == ["web", "turn", "chat claude-sonnet-4-5-20250929", "bash"]
    assert [one.get("$ai_span_type") for one in told] == [None, "turn", None, "tool"]
    assert found[0]["timestamp"] == "2026-11-20T12:00:10.000000Z"


def test_a_call_that_no_prompt_is_above_stands_below_its_trace() -> None:
    told = properties(step(2, MODEL_CALL, 0, root_id=f"{2:016x}", root_role=MODEL_CALL))
    assert told["$ai_parent_id"] == told["$ai_trace_id"] == TRACE
    below = properties(step(3, TOOL_RUN, 2, root_id=f"{2:016x}", root_role=MODEL_CALL))
    assert below["$ai_parent_id"] == f"{2:016x}"


def test_a_generation_says_what_the_ledger_knows() -> None:
    told = properties(step(2, MODEL_CALL, 1))
    expected = {
        "$ai_model": "claude-sonnet-4-5-20250929",
        "$ai_provider": "anthropic",
        "$ai_input_tokens": 100,
        "$ai_output_tokens": 50,
        "$ai_reasoning_tokens": 20,
        "$ai_total_tokens": 2450,
        "$ai_cache_read_input_tokens": 2000,
        "$ai_cache_creation_input_tokens": 300,
        "$ai_cache_creation_5m_input_tokens": 180,
        "$ai_cache_creation_1h_input_tokens": 120,
        "$ai_cache_reporting_exclusive": True,
        "$ai_total_cost_usd": 0.007,
        "$ai_latency": 2.0,  # what the source measured, not the ten seconds of the step
        "$ai_time_to_first_token": 0.5,
        "$ai_stream": True,
        "$ai_stop_reason": "tool_calls",
        "$ai_completion_id": "msg_1",
        "$ai_http_status": 200,
        "$ai_is_error": False,
        "$ai_session_id": "s1",
        "$ai_project_name": "web",
        "$ai_agent_name": "web",
        "$ai_framework": "pi",
        "$ai_lib": "tachograph",
        "channel": "telegram",
        "tachograph_step": f"{TRACE}:{2:016x}",
    }
    assert expected.items() <= told.items()
    assert told["$ai_input_cost_usd"] > 0
    assert told["$ai_output_cost_usd"] > 0
    assert round((told["$ai_input_cost_usd"] + told["$ai_output_cost_usd"]) * 1e9) == 7_000_000
    assert told["cost_parts"] == "estimated"
    assert "billing_mode" not in told


@pytest.mark.parametrize("change", [{"cost_nanousd": None}, {"cost_nanousd": 0}, {"output_tokens": 0}])
def test_both_parts_of_a_cost_are_told_or_neither(change: dict[str, Any]) -> None:
    told = properties(step(2, MODEL_CALL, 1, call=CALL | change))
    assert "$ai_input_cost_usd" not in told
    assert "$ai_output_cost_usd" not in told
    assert ("$ai_total_cost_usd" in told) == (change.get("cost_nanousd", 1) is not None)


def test_what_a_plan_pays_for_is_marked() -> None:
    assert properties(step(2, MODEL_CALL, 1, call=CALL | {"is_notional": True}))["billing_mode"] == "subscription"


def test_what_is_unknown_is_not_sent() -> None:
    call = {"operation": "chat", "provider": "gcp.gemini", "status": "failed", "request_model": "gemini"}
    told = properties(step(2, MODEL_CALL, 1, call=call, is_error=True, error_type="timeout"))
    assert not [name for name in told if "token" in name or "cost" in name]
    assert told["$ai_provider"] == "gemini"
    assert told["$ai_is_error"] is True
    assert told["$ai_error"] == "timeout"


def test_embeddings_are_events_of_their_own() -> None:
    call = CALL | {"operation": "embeddings", "output_tokens": None}
    (event,) = events(step(2, MODEL_CALL, 1, call=call))
    assert event["event"] == "$ai_embedding"
    assert event["properties"]["$ai_input_tokens"] == 100


def test_messages_are_those_that_the_pages_show() -> None:
    call = {"type": "tool_call", "id": "t1", "name": "bash", "arguments": {"command": "ls"}}
    given = step(
        2,
        MODEL_CALL,
        1,
        system="be brief",
        input_messages=[
            {"role": "user", "parts": [{"type": "text", "content": "look"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t0", "response": "a.py"}]},
        ],
        output_messages=[{"role": "assistant", "parts": [{"type": "text", "content": "I look."}, call]}],
        tools=[{"name": "bash"}],
    )
    told = properties(given)
    assert told["$ai_input"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "tool", "tool_call_id": "t0", "content": "a.py"},
    ]
    function = {"name": "bash", "arguments": {"command": "ls"}}
    assert told["$ai_output_choices"] == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "I look."}, {"type": "function", "id": "t1", "function": function}],
        }
    ]
    assert told["$ai_tools"] == [{"name": "bash"}]
    assert FormattedMessage.__required_keys__ <= set(told["$ai_input"][0])


def test_a_tool_has_its_input_and_output_as_values() -> None:
    told = properties(step(2, TOOL_RUN, 1, arguments='{"command":"ls"}', result="a.py\n"))
    assert told["$ai_input_state"] == {"command": "ls"}
    assert told["$ai_output_state"] == "a.py\n"


def test_long_texts_are_cut_within_the_json() -> None:
    deep: Any = "end"
    for _ in range(12):
        deep = [deep]
    arguments = json.dumps({"a": "x" * 30, "b": [1, "y" * 12], "deep": deep})
    told = properties(step(2, TOOL_RUN, 1, arguments=arguments, result="z" * 11), max_attribute_length=10)
    state = told["$ai_input_state"]
    assert state["a"] == "x" * 10 + "...[truncated 20 chars]"
    assert state["b"] == [1, "y" * 10 + "...[truncated 2 chars]"]
    assert json.dumps(state["deep"]).count("[") == 8  # seven lists, and the word
    assert told["$ai_output_state"] == "z" * 10 + "...[truncated 1 chars]"


# -- settings of the extension ----------------------------------------------------------------------------------------


def test_every_variable_of_the_extension_is_read() -> None:
    environ = {
        "POSTHOG_API_KEY": KEY,
        "POSTHOG_HOST": "https://eu.i.posthog.com/",
        "POSTHOG_TRACE_GROUPING": "session",
        "POSTHOG_SESSION_WINDOW_MINUTES": "15",
        "POSTHOG_PROJECT_NAME": "shop",
        "POSTHOG_AGENT_NAME": "clerk",
        "POSTHOG_TAGS": "team:core, url:http://x",
        "POSTHOG_MAX_ATTRIBUTE_LENGTH": "500",
        "POSTHOG_DISTINCT_ID": "bot",
    }
    found = forwarders_posthog.from_environment(environ)
    assert found is not None
    assert found.options == {
        "api_key": KEY,
        "host": "https://eu.i.posthog.com",
        "trace_grouping": "session",
        "session_window_minutes": 15.0,
        "project_name": "shop",
        "agent_name": "clerk",
        "tags": {"team": "core", "url": "http://x"},
        "max_attribute_length": 500,
        "distinct_id": "bot",
    }
    assert (found.is_enabled, found.privacy) == (True, "redacted")
    assert forwarders_posthog.address(found) == "https://eu.i.posthog.com"
    assert forwarders_posthog.address(destination()) == "https://us.i.posthog.com"


@pytest.mark.parametrize(
    "host", ["https://app.posthog.com", "https://us.posthog.com/", "https://eu.posthog.com", "https://ph.example"]
)
def test_the_address_of_the_pages_is_understood(host: str) -> None:
    found = forwarders_posthog.from_environment({"POSTHOG_API_KEY": KEY, "POSTHOG_HOST": host})
    assert found is not None
    assert found.options["host"] == determine_server_host(host.rstrip("/"))


@pytest.mark.parametrize(("word", "is_enabled"), [("false", False), ("FALSE", True), ("0", True), ("true", True)])
def test_only_false_disables(word: str, is_enabled: bool) -> None:
    found = forwarders_posthog.from_environment({"POSTHOG_API_KEY": KEY, "POSTHOG_ENABLED": word})
    assert found is not None
    assert found.is_enabled == is_enabled


@pytest.mark.parametrize(("word", "privacy"), [("true", "none"), ("True", "redacted"), ("1", "redacted")])
def test_only_true_is_private(word: str, privacy: str) -> None:
    found = forwarders_posthog.from_environment({"POSTHOG_API_KEY": KEY, "POSTHOG_PRIVACY_MODE": word})
    assert found is not None
    assert found.privacy == privacy


def test_without_a_key_there_is_no_destination() -> None:
    assert forwarders_posthog.from_environment({"POSTHOG_HOST": "nonsense"}) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TRACE_GROUPING", "day", "message or session"),
        ("SESSION_WINDOW_MINUTES", "soon", "a number above 0"),
        ("MAX_ATTRIBUTE_LENGTH", "1.5", "a whole number above 0"),
        ("TAGS", "core", "name:value,name:value"),
        ("HOST", "posthog", "a URL"),
        ("API_KEY", "phx_canary", "the key of a project"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"POSTHOG_{name}: got .*expected {expected}") as caught:
        forwarders_posthog.from_environment({"POSTHOG_API_KEY": KEY, f"POSTHOG_{name}": value})
    assert "canary" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    table = Placed({"kind": "posthog"}, "tachograph.toml:3: forwarders.ph", {})
    found = destinations.read({"ph": table}, {"posthog": forwarders_posthog.OPTIONS})[0]
    with pytest.raises(ConfigError, match=r"tachograph.toml:3: forwarders.ph: got no api_key"):
        forwarders_posthog.make(found, {})


def test_privacy_keeps_all_texts_back() -> None:
    texts = {"prompt": "canary", "answer": "canary", "arguments": "canary", "result": "canary", "system": "canary"}
    said = [{"role": "user", "parts": [{"type": "text", "content": "canary"}]}]
    more: dict[str, Any] = texts | {"input_messages": said, "output_messages": said, "tools": [{"name": "canary"}]}
    more |= {"is_error": True, "error_message": "canary", "error_type": "timeout"}
    steps = [step(n, role, n - 1, **more) for n, role in enumerate((PROMPT, TURN, MODEL_CALL, TOOL_RUN, AGENT), 1)]
    for options in ({"privacy_mode": True}, {"privacy": "none"}):
        found = events(*steps, **options)
        assert "canary" not in json.dumps(found)
        assert all(event["properties"]["$ai_is_error"] for event in found)
        assert not any("$ai_error" in event["properties"] for event in found)
    assert "canary" in json.dumps(events(*steps))


def test_names_of_project_agent_and_sub_agent() -> None:
    below = step(2, AGENT, 1, subagent="scout")
    assert properties(below)["$ai_agent_name"] == "web/scout"
    assert properties(below, project_name="shop")["$ai_agent_name"] == "shop/scout"
    assert properties(below, agent_name="clerk")["$ai_agent_name"] == "clerk"
    path = step(1, PROMPT, session=SESSION | {"project": "/home/ada/code/web/"})
    assert properties(path)["$ai_project_name"] == "web"
    assert properties(step(1, PROMPT, session={"agent": "pi"}))["$ai_agent_name"] == "pi"


def test_tags_come_last() -> None:
    told = properties(step(2, MODEL_CALL, 1), tags={"team": "core", "$ai_model": "mine"})
    assert told["team"] == "core"
    assert told["$ai_model"] == "mine"


def test_who_did_it() -> None:
    (event,) = events(step(2, MODEL_CALL, 1))
    assert event["distinct_id"] == "ada"
    assert "$process_person_profile" not in event["properties"]
    (event,) = events(step(2, MODEL_CALL, 1), distinct_id="bot")
    assert event["distinct_id"] == "bot"
    (event,) = events(step(2, MODEL_CALL, 1, session={"agent": "pi"}))
    assert event["distinct_id"] == "s1"
    assert event["properties"]["$process_person_profile"] is False
    (event,) = events(step(2, MODEL_CALL, 1, session_id="", session={}))
    assert event["distinct_id"] == TRACE


# -- grouping ---------------------------------------------------------------------------------------------------------


def prompt(number: int, minute: int, **more: Any) -> tuple[Step, Step]:
    """A prompt of a minute, in a trace of its own, and the call in it."""
    root = {"root_id": f"{number:016x}", "trace_id": f"{number:032x}"}
    start = minute * 60
    call = step(number + 1, MODEL_CALL, number, start + 1, start + 50, **root, **more)
    return step(number, PROMPT, 0, start, start + 60, **root, **more), call


def test_a_message_is_a_trace_and_a_later_one_too() -> None:
    later = {"root_id": f"{3:016x}", "is_later_prompt": True}
    given = (step(1, PROMPT), step(2, TURN, 1), step(3, PROMPT, 0, 20, 30, **later), step(4, TURN, 3, 20, 30, **later))
    told = [event["properties"] for event in events(*given)]
    assert [one["$ai_trace_id"] == TRACE for one in told] == [True, True, False, False]
    assert told[3]["$ai_parent_id"] == told[3]["$ai_trace_id"] == told[2]["$ai_trace_id"]


def test_a_session_is_a_trace_until_it_is_silent_for_the_window() -> None:
    given = (*prompt(10, 0), *prompt(20, 60), *prompt(30, 121))  # silent for 59 minutes, then for 60
    found = events(*given, trace_grouping="session")
    told = [event["properties"] for event in found]
    assert [event["event"] for event in found] == ["$ai_trace", "$ai_span", "$ai_generation"] * 3
    assert [one["$ai_session_id"] for one in told] == ["s1"] * 6 + ["s1~2"] * 3
    assert len({one["$ai_trace_id"] for one in told}) == 2
    assert len({one["$ai_trace_id"] for one in told[:6]}) == 1
    assert told[1]["$ai_parent_id"] == told[1]["$ai_trace_id"]
    assert told[2]["$ai_parent_id"] == told[1]["$ai_span_id"]
    sessions = [event["properties"]["$ai_session_id"] for event in events(*given, session_window_minutes=30)]
    assert sessions == ["s1"] * 2 + ["s1~2"] * 2 + ["s1~3"] * 2


def test_a_prompt_is_in_one_stretch_whatever_is_told_first() -> None:
    memory = Notes()
    first, call = prompt(10, 0)
    late = step(12, MODEL_CALL, 10, 5000, 5010, root_id=first.span_id, trace_id=first.trace_id)  # after a long tool
    last, last_call = prompt(20, 200)
    told = [events(one, memory=memory) for one in (call, late, last_call, first, last)]
    assert [some[0]["properties"]["$ai_session_id"] for some in told] == ["s1", "s1", "s1~2", "s1", "s1~2"]
    again = [events(one, memory=memory) for one in (call, late, last_call, first, last)]
    assert again == told


def alone(number: int, minute: int, minutes: int = 1) -> Step:
    """A call that no prompt stands above."""
    start, end = minute * 60, (minute + minutes) * 60
    return step(number, MODEL_CALL, 0, start, end, root_id=f"{number:016x}", root_role=MODEL_CALL)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([alone(1, 0), alone(2, 1, 50), alone(3, 100)], ["s1"] * 3, id="silence begins at the last end"),
        pytest.param([alone(1, 0), alone(2, 121), alone(3, 120)], ["s1", "s1~2", "s1~2"], id="a little earlier"),
        pytest.param([alone(1, 121), alone(2, 0)], ["s1", "s1"], id="much earlier than the first"),
        pytest.param([alone(1, 0), alone(2, 121), alone(3, 5)], ["s1", "s1~2", "s1"], id="in the one before"),
    ],
)
def test_a_step_that_comes_late_is_in_the_stretch_it_was_in(given: list[Step], expected: list[str]) -> None:
    memory = Notes()
    found = [event["properties"]["$ai_session_id"] for one in given for event in events(one, memory=memory)]
    assert found == expected


def test_an_event_sent_again_is_the_same_event() -> None:
    given = (step(1, PROMPT), step(2, MODEL_CALL, 1), step(3, TOOL_RUN, 1))
    assert events(*given) == events(*given)
    assert len({event["uuid"] for event in events(*given, trace_grouping="session")}) == 4
    assert not forwarder().takes_changes


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_large_event_takes_the_other_way(server: Sink) -> None:
    said = [{"role": "user", "parts": [{"type": "text", "content": "x" * 1_000_000}]}]
    huge = [{"role": "user", "parts": [{"type": "text", "content": "x" * 100_000}]}] * 90
    given = items(
        step(2, MODEL_CALL, 1), step(3, MODEL_CALL, 1, input_messages=said), step(4, MODEL_CALL, 1, input_messages=huge)
    )
    to = forwarder(host=server.url)
    parts = to.convert(given, Notes())
    assert [part.route for part in parts] == ["events", "large", "large"]
    assert parts[1].size_bytes > 1_000_000
    assert parts[2].size_bytes < 8_000_000
    assert len(json.loads(parts[2].value)["properties"]["$ai_input"]) == 90
    to.send("large", parts[1:2])
    to.close()
    assert server.requests[0].path == AI_EVENTS_ENDPOINT


def test_answers_are_understood_and_never_repeat_the_key(server: Sink) -> None:
    to = forwarder(host=server.url, api_key="phc_canary_of_another")
    parts = to.convert(items(step(1, PROMPT)), Notes())
    for ask in (to.probe, lambda: to.send("events", parts)):
        with pytest.raises(ConfigError, match=r"401.*\[redacted\]") as caught:
            ask()
        assert "canary" not in f"{caught.value}{caught.value.what}"
    server.reply = lambda _: Reply(503, headers={"retry-after": "9"})
    with pytest.raises(Busy) as busy:
        to.send("events", parts)
    assert busy.value.retry_after_s == 9
    server.reply = lambda _: Reply(413)
    with pytest.raises(Rejected):
        to.send("events", parts)
    to.close()


def test_a_probe_sends_no_event(server: Sink) -> None:
    to = forwarder(host=server.url)
    assert to.probe() == Accepted("200")
    to.close()
    assert "batch" not in json.loads(server.requests[0].body)


# -- PostHog's own words ----------------------------------------------------------------------------------------------


def test_the_shape_of_an_event_is_that_of_the_sdk() -> None:
    theirs: list[dict[str, Any]] = []

    def kept(message: dict[str, Any]) -> dict[str, Any]:
        theirs.append(message)
        return message

    client = posthog.Posthog("phc_test", send=False, before_send=kept)
    mine = events(step(2, MODEL_CALL, 1))[0]
    client.capture(mine["event"], distinct_id=mine["distinct_id"], properties=mine["properties"], uuid=mine["uuid"])
    client.shutdown()
    (sent,) = theirs
    assert set(mine) <= set(sent)
    assert mine["properties"].items() <= sent["properties"].items()
    assert (sent["event"], sent["distinct_id"], sent["uuid"]) == (mine["event"], mine["distinct_id"], mine["uuid"])


def test_property_names_are_those_of_the_sdk_and_of_the_extension() -> None:
    folder = Path(posthog.__file__).parent
    known = {name for path in folder.rglob("*.py") for name in re.findall(r"\$ai_\w+", path.read_text("utf-8"))}
    # Of the extension for Pi, and of PostHog's reference of properties.
    known |= {"$ai_project_name", "$ai_agent_name", "$ai_completion_id", "$ai_input_cost_usd", "$ai_output_cost_usd"}
    known |= {"$ai_stream", "$ai_time_to_first_token"}
    said = [{"role": "user", "parts": [{"type": "text", "content": "x"}]}]
    given = (
        step(1, PROMPT, prompt="p", answer="a"),
        step(2, MODEL_CALL, 1, input_messages=said, output_messages=said, tools=[{}], is_error=True, error_type="x"),
        step(3, TOOL_RUN, 1, arguments="{}"),
    )
    used = {name for event in events(*given) for name in event["properties"] if name.startswith("$ai_")}
    assert used <= known


# -- anything ---------------------------------------------------------------------------------------------------------

anything = st.text(max_size=30)
parts_given = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(("text", "reasoning", "tool_call", "tool_call_response", "image"))})
    | st.fixed_dictionaries({"type": st.just("text"), "content": anything}),
    max_size=4,
)
messages_given = st.lists(st.fixed_dictionaries({"role": anything, "parts": parts_given}), max_size=3)


@given(
    ids=st.tuples(anything, anything, anything),
    role=st.sampled_from(ROLES),
    start=st.integers(0, 2**63 - 1),
    texts=st.tuples(anything, anything, anything, anything),
    said=messages_given,
    session=st.dictionaries(st.sampled_from(sorted(SESSION)), anything),
    grouping=st.sampled_from(("message", "session")),
)
def test_any_step_is_an_event_that_is_taken(
    ids: tuple[str, str, str],
    role: str,
    start: int,
    texts: tuple[str, str, str, str],
    said: list[dict[str, Any]],
    session: dict[str, str],
    grouping: str,
) -> None:
    one = step(2, role, 0, session=session, trace_id=ids[0], span_id=ids[1], parent_id=ids[2])
    one.start_ns, one.end_ns, one.prompt, one.answer = start, start, *texts[:2]
    one.arguments, one.result, one.input_messages, one.output_messages = *texts[2:], said, said
    found = forwarder(trace_grouping=grouping).convert([Item("k", 1, one)], Notes())
    assert found
    for part in found:
        event = json.loads(part.value)
        assert event["distinct_id"]
        assert re.fullmatch("[0-9a-f]{32}", event["properties"]["$ai_trace_id"])


@pytest.mark.parametrize(
    "name", ["claude-code-subagent", "pi-spool-15-print", "codex-errors", "py-openai-genai-latest"]
)
def test_a_recording_is_sent_as_it_was(name: str, server: Sink, tmp_path: Path) -> None:
    to = forwarder(host=server.url)
    steps = recorded(name, tmp_path)
    to.send("events", to.convert(steps, Notes()))
    to.close()
    made = json.loads(server.requests[0].body)["batch"]
    for event in made:
        assert event["properties"].pop("$ai_lib_version") == __version__
    assert made == golden("posthog", name, made, os.environ.get("TACHOGRAPH_GOLDEN") == "write")
    spans = {event["properties"].get("$ai_span_id") for event in made}
    traces = {event["properties"]["$ai_trace_id"] for event in made}
    above = {event["properties"]["$ai_parent_id"] for event in made if event["event"] != "$ai_trace"}
    assert above <= spans | traces
    calls = [item.record.call for item in steps if isinstance(item.record, Step) and item.record.call]
    told = [event["properties"] for event in made]
    total = sum(call["cost_nanousd"] or 0 for call in calls)
    assert round(sum(one.get("$ai_total_cost_usd", 0) for one in told) * 1e9) == total
    for ours, theirs in (
        ("$ai_input_tokens", "input_uncached_tokens"),
        ("$ai_cache_read_input_tokens", "cache_read_tokens"),
        ("$ai_cache_creation_input_tokens", "cache_write_tokens"),
        ("$ai_output_tokens", "output_tokens"),
    ):
        assert sum(one.get(ours, 0) for one in told) == sum(call[theirs] or 0 for call in calls)
