"""Puts the sessions of sub-agents where they were started: below the tool run of the session that they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tachograph.model import AGENT, PROMPT, SUBAGENT, TOOL_RUN
from tachograph.scan import Match, Reader, Scan
from tachograph.tree.growth import Growth, put
from tachograph.tree.nodes import Node

DEPTH_MAX: Final = 8  # sub-agents of sub-agents; agents themselves stop far earlier
SESSIONS_MAX: Final = 500  # in one tree
EARLY_NS: Final = 1_000_000_000  # clocks of two processes, and the start of the second


def graft(
    reader: Reader,
    session_id: str,
    root: Node,
    nodes: list[Node],
    grow: Callable[[str], Growth],
    between: tuple[int, int] | None = None,
) -> list[Node]:
    """Grow the sessions that sub-agents of this one had, and put them into its tree; returns all nodes that came.

    With `between`, only those that began then.

    A session that is its own ancestor is left out, however the records say so.
    """
    came: list[Node] = []
    seen = {session_id}
    level = [(session_id, root, nodes)]
    for _ in range(DEPTH_MAX):
        below = []
        for parent_id, parent, around in level:
            for child_id, call_id in _children(reader, parent_id, between):
                if child_id in seen or len(seen) > SESSIONS_MAX:
                    continue
                seen.add(child_id)
                growth = grow(child_id)
                agent = growth.root
                name = _unname(growth)
                inside = growth.join()
                _describe(agent, child_id, call_id, name, inside)
                put(agent, _place(agent, parent, around))
                below.append((child_id, agent, inside))
                came += [agent, *inside]
        level = below
    return came


def _children(reader: Reader, session_id: str, between: tuple[int, int] | None) -> list[tuple[str, str]]:
    """The sub-agents' sessions of a session and the tool runs that started them, in time."""
    where: tuple[Match, ...] = (Match("parent_session_id", "=", session_id), Match("lineage", "=", SUBAGENT))
    if between is not None:
        where += (Match("start_ns", ">=", between[0]), Match("start_ns", "<", between[1]))
    select = {name: name for name in ("session_id", "parent_tool_call_id", "start_ns")}
    found = reader.scan(Scan("sessions", dict(select), where, order_by=(("start_ns", False),), limit=SESSIONS_MAX))
    return list(zip(found.data["session_id"], found.data["parent_tool_call_id"], strict=True))


def _unname(growth: Growth) -> str:
    """The name of the sub-agent whose session this is, taken off its steps: the whole session is its."""
    nodes = [*growth.by_span.values(), *growth.others]
    name = next((n.subagent for n in sorted(nodes, key=lambda n: n.start_ns) if n.subagent), "")
    for node in nodes:
        if node.subagent == name:
            node.subagent = ""
    return name


def _describe(agent: Node, session_id: str, call_id: str, name: str, inside: list[Node]) -> None:
    """Make the root of a sub-agent's session a step of the tree that it comes into."""
    agent.id, agent.role = f"session:{session_id}", AGENT
    agent.subagent = name or "sub-agent"
    agent.agent = next((n.agent for n in inside if n.agent), "")
    agent.tool_call_id = call_id
    agent.start_ns = min((n.start_ns for n in inside if n.start_ns), default=0)
    agent.end_ns = max((n.end_ns for n in inside), default=0)


def _place(agent: Node, parent: Node, around: list[Node]) -> Node:
    """The tool run that started it, else the last one or the last prompt before it, else the session."""
    if agent.tool_call_id:
        told = [n for n in around if n.role == TOOL_RUN and n.tool_call_id == agent.tool_call_id]
        if told:
            return min(told, key=lambda n: (n.is_repeat, n.start_ns, n.id))
    begun = [n for n in around if n.start_ns - EARLY_NS <= agent.start_ns]
    running = [n for n in begun if n.role == TOOL_RUN and agent.start_ns <= n.end_ns]
    likely = running or [n for n in begun if n.role == PROMPT]
    return max(likely, key=lambda n: (n.start_ns, n.id)) if likely else parent
