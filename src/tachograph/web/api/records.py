"""The shapes of what the API answers; the rows of tables are made of the schema, so that they cannot differ from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from tachograph.questions import Arrival, Finding
from tachograph.questions.lookup import CALL_COLUMNS, SESSION_COLUMNS
from tachograph.store.schema import TABLES
from tachograph.tree import Node, Totals
from tachograph.web.pages.destinations import Destination

_TYPES: Final[dict[str, Any]] = {
    "text": str,
    "int": int | None,
    "float": float | None,
    "bool": bool | None,
    "json": Any,
}


def _record(name: str, table: str, columns: tuple[str, ...], what: str, **types: Any) -> Any:
    """A row of a table: the columns with their types, and what they hold."""
    known = {column.name: column for column in TABLES[table]}
    fields = []
    for column in (known[name] for name in columns):
        type_ = types.get(column.name, _TYPES[column.type])
        fields.append((column.name, Annotated[type_, Meta(description=column.what)] if column.what else type_))
    return msgspec.defstruct(name, fields, namespace={"__doc__": what})


if TYPE_CHECKING:  # their fields stand in the schema, where no type checker looks
    Session: TypeAlias = Any
    Call: TypeAlias = Any
    Step: TypeAlias = Any
else:
    Session = _record(
        "Session", "sessions", SESSION_COLUMNS, "A session. Times are nanoseconds since 1970, money is nano-dollars.",
        models=list[str] | None,
    )  # fmt: skip
    Call = _record(
        "Call", "calls", CALL_COLUMNS, "A model call. Times are nanoseconds since 1970, money is nano-dollars.",
        reports=list[str] | None, provenance=dict[str, str] | None,
    )  # fmt: skip
    # A step of a tree is a node without those below it: they come after it, one deeper.
    _NODE: Final = [(one.name, one.type) for one in msgspec.structs.fields(Node) if one.name != "children"]
    Step = msgspec.defstruct(
        "Step", [("depth", int), *_NODE],
        namespace={"__doc__": "A step of what happened; `parent` is the id of the step that it stands under."},
    )  # fmt: skip


class Counters(Struct):
    """Calls added up; null is unknown. `cost_usd` is the sum of its four parts, null where nothing has a price."""

    calls: int
    failed_calls: int
    aborted_calls: int
    partial: int
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    cost_billed_usd: float
    cost_source_estimate_usd: float
    cost_computed_usd: float
    cost_notional_usd: float
    unpriced_calls: int
    first_ns: int | None
    last_ns: int | None


class UsageRow(Counters):
    """Counters of one group; `group` is its value of each dimension asked for."""

    group: dict[str, str]


class Usage(Struct):
    """What was used in a period, in total and by group: by time, then by cost."""

    by: list[str]
    timezone: str
    since_ns: int | None
    until_ns: int | None
    totals: Counters
    rows: list[UsageRow]
    next: str | None


class Sessions(Struct):
    """Some sessions; `next` is the cursor of the rest, null where there is none."""

    sessions: list[Session]
    next: str | None


class Calls(Struct):
    """Some calls; `next` is the cursor of the rest, null where there is none."""

    calls: list[Call]
    next: str | None


class SessionTrace(Struct):
    """A trace of a session."""

    trace_id: str
    start_ns: int | None
    end_ns: int | None
    spans: int


class SessionDetail(Struct):
    """A session with its traces, its use of each model, and the sessions that come from it."""

    session: Session
    traces: list[SessionTrace]
    models: list[UsageRow]
    descendants: list[Session]


class Tree(Struct):
    """Steps of a session or trace, each before those below it. `is_cut`: there are more spans than are looked at."""

    id: str
    steps: list[Step]
    nodes: int
    totals: Totals
    is_cut: bool
    next: str | None


class Said(Struct):
    """Something said: `kind` is text, thinking, tool_call, tool_result or other. `hash` finds it in full."""

    role: str
    kind: str
    text: str
    name: str
    is_cut: bool
    hash: str


class Line(Struct):
    """One line of a conversation: a call, a tool, a sub-agent or a note, with what was done within it."""

    kind: str
    id: str
    name: str
    start_ns: int
    end_ns: int
    is_error: bool
    call_id: str
    said: list[Said]
    arguments: list[Said]
    result: list[Said]
    lines: list[Line]


class Section(Struct):
    """A prompt and what came of it; number 0 and no `asked` for what belongs to no prompt."""

    number: int
    asked: list[Said]
    lines: list[Line]
    left_out: int
    totals: Totals
    start_ns: int
    end_ns: int


class Conversation(Struct):
    """Prompts of a session with their answers, in time."""

    session_id: str
    sections: list[Section]
    total: int
    next: str | None


class Opinion(Struct):
    """What one report says about a field."""

    report_id: str
    value: Any


class Field(Struct):
    """A field of a call, the report it was taken from ("" = several), and those that say something else."""

    field: str
    value: Any
    report_id: str
    others: list[Opinion]


class Report(Struct):
    """A report of a call."""

    report_id: str
    origin: str
    name: str
    service: str
    dialect: str
    start_ns: int | None
    end_ns: int | None
    trace_id: str
    span_id: str
    is_rollup: bool


class Shared(Struct):
    """An id that several reports name, which makes them one call."""

    id: str
    words: str
    value: str
    report_ids: list[str]


class PriceTold(Struct):
    """What a report says that a call cost."""

    report_id: str
    cost_nanousd: int
    cost_kind: str


class Price(Struct):
    """What a call cost, who says so, and what others say; null = unpriced."""

    cost_nanousd: int | None
    cost_kind: str
    is_notional: bool
    source: str
    note: str
    told: list[PriceTold]


class CallDetail(Struct):
    """A call with where each of its numbers comes from."""

    call: Call
    fields: list[Field]
    reports: list[Report]
    shared: list[Shared]
    price: Price


class ModelRow(Counters):
    """Calls of a model and how they performed; null = no call tells it. `errors` are (kind, how many)."""

    model: str
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    ttft_p50_ns: int | None
    ttft_p95_ns: int | None
    tokens_per_s: float | None
    cost_per_call_nanousd: int | None
    cache_share: float | None
    errors: list[tuple[str, int]]


class Fallback(Struct):
    """Calls that another model answered than was asked for."""

    requested: str
    served: str
    calls: int
    cost_nanousd: int | None
    last_ns: int | None


class Models(Struct):
    """Each model, the most expensive first, and who answered instead of whom."""

    models: list[ModelRow]
    fallbacks: list[Fallback]


class ToolRow(Struct):
    """Runs of a tool, each counted once; a duration is null where none is known, a share is a part of 1."""

    tool_name: str
    runs: int
    errors: int
    timed: int
    mean_ns: int | None
    p50_ns: int | None
    p95_ns: int | None
    max_ns: int | None
    total_ns: int | None
    result_bytes_max: int | None
    sessions: int
    last_ns: int | None
    error_share: float
    session_share: float | None


class Tools(Struct):
    """Each tool, the most used first."""

    tools: list[ToolRow]


class Place(Struct):
    """A record that a text stands in."""

    table: str
    slot: str
    trace_id: str
    span_id: str
    session_id: str
    time_ns: int | None
    name: str
    role: str
    agent: str
    tool_name: str
    event_id: str = ""


class Hit(Struct):
    """A text that holds what was searched for: `position` is where, in characters."""

    hash: str
    excerpt: str
    position: int
    bytes: int | None
    records: list[Place]


class Hits(Struct):
    """Texts found, the newest first."""

    hits: list[Hit]


class Destinations(Struct):
    """Where data is forwarded to, and how far each place is."""

    destinations: list[Destination]


class Sources(Struct):
    """Who sends what, and what is missing of it."""

    sources: list[Arrival]
    findings: list[Finding]


class Live(Struct):
    """Sessions with news since a moment, the newest first; `sequence` moves with every commit."""

    sequence: int
    now_ns: int
    since_ns: int
    sessions: list[Session]


class MetricPoint(Struct):
    """One cumulative histogram, named as the GenAI conventions name it; `counts` has one more than `bounds`."""

    name: str
    unit: str
    resource: dict[str, Any]
    attributes: dict[str, Any]
    start_ns: int
    time_ns: int
    count: int
    sum: float
    min: float | None
    max: float | None
    bounds: list[float]
    counts: list[int]


class Metrics(Struct):
    """The client metrics of the GenAI conventions, counted from calls: each call once, whatever sources sent."""

    points: list[MetricPoint]


class Completions(Struct):
    """What a filter may become, each as the whole filter."""

    completions: list[str]


class Text(Struct):
    """A kept text in full."""

    hash: str
    text: str
