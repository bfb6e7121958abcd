"""The nodes of a tree, what they hold, and how a finished tree counts and sorts itself."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from tachograph.model import STEP, TOOL_RUN


class Totals(Struct, eq=False, gc=False):
    """What lies in a node and below it; money in nano-dollars, None = no priced call."""

    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    unknown_calls: int = 0  # calls whose tokens are not fully known
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int | None = None
    cost_kind: str = ""  # of the cost: billed, source_estimate, computed, mixed; "" = nothing priced
    notional_nanousd: int | None = None  # covered by a subscription plan
    tool_runs: int = 0
    errors: int = 0  # noise and repeats apart
    spans: int = 0

    def add(self, other: Totals) -> None:
        """Add another's numbers to these."""
        self.tool_runs += other.tool_runs
        self.errors += other.errors
        self.spans += other.spans
        if not (other.calls or other.failed_calls):
            return  # all else is told of calls
        self.calls += other.calls
        self.failed_calls += other.failed_calls
        self.unpriced_calls += other.unpriced_calls
        self.unknown_calls += other.unknown_calls
        self.input_tokens += other.input_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.output_tokens += other.output_tokens
        self.cost_nanousd = _sum(self.cost_nanousd, other.cost_nanousd)
        self.notional_nanousd = _sum(self.notional_nanousd, other.notional_nanousd)
        if other.cost_kind:
            self.cost_kind = other.cost_kind if self.cost_kind in ("", other.cost_kind) else "mixed"


class Node(Struct, eq=False, gc=False):
    """One step of what happened; `origin` says what it is made of.

    `span` has trace_id and span_id, `event` (log, hook or transcript) event_ids, `call` call_id, `made` is a prompt or
    sub-agent that other records name but none tells. A span that a call was hung on has call_id too. Tokens are
    inclusive; None = unknown. `texts` are (slot, hashes) of kept contents. `inner` counts the noise steps directly
    below that a view folds; `parent` is the id of the node that it stands under.
    """

    id: str
    parent: str = ""
    origin: str = "made"
    role: str = STEP
    name: str = ""
    start_ns: int = 0
    end_ns: int = 0
    is_timed: bool = False  # a source tells how long it took, be it no time at all
    has_ended: bool = False  # a record of its own says when; else `end_ns` may be that of what lies below
    is_error: bool = False
    is_noise: bool = False
    is_repeat: bool = False  # tells of a call or tool run that another node stands for
    trace_id: str = ""
    span_id: str = ""
    call_id: str = ""
    event_ids: list[str] = field(default_factory=list)
    prompt_id: str = ""
    agent: str = ""
    subagent: str = ""
    model: str = ""
    tool_name: str = ""
    tool_call_id: str = ""
    parent_tool_call_id: str = ""  # the tool run that started the sub-agent whose step this is
    error: str = ""
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_status: str = ""
    status: str = ""
    finish_reason: str = ""
    cost_nanousd: int | None = None
    cost_kind: str = ""
    is_notional: bool = False
    texts: list[tuple[str, list[str]]] = field(default_factory=list)
    inner: int = 0
    totals: Totals = field(default_factory=Totals)
    children: list[Node] = field(default_factory=list)

    @property
    def duration_ns(self) -> int | None:
        """End - start; None where nobody knows: an event that tells no duration, a span that was never ended."""
        lasted_ns = self.end_ns - self.start_ns
        return lasted_ns if lasted_ns > 0 else 0 if self.is_timed else None


class Tree(Struct, eq=False):
    """The tree of a trace or a session; `root` stands for the whole and is no record itself."""

    id: str
    root: Node
    nodes: int = 0
    noise: int = 0
    is_cut: bool = False  # more than SPAN_LIMIT spans: the rest is left out

    def walk(self) -> Iterator[tuple[int, Node]]:
        """Every node but the root with its depth (from 0), parents first, siblings in time."""
        stack = [(0, child) for child in reversed(self.root.children)]
        while stack:
            depth, node = stack.pop()
            yield depth, node
            if node.children:
                stack.extend([(depth + 1, child) for child in reversed(node.children)])


def significant(node: Node) -> list[Node]:
    """The children of a node as a folded view shows them, in time: noise left out, what stands below it moved up."""
    if not any(child.is_noise for child in node.children):
        return list(node.children)
    found: list[Node] = []
    stack = list(reversed(node.children))
    while stack:
        child = stack.pop()
        if child.is_noise:
            stack.extend(reversed(child.children))
        else:
            found.append(child)
    found.sort(key=_time_order)
    return found


def _time_order(node: Node) -> tuple[int, int, str]:
    return node.start_ns, node.end_ns, node.id


def finish(root: Node) -> None:
    """Sort siblings, then from the leaves up: totals, folded noise, and ends of what has none of its own."""
    order = [root]
    for node in order:
        if node.children:
            node.children.sort(key=_time_order)
            order.extend(node.children)
    _mark_repeats(order)
    for node in reversed(order):
        _count_own(node)
        # A span that is still open, or that a killed process never closed, ends where it began.
        has_no_end = node.origin != "span" or node.end_ns == node.start_ns
        for child in node.children:
            node.totals.add(child.totals)
            node.inner += child.inner + 1 if child.is_noise else 0
            if has_no_end:
                node.end_ns = max(node.end_ns, child.end_ns)
    root.start_ns = min((n.start_ns for n in order if n.start_ns), default=0)
    root.end_ns = max(n.end_ns for n in order)


def _mark_repeats(order: list[Node]) -> None:
    """Of spans that tell of one tool run, one within another library's, the first to start counts."""
    runs: dict[str, Node] = {}
    for node in order:
        if node.role == TOOL_RUN and node.tool_call_id:
            first = runs.setdefault(node.tool_call_id, node)
            if _time_order(node) < _time_order(first):
                first.is_repeat, runs[node.tool_call_id] = True, node
            elif node is not first:
                node.is_repeat = True


def _count_own(node: Node) -> None:
    own = node.totals
    own.spans = int(node.origin == "span")
    own.tool_runs = int(node.role == TOOL_RUN and not node.is_repeat and not node.is_noise)
    own.errors = int(node.is_error and not node.is_noise and not node.is_repeat)
    if not node.call_id:
        return
    own.failed_calls = int(node.status != "ok")
    own.calls = 1 - own.failed_calls
    own.unknown_calls = int(node.usage_status != "reported" and node.status == "ok")
    own.unpriced_calls = int(node.cost_nanousd is None and (node.status == "ok" or node.usage_status == "reported"))
    own.input_tokens = node.input_tokens or 0
    own.cache_read_tokens = node.cache_read_tokens or 0
    own.output_tokens = node.output_tokens or 0
    if node.is_notional:
        own.notional_nanousd = node.cost_nanousd
    else:
        own.cost_nanousd, own.cost_kind = node.cost_nanousd, node.cost_kind


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b
