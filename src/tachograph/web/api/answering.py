"""What each endpoint of the API answers; the pages ask the same questions of the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import structs

from tachograph import questions
from tachograph.errors import QueryError
from tachograph.questions import conventions, filters
from tachograph.questions.lookup import CALL_COLUMNS, SESSION_COLUMNS
from tachograph.questions.performance import fallbacks, performance
from tachograph.questions.tools import during
from tachograph.questions.tools import tools as list_tools
from tachograph.scan import Condition, Match, Scan
from tachograph.tree import Node, session_tree, trace_tree
from tachograph.tree import Tree as Grown
from tachograph.web import conversation as reading
from tachograph.web.api import cursors, records
from tachograph.web.api.query import Query, missing
from tachograph.web.messages import Message
from tachograph.web.pages.calls import ORDERS as CALL_ORDERS
from tachograph.web.pages.destinations import without_secrets
from tachograph.web.pages.sessions import ORDERS as SESSION_ORDERS

METRIC_CALLS_MAX: Final = 50_000  # counted one by one: a second
_MINUTE_NS: Final = 60_000_000_000
_TRACE_SESSION: Final = "trace:"
_STEP_FIELDS: Final = tuple(name for name in records.Step.__struct_fields__ if name != "depth")


def usage(query: Query) -> records.Usage:
    """What was used in the period, by group."""
    period = query.period()
    by = query["by"]
    told = questions.usage(query.reader, by, period.since_ns, period.until_ns, query.where("calls"), query.timezone)
    rows, more = query.part(told["rows"])
    return records.Usage(
        told["by"], told["timezone"], period.since_ns, period.until_ns,
        _made(told["totals"], records.Counters), [_usage_row(row, by) for row in rows], more,
    )  # fmt: skip


def _usage_row(row: dict[str, Any], by: Iterable[str]) -> records.UsageRow:
    made: records.UsageRow = _made(row | {"group": {name: row[name] for name in by}}, records.UsageRow)
    return made


def _made(value: Any, type_: Any) -> Any:
    """The record of a row; what does not fit it is a fault of ours, and fails rather than being told."""
    return msgspec.convert(value, type_, from_attributes=True)


def sessions(query: Query) -> records.Sessions:
    """Sessions that were alive in the period."""
    order = query.order("sessions", SESSION_ORDERS, "session_id", False)
    rows, more = _rows(query, order, SESSION_COLUMNS, query.during("sessions"))
    return records.Sessions(_made(rows, list[records.Session]), more)


def calls(query: Query) -> records.Calls:
    """Calls that began in the period."""
    order = query.order("calls", CALL_ORDERS, "call_id", True)
    rows, more = _rows(query, order, CALL_COLUMNS, query.during("calls"))
    return records.Calls(_made(rows, list[records.Call]), more)


def _rows(
    query: Query, order: cursors.Order, columns: Iterable[str], where: tuple[Condition, ...]
) -> tuple[list[dict[str, Any]], str | None]:
    limit = query["limit"]
    asked = (*where, *cursors.after(order, query["cursor"]))
    select: dict[str, Any] = {name: name for name in columns}
    rows = query.reader.scan(Scan(order.table, select, asked, order_by=order.by, limit=limit + 1)).rows()
    return rows[:limit], cursors.cursor_after(order, rows[limit - 1]) if len(rows) > limit else None


def session(query: Query) -> records.SessionDetail:
    """A session's row and what belongs to it."""
    id_ = query["session_id"]
    row = questions.session(query.reader, id_)
    if row is None:
        raise missing("session", id_, "/api/v1/sessions")
    own = Match("session_id", "=", id_)
    if id_.startswith(_TRACE_SESSION):
        own = Match("trace_id", "=", id_.removeprefix(_TRACE_SESSION))
    models = questions.usage(query.reader, "model", where=(own,))["rows"]
    return records.SessionDetail(
        _made(row, records.Session),
        _made(questions.traces_of(query.reader, id_), list[records.SessionTrace]),
        [_usage_row(model, ("model",)) for model in models],
        _made(questions.descendants(query.reader, id_), list[records.Session]),
    )


def session_steps(query: Query) -> records.Tree:
    """The tree of a session."""
    id_ = query["session_id"]
    if questions.session(query.reader, id_) is None:
        raise missing("session", id_, "/api/v1/sessions")
    return _tree(query, session_tree(query.reader, id_))


def trace(query: Query) -> records.Tree:
    """The tree of a trace."""
    tree = trace_tree(query.reader, query["trace_id"])
    if not tree.nodes:
        raise missing("trace", query["trace_id"], "/api/v1/sessions")
    return _tree(query, tree)


def _tree(query: Query, tree: Grown) -> records.Tree:
    shown, more = query.part(list(tree.walk()))
    steps = [_step(depth, node) for depth, node in shown]
    return records.Tree(tree.id, steps, tree.nodes, tree.root.totals, tree.is_cut, more)


def _step(depth: int, node: Node) -> Any:
    return records.Step(depth=depth, **{name: getattr(node, name) for name in _STEP_FIELDS})


def conversation(query: Query) -> records.Conversation:
    """The prompts of a session with what came of them."""
    id_ = query["session_id"]
    if questions.session(query.reader, id_) is None:
        raise missing("session", id_, "/api/v1/sessions")
    sections = reading.sections(session_tree(query.reader, id_))
    shown, more = query.part(sections)
    reading.fill(query.reader, shown)
    return records.Conversation(id_, [_section(one) for one in shown], len(sections), more)


def _section(section: reading.Section) -> records.Section:
    return records.Section(
        section.number, _said(section.asked), [_line(step) for step in section.steps], section.left_out,
        section.totals, section.start_ns, section.end_ns,
    )  # fmt: skip


def _line(step: reading.Step) -> records.Line:
    node = step.node
    return records.Line(
        step.kind, node.id, node.name, node.start_ns, node.end_ns, node.is_error, node.call_id,
        _said(step.said), _said(step.arguments), _said(step.result), [_line(one) for one in step.steps],
    )  # fmt: skip


def _said(messages: Iterable[Message]) -> list[records.Said]:
    return [
        records.Said(block.role, block.kind, block.text, block.name, block.is_cut, message.hash)
        for message in messages
        for block in message.blocks
    ]


def call(query: Query) -> records.CallDetail:
    """A call and its reports."""
    if questions.call(query.reader, query["call_id"]) is None:
        raise missing("call", query["call_id"], "/api/v1/calls")
    detail: records.CallDetail = _made(questions.explain(query.reader, query["call_id"]), records.CallDetail)
    return detail


def models(query: Query) -> records.Models:
    """How models performed in the period."""
    period = query.period()
    where = query.where("calls")
    told = performance(query.reader, "model", period.since_ns, period.until_ns, where)
    switched = fallbacks(query.reader, period.since_ns, period.until_ns, where)
    return records.Models(_made(told, list[records.ModelRow]), _made(switched, list[records.Fallback]))


def tools(query: Query) -> records.Tools:
    """How tools did whose runs ended in the period."""
    period = query.period()
    where = (*query.where("tool_runs"), *during(period.since_ns, period.until_ns))
    return records.Tools(_made(list_tools(query.reader, where), list[records.ToolRow]))


def search(query: Query) -> records.Hits:
    """Kept texts that hold a text."""
    hits = questions.search(query.reader, query["text"], query["limit"])
    return records.Hits(_made(hits, list[records.Hit]))


def sources(query: Query) -> records.Sources:
    """Who sends what, and what is missing."""
    arrived = questions.arrivals(query.reader)
    return records.Sources(arrived, questions.findings(query.reader, arrived))


def destinations(query: Query) -> records.Destinations:
    """Where data is forwarded to, without secrets."""
    told = query.site.here.destinations()
    return records.Destinations([structs.replace(one, url=without_secrets(one.url)) for one in told])


def live(query: Query) -> records.Live:
    """Sessions with news in the last minutes."""
    sequence, now_ns = query.reader.sequence(), query.site.clock()
    since_ns = now_ns - query["minutes"] * _MINUTE_NS
    rows = questions.sessions(query.reader, since_ns, limit=query["limit"])
    return records.Live(sequence, now_ns, since_ns, _made(rows, list[records.Session]))


def metrics(query: Query) -> records.Metrics:
    """The client metrics of the period's calls."""
    select: dict[str, Any] = {name: name for name in CALL_COLUMNS if name not in ("reports", "provenance")}
    rows = query.reader.scan(Scan("calls", select, query.during("calls"), limit=METRIC_CALLS_MAX + 1)).rows()
    if len(rows) > METRIC_CALLS_MAX:
        raise QueryError(f"metrics: got a period with more than {METRIC_CALLS_MAX} calls; expected fewer", "range=24h")
    return records.Metrics(
        [
            records.MetricPoint(
                point.name, point.unit, point.source.resource, point.attributes, point.start_ns, point.time_ns,
                point.count or 0, point.sum or 0, point.min, point.max, **(point.buckets or {}),
            )
            for point in conventions.points(rows)
        ]
    )  # fmt: skip


def complete(query: Query) -> records.Completions:
    """What a filter may become."""
    table: filters.Table = query["table"]
    return records.Completions(filters.complete(query.reader, query["q"], table, query["limit"]))


def text(query: Query) -> records.Text:
    """A kept text."""
    hash_ = query["hash"]
    found = query.reader.texts([hash_])
    if hash_ not in found:
        raise missing("text", hash_, "it may have been forgotten, or never kept")
    return records.Text(hash_, found[hash_])
