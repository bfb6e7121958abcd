"""What each of Tachograph's series must say, reckoned from the ledger's own tables and from the points that came in."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from tachograph.forwarders.prometheus_calls import MS_BOUNDS, SECOND_BOUNDS
from tachograph.forwarders.prometheus_series import bound_text
from tachograph.scan import Scan
from tachograph.store.contract import Store

Row = dict[str, Any]
Labels = dict[str, str]
Said = tuple[Labels, float]  # one record's part of a series
Key = tuple[tuple[str, str], ...]

CALL_COLUMNS = (
    "agent", "operation", "provider", "request_model", "model", "response_model", "environment", "status", "error_type",
    "http_status", "project", "channel", "input_tokens", "input_uncached_tokens", "output_tokens", "reasoning_tokens",
    "cache_read_tokens", "cache_write_tokens", "cost_nanousd", "cost_kind", "is_notional", "duration_ns", "ttft_ns",
)  # fmt: skip
_OF_CALLS: dict[str, Callable[[Row], float | None]] = {
    "tachograph_calls_total": lambda row: 1,
    "gen_ai_usage_input_tokens_total": lambda row: row["input_tokens"],
    "gen_ai_usage_output_tokens_total": lambda row: row["output_tokens"],
    "gen_ai_usage_cache_read_input_tokens_total": lambda row: row["cache_read_tokens"],
    "gen_ai_usage_cache_creation_input_tokens_total": lambda row: row["cache_write_tokens"],
    "gen_ai_usage_reasoning_output_tokens_total": lambda row: row["reasoning_tokens"],
    "gen_ai_usage_cost_USD_total": lambda row: None if row["cost_nanousd"] is None else row["cost_nanousd"] / 1e9,
    "pi_tokens_input_total": lambda row: row["input_uncached_tokens"] if row["agent"] == "pi" else None,
    "pi_tokens_output_total": lambda row: row["output_tokens"] if row["agent"] == "pi" else None,
    "pi_turns_total": lambda row: 1 if row["agent"] == "pi" and row["status"] == "ok" else None,
}
_TIMES = {"gen_ai_client_operation_duration_seconds": "duration_ns"}
_TIMES["gen_ai_client_operation_time_to_first_chunk_seconds"] = "ttft_ns"
# What came in as something else than the ledger's: its own name, and which part of it.
_CAME_AS = {
    "claude_code_session_count_total": ("claude_code.session.count", "value"),
    "claude_code_active_time_seconds_total": ("claude_code.active_time.total", "value"),
    "claude_code_cost_usage_USD_total": ("claude_code.cost.usage", "value"),
    "claude_code_token_usage_tokens_total": ("claude_code.token.usage", "value"),
    "claude_code_lines_of_code_count_total": ("claude_code.lines_of_code.count", "value"),
    "claude_code_commit_count_total": ("claude_code.commit.count", "value"),
    "claude_code_pull_request_count_total": ("claude_code.pull_request.count", "value"),
    "claude_code_code_edit_tool_decision_total": ("claude_code.code_edit_tool.decision", "value"),
    "codex_api_request_total": ("codex.api_request", "value"),
    "codex_tool_call_total": ("codex.tool.call", "value"),
    "codex_turn_token_usage_sum": ("codex.turn.token_usage", "sum"),
    "codex_turn_e2e_duration_ms_milliseconds_bucket": ("codex.turn.e2e_duration_ms", "count"),
    "codex_turn_ttft_duration_ms_milliseconds_bucket": ("codex.turn.ttft.duration_ms", "count"),
}


class Ledger:
    """The tables of a store, read once."""

    def __init__(self, store: Store) -> None:
        def rows(table: str, columns: Iterable[str]) -> list[Row]:
            return store.scan(Scan(table, {name: name for name in columns})).rows()

        self.calls = rows("calls", CALL_COLUMNS)
        self.sessions = rows("sessions", ("agent", "project", "prompts", "tool_runs", "tool_errors"))
        self.tools = rows("tool_runs", ("agent", "project", "tool_name", "start_ns", "end_ns", "is_error"))
        self._series = rows("series", ("series_id", "name", "temporality", "attributes"))
        self._samples = rows("samples", ("series_id", "start_ns", "time_ns", "value", "sum", "count", "buckets"))

    def says(self, metric: str, label_names: tuple[str, ...], keep: Callable[[Labels], bool]) -> dict[Key, float]:
        """The total by these labels of what matches; what is 0 is left out."""
        found: dict[Key, float] = defaultdict(float)
        for labels, value in self._said(metric):
            if keep(labels):
                found[tuple((name, labels.get(name, "")) for name in label_names)] += value
        return {labels: value for labels, value in found.items() if value}

    def _said(self, metric: str) -> Iterable[Said]:
        family, _, end = metric.rpartition("_")
        if metric in _OF_CALLS:
            told = ((row, _OF_CALLS[metric](row)) for row in self.calls)
            return [(call_labels(row), float(value)) for row, value in told if value is not None]
        if family in _TIMES:
            timed = ((row, row[_TIMES[family]]) for row in self.calls)
            return _histogram(end, SECOND_BOUNDS, [(call_labels(row), ns / 1e9) for row, ns in timed if ns is not None])
        if metric in ("tachograph_prompts_total", "pi_prompts_total"):
            rows = [row for row in self.sessions if metric.startswith("tacho") or row["agent"] == "pi"]
            return [({"agent": row["agent"], "project": row["project"]}, row["prompts"] or 0) for row in rows]
        if metric == "tachograph_prompt_duration_seconds_bucket":
            rows = self.sessions
            return [({"agent": row["agent"], "project": row["project"], "le": "+Inf"}, row["prompts"]) for row in rows]
        if metric == "pi_session_duration_seconds_bucket":
            return [({"le": "+Inf"}, 1.0) for row in self.sessions if row["agent"] == "pi" and row["prompts"]]
        if metric.startswith(("tachograph_tool_", "pi_tool_")):
            return self._of_tools(metric, family, end)
        return self._of_points(metric)

    def _of_tools(self, metric: str, family: str, end: str) -> Iterable[Said]:
        rows = [row for row in self.tools if metric.startswith("tacho") or row["agent"] == "pi"]
        told = [
            (
                {
                    "agent": row["agent"], "project": row["project"], "tool_name": row["tool_name"],
                    "error": "true" if row["is_error"] else "false",
                },
                row,
            )
            for row in rows
        ]  # fmt: skip
        if metric == "pi_tool_errors_total":
            return [(labels, 1.0) for labels, row in told if row["is_error"]]
        if metric in ("tachograph_tool_runs_total", "pi_tool_calls_total"):
            return [(labels, 1.0) for labels, _ in told]
        seconds = [(labels, max(0, row["end_ns"] - row["start_ns"]) / 1e9) for labels, row in told]
        if family == "pi_tool_duration_milliseconds":
            return _histogram(end, MS_BOUNDS, [(labels, value * 1e3) for labels, value in seconds])
        assert family == "tachograph_tool_duration_seconds", metric
        return _histogram(end, SECOND_BOUNDS, seconds)

    def _of_points(self, metric: str) -> Iterable[Said]:
        """Of a metric that came in: differences added up, and of totals the last of each process."""
        name, end = _CAME_AS[metric]
        chosen = {row["series_id"]: row for row in self._series if row["name"] == name}
        newest: dict[tuple[str, int], Row] = {}
        told: list[Said] = []
        for row in self._samples:
            series = chosen.get(row["series_id"])
            if series is not None and series["temporality"] == 1:
                told += _point(series, row, end)
            elif series is not None:
                last = newest.setdefault((row["series_id"], row["start_ns"]), row)
                if row["time_ns"] > last["time_ns"]:
                    newest[row["series_id"], row["start_ns"]] = row
        return told + [said for (series_id, _), row in newest.items() for said in _point(chosen[series_id], row, end)]


def call_labels(row: Row) -> Labels:
    """The labels of a call's series."""
    failed = row["status"] != "ok"
    error = row["error_type"] or row["http_status"] or ("aborted" if row["status"] == "aborted" else "_OTHER")
    return {
        "agent": row["agent"] or "unknown_service", "gen_ai_request_model": row["request_model"] or row["model"],
        "gen_ai_provider_name": row["provider"], "project": row["project"], "channel": row["channel"],
        "error": "true" if failed else "false", "error_type": str(error) if failed else "",
        "cost_kind": row["cost_kind"], "is_notional": "true" if row["is_notional"] else "false",
        "llm_model": row["model"],
    }  # fmt: skip


def _histogram(end: str, bounds: tuple[float, ...], values: list[Said]) -> Iterable[Said]:
    if end == "sum":
        return values
    if end == "count":
        return [(labels, 1.0) for labels, _ in values]
    assert end == "bucket"
    return [
        ({**labels, "le": bound_text(bound)}, 1.0)
        for labels, value in values
        for bound in (*bounds, float("inf"))[bisect_left(bounds, value) :]
    ]


def _point(series: Row, row: Row, part: str) -> Iterable[Said]:
    """What a sample of a series counted; of a histogram all of it, as its widest bucket has it."""
    texts = {str(name).replace(".", "_"): _text(value) for name, value in dict(series["attributes"] or {}).items()}
    yield (texts | {"le": "+Inf"} if part == "count" else texts), float(row[part] or 0)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
