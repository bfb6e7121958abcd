"""What arrives from whom and since when, what is missing of it, and the line that turns it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from tachograph.questions.counting import usage
from tachograph.scan import Agg, Any_, Bucket, Match, Reader, Scan

TRACES, LOGS, METRICS, TRANSCRIPTS, HOOKS = "traces", "logs", "metrics", "transcripts", "hooks"
_ORIGINS: Final = {"log": LOGS, "transcript": TRANSCRIPTS, "hook": HOOKS}
# Contents of these slots are what a person said or read; long attributes without a slot are not.
_SPOKEN: Final = ("input", "output", "prompt", "response")
_OF_MODELS: Final = ("gen_ai.", "llm.")  # how metrics of model calls begin


class Signal(Struct):
    """What came of one kind: how many records, and from when to when."""

    count: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a group of records."""
        self.count += row["count"]
        self.first_ns = min((t for t in (self.first_ns, row["first_ns"]) if t), default=None)
        self.last_ns = max((t for t in (self.last_ns, row["last_ns"]) if t), default=None)


class Arrival(Struct):
    """Who sends: one service, by the name and version that it gives itself."""

    service: str
    version: str = ""
    agents: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    dialects: list[str] = field(default_factory=list)
    signals: dict[str, Signal] = field(default_factory=dict)
    has_content: bool = False
    has_models: bool = False  # its metrics tell of model calls

    @property
    def last_ns(self) -> int:
        """When its newest record is from."""
        return max((signal.last_ns or 0 for signal in self.signals.values()), default=0)


class Finding(Struct):
    """Something missing: `who`, `what` is missing and what that costs, `lines` that turn it on and `where` they go."""

    rule: str
    who: str
    what: str
    lines: list[str] = field(default_factory=list)
    where: str = ""
    agent: str = ""  # whose settings would have to change


class Rule(NamedTuple):
    """When an arrival lacks something that its client could send; the facts of each client are data."""

    name: str
    agent: str
    lacks: Callable[[Arrival], bool]
    what: str
    lines: tuple[str, ...]
    where: str


def _lacks(signal: str) -> Callable[[Arrival], bool]:
    """Telemetry comes, but not this signal."""
    return lambda arrival: signal not in arrival.signals and bool(arrival.signals.keys() & {TRACES, LOGS, METRICS})


def _lacks_content(arrival: Arrival) -> bool:
    return not arrival.has_content and bool(arrival.signals.keys() & {TRACES, LOGS})


_SHELL: Final = "the environment of the agent"
_CODEX: Final = "~/.codex/config.toml, in the table [otel]"
RULES: Final = (
    Rule(
        "claude-code-traces",
        "claude-code",
        _lacks(TRACES),
        "no traces: prompts, turns and sub-agents cannot be told apart",
        ("CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1", "OTEL_TRACES_EXPORTER=otlp"),
        _SHELL,
    ),
    Rule(
        "claude-code-logs",
        "claude-code",
        _lacks(LOGS),
        "no logs: its own cost estimates, failed attempts and permissions are not seen",
        ("OTEL_LOGS_EXPORTER=otlp",),
        _SHELL,
    ),
    Rule(
        "claude-code-metrics",
        "claude-code",
        _lacks(METRICS),
        "no metrics: lines of code, commits and active time are not seen",
        ("OTEL_METRICS_EXPORTER=otlp",),
        _SHELL,
    ),
    Rule(
        "claude-code-content",
        "claude-code",
        _lacks_content,
        "no texts: prompts, answers and tool arguments are hidden by Claude Code",
        ("OTEL_LOG_USER_PROMPTS=1", "OTEL_LOG_TOOL_DETAILS=1"),
        _SHELL,
    ),
    Rule(
        "codex-logs",
        "codex",
        _lacks(LOGS),
        "no logs: tool results and prompts are not seen",
        ('exporter = { otlp-http = { endpoint = "http://127.0.0.1:4318/v1/logs", protocol = "binary" } }',),
        _CODEX,
    ),
    Rule(
        "codex-traces",
        "codex",
        _lacks(TRACES),
        "no traces: the tokens of single calls and their times are not seen",
        ('trace_exporter = { otlp-http = { endpoint = "http://127.0.0.1:4318/v1/traces", protocol = "binary" } }',),
        _CODEX,
    ),
    Rule(
        "codex-metrics",
        "codex",
        _lacks(METRICS),
        "no metrics: Codex' own durations and counters are not seen",
        ('metrics_exporter = { otlp-http = { endpoint = "http://127.0.0.1:4318/v1/metrics", protocol = "binary" } }',),
        _CODEX,
    ),
    Rule(
        "gemini-cli-traces",
        "gemini-cli",
        _lacks(TRACES),
        "no traces: prompts, system prompt and tool outputs are not seen",
        ('"telemetry": { "enabled": true, "traces": true, "target": "local" }',),
        "~/.gemini/settings.json",
    ),
    Rule(
        "copilot-content",
        "copilot",
        _lacks_content,
        "no texts: prompts and answers are hidden by Copilot",
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true",),
        f"{_SHELL}; in VS Code the setting github.copilot.chat.otel.captureContent",
    ),
    Rule(
        "opencode-traces",
        "opencode",
        _lacks(TRACES),
        "no traces: model calls and their tokens are not seen",
        ('"experimental": { "openTelemetry": true }',),
        "opencode.json",
    ),
    Rule(
        "openclaw-traces",
        "openclaw",
        _lacks(TRACES),
        "no traces: model calls and tool runs are not seen",
        ("diagnostics: { enabled: true, otel: { enabled: true, traces: true } }",),
        "~/.openclaw/openclaw.json, with the plugin diagnostics-otel",
    ),
)


def arrivals(reader: Reader) -> list[Arrival]:
    """Who has sent what, the newest first."""
    found: dict[tuple[str, str], Arrival] = {}
    sources = {row["source_id"]: row for row in reader.scan(_SOURCES).rows()}
    for signal, row in _groups(reader):
        source = sources.get(row["source_id"], {"service": "", "service_version": "", "scope_name": ""})
        key = (source["service"] or source["scope_name"] or "unknown service", source["service_version"])
        arrival = found.setdefault(key, Arrival(*key))
        arrival.signals.setdefault(signal, Signal()).add(row)
        arrival.has_content = arrival.has_content or bool(row.get("has_content"))
        arrival.has_models = arrival.has_models or bool(row.get("has_models"))
        for known, value in (
            (arrival.scopes, source["scope_name"]),
            (arrival.dialects, row.get("dialect")),
            (arrival.agents, row.get("agent")),
        ):
            if value and value not in known:
                known.append(value)
    return sorted(found.values(), key=lambda arrival: (-arrival.last_ns, arrival.service))


def first_since(reader: Reader, agent: str, since_ns: int) -> int | None:
    """When the first is from that an agent or our plug-in in it sent; None where nothing came. Files do not count."""
    sent = Match("origin", "!=", "transcript")
    asked = (("spans", "start_ns", ()), ("events", "time_ns", (sent,)))
    firsts = [
        reader.scan(
            Scan(table, {"first": Agg("min", time)}, (Match("agent", "=", agent), Match(time, ">=", since_ns), *more))
        ).data["first"]
        for table, time, more in asked
    ]
    return min((value for column in firsts for value in column if value), default=None)


def findings(reader: Reader, arrived: Sequence[Arrival] | None = None, has_content: bool = True) -> list[Finding]:
    """What is missing, by the rules above and by the state of the calls.

    `has_content` is whether texts are kept here at all: without, nobody is told to send them.
    """
    who = arrivals(reader) if arrived is None else arrived
    missing = [
        Finding(rule.name, arrival.service, rule.what, list(rule.lines), rule.where, rule.agent)
        for arrival in who
        for rule in RULES
        if _is_of(arrival, rule.agent) and (has_content or rule.lacks is not _lacks_content) and rule.lacks(arrival)
    ]
    return [*missing, *_of_calls(reader), *_metrics_only(who)]


def _of_calls(reader: Reader) -> Iterable[Finding]:
    """Calls without a price, without tokens, or without a session."""
    told = (Match("input_tokens", "not_null"),)  # the others lack tokens, whatever their price is
    for row in usage(reader, ("provider", "model"), where=told)["rows"]:
        if row["unpriced_calls"] and row["model"] and not row["cost_usd"]:
            name = f"{row['provider']}/{row['model']}" if row["provider"] else row["model"]
            yield Finding(
                "unpriced",
                name,
                f"{_calls(row['unpriced_calls'])} without a price",
                [],
                "prices.toml in the home folder, if you know what they cost",
            )
    for row in usage(reader, "agent")["rows"]:
        if row["partial"]:
            yield Finding(
                "partial",
                row["agent"] or "unknown agent",
                f"{_calls(row['partial'])} without all their tokens (streaming without usage), "
                "or from a source that may lose the end of a session",
            )
    nameless = Scan("calls", {"count": Agg("count")}, (Match("session_id", "=", ""), Match("trace_id", "=", "")))
    count = reader.scan(nameless).data["count"]
    if count and count[0]:
        yield Finding(
            "no-session",
            "calls",
            f"{_calls(count[0])} with neither session nor trace",
            ["gen_ai.conversation.id"],
            "an attribute of the spans or logs of the program",
        )


def _calls(number: int) -> str:
    return f"{number:,} call{'' if number == 1 else 's'}"


def _metrics_only(who: Sequence[Arrival]) -> Iterable[Finding]:
    """A service of which only metrics come: metrics are never billed, so its calls are not seen."""
    for arrival in who:
        if (
            set(arrival.signals) == {METRICS}
            and arrival.has_models
            and not any(_is_of(arrival, r.agent) for r in RULES)
        ):
            yield Finding(
                "metrics-only",
                arrival.service,
                "only metrics: metrics are never counted as calls",
                ["OTEL_TRACES_EXPORTER=otlp"],
                "the environment of the program",
            )


def _is_of(arrival: Arrival, agent: str) -> bool:
    """Whether it is that agent who sends; metrics alone name nobody but their service."""
    named = {*arrival.agents, *arrival.dialects}
    return agent in named if named else agent.split("-")[0] in arrival.service.lower()


_NOTHING: Final = {"count": 0, "first_ns": None, "last_ns": None}
_SOURCES: Final = Scan(
    "sources",
    {name: name for name in ("source_id", "service", "service_version", "scope_name")},
)


def _groups(reader: Reader) -> Iterable[tuple[str, dict[str, Any]]]:
    """(signal, group) of all records by source: `{"source_id", "count", "first_ns", "last_ns", ...}`."""
    spans = _grouped("spans", "start_ns", ("source_id", "dialect", "agent"))
    yield from ((TRACES, row) for row in reader.scan(spans).rows())
    events = _grouped("events", "time_ns", ("source_id", "origin", "dialect", "agent"))
    yield from ((_ORIGINS.get(row["origin"], LOGS), row) for row in reader.scan(events).rows())
    spoken = Any_(tuple(Match("contents", "contains", f'"slot":"{slot}"') for slot in _SPOKEN))
    for table, names in (("spans", ("source_id",)), ("events", ("source_id", "origin"))):
        select: dict[str, str | Agg | Bucket] = {name: name for name in names}
        for row in reader.scan(Scan(table, select | {"spoken": Agg("count")}, (spoken,), names)).rows():
            signal = _ORIGINS.get(row["origin"], LOGS) if "origin" in row else TRACES
            yield signal, {"source_id": row["source_id"], "has_content": row["spoken"] > 0} | _NOTHING
    yield from ((METRICS, row) for row in _points(reader))


def _grouped(table: str, time: str, names: Sequence[str]) -> Scan:
    select: dict[str, Any] = {name: name for name in names}
    select |= {"count": Agg("count"), "first_ns": Agg("min", time), "last_ns": Agg("max", time)}
    return Scan(table, select, group_by=tuple(names))


def _points(reader: Reader) -> Iterable[dict[str, Any]]:
    """Samples have no source of their own: they are added up by series, and series by source."""
    scan = Scan("series", {"series_id": "series_id", "source_id": "source_id", "name": "name"})
    series = {row["series_id"]: row for row in reader.scan(scan).rows()}
    for row in reader.scan(_grouped("samples", "time_ns", ("series_id",))).rows():
        known = series.get(row["series_id"], {"source_id": "", "name": ""})
        yield row | {"source_id": known["source_id"], "has_models": known["name"].startswith(_OF_MODELS)}
