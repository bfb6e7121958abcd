"""Where a step stands whose source does not say: told apart by ids, placed by prompt and by time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Final

from tachograph.model import AGENT, PROMPT, SESSION, TOOL_RUN
from tachograph.tree.nodes import Node

EARLY_NS: Final = 1_000_000_000  # a step may be stamped a little before the event of the prompt that set it off
SAME_NS: Final = 20_000_000  # between two records of one moment
AT_ONCE: Final = 8  # tools that run at the same time, or wait for their second record
LATE_NS: Final = 5_000_000_000  # and end a little after the span of its prompt


class Told:
    """The prompts or tool runs already told, by what another record of the same one would share with them."""

    def __init__(self, nodes: list[Node], role: str) -> None:
        self.role = role
        self.by_id: dict[str, Node] = {}
        self.by_text: dict[tuple[str, ...], Node] = {}
        self.spans: list[Node] = []
        for node in sorted(nodes, key=lambda n: n.start_ns):
            self._learn(node)
            if self.by_id.get(self._key(node), node) is node:  # else a span within it that tells of the same
                self.spans.append(node)
        self.starts = [n.start_ns for n in self.spans]
        self.made: dict[str, list[Node]] = {}  # tool name -> nodes made of events, in time
        self.taken: set[tuple[str, str]] = set()  # (node, origin): one log event tells a span's prompt once

    def _key(self, node: Node) -> str:
        return node.prompt_id if self.role == PROMPT else node.tool_call_id

    def _learn(self, node: Node) -> None:
        if key := self._key(node):
            self.by_id.setdefault(key, node)

    def add(self, node: Node, row: dict[str, Any]) -> None:
        """Remember a node that was made of an event."""
        self._learn(node)
        self.taken.add((node.id, row["origin"]))
        self.made.setdefault(node.tool_name, []).append(node)
        texts = texts_of(row["contents"])
        if self.role == PROMPT and texts:
            self.by_text[tuple(texts[0][1])] = node

    def find(self, row: dict[str, Any], span: Node | None, texts: list[tuple[str, list[str]]]) -> Node | None:
        """The node that tells the same prompt or tool run as this event; None if none does."""
        key = row["prompt_id"] if self.role == PROMPT else row["tool_call_id"]
        node = self.by_id.get(key) if key else None
        if node is None and span is not None and span.role == self.role:
            node = span
        if node is None and self.role == PROMPT and texts:
            same = self.by_text.get(tuple(texts[0][1]))
            if same is not None and (same.id, row["origin"]) not in self.taken:
                node = same
        node = node or self._by_time(row, key, texts)
        if node is not None:
            self.taken.add((node.id, row["origin"]))
            if key:
                self.by_id.setdefault(key, node)
        return node

    def _by_time(self, row: dict[str, Any], key: str, texts: list[tuple[str, list[str]]]) -> Node | None:
        """What ran when the event was written, is of the same name, and no record of its origin has told yet."""
        time_ns = row["time_ns"] or 0
        start_ns = time_ns - (row["duration_ns"] or 0) - EARLY_NS
        at = bisect_right(self.starts, time_ns + EARLY_NS)
        made = self.made.get(row["tool_name"], [])
        for node in (*reversed(self.spans[max(0, at - AT_ONCE) : at]), *reversed(made[-AT_ONCE:])):
            if node.end_ns + EARLY_NS < start_ns or node.start_ns > time_ns + EARLY_NS:
                continue
            if (node.id, row["origin"]) not in self.taken and self._may_be(node, row, key, texts):
                return node
        return None

    def _may_be(self, node: Node, row: dict[str, Any], key: str, texts: list[tuple[str, list[str]]]) -> bool:
        if node.tool_name != row["tool_name"] or node.subagent != row["subagent"]:
            return False
        own = self._key(node)
        # A prompt has another id in each source; a tool run has the one that the model gave it.
        is_same = not own or not key
        return is_same or (self.role == PROMPT and (node.origin != "span" or any(text in node.texts for text in texts)))


class Places:
    """Where the nodes go whose parent nobody names: by prompt id, else by time; sub-agents apart."""

    def __init__(
        self,
        root: Node,
        nodes: list[Node],
        loose: list[Node],
        parents: dict[str, Node | None],
        near: dict[str, Node],
        named: dict[str, Node],
    ) -> None:
        self.root = root
        self.parents = parents
        self.near = near
        self.made: list[Node] = []
        prompts = sorted((n for n in nodes if n.role == PROMPT), key=lambda n: n.start_ns)
        self.by_id = named | {n.prompt_id: n for n in reversed(prompts) if n.prompt_id}
        self.timed = [n for n in prompts if not n.subagent and n.start_ns] if root.role == SESSION else []
        self.starts = [n.start_ns for n in self.timed]
        self.agents = {n.subagent: n for n in nodes if n.role == AGENT and n.subagent}
        self.made_agents: dict[tuple[str, str], Node] = {}
        runs = sorted((n for n in nodes if n.role == TOOL_RUN and n.tool_call_id), key=lambda n: n.start_ns)
        self.runs = {n.tool_call_id: n for n in reversed(runs)}
        self.is_session = root.role == SESSION
        if self.is_session:
            self._make_prompts(loose)

    def _make_prompts(self, loose: list[Node]) -> None:
        """A prompt that calls and tools name but no record tells still groups them."""
        for node in sorted(loose, key=lambda n: n.start_ns):
            is_placed = node.origin == "span" or node.id in self.near
            if node.prompt_id and node.prompt_id not in self.by_id and not is_placed:
                made = Node(id=f"prompt:{node.prompt_id}", role=PROMPT, name="prompt", start_ns=node.start_ns)
                made.prompt_id, made.agent = node.prompt_id, node.agent
                self.by_id[node.prompt_id] = made
                self.made.append(made)

    def place(self, loose: list[Node]) -> None:
        """Give each loose node its place in `parents`; None = under the root."""
        for node in loose:
            self.parents[node.id] = self._place(node)

    def _place(self, node: Node) -> Node | None:
        if node.role == PROMPT:
            return self._around(node)
        near = self.near.get(node.id)
        if near is not None:
            return near
        if node.origin == "span" and not self.is_session:
            return None  # an orphan of a trace stays where it is seen to be one
        if node.role == SESSION:
            return None
        prompt = self.by_id.get(node.prompt_id) or self._by_time(node)
        if node.subagent and node.role != AGENT and node.origin != "span":
            run = self.runs.get(node.parent_tool_call_id)
            if run is None and prompt is not None and prompt.subagent == node.subagent:
                return self._unless_below(node, prompt)  # asked of the sub-agent itself, in a session of its own
            return self._unless_below(node, self._agent(node, run or prompt))
        return self._unless_below(node, prompt)

    def _around(self, node: Node) -> Node | None:
        """The span of the prompt at whose work the user said more; a prompt of its own stands under the root."""
        at = bisect_right(self.starts, node.start_ns)
        earlier = self.timed[max(0, at - AT_ONCE) : at] if node.origin == "event" else []
        return next((n for n in reversed(earlier) if n.origin == "span" and n.end_ns >= node.start_ns), None)

    def _unless_below(self, node: Node, parent: Node | None) -> Node | None:
        """The parent, unless it stands below the node itself: a root that holds the prompt stays a root."""
        above: Node | None = parent
        while above is not None:
            if above is node:
                return None
            above = self.parents.get(above.id)
        return parent

    def _by_time(self, node: Node) -> Node | None:
        if not node.start_ns:
            return None
        at = bisect_right(self.starts, node.start_ns + SAME_NS) - 1
        if at < 0:  # before the first prompt: set off by it, if it followed at once
            return self.timed[0] if self.starts and self.starts[0] <= node.start_ns + EARLY_NS else None
        prompt = self.timed[at]
        if prompt.origin == "span" and node.start_ns > prompt.end_ns + LATE_NS:
            return None
        return prompt

    def _agent(self, node: Node, parent: Node | None) -> Node:
        """The sub-agent whose step a node is, below the tool run that started it or the prompt."""
        known = self.agents.get(node.subagent)
        if known is not None:
            return known
        key = (parent.id if parent else "", node.subagent)
        made = self.made_agents.get(key)
        if made is None:
            made = Node(id=f"agent:{key[0]}:{key[1]}", role=AGENT, name=node.subagent, start_ns=node.start_ns)
            made.subagent, made.agent = node.subagent, node.agent
            self.made_agents[key] = made
            self.made.append(made)
            self.parents[made.id] = parent
        return made


def break_cycles(spans: Iterable[Node], parents: dict[str, Node | None]) -> None:
    """Make every chain of parents end: the earliest span of a circle loses its parent."""
    done: set[str] = set()
    for node in spans:
        above = parents.get(node.id)
        if above is None or above.id in done:  # so it is for most, whose parents came first
            done.add(node.id)
            continue
        path: dict[str, Node] = {}
        at: Node | None = node
        while at is not None and at.id not in done and at.id not in path:
            path[at.id] = at
            at = parents.get(at.id)
        if at is not None and at.id in path:
            chain = list(path.values())
            circle = chain[list(path).index(at.id) :]
            parents[min(circle, key=lambda n: (n.start_ns, n.id)).id] = None
        done.update(path)


def texts_of(contents: Any) -> list[tuple[str, list[str]]]:
    """(slot, hashes) of the contents that have a slot."""
    if not isinstance(contents, list):
        return []
    return [(c["slot"], c["hashes"]) for c in contents if c.get("slot")]
