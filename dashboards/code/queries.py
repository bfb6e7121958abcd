"""The queries that count what Tachograph's series say, narrowed by what is chosen at the top of a board.

A total over the chosen time is the newest value of a series less its oldest, which is exact. `increase` adds what it
guesses at the edges, so it is asked only where a series began anew within that time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RANGE: Final = "$__range"
MODEL: Final = "gen_ai_request_model"
PROVIDER: Final = "gen_ai_provider_name"
AGENT, PROJECT, CHANNEL, TOOL = "agent", "project", "channel", "tool_name"

COST: Final = "gen_ai_usage_cost_USD_total"
INPUT: Final = "gen_ai_usage_input_tokens_total"
OUTPUT: Final = "gen_ai_usage_output_tokens_total"
CACHE_READ: Final = "gen_ai_usage_cache_read_input_tokens_total"
CACHE_WRITTEN: Final = "gen_ai_usage_cache_creation_input_tokens_total"
REASONING: Final = "gen_ai_usage_reasoning_output_tokens_total"
CALLS: Final = "tachograph_calls_total"
DURATION: Final = "gen_ai_client_operation_duration_seconds"
FIRST: Final = "gen_ai_client_operation_time_to_first_chunk_seconds"
TOOLS: Final = "tachograph_tool_runs_total"
TOOL_TIME: Final = "tachograph_tool_duration_seconds"
PROMPTS: Final = "tachograph_prompts_total"
PROMPT_TIME: Final = "tachograph_prompt_duration_seconds"
FAILED: Final = 'error="true"'

# What can be chosen, and the label that says it, of each metric that has it. Others are not narrowed.
_OF_A_CALL: Final = {"agent": AGENT, "model": MODEL, "provider": PROVIDER, "project": PROJECT, "channel": CHANNEL}
_OF_TIMES: Final = {"agent": AGENT, "model": MODEL, "provider": PROVIDER}
_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    **dict.fromkeys((COST, INPUT, OUTPUT, CACHE_READ, CACHE_WRITTEN, REASONING, CALLS), _OF_A_CALL),
    **dict.fromkeys((DURATION, FIRST), _OF_TIMES),
    TOOLS: {"agent": AGENT, "project": PROJECT, "tool": TOOL},
    TOOL_TIME: {"agent": AGENT, "tool": TOOL},
    PROMPTS: {"agent": AGENT, "project": PROJECT},
    PROMPT_TIME: {"agent": AGENT, "project": PROJECT},
    "pi_tokens_input_total": {"model": "llm_model"},
    "pi_tokens_output_total": {"model": "llm_model"},
    "claude_code_cost_usage_USD_total": {"model": "model"},
    "claude_code_token_usage_tokens_total": {"model": "model"},
    "claude_code_lines_of_code_count_total": {"model": "model"},
    "codex_api_request_total": {"model": "model"},
    "codex_tool_call_total": {"model": "model"},
    "codex_turn_e2e_duration_ms_milliseconds": {"model": "model"},
    "codex_turn_ttft_duration_ms_milliseconds": {"model": "model"},
    "codex_turn_token_usage": {"model": "model"},
}


def labels_of(metric: str) -> Mapping[str, str]:
    """The label by what can be chosen, of a metric with or without the end that a histogram's series have."""
    for end in ("_bucket", "_sum", "_count"):
        if metric.removesuffix(end) in _LABELS:
            return _LABELS[metric.removesuffix(end)]
    return {}


class Queries:
    """Queries of one board: `chosen` are its variables, `agent` is the only one that it is about, if it is."""

    def __init__(self, chosen: tuple[str, ...] = (), agent: str = "") -> None:
        self.chosen, self.agent = chosen, agent

    def where(self, metric: str, more: str = "") -> str:
        """The matchers of a metric's series."""
        labels = labels_of(metric)
        told = [f'agent="{self.agent}"'] if self.agent and "agent" in labels else []
        told += [f'{labels[name]}=~"${name}"' for name in self.chosen if name in labels]
        return ", ".join((*told, *filter(None, (more,))))

    def grown(self, metric: str, more: str = "", window: str = RANGE) -> str:
        """How much each series grew in the window."""
        series = f"{metric}{{{self.where(metric, more)}}}[{window}]"
        return f"max_over_time({series}) - min_over_time({series}) unless resets({series}) > 0 or increase({series})"

    def total(self, metric: str, by: str = "", more: str = "", window: str = RANGE) -> str:
        """How much a counter grew in the window."""
        grown = self.grown(metric, more, window)
        return f"sum by ({by}) ({grown})" if by else f"sum({grown})"

    def tokens(self, by: str = "", window: str = RANGE) -> str:
        """Input and output together; an embedding has no output."""
        output = f'label_replace({self.grown(OUTPUT, "", window)}, "part", "output", "", "")'
        both = f"({self.grown(INPUT, '', window)}) or {output}"
        return f"sum by ({by}) ({both})" if by else f"sum({both})"

    def share(self, metric: str, by: str, part: str, more: str = "", window: str = RANGE) -> str:
        """Which part of what a counter counted has the labels `part`, from 0 to 1; 0 where nothing has."""
        both = self.total(metric, by, more, window)
        some = self.total(metric, by, ", ".join(filter(None, (more, part))), window)
        return f"({some} or {both} * 0) / ({both} > 0)"

    def ratio(self, metric: str, to: str, by: str = "", window: str = RANGE) -> str:
        """One counter for each of another; 0 where the first counted nothing, and nothing where the other did not."""
        below = self.total(to, by, "", window)
        return f"({self.total(metric, by, '', window)} or {below} * 0) / ({below} > 0)"

    def uncached(self, by: str = "", window: str = RANGE) -> str:
        """Input tokens that were neither read from a cache nor written to one."""
        given = self.total(INPUT, by, "", window)
        read, written = (self.total(metric, by, "", window) for metric in (CACHE_READ, CACHE_WRITTEN))
        return f"{given} - ({read} or {given} * 0) - ({written} or {given} * 0)"

    def mean(self, histogram: str, by: str, more: str = "", window: str = RANGE) -> str:
        """The mean of a histogram."""
        count = self.total(f"{histogram}_count", by, more, window)
        return f"{self.total(f'{histogram}_sum', by, more, window)} / ({count} > 0)"

    def quantile(self, at: float, histogram: str, by: str, more: str = "", window: str = RANGE) -> str:
        """A quantile of a histogram."""
        labels = f"le, {by}" if by else "le"
        return f"histogram_quantile({at}, {self.total(f'{histogram}_bucket', labels, more, window)})"
