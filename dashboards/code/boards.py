"""The dashboards: what stands on each of them."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from panels import Board, Column, failing, lines, logged, number, pie, ranked, rows
from queries import (
    AGENT,
    CACHE_READ,
    CACHE_WRITTEN,
    CALLS,
    CHANNEL,
    COST,
    DURATION,
    FAILED,
    FIRST,
    INPUT,
    MODEL,
    OUTPUT,
    PROJECT,
    PROMPT_TIME,
    PROMPTS,
    PROVIDER,
    REASONING,
    TOOL,
    TOOL_TIME,
    TOOLS,
    Queries,
)

USD = "currencyUSD"
SHARE = "percentunit"
GUESSED = "Guessed between the bounds of buckets."
BY_MODEL = f"{{{{{MODEL}}}}}"


def _head(on: Board) -> None:
    """The numbers at the top of a page."""
    ask = on.ask
    first = number("First chunk p95", ask.quantile(0.95, FIRST, ""), "s", GUESSED)
    if ask.agent == "pi":  # it does not tell when an answer begins
        first = number("Cost of a prompt", ask.ratio(COST, PROMPTS), USD, decimals=4)
    on.put(
        number("Cost", ask.total(COST), USD, "By the ledger: caches, tiers and what was billed are in it."),
        number("Model calls", ask.total(CALLS)),
        failing("Failed calls", ask.share(CALLS, "", FAILED)),
        number("Input tokens", ask.total(INPUT), "short", "Caches included."),
        number("Output tokens", ask.total(OUTPUT), "short", "Reasoning included."),
        number("Tool runs", f"{ask.total(TOOLS)} or vector(0)"),
        number("Cost of a call", ask.ratio(COST, CALLS), USD, decimals=4),
        number("Read from caches", ask.ratio(CACHE_READ, INPUT), SHARE, "Of the input tokens.", 1),
        number("Call duration p95", ask.quantile(0.95, DURATION, ""), "s", GUESSED),
        first,
        number("Prompts", f"{ask.total(PROMPTS)} or vector(0)"),
        failing("Failed tool runs", f"{ask.share(TOOLS, '', FAILED)} or vector(0)"),
    )


def _token_types(ask: Queries, span: int = 12) -> object:
    """What all tokens were, each once."""
    return lines(
        "Tokens by type, an hour",
        "short",
        (ask.uncached("", "1h"), "input, no cache"),
        (ask.total(CACHE_READ, "", "", "1h"), "cache read"),
        (ask.total(CACHE_WRITTEN, "", "", "1h"), "cache written"),
        (f"{ask.total(OUTPUT, '', '', '1h')} - ({ask.total(REASONING, '', '', '1h')} or vector(0))", "output"),
        (ask.total(REASONING, "", "", "1h"), "reasoning"),
        span=span,
        is_stacked=True,
    )


def _cached(ask: Queries, by: str, legend: str, span: int = 12) -> object:
    return lines(
        "Read from caches, an hour", SHARE, (ask.ratio(CACHE_READ, INPUT, by, "1h"), legend),
        what="Of the input tokens of an hour.", span=span,
    )  # fmt: skip


def _tool_panels(on: Board) -> None:
    ask, legend = on.ask, "{{tool_name}}"
    on.put(
        lines("Tool runs, 5 minutes", "short", (ask.total(TOOLS, TOOL, "", "5m"), legend), span=8, is_stacked=True),
        lines("Tool duration p95", "s", (ask.quantile(0.95, TOOL_TIME, TOOL, "", "1h"), legend), what=GUESSED, span=8),
        lines("Failed tool runs, an hour", SHARE, (ask.share(TOOLS, TOOL, FAILED, "", "1h"), legend), span=8),
    )


def agents() -> Board:
    ask = Queries(("agent", "model", "project", "channel"))
    on = Board("agents", "Agents", "What all agents did, what it cost and what went wrong.", ask)
    _head(on)
    for label, name in ((AGENT, "agent"), (MODEL, "model"), (PROJECT, "project"), (CHANNEL, "channel")):
        legend = f"{{{{{label}}}}}"
        on.row(f"By {name}")
        on.put(
            lines(f"Cost by {name}, an hour", USD, (ask.total(COST, label, "", "1h"), legend), span=8, is_stacked=True),
            lines(f"Tokens by {name}, an hour", "short", (ask.tokens(label, "1h"), legend), span=8, is_stacked=True),
            lines(
                f"Failed calls by {name}, an hour",
                "short",
                (f"{ask.total(CALLS, label, FAILED, '1h')} or {ask.total(CALLS, label, '', '1h')} * 0", legend),
                span=8,
            ),
            rows(
                f"Totals by {name}",
                {label: name.capitalize()},
                Column(ask.total(COST, label), "Cost", USD),
                Column(ask.total(CALLS, label), "Calls"),
                Column(ask.share(CALLS, label, FAILED), "Failed", SHARE),
                Column(ask.total(INPUT, label), "Input tokens"),
                Column(ask.total(OUTPUT, label), "Output tokens"),
                Column(ask.ratio(CACHE_READ, INPUT, label), "Read from caches", SHARE),
                link=f"/calls?q={name}%3A%22${{__value.raw:percentencode}}%22",
            ),
        )
    on.row("Tokens and errors")
    on.put(
        _token_types(ask),
        _cached(ask, AGENT, "{{agent}}"),
        lines(
            "Failed calls by what went wrong, an hour",
            "short",
            (ask.total(CALLS, "agent, error_type", FAILED, "1h"), "{{agent}} {{error_type}}"),
        ),
        lines(
            "Call duration p95 by agent", "s",
            (ask.quantile(0.95, DURATION, AGENT, "", "1h"), "{{agent}}"), what=GUESSED,
        ),
    )  # fmt: skip
    return on


def pi() -> Board:
    ask = Queries(("model", "project", "channel"), "pi")
    on = Board("pi", "Pi", "Pi, whether it was seen by its extension, its plug-in or its files.", ask)
    own = 'service_name="pi-coding-agent"'  # Prometheus keeps `job` for itself where it scrapes
    given, answered = "pi_tokens_input_total", "pi_tokens_output_total"
    _head(on)
    on.row("What Pi counts")
    on.put(
        number("Prompts", ask.total("pi_prompts_total", "", own)),
        number("Turns", ask.total("pi_turns_total", "", own)),
        number("Tool calls", ask.total("pi_tool_calls_total", "", own)),
        number("Tool errors", f"{ask.total('pi_tool_errors_total', '', own)} or vector(0)"),
        number("Input tokens, uncached", ask.total(given, "", own)),
        number("Output tokens", ask.total(answered, "", own)),
        lines(
            "Tokens a minute",
            "short",
            (f"{ask.total(given, '', own, '5m')} / 5", "input"),
            (f"{ask.total(answered, '', own, '5m')} / 5", "output"),
        ),
        lines(
            "Tokens by model, an hour",
            "short",
            (
                f"sum by (llm_model) (({ask.grown(given, own, '1h')}) or"
                f' label_replace({ask.grown(answered, own, "1h")}, "part", "output", "", ""))',
                "{{llm_model}}",
            ),
            is_stacked=True,
        ),
        lines(
            "Prompts and turns, 5 minutes",
            "short",
            (ask.total("pi_prompts_total", "", own, "5m"), "prompts"),
            (ask.total("pi_turns_total", "", own, "5m"), "turns"),
        ),
        lines(
            "Session duration",
            "s",
            *(
                (ask.quantile(at, "pi_session_duration_seconds", "", own, "1h"), f"p{at * 100:.0f}")
                for at in (0.5, 0.95)
            ),
            what=f"A session counts when its first prompt is over. {GUESSED}",
        ),
    )
    on.row("Tools")
    _pi_tools(on, own)
    on.row("Models")
    on.put(
        lines("Cost by model, an hour", USD, (ask.total(COST, MODEL, "", "1h"), BY_MODEL), is_stacked=True),
        lines(
            "Call duration p95 by model", "s", (ask.quantile(0.95, DURATION, MODEL, "", "1h"), BY_MODEL), what=GUESSED
        ),
        _token_types(ask),
        _cached(ask, MODEL, BY_MODEL),
    )
    return on


def _pi_tools(on: Board, own: str) -> None:
    ask, runs, failed = on.ask, "pi_tool_calls_total", "pi_tool_errors_total"
    took, by, legend = "pi_tool_duration_milliseconds", "tool_name", "{{tool_name}}"
    on.put(
        pie("Tool calls by tool", ask.total(runs, by, own), legend),
        lines("Tool calls, 5 minutes", "short", (ask.total(runs, by, own, "5m"), legend), span=8, is_stacked=True),
        lines(
            "Tool errors, 5 minutes", "short",
            (f"{ask.total(failed, by, own, '5m')} or {ask.total(runs, by, own, '5m')} * 0", legend), span=8,
        ),
        lines(
            "Tool duration", "ms",
            *((ask.quantile(at, took, by, own, "1h"), f"p{at * 100:.0f} {legend}") for at in (0.5, 0.95)),
            what=GUESSED, span=24,
        ),
        rows(
            "Tools", {by: "Tool"},
            Column(ask.total(runs, by, own), "Calls"),
            Column(ask.mean(took, by, own), "Mean", "ms"),
            Column(ask.quantile(0.95, took, by, own), "p95", "ms"),
            Column(
                f"({ask.total(failed, by, own)} or {ask.total(runs, by, own)} * 0) / ({ask.total(runs, by, own)} > 0)",
                "Failed", SHARE,
            ),
        ),
    )  # fmt: skip


def _agent(uid: str, title: str, name: str) -> Board:
    ask = Queries(("model", "project"), name)
    on = Board(uid, title, f"What {title} did, by the ledger and by its own metrics.", ask)
    _head(on)
    on.row("By the ledger")
    on.put(
        lines("Cost by model, an hour", USD, (ask.total(COST, MODEL, "", "1h"), BY_MODEL), is_stacked=True),
        lines("Cost by project, an hour", USD, (ask.total(COST, PROJECT, "", "1h"), "{{project}}"), is_stacked=True),
        _token_types(ask),
        _cached(ask, MODEL, BY_MODEL),
        lines("Calls by model, 5 minutes", "short", (ask.total(CALLS, MODEL, "", "5m"), BY_MODEL), is_stacked=True),
        lines(
            "Call duration p95 by model", "s", (ask.quantile(0.95, DURATION, MODEL, "", "1h"), BY_MODEL), what=GUESSED
        ),
    )
    on.row("Tools")
    _tool_panels(on)
    return on


def claude_code() -> Board:
    on = _agent("claude-code", "Claude Code", "claude-code")
    ask = on.ask
    total, lines_changed = ask.total, "claude_code_lines_of_code_count_total"
    edits = "claude_code_code_edit_tool_decision_total"
    on.row("As Claude Code tells it")
    on.put(
        number("Sessions", total("claude_code_session_count_total")),
        number("Active time", total("claude_code_active_time_seconds_total"), "s"),
        number("Cost it claims", total("claude_code_cost_usage_USD_total"), USD),
        number("Lines of code", f"{total(lines_changed)} or vector(0)", "short", "Added and removed."),
        number("Commits", f"{total('claude_code_commit_count_total')} or vector(0)"),
        number("Pull requests", f"{total('claude_code_pull_request_count_total')} or vector(0)"),
        lines(
            "Tokens by type, an hour", "short",
            (total("claude_code_token_usage_tokens_total", "type", "", "1h"), "{{type}}"), is_stacked=True,
        ),
        lines(
            "Cost by who asked, an hour", USD,
            (total("claude_code_cost_usage_USD_total", "query_source", "", "1h"), "{{query_source}}"),
            what="The main agent, a sub-agent, or what Claude Code asks for itself.", is_stacked=True,
        ),
        lines("Lines of code, an hour", "short", (total(lines_changed, "type", "", "1h"), "{{type}}"), span=8),
        lines(
            "Edits by decision, an hour", "short",
            (total(edits, "tool_name, decision", "", "1h"), "{{tool_name}} {{decision}}"),
            span=8,
        ),
        lines(
            "Active time, an hour", "s",
            (total("claude_code_active_time_seconds_total", "type", "", "1h"), "{{type}}"),
            what="Of the person at the keyboard (user) and of Claude Code (cli).", span=8,
        ),
    )  # fmt: skip
    return on


def codex() -> Board:
    on = _agent("codex", "Codex", "codex")
    ask = on.ask
    took, first = "codex_turn_e2e_duration_ms_milliseconds", "codex_turn_ttft_duration_ms_milliseconds"
    on.row("As Codex tells it")
    on.put(
        lines(
            "API requests by status, an hour", "short",
            (ask.total("codex_api_request_total", "status", "", "1h"), "{{status}}"), is_stacked=True,
        ),
        lines(
            "Turns", "ms",
            *((ask.quantile(at, took, "", "", "1h"), f"p{at * 100:.0f}, end to end") for at in (0.5, 0.95)),
            (ask.quantile(0.95, first, "", "", "1h"), "p95, first token"), what=GUESSED,
        ),
        lines(
            "Tokens of turns by type, an hour", "short",
            (ask.total("codex_turn_token_usage_sum", "token_type", 'token_type!="total"', "1h"), "{{token_type}}"),
            what="Cached input is part of input, and reasoning of output.",
        ),
        lines(
            "Tool calls by whether they succeeded, an hour", "short",
            (ask.total("codex_tool_call_total", "tool, success", "", "1h"), "{{tool}} {{success}}"),
        ),
    )  # fmt: skip
    return on


def providers() -> Board:
    ask = Queries(("provider", "model", "agent"))
    on = Board("llm-providers", "LLM providers", "Models and who serves them: tokens, time, errors, cost.", ask)
    _head(on)
    on.row("By model")
    on.put(
        lines(
            "Token usage by model, an hour", "short",
            (ask.total(INPUT, MODEL, "", "1h"), f"input {BY_MODEL}"),
            (ask.total(OUTPUT, MODEL, "", "1h"), f"output {BY_MODEL}"),
        ),
        lines("Latency p95 by model", "s", (ask.quantile(0.95, DURATION, MODEL, "", "1h"), BY_MODEL), what=GUESSED),
        lines("Error rate by model", SHARE, (ask.share(f"{DURATION}_count", MODEL, FAILED, "", "1h"), BY_MODEL)),
        lines(
            "Cost by model, an hour", USD, (ask.total(COST, MODEL, "", "1h"), BY_MODEL),
            what="By the ledger, not from a constant.", is_stacked=True,
        ),
        lines("Time to first chunk p95", "s", (ask.quantile(0.95, FIRST, MODEL, "", "1h"), BY_MODEL), what=GUESSED),
        lines(
            "Output tokens a second", "short",
            (f"{ask.total(OUTPUT, MODEL, '', '1h')} / ({ask.total(f'{DURATION}_sum', MODEL, '', '1h')} > 0)", BY_MODEL),
            what="Of the time that calls took, until their end.",
        ),
        _token_types(ask),
        _cached(ask, MODEL, BY_MODEL),
        rows(
            "Models", {MODEL: "Model"},
            Column(ask.total(COST, MODEL), "Cost", USD),
            Column(ask.total(CALLS, MODEL), "Calls"),
            Column(ask.share(CALLS, MODEL, FAILED), "Failed", SHARE),
            Column(ask.mean(DURATION, MODEL), "Mean duration", "s"),
            Column(ask.quantile(0.5, DURATION, MODEL), "p50", "s"),
            Column(ask.quantile(0.95, DURATION, MODEL), "p95", "s"),
            link="/calls?q=model%3A%22${__value.raw:percentencode}%22", what=GUESSED,
        ),
    )  # fmt: skip
    on.row("By provider")
    on.put(
        lines(
            "Calls by provider, 5 minutes", "short",
            (ask.total(CALLS, PROVIDER, "", "5m"), f"{{{{{PROVIDER}}}}}"), span=8, is_stacked=True,
        ),
        pie("Errors by type", ask.total(CALLS, "error_type", FAILED), "{{error_type}}"),
        pie(
            "Cost by kind", ask.total(COST, "cost_kind, is_notional"), "{{cost_kind}}, notional {{is_notional}}", USD,
            "Who said what it cost; what a subscription has paid is notional.",
        ),
        rows(
            "Providers", {PROVIDER: "Provider"},
            Column(ask.total(COST, PROVIDER), "Cost", USD),
            Column(ask.total(CALLS, PROVIDER), "Calls"),
            Column(ask.share(CALLS, PROVIDER, FAILED), "Failed", SHARE),
            Column(ask.quantile(0.95, DURATION, PROVIDER), "p95", "s"),
            link="/calls?q=provider%3A%22${__value.raw:percentencode}%22",
        ),
    )  # fmt: skip
    return on


def tools() -> Board:
    ask, by, legend = Queries(("agent", "project", "tool")), "agent, tool_name", "{{tool_name}}"
    on = Board("tools", "Tools", "What agents ran, how long it took and how often it failed.", ask)
    on.put(
        number("Tool runs", ask.total(TOOLS)).span(6),
        failing("Failed", ask.share(TOOLS, "", FAILED)).span(6),
        number("Mean duration", ask.mean(TOOL_TIME, ""), "s").span(6),
        number("Duration p95", ask.quantile(0.95, TOOL_TIME, ""), "s", GUESSED).span(6),
        pie("By tool", ask.total(TOOLS, TOOL), legend),
        pie("By agent", ask.total(TOOLS, AGENT), "{{agent}}"),
        pie("By project", ask.total(TOOLS, PROJECT), "{{project}}"),
    )
    _tool_panels(on)
    on.put(
        rows(
            "Tools", {TOOL: "Tool", AGENT: "Agent"},
            Column(ask.total(TOOLS, by), "Runs"),
            Column(ask.share(TOOLS, by, FAILED), "Failed", SHARE),
            Column(ask.total(f"{TOOL_TIME}_sum", by), "Time", "s"),
            Column(ask.mean(TOOL_TIME, by), "Mean", "s"),
            Column(ask.quantile(0.5, TOOL_TIME, by), "p50", "s"),
            Column(ask.quantile(0.95, TOOL_TIME, by), "p95", "s"),
            what=GUESSED,
        ),
        lines(
            "Failed runs by what went wrong, an hour", "short",
            (ask.total(TOOLS, "tool_name, error_type", FAILED, "1h"), "{{tool_name}} {{error_type}}"), span=24,
        ),
    )  # fmt: skip
    return on


def sessions() -> Board:
    ask = Queries(("agent", "project"))
    on = Board("sessions", "Sessions", "Prompts, and the calls of each session with their traces.", ask, has_logs=True)
    calls = '{service_name=~".+", agent=~"$agent"} | event_name="tachograph.call" | project=~"$project" | json'
    on.put(
        number("Prompts", f"{ask.total(PROMPTS)} or vector(0)"),
        number("Model calls", ask.total(CALLS)),
        number("Calls of a prompt", ask.ratio(CALLS, PROMPTS), decimals=1),
        number("Cost of a prompt", ask.ratio(COST, PROMPTS), USD, decimals=4),
        number("Prompt duration p50", ask.quantile(0.5, PROMPT_TIME, ""), "s", GUESSED),
        number("Prompt duration p95", ask.quantile(0.95, PROMPT_TIME, ""), "s", GUESSED),
        lines(
            "Prompts by agent, an hour", "short", (ask.total(PROMPTS, AGENT, "", "1h"), "{{agent}}"), is_stacked=True
        ),
        lines(
            "Prompt duration p95 by agent", "s", (ask.quantile(0.95, PROMPT_TIME, AGENT, "", "1h"), "{{agent}}"),
            what=GUESSED,
        ),
    )  # fmt: skip
    on.row("Each session, asked of Loki")
    on.put(
        ranked(
            "Sessions that cost most",
            f"topk(20, sum by (session_id, agent, project) (sum_over_time({calls} | unwrap cost_usd [$__range])))",
            {"session_id": "Session", "agent": "Agent", "project": "Project"},
            Column("", "Cost", USD),
        ),
        logged("Calls, with their traces", calls, "The newest 500."),
    )
    return on


def built() -> dict[str, dashboard.Dashboard]:
    """Every dashboard, by the name of its file."""
    made = {
        "agents": agents, "pi": pi, "claude-code": claude_code, "codex": codex, "llm-providers": providers,
        "tools": tools, "sessions": sessions,
    }  # fmt: skip
    return {name: make().made for name, make in made.items()}
