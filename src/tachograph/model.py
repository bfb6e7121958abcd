"""What flows in: a Batch of spans, events and points, what they mean, and the calls that the ledger makes of them.

All values are plain JSON values (str, int, float, bool, None, list, dict). What JSON cannot say is written as
`{"$bytes": base64}` and `{"$double": "NaN" | "Infinity" | "-Infinity"}`, so that no type is lost on the way.
Times are integer nanoseconds since 1970 (UTC), 0 or None where unknown; money is integer nano-dollars.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct, field

Attributes = dict[str, Any]

# The common tree vocabulary: every span and event has one of these roles ("" = an inner step without one).
SESSION: Final = "session"
PROMPT: Final = "prompt"  # one thing the user asked for, retries included
TURN: Final = "turn"  # one round of model call and tool runs
AGENT: Final = "agent"  # an agent or sub-agent at work
MODEL_CALL: Final = "model_call"
TOOL_RUN: Final = "tool_run"
STEP: Final = ""
ROLES: Final = (SESSION, PROMPT, TURN, AGENT, MODEL_CALL, TOOL_RUN, STEP)

# How a session comes from another: run by it, begun with a copy of its history, or going on with it.
SUBAGENT: Final = "subagent"
FORK: Final = "fork"
RESUME: Final = "resume"
LINEAGES: Final = (SUBAGENT, FORK, RESUME)


class Usage(Struct, gc=False, omit_defaults=True):
    """Tokens of one model call, disjoint; None = the source did not say (never 0 for unknown).

    `reasoning` is a part of `output`, not beside it; `cache_write_1h` a part of `cache_write`.
    """

    input_uncached: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    reasoning: int | None = None

    @property
    def input_total(self) -> int | None:
        """Input tokens with cache read and write included, as the GenAI conventions count; None if unknown."""
        if self.input_uncached is None:
            return None
        return self.input_uncached + (self.cache_read or 0) + (self.cache_write or 0)


class Meaning(Struct, omit_defaults=True):
    """What a span, event or transcript line says once its dialect is understood; "" or None = it does not say."""

    dialect: str = ""
    role: str = STEP
    is_noise: bool = False  # kept, but folded in views (an agent's own internals)
    session_id: str = ""
    prompt_id: str = ""  # the prompt or turn that this belongs to, as the source names it
    parent_session_id: str = ""  # the session that this session comes from
    lineage: str = ""  # how it does: LINEAGES below
    parent_tool_call_id: str = ""  # the tool run of the parent session that started it
    agent: str = ""  # the product or program at work: claude-code, codex, pi, my-agent
    subagent: str = ""  # name or id of the sub-agent within it
    user: str = ""
    team: str = ""
    project: str = ""
    channel: str = ""
    repository: str = ""
    branch: str = ""
    host: str = ""
    tenant: str = ""
    environment: str = ""
    # model call
    operation: str = ""  # chat, text_completion, embeddings, ... (GenAI conventions)
    provider: str = ""
    request_model: str = ""
    response_model: str = ""
    response_id: str = ""  # msg_..., resp_..., chatcmpl-...
    request_id: str = ""  # the provider's HTTP request id
    message_id: str = ""  # the agent's own id of the message
    usage: Usage | None = None
    is_rollup: bool = False  # repeats the usage of calls below it
    is_call: bool = False  # reports one model call to the ledger (with or without usage)
    is_cut_short: bool = False  # the source is known to lose the end of a session, so calls may be missing
    cost_nanousd: int | None = None
    cost_kind: str = ""  # billed | source_estimate
    is_notional: bool | None = None  # paid by a subscription plan, so the amount is not money spent
    service_tier: str = ""
    finish_reason: str = ""  # stop | length | content_filter | tool_call | error
    is_streaming: bool | None = None
    ttft_ns: int | None = None
    duration_ns: int | None = None  # where the source says it apart from start and end
    is_timed: bool = True  # start and end are those of the call; else only the end says when it was
    attempt: int | None = None  # 1 = first
    failed_attempts: int = 0  # earlier attempts of this call that failed, where only their number is told
    http_status: int | None = None
    # tool run
    tool_name: str = ""
    tool_call_id: str = ""
    arguments_bytes: int | None = None  # as the source says it; a text that is longer is measured
    result_bytes: int | None = None
    # outcome
    is_error: bool = False
    error_type: str = ""
    error_message: str = ""


class Content(Struct, gc=False, omit_defaults=True):
    """A text that is kept once by its hash: the pieces of one attribute or body.

    `slot` says what it is (SLOTS below; "" = just a long attribute), `key` the attribute that it was taken from
    ("" = the record's body), `pieces` its parts in order. `is_list`: the attribute was a JSON list and each piece is
    one element's JSON text; otherwise there is one piece, the text itself.
    """

    slot: str
    key: str
    pieces: list[str]
    is_list: bool = False


SLOTS: Final = ("input", "output", "system", "tools", "prompt", "response", "arguments", "result", "thinking", "title")


class Source(Struct, eq=False, omit_defaults=True):
    """Who sent it: the resource and scope that a group of records shares (OTLP Resource* and Scope*)."""

    resource: Attributes
    scope_name: str = ""
    scope_version: str = ""
    scope_attributes: Attributes = field(default_factory=dict)
    resource_schema_url: str = ""
    scope_schema_url: str = ""
    resource_dropped: int = 0
    scope_dropped: int = 0


class Span(Struct, omit_defaults=True):
    """One span as received (OTLP trace.proto), and what it means. Ids are lower-case hex, "" = none."""

    source: Source
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int  # OTLP SpanKind 0..5
    start_ns: int
    end_ns: int
    attributes: Attributes
    status_code: int = 0  # 0 unset, 1 ok, 2 error
    status_message: str = ""
    flags: int = 0
    trace_state: str = ""
    events: list[Attributes] | None = None  # {"time_ns", "name", "attributes", "dropped"}
    links: list[Attributes] | None = None  # {"trace_id", "span_id", "trace_state", "attributes", "dropped", "flags"}
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    meaning: Meaning | None = None
    contents: list[Content] | None = None


class Event(Struct, omit_defaults=True):
    """One log record, hook event or transcript entry, and what it means. Ids are lower-case hex, "" = none."""

    source: Source
    time_ns: int
    name: str
    attributes: Attributes
    body: Any = None
    observed_ns: int = 0
    severity: int = 0  # OTLP SeverityNumber 0..24
    severity_text: str = ""
    trace_id: str = ""
    span_id: str = ""
    flags: int = 0
    dropped_attributes: int = 0
    origin: str = "log"  # log | hook | transcript
    meaning: Meaning | None = None
    contents: list[Content] | None = None


class Point(Struct, omit_defaults=True):
    """One metric data point (OTLP metrics.proto): its series and its sample."""

    source: Source
    name: str
    attributes: Attributes
    time_ns: int
    type: str  # gauge | sum | histogram | exponential_histogram | summary
    unit: str = ""
    description: str = ""
    temporality: int = 0  # 0 none, 1 delta, 2 cumulative
    is_monotonic: bool = False
    start_ns: int = 0
    value: float | int | None = None  # gauge, sum
    count: int | None = None  # histograms, summary
    sum: float | None = None
    min: float | None = None
    max: float | None = None
    # histogram: {"bounds", "counts"}; exponential: {"scale", "zero_count", "zero_threshold", "positive": {"offset",
    # "counts"}, "negative": ...}; summary: {"quantiles": [[q, v], ...]}
    buckets: Attributes | None = None
    exemplars: list[Attributes] | None = None
    flags: int = 0  # bit 0: no recorded value
    metadata: Attributes | None = None


class Batch(Struct, omit_defaults=True):
    """All that one request, hook spool or piece of a transcript brings; the unit of acknowledgement.

    `digest` names the bytes it was made of (hex; "" = none): a batch whose digest is already stored is a re-send and
    is acknowledged without being stored again. `positions` are read positions of files, kept with the data they
    produced; "" forgets one. `size` is the memory it stands for, in bytes. `rejected` counts records left out,
    `reasons` says why.
    """

    spans: list[Span] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    size: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    is_demo: bool = False
    reports: list[Report] = field(default_factory=list)  # made by the stage `report`, for the ledger


class Report(Struct, omit_defaults=True):
    """What one source says about one model call: the ledger's input, kept for ever beside the call made of it."""

    report_id: str  # the same for the same record, however often it arrives
    origin: str  # span | log | hook | transcript | metric
    rank: int  # precedence of its fields, highest first in a merge (ledger.RANKS)
    trace_id: str = ""
    span_id: str = ""
    start_ns: int = 0
    end_ns: int = 0
    name: str = ""  # span or event name, for people
    service: str = ""
    is_demo: bool = False
    meaning: Meaning = field(default_factory=Meaning)


class Call(Struct):
    """One model call that happened, merged from its reports.

    `usage_status`: reported | partial | unknown. `status`: ok | failed | aborted. `cost_kind`: billed |
    source_estimate | computed | "" (unpriced, and then `cost_nanousd` is None). `provenance` names, for each field,
    the report it came from; `reports` all of them.
    """

    call_id: str
    start_ns: int = 0
    end_ns: int = 0
    trace_id: str = ""
    span_id: str = ""
    meaning: Meaning = field(default_factory=Meaning)
    usage_status: str = "unknown"
    status: str = "ok"
    cost_nanousd: int | None = None
    cost_kind: str = ""
    is_notional: bool = False
    price_source: str = ""  # genai-prices/0.2.3, override, source
    price_note: str = ""
    retry_of: str = ""
    is_demo: bool = False
    reports: list[str] = field(default_factory=list)
    provenance: dict[str, str] = field(default_factory=dict)


class Unsettled(Struct):
    """What the ledger has not yet worked into calls: commits after `since` up to and including `until`.

    `reports`: the reports of those commits (duplicates by report_id left out), and older ones whose trace has just
    got a session. `sessions`: trace id -> session id of their traces, `trace:<trace id>`
    where no record names one.
    `demo`: the ids of those reports that belong to the demo.
    """

    since: int
    until: int
    reports: list[Report] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    demo: set[str] = field(default_factory=set)


class Settlement(Struct):
    """What the ledger made of an Unsettled: stored in one transaction, together with the new watermark `until`."""

    until: int
    keys: dict[str, list[int]] = field(default_factory=dict)  # report id -> its identities, replacing older ones
    calls: list[Call] = field(default_factory=list)  # replace stored calls that share a report with these or `keys`
