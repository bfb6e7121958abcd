"""Messages that were too much are missing at the beginning, and every destination of steps is told how many."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from tachograph.forwarders import langfuse_spans, otlp_genai, posthog_events
from tachograph.forwarders.contract import Item, Step
from told import step


def call(left_out: int, length: int = 10, messages: int = 3) -> Step:
    made = step(2, "model_call", 1)
    asked = [{"role": "user", "parts": [{"type": "text", "content": "x" * length}]} for _ in range(messages)]
    return replace(made, input_messages=asked, left_out=left_out)


def langfuse(told: Step) -> str:
    shaping = langfuse_spans.Shaping(environment="", release="", tags=())
    return str(shaping.span(told).attributes["langfuse.observation.input"])


def posthog(told: Step) -> str:
    shaping = posthog_events.Shaping(is_private=False, trace_grouping="message", max_attribute_length=1000)
    (event,) = posthog_events.events(told, "s", shaping)
    return json.dumps(event["properties"]["$ai_input"])


def otlp(generation: str, told: Step) -> str:
    ((_, span),) = otlp_genai.Conventions(generation).spans([Item("k", 1, told)])
    return json.dumps([span.attributes, span.events])


@pytest.mark.parametrize(
    ("left_out", "said"), [(1, "[1 earlier message left out]"), (12, "[12 earlier messages left out]")]
)
def test_it_is_said(left_out: int, said: str) -> None:
    for told in (langfuse(call(left_out)), posthog(call(left_out)), *(otlp(one, call(left_out)) for one in "ABC")):
        assert told.count(said) == 1 and told.count("xxxxxxxxxx") == 3
    for told in (langfuse(call(0)), posthog(call(0)), *(otlp(one, call(0)) for one in "ABC")):
        assert "left out" not in told


def test_langfuse_says_all_that_are_missing_once() -> None:
    told = langfuse(call(100, length=200_000, messages=10))
    kept = told.count('"user"')
    assert 0 < kept < 10
    assert told.count("left out") == 1 and f"[{100 + 10 - kept} earlier messages left out]" in told
