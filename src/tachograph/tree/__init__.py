"""One common tree of what happened, session > prompt > turn > model call and tool run, from spans, events and calls.

Sources differ in what they send: spans that nest, events that only carry ids and times, transcripts. Here they meet:
a span stands where its parent says, an event that no span tells becomes a node of its own, a call is hung on the span
that reported it or stands for itself. Nothing is dropped and nothing stands twice, whatever ids and times came.
"""

from __future__ import annotations

from typing import Final

from tachograph.model import SESSION
from tachograph.scan import Any_, Condition, Match, Reader, Scan
from tachograph.tree import lineage
from tachograph.tree.growth import Growth
from tachograph.tree.nodes import Node, Totals, Tree, finish, significant

__all__ = ["Node", "Totals", "Tree", "session_tree", "significant", "trace_tree"]

_TRACE_SESSION: Final = "trace:"


def trace_tree(reader: Reader, trace_id: str, has_texts: bool = True) -> Tree:
    """The tree of one trace; an unknown trace gives a tree without nodes. Without texts it is made sooner."""
    where = (Match("trace_id", "=", trace_id),)
    growth = Growth(Node(id="", name=trace_id))
    growth.spans(reader, where, has_texts=has_texts)
    growth.calls(reader, where, where)
    growth.events(reader, where)
    return growth.tree(trace_id)


def session_tree(reader: Reader, session_id: str) -> Tree:
    """The tree of one session over all its traces, the sessions of its sub-agents within it; an unknown session gives
    a tree without nodes.

    `session_id` is the source's own id or `trace:<trace id>` where a trace names no session.
    """
    growth = _session(reader, session_id)
    nodes = growth.join()
    nodes += lineage.graft(reader, session_id, growth.root, nodes, lambda child: _session(reader, child))
    noise = sum(n.is_noise for n in nodes)
    finish(growth.root)
    return Tree(id=session_id, root=growth.root, nodes=len(nodes), noise=noise, is_cut=growth.is_cut)


def _session(reader: Reader, session_id: str) -> Growth:
    """All of one session, not yet joined."""
    growth = Growth(Node(id="", role=SESSION, name=session_id))
    own: tuple[Condition, ...] = (Match("session_id", "=", session_id),)
    where = own
    traces = _traces(reader, session_id)
    if traces:
        in_traces = Match("trace_id", "in", traces)
        where = (Any_((Match("session_id", "=", session_id), in_traces)),)
        if session_id.startswith(_TRACE_SESSION):
            own = (in_traces, Match("session_id", "in", ["", session_id]))
    growth.spans(reader, where, session_id)
    growth.calls(reader, own, (in_traces,) if traces else own)
    growth.events(reader, where, session_id)
    return growth


def _traces(reader: Reader, session_id: str) -> list[str]:
    if session_id.startswith(_TRACE_SESSION):
        return [session_id.removeprefix(_TRACE_SESSION)]
    asked = Scan("trace_sessions", {"trace_id": "trace_id"}, (Match("session_id", "=", session_id),))
    return sorted({trace_id for trace_id in reader.scan(asked).data["trace_id"] if trace_id})
