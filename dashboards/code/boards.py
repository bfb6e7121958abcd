"""The dashboards: what stands on each of them."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from panels import board, lines, logged, number, pie, quantile, rows, share, total

COST = "gen_ai_usage_cost_USD_total"
INPUT = "gen_ai_usage_input_tokens_total"
OUTPUT = "gen_ai_usage_output_tokens_total"
CACHE_READ = "gen_ai_usage_cache_read_input_tokens_total"
CALLS = "tachograph_calls_total"
DURATION = "gen_ai_client_operation_duration_seconds"
FIRST = "gen_ai_client_operation_time_to_first_chunk_seconds"
MODEL = "gen_ai_request_model"
TOOLS = "tachograph_tool_runs_total"
TOOL_TIME = "tachograph_tool_duration_seconds"
PROMPTS = "tachograph_prompts_total"
FAILED = 'error="true"'


def _head(made: dashboard.Dashboard, where: str = "") -> dashboard.Dashboard:
    """The numbers at the top of a page."""
    return (
        made.with_panel(number("Cost", total(COST, where=where), "currencyUSD"))
        .with_panel(number("Model calls", total(CALLS, where=where)))
        .with_panel(number("Failed calls", f"{total(CALLS, where=_and(where, FAILED))} or vector(0)"))
        .with_panel(number("Input tokens", total(INPUT, where=where)))
        .with_panel(number("Output tokens", total(OUTPUT, where=where)))
        .with_panel(number("Tool runs", f"{total(TOOLS, where=where)} or vector(0)"))
    )


def _and(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def agents() -> dashboard.Dashboard:
    made = _head(board("agents", "Agents", "What all agents did, what it cost and what went wrong."))
    for label, title in (("agent", "agent"), (MODEL, "model"), ("project", "project"), ("channel", "channel")):
        legend = f"{{{{{label}}}}}"
        made = made.with_row(dashboard.Row(f"By {title}"))
        made = (
            made.with_panel(lines(f"Cost by {title}, an hour", "currencyUSD", (total(COST, label, "", "1h"), legend)))
            .with_panel(
                lines(
                    f"Tokens by {title}, an hour",
                    "short",
                    (f"{total(INPUT, label, '', '1h')} + {total(OUTPUT, label, '', '1h')}", legend),
                )
            )
            .with_panel(
                rows(
                    f"Totals by {title}",
                    (total(COST, label), "Cost"),
                    (total(CALLS, label), "Calls"),
                    (total(INPUT, label), "Input tokens"),
                    (total(OUTPUT, label), "Output tokens"),
                    (share(CALLS, label, FAILED), "Failed"),
                )
            )
        )
    return made


def pi() -> dashboard.Dashboard:
    agent = 'agent="pi"'
    job = 'job="pi-coding-agent"'
    tools, took = "pi_tool_calls_total", "pi_tool_duration_milliseconds"
    return (
        _head(board("pi", "Pi", "Pi, whether it was seen by its extension, its plug-in or its files."), agent)
        .with_panel(number("Prompts", total("pi_prompts_total", where=job)))
        .with_panel(number("Turns", total("pi_turns_total", where=job)))
        .with_panel(number("Tool calls", total(tools, where=job)))
        .with_panel(number("Tool errors", f"{total('pi_tool_errors_total', where=job)} or vector(0)"))
        .with_panel(number("Input tokens, uncached", total("pi_tokens_input_total", where=job)))
        .with_panel(number("Output tokens", total("pi_tokens_output_total", where=job)))
        .with_panel(
            lines(
                "Tokens a minute",
                "short",
                (f"{total('pi_tokens_input_total', '', job, '5m')} / 5", "input"),
                (f"{total('pi_tokens_output_total', '', job, '5m')} / 5", "output"),
            )
        )
        .with_panel(
            lines(
                "Tokens by model, an hour",
                "short",
                (
                    f"{total('pi_tokens_input_total', 'llm_model', job, '1h')}"
                    f" + {total('pi_tokens_output_total', 'llm_model', job, '1h')}",
                    "{{llm_model}}",
                ),
            )
        )
        .with_panel(pie("Tool calls", total(tools, "tool_name", job), "{{tool_name}}"))
        .with_panel(lines("Tool calls, 5 minutes", "short", (total(tools, "tool_name", job, "5m"), "{{tool_name}}")))
        .with_panel(
            lines(
                "Tool duration",
                "ms",
                *(
                    (quantile(at, took, "tool_name", job, "1h"), f"p{at * 100:.0f} {{{{tool_name}}}}")
                    for at in (0.5, 0.95)
                ),
            )
        )
        .with_panel(
            rows(
                "Tools",
                (total(tools, "tool_name", job), "Calls"),
                (f"{total(took + '_sum', 'tool_name', job)} / {total(took + '_count', 'tool_name', job)}", "Mean ms"),
                (quantile(0.95, took, "tool_name", job), "p95 ms"),
                (
                    f"({total('pi_tool_errors_total', 'tool_name', job)} or {total(tools, 'tool_name', job)} * 0)"
                    f" / {total(tools, 'tool_name', job)}",
                    "Failed",
                ),
            )
        )
        .with_panel(
            lines(
                "Prompts and turns, 5 minutes",
                "short",
                (total("pi_prompts_total", "", job, "5m"), "prompts"),
                (total("pi_turns_total", "", job, "5m"), "turns"),
            )
        )
        .with_panel(
            lines(
                "Session duration",
                "s",
                *(
                    (quantile(at, "pi_session_duration_seconds", "", job, "1h"), f"p{at * 100:.0f}")
                    for at in (0.5, 0.95)
                ),
            )
        )
        .with_panel(
            lines("Call duration p95 by model", "s", (quantile(0.95, DURATION, MODEL, agent, "1h"), f"{{{{{MODEL}}}}}"))
        )
        .with_panel(
            lines("Cost by model, an hour", "currencyUSD", (total(COST, MODEL, agent, "1h"), f"{{{{{MODEL}}}}}"))
        )
    )


def _agent(uid: str, title: str, name: str) -> dashboard.Dashboard:
    where = f'agent="{name}"'
    legend = f"{{{{{MODEL}}}}}"
    return (
        _head(board(uid, title, f"What {title} did, by the ledger and by its own metrics."), where)
        .with_panel(lines("Cost by model, an hour", "currencyUSD", (total(COST, MODEL, where, "1h"), legend)))
        .with_panel(
            lines(
                "Tokens, an hour",
                "short",
                (total(INPUT, "", where, "1h"), "input"),
                (total(CACHE_READ, "", where, "1h"), "of it from the cache"),
                (total(OUTPUT, "", where, "1h"), "output"),
            )
        )
        .with_panel(lines("Calls by model, 5 minutes", "short", (total(CALLS, MODEL, where, "5m"), legend)))
        .with_panel(lines("Call duration p95 by model", "s", (quantile(0.95, DURATION, MODEL, where, "1h"), legend)))
        .with_panel(lines("Tool runs, 5 minutes", "short", (total(TOOLS, "tool_name", where, "5m"), "{{tool_name}}")))
        .with_panel(
            lines("Failed tool runs", "percentunit", (share(TOOLS, "tool_name", FAILED, where), "{{tool_name}}"))
        )
    )


def claude_code() -> dashboard.Dashboard:
    return (
        _agent("claude-code", "Claude Code", "claude-code")
        .with_row(dashboard.Row("As Claude Code tells it"))
        .with_panel(number("Sessions", total("claude_code_session_count_total")))
        .with_panel(number("Lines of code", f"{total('claude_code_lines_of_code_count_total')} or vector(0)"))
        .with_panel(number("Active time", total("claude_code_active_time_seconds_total"), "s"))
        .with_panel(number("Cost it claims", total("claude_code_cost_usage_USD_total"), "currencyUSD"))
        .with_panel(
            lines(
                "Tokens by type, an hour",
                "short",
                (total("claude_code_token_usage_tokens_total", "type", "", "1h"), "{{type}}"),
            )
        )
        .with_panel(
            lines(
                "Edits by decision, an hour",
                "short",
                (
                    f"{total('claude_code_code_edit_tool_decision_total', 'decision', '', '1h')} or vector(0)",
                    "{{decision}}",
                ),
            )
        )
    )


def codex() -> dashboard.Dashboard:
    return (
        _agent("codex", "Codex", "codex")
        .with_row(dashboard.Row("As Codex tells it"))
        .with_panel(
            lines(
                "API requests, an hour", "short", (total("codex_api_request_total", "status", "", "1h"), "{{status}}")
            )
        )
        .with_panel(
            lines(
                "Turns p95",
                "ms",
                (quantile(0.95, "codex_turn_e2e_duration_ms_milliseconds", "", "", "1h"), "end to end"),
            )
        )
    )


def providers() -> dashboard.Dashboard:
    legend = f"{{{{{MODEL}}}}}"
    return (
        _head(board("llm-providers", "LLM providers", "Models and who serves them: tokens, time, errors, cost."))
        .with_panel(
            lines(
                "Token usage by model, an hour",
                "short",
                (total(INPUT, MODEL, "", "1h"), f"input {legend}"),
                (total(OUTPUT, MODEL, "", "1h"), f"output {legend}"),
            )
        )
        .with_panel(lines("Latency p95 by model", "s", (quantile(0.95, DURATION, MODEL, "", "1h"), legend)))
        .with_panel(lines("Error rate by model", "percentunit", (share(DURATION + "_count", MODEL, FAILED), legend)))
        .with_panel(lines("Cost by model, an hour", "currencyUSD", (total(COST, MODEL, "", "1h"), legend)))
        .with_panel(lines("Time to first chunk p95", "s", (quantile(0.95, FIRST, MODEL, "", "1h"), legend)))
        .with_panel(
            lines(
                "Calls by provider, 5 minutes",
                "short",
                (total(CALLS, "gen_ai_provider_name", "", "5m"), "{{gen_ai_provider_name}}"),
            )
        )
        .with_panel(pie("Errors by type", f"{total(CALLS, 'error_type', FAILED)}", "{{error_type}}"))
        .with_panel(
            pie(
                "Cost by kind",
                total(COST, "cost_kind, is_notional"),
                "{{cost_kind}}, notional {{is_notional}}",
                "currencyUSD",
            )
        )
        .with_panel(
            rows(
                "Providers",
                (total(COST, "gen_ai_provider_name"), "Cost"),
                (total(CALLS, "gen_ai_provider_name"), "Calls"),
                (share(CALLS, "gen_ai_provider_name", FAILED), "Failed"),
            )
        )
    )


def tools() -> dashboard.Dashboard:
    legend = "{{tool_name}}"
    by = "agent, tool_name"
    return (
        board("tools", "Tools", "What agents ran, how long it took and how often it failed.")
        .with_panel(number("Tool runs", total(TOOLS)))
        .with_panel(number("Failed", total(TOOLS, where=FAILED)))
        .with_panel(pie("By tool", total(TOOLS, "tool_name"), legend))
        .with_panel(pie("By agent", total(TOOLS, "agent"), "{{agent}}"))
        .with_panel(lines("Runs, 5 minutes", "short", (total(TOOLS, "tool_name", "", "5m"), legend)))
        .with_panel(lines("Duration p95", "s", (quantile(0.95, TOOL_TIME, "tool_name", "", "1h"), legend)))
        .with_panel(
            rows(
                "Tools",
                (total(TOOLS, "agent, tool_name"), "Runs"),
                (share(TOOLS, "agent, tool_name", FAILED), "Failed"),
                (
                    f"{total(TOOL_TIME + '_sum', by)} / {total(TOOL_TIME + '_count', by)}",
                    "Mean s",
                ),
                (quantile(0.95, TOOL_TIME, "agent, tool_name"), "p95 s"),
            )
        )
    )


def sessions() -> dashboard.Dashboard:
    calls = '{service_name=~".+"} | event_name="tachograph.call"'
    return (
        board("sessions", "Sessions", "Prompts, and the calls of each session with their traces.", has_logs=True)
        .with_panel(number("Prompts", total(PROMPTS)))
        .with_panel(number("Model calls", total(CALLS)))
        .with_panel(number("Calls a prompt", f"{total(CALLS)} / {total(PROMPTS)}", decimals=1))
        .with_panel(lines("Prompts by agent, an hour", "short", (total(PROMPTS, "agent", "", "1h"), "{{agent}}")))
        .with_panel(
            lines(
                "Prompt duration p95",
                "s",
                (quantile(0.95, "tachograph_prompt_duration_seconds", "agent", "", "1h"), "{{agent}}"),
            )
        )
        .with_panel(
            logged(
                "Cost by session",
                f"topk(20, sum by (session_id, agent) (sum_over_time({calls} | json | unwrap cost_usd [$__range])))",
            )
        )
        .with_panel(logged("Calls, with the ids of their traces", calls))
    )


BOARDS = {
    "agents": agents,
    "pi": pi,
    "claude-code": claude_code,
    "codex": codex,
    "llm-providers": providers,
    "tools": tools,
    "sessions": sessions,
}
