"""One common tree of what happened, session > prompt > turn > model call and tool run, from spans, events and calls.

Sources differ in what they send: spans that nest, events that only carry ids and times, transcripts. Here they meet:
a span stands where its parent says, an event that no span tells becomes a node of its own, a call is hung on the span
that reported it or stands for itself. Nothing is dropped and nothing stands twice, whatever ids and times came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tachograph.model import PROMPT, SESSION
from tachograph.scan import Any_, Condition, Match, Reader
from tachograph.tree import commits, lineage
from tachograph.tree.beginning import Beginning, beginning
from tachograph.tree.collecting import uncollected
from tachograph.tree.growth import Growth
from tachograph.tree.nodes import Node, Totals, Tree, finish, significant

__all__ = [
    "Beginning",
    "Between",
    "Node",
    "Totals",
    "Tree",
    "beginning",
    "prompts_of",
    "session_tree",
    "significant",
    "trace_tree",
    "uncollected",
]

Between = tuple[int, int]  # [since, until) in nanoseconds

_TRACE_SESSION: Final = "trace:"


def trace_tree(reader: Reader, trace_id: str, has_texts: bool = True) -> Tree:
    """The tree of one trace; an unknown trace gives a tree without nodes. Without texts it is made sooner."""
    where = commits.in_trace(reader, trace_id)
    growth = Growth(Node(id="", name=trace_id))
    with uncollected():
        growth.spans(reader, (where,), has_texts=has_texts)
        growth.calls(reader, where[:1], where)
        growth.events(reader, (where,))
        return growth.tree(trace_id)


def session_tree(reader: Reader, session_id: str, between: Between | None = None) -> Tree:
    """The tree of one session over all its traces, the sessions of its sub-agents within it; an unknown session gives
    a tree without nodes.

    `session_id` is the source's own id or `trace:<trace id>` where a trace names no session. With `between` it is the
    tree of what began then: what stands below a step that began earlier is placed by its prompt or by time.
    """
    with uncollected():
        growth = _session(reader, session_id, between)
        nodes = growth.join()
        nodes += lineage.graft(reader, session_id, growth.root, nodes, lambda child: _session(reader, child), between)
        noise = sum(n.is_noise for n in nodes)
        finish(growth.root)
    return Tree(id=session_id, root=growth.root, nodes=len(nodes), noise=noise, is_cut=growth.is_cut)


def prompts_of(reader: Reader, session_id: str, has_texts: bool = False) -> list[Node]:
    """The prompts of a session in time, those of its sub-agents left out; quick, as nothing else is read.

    Those that events tell have their texts in any case.
    """
    growth = Growth(Node(id="", role=SESSION, name=session_id))
    told = Match("role", "=", PROMPT)
    where = [(*part, told) for part in _records(reader, session_id, _in_traces(reader, session_id))]
    growth.spans(reader, where, session_id, has_texts=has_texts)
    growth.events(reader, where, session_id)
    nodes = [node for node in growth.join() if not node.subagent and not node.is_noise]
    return sorted(nodes, key=lambda node: (node.start_ns, node.id))


def _session(reader: Reader, session_id: str, between: Between | None = None) -> Growth:
    """All of one session, or what of it began in a time, not yet joined."""
    growth = Growth(Node(id="", role=SESSION, name=session_id))
    in_traces = _in_traces(reader, session_id)
    own: tuple[Condition, ...] = (Match("session_id", "=", session_id),)
    if session_id.startswith(_TRACE_SESSION):
        own = (in_traces[0], Match("session_id", "in", ["", session_id]))
    records = _records(reader, session_id, in_traces)
    started, told = _during("start_ns", between), _during("time_ns", between)
    growth.spans(reader, [(*part, *started) for part in records], session_id)
    growth.calls(reader, (*own, *started), in_traces or (Any_(()),))
    growth.events(reader, [(*part, *told) for part in records], session_id)
    return growth


def _records(reader: Reader, session_id: str, in_traces: Sequence[Condition]) -> list[tuple[Condition, ...]]:
    """What names the session, and what names none and lies in a trace of it: two scans, each quicker than one of both.

    What is in a trace of it and names another session is no part of it.
    """
    own, unnamed = Match("session_id", "=", session_id), Match("session_id", "=", "")
    return [(own,), (*in_traces, unnamed)] if in_traces else [(own,)]


def _in_traces(reader: Reader, session_id: str) -> tuple[Condition, ...]:
    """What lies in the traces of the session; nothing where it has none."""
    if session_id.startswith(_TRACE_SESSION):
        return commits.in_trace(reader, session_id.removeprefix(_TRACE_SESSION))
    return commits.in_traces(reader, session_id)


def _during(column: str, between: Between | None) -> tuple[Condition, ...]:
    return () if between is None else (Match(column, ">=", between[0]), Match(column, "<", between[1]))
