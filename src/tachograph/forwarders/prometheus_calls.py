"""Model calls and steps as gains of series, the same for every agent and framework: tokens, cost, time and errors.

What the ledger merged and priced is counted once, whatever the source counted twice or not at all. A call that changes
later adds the difference. Names are the GenAI conventions'; counters of tokens and cost have those that dashboards
expect; what Pi's own metrics say is made for Pi from whatever it was seen by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from tachograph.forwarders.contract import AGAIN, Memory, Step
from tachograph.forwarders.prometheus_points import NamesOf
from tachograph.forwarders.prometheus_series import Gain
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN

PREFIX: Final = "call:"
_SESSION: Final = "session:"
KEEP_NS: Final = 7 * 24 * 3600 * 1_000_000_000  # a call that changes after that is not looked at again
PI: Final = "pi"
_PI_JOB: Final = "pi-coding-agent"  # as its own metrics have it
_S: Final = 1_000_000_000
_ERROR_CHARS: Final = 100
# Bounds as the conventions advise them for the two kinds of histogram.
TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
SECOND_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))
MS_BOUNDS: Final = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5)
SESSION_BOUNDS: Final = (10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0)

Row = dict[str, Any]

# Metrics made here: those of the same name that came in are left out, or the same would be counted twice.
DERIVED: Final = frozenset(
    (
        "gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk",
        "pi.prompts", "pi.turns", "pi.tool.calls", "pi.tool.errors", "pi.tokens.input", "pi.tokens.output",
        "pi.tool.duration", "pi.session.duration",
    )
)  # fmt: skip


class _Metric(NamedTuple):
    """A metric of ours. `of` is the column of `calls` that it counts, `bounds` = (): a counter."""

    name: str
    unit: str
    of: str
    help: str
    bounds: tuple[float, ...] = ()
    more: tuple[tuple[str, str], ...] = ()


_COUNTERS: Final = (
    _Metric("tachograph.calls", "", "", "Model calls."),
    _Metric("gen_ai.usage.input_tokens", "{token}", "input_tokens", "Input tokens, cache included."),
    _Metric("gen_ai.usage.output_tokens", "{token}", "output_tokens", "Output tokens, reasoning included."),
    _Metric("gen_ai.usage.cache_read.input_tokens", "{token}", "cache_read_tokens", "Input read from a cache."),
    _Metric("gen_ai.usage.cache_creation.input_tokens", "{token}", "cache_write_tokens", "Input written to a cache."),
    _Metric("gen_ai.usage.reasoning.output_tokens", "{token}", "reasoning_tokens", "Output that was reasoning."),
)
_COST: Final = _Metric("gen_ai.usage.cost", "USD", "cost_nanousd", "What calls cost, as the ledger has it.")
_HISTOGRAMS: Final = (
    _Metric(
        "gen_ai.client.token.usage", "{token}", "input_tokens", "Tokens of a call.", TOKEN_BOUNDS,
        (("gen_ai_token_type", "input"),),
    ),
    _Metric(
        "gen_ai.client.token.usage", "{token}", "output_tokens", "Tokens of a call.", TOKEN_BOUNDS,
        (("gen_ai_token_type", "output"),),
    ),
    _Metric("gen_ai.client.operation.duration", "s", "duration_ns", "How long calls took.", SECOND_BOUNDS),
    _Metric(
        "gen_ai.client.operation.time_to_first_chunk", "s", "ttft_ns", "Until the first of the answer.", SECOND_BOUNDS
    ),
)  # fmt: skip
_PI: Final = (
    _Metric("pi.tokens.input", "tokens", "input_uncached_tokens", "Input tokens, without the cache."),
    _Metric("pi.tokens.output", "tokens", "output_tokens", "Output tokens."),
)


class _Told(Struct, array_like=True):
    """What was counted of a call: its end, by number of the metric what was added."""

    end_ns: int
    values: dict[str, float]


class Calls:
    """Calls and steps while they are worked in; `job` "" = the agent."""

    def __init__(self, memory: Memory, names_of: NamesOf, job: str, keep: tuple[str, ...]) -> None:
        self._memory, self._names_of, self._job, self._keep = memory, names_of, job, keep
        self._is_again = memory.get(AGAIN) is not None

    def of_call(self, row: Row) -> list[Gain]:
        """What a row of `calls` adds to what was counted of it before."""
        if row.get("is_demo"):
            return []
        key = PREFIX + row["call_id"]
        packed = self._memory.get(key)
        told = msgspec.msgpack.decode(packed, type=_Told) if packed else _Told(0, {})
        measured = _measured(row, self._keep)
        gains = [gain for one in measured if (gain := self._gain(*one, row, told)) is not None]
        told.end_ns = row["end_ns"] or row["start_ns"] or 0
        self._memory.put(key, msgspec.msgpack.encode(told))
        return gains

    def _gain(self, metric: _Metric, value: float, labels: dict[str, str], row: Row, told: _Told) -> Gain | None:
        name = metric.name + "".join(f":{text}" for _, text in metric.more)
        before = told.values.get(name)
        if before == value or (metric.bounds and before is not None and value < before):
            return None  # a sum that goes down would be read as one that begins anew
        told.values[name] = value
        gain = self._made(metric, {**labels, **dict(metric.more)}, row["end_ns"] or row["start_ns"] or 0)
        gain.start_ns = row["start_ns"] or 0
        if metric.bounds:
            if before is None:
                _observe(gain, value)
            gain.sum = value - (before or 0)
        else:
            gain.value = value - (before or 0)
        return gain

    def _made(self, metric: _Metric, labels: dict[str, str], time_ns: int) -> Gain:
        is_counter = not metric.bounds
        names = self._names_of(metric.name, metric.unit, "sum" if is_counter else "histogram", is_counter)
        job = self._job or labels.get("job", "")
        told = {name: text for name, text in {**labels, "job": job}.items() if text}
        return Gain(
            names, "counter" if is_counter else "histogram", tuple(sorted(told.items())), time_ns,
            unit=metric.unit, help=metric.help, bounds=metric.bounds,
        )  # fmt: skip

    def of_step(self, step: Step) -> list[Gain]:
        """What a step that is over adds; model calls are counted as calls."""
        if not step.is_over or step.session.get("is_demo") or self._is_again:
            return []
        agent = str(step.session.get("agent") or "unknown_service")
        labels = {
            "job": agent, "service_name": agent, "agent": agent, "project": str(step.session.get("project") or ""),
        }  # fmt: skip
        return list(self._of_step(step, labels))

    def _of_step(self, step: Step, labels: dict[str, str]) -> Iterator[Gain]:
        failed = {"error": "true" if step.is_error else "false", "error_type": step.error_type if step.is_error else ""}
        seconds = max(0, step.end_ns - step.start_ns) / _S
        if step.role == TOOL_RUN:
            told = {**labels, "tool_name": step.tool_name or step.name, **failed}
            yield self._counted("tachograph.tool.runs", "Tool runs.", told, step)
            without = {name: text for name, text in told.items() if name != "project"}
            yield self._timed("tachograph.tool.duration", "s", SECOND_BOUNDS, seconds, without, step)
        elif step.role == PROMPT:
            yield self._counted("tachograph.prompts", "Things that users asked for.", labels, step)
            yield self._timed("tachograph.prompt.duration", "s", SESSION_BOUNDS, seconds, labels, step)
        if labels["agent"] == PI:
            yield from self._of_pi(step)

    def _of_pi(self, step: Step) -> Iterator[Gain]:
        labels = {"job": _PI_JOB, "service_name": _PI_JOB}
        if step.role == TOOL_RUN:
            labels["tool_name"] = step.tool_name or step.name
            yield self._counted("pi.tool.calls", "Tool runs.", labels, step)
            if step.is_error:
                yield self._counted("pi.tool.errors", "Tool runs that failed.", labels, step)
            length_ms = max(0, step.end_ns - step.start_ns) / 1e6
            yield self._timed("pi.tool.duration", "ms", MS_BOUNDS, length_ms, labels, step)
        elif step.role == PROMPT:
            yield self._counted("pi.prompts", "Prompts.", labels, step)
            yield from self._session(step, labels)
        elif step.role == MODEL_CALL and not step.is_error:  # each answer is a turn of Pi's
            yield self._counted("pi.turns", "Turns.", labels, step)

    def _session(self, step: Step, labels: dict[str, str]) -> Iterator[Gain]:
        """How long the session has lasted, once for each: at its first prompt, and what is added by later ones."""
        key = _SESSION + step.session_id
        start_ns = int(step.session.get("start_ns") or step.start_ns)
        before, end_ns = _lasted(self._memory.get(key))
        lasted = max((step.end_ns - start_ns) / _S, before or 0.0)
        self._memory.put(key, msgspec.msgpack.encode((lasted, max(step.end_ns, end_ns))))
        gain = self._timed("pi.session.duration", "s", SESSION_BOUNDS, lasted, labels, step)
        if before is not None:
            gain.sum, gain.count, gain.counts = lasted - before, 0, ()
        yield gain

    def _counted(self, name: str, what: str, labels: dict[str, str], step: Step) -> Gain:
        gain = self._made(_Metric(name, "", "", what), labels, step.end_ns or step.start_ns)
        gain.value = 1.0
        return gain

    def _timed(
        self, name: str, unit: str, bounds: tuple[float, ...], value: float, labels: dict[str, str], step: Step
    ) -> Gain:
        gain = self._made(_Metric(name, unit, "", "How long they took.", bounds), labels, step.end_ns or step.start_ns)
        gain.sum = value
        _observe(gain, value)
        return gain


def _observe(gain: Gain, value: float) -> None:
    """One value more, in the bucket that it belongs to."""
    counts = [0.0] * (len(gain.bounds) + 1)
    counts[bisect_left(gain.bounds, value)] = 1.0
    gain.count, gain.counts = 1, tuple(counts)


def _measured(row: Row, keep: tuple[str, ...]) -> Iterator[tuple[_Metric, float, dict[str, str]]]:
    """What a row says, each number with its metric and labels; one that no source told is no measurement."""
    failed = row["status"] != "ok"
    agent = row["agent"] or "unknown_service"
    labels = {
        "job": agent, "service_name": agent, "agent": agent, "gen_ai_operation_name": row["operation"] or "chat",
        "gen_ai_provider_name": row["provider"], "gen_ai_request_model": row["request_model"] or row["model"],
        "environment": row["environment"], "error": "true" if failed else "false",
        "error_type": _error_type(row) if failed else "", **{name: str(row.get(name) or "") for name in keep},
    }  # fmt: skip
    counted = labels | {"project": row["project"], "channel": row["channel"]}
    for metric in _COUNTERS:
        value = row[metric.of] if metric.of else 1
        if value is not None:
            yield metric, value, counted
    if row["cost_nanousd"] is not None:
        notional = "true" if row["is_notional"] else "false"
        cost = counted | {"cost_kind": row["cost_kind"], "is_notional": notional}
        yield _COST, row["cost_nanousd"] / _S, cost
    timed = labels | {"gen_ai_response_model": row["response_model"], "gen_ai_system": PI if agent == PI else ""}
    for metric in _HISTOGRAMS:
        if (value := row[metric.of]) is not None:
            yield metric, value / _S if metric.unit == "s" else value, timed
    if agent == PI:
        for metric in _PI:
            if (value := row[metric.of]) is not None:
                yield metric, value, {"job": _PI_JOB, "service_name": _PI_JOB, "llm_model": row["model"]}


def _error_type(row: Row) -> str:
    """The conventions' error.type."""
    found = row["error_type"] or row["http_status"] or ("aborted" if row["status"] == "aborted" else "_OTHER")
    return str(found)[:_ERROR_CHARS]


def _lasted(packed: bytes | None) -> tuple[float | None, int]:
    """How long a session was said to have lasted, None where nothing was, and when its last prompt ended."""
    if not packed:
        return None, 0
    told = msgspec.msgpack.decode(packed, type=float | tuple[float, int])
    return told if isinstance(told, tuple) else (told, 0)  # it was a number alone before


def forget(memory: Memory, now_ns: int) -> None:
    """Forget calls and sessions that ended long ago."""
    for key in memory.keys(PREFIX):
        packed = memory.get(key)
        if packed and msgspec.msgpack.decode(packed, type=_Told).end_ns < now_ns - KEEP_NS:
            memory.put(key, None)
    for key in memory.keys(_SESSION):
        if _lasted(memory.get(key))[1] < now_ns - KEEP_NS:
            memory.put(key, None)
