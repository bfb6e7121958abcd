"""Names in Prometheus against those that its own translator makes, and labels that no server refuses."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tachograph.forwarders.prometheus_names import DEFAULT, STRATEGIES, label_name, labels, metric_name

WITH, WITHOUT = STRATEGIES[DEFAULT], STRATEGIES["UnderscoreEscapingWithoutSuffixes"]
COUNTER, HISTOGRAM = ("sum", True), ("histogram", False)

NAMES = [
    ("pi.prompts", "", COUNTER, "pi_prompts_total", "pi_prompts"),
    ("pi.tool.errors", "", COUNTER, "pi_tool_errors_total", "pi_tool_errors"),
    ("pi.tokens.input", "tokens", COUNTER, "pi_tokens_input_total", "pi_tokens_input"),
    ("pi.tool.duration", "ms", HISTOGRAM, "pi_tool_duration_milliseconds", "pi_tool_duration"),
    ("pi.session.duration", "s", HISTOGRAM, "pi_session_duration_seconds", "pi_session_duration"),
    ("gen_ai.client.token.usage", "{token}", HISTOGRAM, "gen_ai_client_token_usage", "gen_ai_client_token_usage"),
    ("gen_ai.client.token.usage", "token", HISTOGRAM, "gen_ai_client_token_usage", "gen_ai_client_token_usage"),
    (
        "gen_ai.client.token.usage",
        "tokens",
        HISTOGRAM,
        "gen_ai_client_token_usage_tokens",
        "gen_ai_client_token_usage",
    ),
    (
        "gen_ai.client.operation.duration",
        "s",
        HISTOGRAM,
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_client_operation_duration",
    ),
    (
        "gen_ai.client.inference.usage.input_tokens",
        "{token}",
        COUNTER,
        "gen_ai_client_inference_usage_input_tokens_total",
        "gen_ai_client_inference_usage_input_tokens",
    ),
    (
        "gen_ai.client.generation.choices",
        "choice",
        COUNTER,
        "gen_ai_client_generation_choices_choice_total",
        "gen_ai_client_generation_choices",
    ),
    ("gen_ai.usage.cost", "USD", COUNTER, "gen_ai_usage_cost_USD_total", "gen_ai_usage_cost"),
    ("claude_code.session.count", "", COUNTER, "claude_code_session_count_total", "claude_code_session_count"),
    ("claude_code.token.usage", "tokens", COUNTER, "claude_code_token_usage_tokens_total", "claude_code_token_usage"),
    ("claude_code.cost.usage", "USD", COUNTER, "claude_code_cost_usage_USD_total", "claude_code_cost_usage"),
    (
        "claude_code.active_time.total",
        "s",
        COUNTER,
        "claude_code_active_time_seconds_total",
        "claude_code_active_time_total",
    ),
    (
        "codex.turn.e2e_duration_ms",
        "ms",
        HISTOGRAM,
        "codex_turn_e2e_duration_ms_milliseconds",
        "codex_turn_e2e_duration_ms",
    ),
    ("openclaw.tokens", "1", COUNTER, "openclaw_tokens_total", "openclaw_tokens"),
    ("openclaw.cost.usd", "1", COUNTER, "openclaw_cost_usd_total", "openclaw_cost_usd"),
    ("openclaw.llm.tokens.total", "tokens", COUNTER, "openclaw_llm_tokens_total", "openclaw_llm_tokens_total"),
    ("openclaw.llm.cost.usd", "USD", COUNTER, "openclaw_llm_cost_usd_USD_total", "openclaw_llm_cost_usd"),
    ("operation.cost", "{USD}", HISTOGRAM, "operation_cost", "operation_cost"),
    ("cpu.load", "1", ("gauge", False), "cpu_load_ratio", "cpu_load"),
    ("2x..io", "By/s", ("gauge", False), "_2x_io_bytes_per_second", "_2x_io"),
    ("queue", "", ("sum", False), "queue", "queue"),
    ("...", "", COUNTER, "", ""),
]


@pytest.mark.parametrize(("name", "unit", "kind", "with_suffixes", "without"), NAMES)
def test_names_are_those_that_servers_make(
    name: str, unit: str, kind: tuple[str, bool], with_suffixes: str, without: str
) -> None:
    assert metric_name(name, unit, *kind, WITH) == with_suffixes
    assert metric_name(name, unit, *kind, WITHOUT) == without


def test_names_stay_as_they_are_where_the_server_takes_them() -> None:
    untranslated, utf8 = STRATEGIES["NoTranslation"], STRATEGIES["NoUTF8EscapingWithSuffixes"]
    assert metric_name("pi.tokens.input", "tokens", "sum", True, untranslated) == "pi.tokens.input"
    assert metric_name("pi.tokens.input", "tokens", "sum", True, utf8) == "pi.tokens.input_tokens_total"


def test_labels() -> None:
    assert label_name("gen_ai.request.model", WITH) == "gen_ai_request_model"
    assert label_name("1st", WITH) == "key_1st"
    assert label_name("_own", WITH) == "key_own"
    assert label_name("__reserved__", WITH) == "__reserved__"
    told = {"a.b": "x", "a_b": "y", "empty": "", "none": None, "is": True, "n": 3, "list": ["a", 1], "__name__": "z"}
    assert labels(told, WITH) == {"a_b": "x;y", "is": "true", "n": "3", "list": '["a",1]'}


@given(st.text(), st.text(max_size=8), st.sampled_from([COUNTER, HISTOGRAM, ("gauge", False)]))
def test_any_name_is_one_that_old_servers_take(name: str, unit: str, kind: tuple[str, bool]) -> None:
    for strategy in (WITH, WITHOUT):
        made = metric_name(name, unit, *kind, strategy)
        assert not made or re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", made)
        label = label_name(name, strategy)
        assert not label or re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label)
