"""How spans, calls and events grow together into one tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final

from tachograph.model import AGENT, MODEL_CALL, PROMPT, STEP, TOOL_RUN
from tachograph.scan import Agg, Bucket, Columns, Condition, Match, Reader, Scan
from tachograph.tree.nodes import Node, Tree, finish
from tachograph.tree.places import Places, Told, break_cycles, texts_of

SPAN_LIMIT: Final = 200_000  # a tree beyond this is cut and says so: nobody reads it, and it has to fit in memory
TRANSCRIPT: Final = "transcript"
_PLACED_ROLES: Final = frozenset((PROMPT, TOOL_RUN, AGENT))  # event roles that stand for themselves

Parts = Sequence[tuple[Condition, ...]]  # the conditions of several scans, no row in two of them
_Select = dict[str, str | Agg | Bucket]


def _columns(names: str) -> _Select:
    return {name: name for name in names.split()}


_SPAN: _Select = _columns(
    "seq trace_id span_id parent_id name start_ns end_ns role is_noise is_error is_rollup session_id prompt_id agent "
    "subagent tool_name tool_call_id request_model response_model response_id request_id error_type error_message "
    "finish_reason input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens"
)
_EVENT: _Select = _columns(
    "seq event_id time_ns duration_ns name origin trace_id span_id role is_error session_id prompt_id agent subagent "
    "tool_name tool_call_id parent_tool_call_id response_id request_id error_type error_message contents"
)
_CALL: _Select = _columns(
    "call_id trace_id span_id prompt_id start_ns end_ns agent subagent model response_id request_id status "
    "usage_status error_type error_message finish_reason input_tokens cache_read_tokens cache_write_tokens "
    "output_tokens reasoning_tokens cost_nanousd cost_kind is_notional reports"
)


class Growth:
    """A tree while it grows: spans first, then the calls that hang on them, then the events that no span tells."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.by_span: dict[tuple[str, str], Node] = {}
        self.span_parents: dict[str, tuple[str, str]] = {}  # node id -> (trace id, parent span id)
        self.others: list[Node] = []  # nodes that are no span
        self.near: dict[str, Node] = {}  # id of such a node -> the span that its record was written in
        self.by_call_key: dict[str, Node] = {}  # response, request or report id -> the node of the call
        self.tellers: dict[
            tuple[str, str], str
        ] = {}  # (node, slot) -> the origin of the events that its texts are from
        self.prompts: dict[str, Node] = {}  # any source's id of a prompt -> the node that stands for it
        self.is_cut = False

    # -- what the store holds ------------------------------------------------------------------------------------

    def spans(self, reader: Reader, parts: Parts, session_id: str = "", has_texts: bool = True) -> None:
        """Make a node of every span; spans of another session in the same trace are left out."""
        scans = [Scan("spans", _SPAN, where, limit=SPAN_LIMIT + 1) for where in parts]
        session_at = list(_SPAN).index("session_id")
        for number, row in enumerate(islice(_by_commit(reader, scans), SPAN_LIMIT + 1)):
            self.is_cut = number >= SPAN_LIMIT
            if session_id and row[session_at] not in ("", session_id):
                continue
            self._span(row)
        for where in parts if has_texts else ():
            self._texts(reader, where)

    def _texts(self, reader: Reader, where: tuple[Condition, ...]) -> None:
        told = (*where, Match("role", "!=", STEP), Match("contents", "not_null"))
        select = _columns("trace_id span_id contents")
        for row in _rows(reader.scan(Scan("spans", select, told, limit=SPAN_LIMIT))):
            node = self.by_span.get((row["trace_id"], row["span_id"]))
            if node is not None and not node.texts:
                node.texts = texts_of(row["contents"])

    def _span(self, row: tuple[Any, ...]) -> None:
        # A trace has thousands of rows: as tuples they take half the time that they would as dicts.
        (
            _, trace_id, span_id, parent_id, name, start_ns, end_ns, role, is_noise, is_error, is_rollup, _, prompt_id,
            agent, subagent, tool_name, tool_call_id, request_model, response_model, response_id, request_id,
            error_type, error_message, finish_reason, *tokens,
        ) = row  # fmt: skip
        key = (trace_id, span_id or f"#{len(self.by_span)}")
        start_ns, end_ns = start_ns or 0, end_ns or 0
        known = self.by_span.get(key)
        if known is not None and known.end_ns >= end_ns:
            return  # sent twice, or an earlier state of the same span
        node = Node(
            id=f"{trace_id}:{key[1]}",
            origin="span",
            role=role,
            name=name,
            start_ns=start_ns,
            end_ns=end_ns if end_ns > start_ns else start_ns,
            is_timed=end_ns != 0,
            has_ended=end_ns > start_ns,
            is_error=bool(is_error),
            is_noise=bool(is_noise),
            trace_id=trace_id,
            span_id=span_id,
            prompt_id=prompt_id,
            agent=agent,
            subagent=subagent,
            model=response_model or request_model,
            tool_name=tool_name,
            tool_call_id=tool_call_id,
            error=error_message or error_type,
            finish_reason=finish_reason,
        )
        if not is_rollup:
            _set_tokens(node, *tokens)
        self.by_span[key] = node
        self.span_parents[node.id] = (trace_id, parent_id)
        if role == MODEL_CALL:
            for id_ in (response_id, request_id):
                if id_:
                    self.by_call_key.setdefault(id_, node)

    def calls(self, reader: Reader, where: tuple[Condition, ...], reported: tuple[Condition, ...]) -> None:
        """Hang every call on the span that it was merged from, or make a node of it."""
        rows = reader.scan(Scan("calls", _CALL, where, limit=SPAN_LIMIT))
        if not len(rows):
            return
        places = _columns("report_id trace_id span_id origin")
        spans_of: dict[str, Node] = {}
        around: dict[str, Node] = {}
        # A log record names the span that it was written in, which may be the prompt's: only a span is its own place,
        # and what a hook tells lies in the span that it names.
        reported = (*reported, Match("origin", "in", ["span", "hook"]))
        for row in _rows(reader.scan(Scan("reports", places, reported, limit=SPAN_LIMIT))):
            span = self.by_span.get((row["trace_id"], row["span_id"]))
            if span is not None:
                (spans_of if row["origin"] == "span" else around)[row["report_id"]] = span
        for row in _rows(rows):
            self._call(row, spans_of, around)

    def _call(self, row: dict[str, Any], spans_of: dict[str, Node], around: dict[str, Node]) -> None:
        # An earlier attempt of a call is told of by the call's own reports, and is no span of its own.
        is_attempt = "." in row["call_id"]
        told = [spans_of[report] for report in row["reports"] or [] if report in spans_of]
        beside, told = told, [] if is_attempt else told
        own = self.by_span.get((row["trace_id"], row["span_id"])) if row["span_id"] else None
        node = next((n for n in ([own] if own else []) + told if not n.call_id), None)
        for other in told:
            other.is_repeat = other is not node and not other.call_id
        if node is None:
            node = _call_node(row)
            self.others.append(node)
            above = next((around[report] for report in row["reports"] or [] if report in around), None)
            if is_attempt and beside:
                above = self._above(beside[0])
            if above is not None:
                self.near[node.id] = above
        node.is_repeat = False
        node.role = MODEL_CALL
        node.call_id = row["call_id"]
        if row["start_ns"]:
            node.start_ns = min(node.start_ns, row["start_ns"])  # a span may begin with the last of the answer only
        node.model = row["model"] or node.model
        node.status, node.usage_status = row["status"], row["usage_status"]
        node.is_error = node.is_error or row["status"] != "ok"
        node.error = node.error or row["error_message"] or row["error_type"]
        node.finish_reason = row["finish_reason"] or node.finish_reason
        node.cost_nanousd, node.cost_kind = row["cost_nanousd"], row["cost_kind"]
        node.is_notional = bool(row["is_notional"])
        _take_tokens(node, row)
        for key in (row["response_id"], row["request_id"]):
            if key:
                self.by_call_key[key] = node

    def _above(self, node: Node) -> Node | None:
        """The span that a span lies in, where it is known."""
        return self.by_span.get(self.span_parents.get(node.id, ("", "")))

    def events(self, reader: Reader, parts: Parts, session_id: str = "") -> None:
        """Make nodes of prompts, tool runs and agents that no span tells; hang the others on what they tell of."""
        told, order = Match("role", "!=", STEP), (("time_ns", False),)
        scans = [Scan("events", _EVENT, (*where, told), order_by=order, limit=SPAN_LIMIT) for where in parts]
        rows = _in_time(reader, scans)
        if not rows:
            return
        told_prompts = Told([n for n in self.by_span.values() if n.role == PROMPT], PROMPT)
        told_tools = Told([n for n in self.by_span.values() if n.role == TOOL_RUN], TOOL_RUN)
        seen: set[str] = set()
        for row in rows:
            if row["event_id"] in seen or (session_id and row["session_id"] not in ("", session_id)):
                continue
            seen.add(row["event_id"])
            self._event(row, told_prompts if row["role"] == PROMPT else told_tools)
        self.prompts = told_prompts.by_id

    def _event(self, row: dict[str, Any], told: Told) -> None:
        texts = texts_of(row["contents"])
        span = self.by_span.get((row["trace_id"], row["span_id"])) if row["span_id"] else None
        if row["role"] in (PROMPT, TOOL_RUN):
            node = told.find(row, span, texts)
        else:
            node = self.by_call_key.get(row["response_id"]) or self.by_call_key.get(row["request_id"])
        if node is None and row["role"] in _PLACED_ROLES:
            node = _event_node(row)
            self.others.append(node)
            if span is not None and row["role"] != PROMPT:
                self.near[node.id] = span
            if row["role"] in (PROMPT, TOOL_RUN):
                told.add(node, row)
        if node is None:
            return  # tells of a call that the ledger has merged, or of a turn: no step of its own
        _merge_event(node, row, texts, self.tellers)

    # -- putting it together -------------------------------------------------------------------------------------

    def tree(self, tree_id: str) -> Tree:
        """Give every node its parent and hand out the finished tree."""
        nodes = self.join()
        noise = sum(n.is_noise for n in nodes)
        finish(self.root)
        return Tree(id=tree_id, root=self.root, nodes=len(nodes), noise=noise, is_cut=self.is_cut)

    def join(self) -> list[Node]:
        """Put every node below its parent, the root or another; returns them all."""
        nodes = [*self.by_span.values(), *self.others]
        parents = {n.id: self._span_parent(n) for n in self.by_span.values()}
        break_cycles(self.by_span.values(), parents)
        loose = [n for n in nodes if parents.get(n.id) is None]
        made = Places(self.root, nodes, loose, parents, self.near, self.prompts)
        made.place(loose)
        nodes += made.made
        for node in nodes:
            put(node, parents.get(node.id) or self.root)
        return nodes

    def _span_parent(self, node: Node) -> Node | None:
        trace_id, parent_id = self.span_parents[node.id]
        parent = self.by_span.get((trace_id, parent_id)) if parent_id else None
        return None if parent is node else parent


def put(node: Node, parent: Node) -> None:
    """Put a node below another."""
    node.parent = parent.id
    parent.children.append(node)


def _by_commit(reader: Reader, scans: Sequence[Scan]) -> Iterable[tuple[Any, ...]]:
    """The rows of several scans in order of their first column: where only one has any, in that of the store."""
    found = [columns for columns in map(reader.scan, scans) if len(columns)]
    rows = chain.from_iterable(zip(*(each.data[name] for name in each.names), strict=True) for each in found)
    return rows if len(found) < 2 else sorted(rows, key=itemgetter(0))


def _in_time(reader: Reader, scans: Sequence[Scan]) -> list[dict[str, Any]]:
    """The rows of several scans of events in time: where only one has any, in the order of the store."""
    found = [list(_rows(columns)) for columns in map(reader.scan, scans) if len(columns)]
    rows = list(chain.from_iterable(found))
    if len(found) > 1:
        rows.sort(key=lambda row: (row["time_ns"] is None, row["time_ns"] or 0, row["seq"]))
    return rows


def _rows(columns: Columns) -> Iterator[dict[str, Any]]:
    names = columns.names
    return (dict(zip(names, row, strict=True)) for row in zip(*(columns.data[n] for n in names), strict=True))


def _take_tokens(node: Node, row: dict[str, Any]) -> None:
    _set_tokens(
        node, *(row[f"{name}_tokens"] for name in ("input", "cache_read", "cache_write", "output", "reasoning"))
    )


def _set_tokens(
    node: Node,
    input_: int | None,
    cache_read: int | None,
    cache_write: int | None,
    output: int | None,
    of_it: int | None,
) -> None:
    node.input_tokens = input_
    node.cache_read_tokens, node.cache_write_tokens = cache_read, cache_write
    node.output_tokens, node.reasoning_tokens = output, of_it


def _call_node(row: dict[str, Any]) -> Node:
    """A node for a call that no span of the tree reported."""
    start_ns = row["start_ns"] or row["end_ns"] or 0
    node = Node(id=f"call:{row['call_id']}", origin="call", role=MODEL_CALL, name=row["model"] or "model call")
    node.start_ns, node.end_ns = start_ns, max(start_ns, row["end_ns"] or 0)
    node.is_timed = bool(row["start_ns"] and row["end_ns"])
    node.prompt_id, node.agent, node.subagent = row["prompt_id"], row["agent"], row["subagent"]
    return node


def _event_node(row: dict[str, Any]) -> Node:
    """A node for what only an event tells; an event with a duration was written at the end of it."""
    time_ns = row["time_ns"] or 0
    node = Node(id=f"event:{row['event_id']}", origin="event", role=row["role"], name=row["tool_name"] or row["name"])
    node.start_ns, node.end_ns = time_ns - (row["duration_ns"] or 0), time_ns
    node.trace_id = row["trace_id"]
    node.prompt_id, node.agent, node.subagent = row["prompt_id"], row["agent"], row["subagent"]
    node.tool_name, node.tool_call_id = row["tool_name"], row["tool_call_id"]
    return node


def _merge_event(
    node: Node, row: dict[str, Any], texts: list[tuple[str, list[str]]], tellers: dict[tuple[str, str], str]
) -> None:
    """Add to a node what another record of the same step says."""
    node.event_ids.append(row["event_id"])
    node.is_timed = node.is_timed or row["duration_ns"] is not None
    if row["parent_tool_call_id"] and row["subagent"]:
        # Who knows what started the sub-agent knows its name; others tell of it by an id.
        node.parent_tool_call_id, node.subagent = row["parent_tool_call_id"], row["subagent"]
    if node.origin == "event" and row["time_ns"]:
        node.start_ns = min(node.start_ns, row["time_ns"] - (row["duration_ns"] or 0))
        node.end_ns = max(node.end_ns, row["time_ns"])
        node.has_ended = node.end_ns > node.start_ns
    if row["is_error"] and node.role != PROMPT:
        node.is_error = True
        node.error = node.error or row["error_message"] or row["error_type"]
    known = dict(node.texts)
    for slot, hashes in texts:
        if slot not in known:
            node.texts.append((slot, list(hashes)))
            tellers[node.id, slot] = row["origin"]
        elif row["origin"] == TRANSCRIPT == tellers.get((node.id, slot)):  # writes one answer as a line for each part
            known[slot].extend(hash_ for hash_ in hashes if hash_ not in known[slot])
