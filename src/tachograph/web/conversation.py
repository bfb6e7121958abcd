"""The tree of a session as people read it: prompts, and under each what was said, called and run, in time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct, field

from tachograph.model import AGENT, MODEL_CALL, PROMPT, SESSION, TOOL_RUN, TURN
from tachograph.questions import Happening
from tachograph.scan import Reader
from tachograph.tree import Node, Totals, Tree, significant
from tachograph.web import messages
from tachograph.web.markdown import markdown
from tachograph.web.messages import Message
from tachograph.web.tool_views import ToolView, view

STEPS_MAX: Final = 300  # of one prompt on a page: more is linked, not drawn
SAME_NS: Final = 2_000_000
_MARKDOWN_CHARS: Final = 60_000  # of a page: what is more stands there as it was written, which takes no time
OUTPUT_CHARS: Final = 300_000  # of the results of a page's tools: then each is cut short, and linked in full
_OUTPUT_LEAST: Final = 1_000
_NESTED_MAX: Final = 5  # sub-agents within sub-agents: deeper ones are listed where the fifth is
_OPEN_ROLES: Final = (SESSION, TURN)  # what only groups: its content is shown in its place


class Step(Struct, eq=False):
    """One line of a conversation: `kind` is call, tool, agent or note; `steps` is what a tool or sub-agent did within.

    A note is something that happened beside them.
    """

    kind: str
    node: Node
    said: list[Message] = field(default_factory=list)
    arguments: list[Message] = field(default_factory=list)
    result: list[Message] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    view: ToolView | None = None  # of a tool, and of a command that the user ran
    happening: Happening | None = None


class Section(Struct, eq=False):
    """A prompt and what came of it; `node` is None for what belongs to no prompt."""

    node: Node | None
    number: int = 0
    asked: list[Message] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    left_out: int = 0
    totals: Totals = field(default_factory=Totals)
    start_ns: int = 0
    end_ns: int = 0
    waited_ns: int = 0  # between the end of what was done before and this prompt


def sections(tree: Tree, steps_max: int = STEPS_MAX) -> list[Section]:
    """The prompts of the tree in time, with what belongs to none of them as sections of its own between.

    Steps of a section beyond `steps_max` are left out.
    """
    with_prompt = _holding_prompts(tree.root)
    found: list[Section] = []
    stack = list(reversed(significant(tree.root)))
    while stack:
        node = stack.pop()
        if node.role == PROMPT:
            found.append(_section(node, significant(node), steps_max))
        elif node.id in with_prompt:
            stack.extend(reversed(significant(node)))
        elif found and found[-1].node is None:
            _add(found[-1], [node], steps_max)
        else:
            found.append(_section(None, [node], steps_max))
    found = [one for one in found if one.node is not None or one.steps]
    prompts = (one for one in found if one.node is not None)
    for number, one in enumerate(prompts, start=1):
        one.number = number
    ended_ns = 0
    for one in found:
        one.waited_ns = max(0, one.start_ns - ended_ns) if ended_ns and one.node is not None else 0
        ended_ns = max(ended_ns, one.end_ns)
    return found


def note(shown: list[Section], happenings: Iterable[Happening], since_ns: int, until_ns: int) -> None:
    """Put what happened in a time where it happened: into the section that had begun by then."""
    starts = [section.start_ns for section in shown]
    for number, one in enumerate(happenings):
        if not shown or not since_ns <= one.time_ns < until_ns or one.kind == "retry":
            continue
        steps = shown[max(0, bisect_right(starts, one.time_ns) - 1)].steps
        at = next((i for i, step in enumerate(steps) if step.node.start_ns > one.time_ns), len(steps))
        if one.call_id:
            at = next((i for i, step in enumerate(steps) if step.node.call_id == one.call_id), at)
        node = Node(id=f"note:{number}:{one.time_ns}", name=one.kind, start_ns=one.time_ns)
        node.end_ns, node.texts, node.is_error = one.time_ns + one.duration_ns, one.texts, one.is_error
        steps.insert(at, Step("note", node, happening=one))


def fill(
    reader: Reader,
    shown: Iterable[Section],
    clean: Callable[[str], str] = str,
    output_chars: int = OUTPUT_CHARS,
    text_chars: int = messages.SHOWN_CHARS,
) -> None:
    """Read the kept texts of the sections that a page shows; one question to the store for all of them.

    Each goes through `clean` first, and has at most `text_chars`. The results of tools share `output_chars`.
    """
    chosen = list(shown)
    wanted: list[tuple[list[Message], str, list[str]]] = []
    for section in chosen:
        if section.node is not None:
            asked = _texts(section.node, "prompt") or _texts(section.node, "input")[-1:]
            wanted.append((section.asked, "user", asked))
        for step in all_steps(section.steps):
            wanted += _wanted(step, is_alone=section.node is None)
    hashes = list(dict.fromkeys(hash_ for _, _, some in wanted for hash_ in some))
    texts = {hash_: clean(text) for hash_, text in reader.texts(hashes).items()} if hashes else {}
    for target, role, some in wanted:
        target.extend(messages.read(texts[hash_], role, hash_, text_chars) for hash_ in some if hash_ in texts)
    _format(one for one, role, _ in wanted if role in ("user", "assistant"))
    for section in chosen:
        for step in all_steps(section.steps):
            if step.kind == "tool" or (step.happening is not None and step.happening.kind == "bash"):
                _view(step, texts, text_chars)
                output_chars = _shortened(step, output_chars)
        if any(step.kind == "tool" for step in section.steps):
            _leave_out_tool_calls(section.steps)


def _shortened(step: Step, room: int) -> int:
    """Cut the result of a tool to the room that is left; how much is left then."""
    if step.view is None:
        return room
    if len(step.view.output) > max(room, _OUTPUT_LEAST):
        step.view.output, step.view.is_cut = step.view.output[: max(room, _OUTPUT_LEAST)], True
    return room - len(step.view.output)


def _view(step: Step, texts: dict[str, str], chars: int) -> None:
    given = [texts[hash_] for hash_ in _texts(step.node, "arguments") if hash_ in texts]
    raw = [texts[hash_] for hash_ in _texts(step.node, "result") if hash_ in texts]
    if given or raw:
        name = "user_bash" if step.kind == "note" else step.node.tool_name or step.node.name
        step.view = view(name, given, step.result, raw, chars)


def _format(said: Iterable[list[Message]]) -> None:
    """What people and models wrote is Markdown, as far as a page has time for it."""
    room = _MARKDOWN_CHARS
    for block in (block for one in said for message in one for block in message.blocks):
        if block.kind == "text" and block.role in ("user", "assistant") and len(block.text) <= room:
            block.html = markdown(block.text)
            room -= len(block.text)


def _leave_out_tool_calls(steps: list[Step]) -> None:
    """What a model asked to run need not be said twice: the runs stand beside it."""
    for step in all_steps(steps):
        for said in step.said:
            said.blocks = [block for block in said.blocks if block.kind != "tool_call"]


def _wanted(step: Step, is_alone: bool) -> list[tuple[list[Message], str, list[str]]]:
    node = step.node
    if step.happening is not None and step.happening.kind != "bash":
        return [(step.said, "assistant", (_texts(node, "response") or _texts(node, "output"))[:1])]
    if step.kind != "call":
        return [
            (step.arguments, "", _texts(node, "arguments")),
            (step.result, "tool", _texts(node, "result")),
        ]
    asked = _texts(node, "input")[-1:] if is_alone else []
    return [
        (step.said, "user", asked),
        (step.said, "assistant", _texts(node, "thinking")),
        (step.said, "assistant", _texts(node, "output") or _texts(node, "response")),
    ]


def _texts(node: Node, slot: str) -> list[str]:
    return [hash_ for name, hashes in node.texts if name == slot for hash_ in hashes]


def all_steps(steps: list[Step]) -> Iterator[Step]:
    """Every step and those within it."""
    for step in steps:
        yield step
        yield from all_steps(step.steps)  # as deep as _NESTED_MAX


def _holding_prompts(root: Node) -> set[str]:
    """Ids of nodes that have a prompt somewhere below."""
    order = [root]
    for node in order:
        order.extend(node.children)
    holding: set[str] = set()
    for node in reversed(order):
        is_subagent = node.role == AGENT and bool(node.subagent)  # what it was asked, its parent asked
        if not is_subagent and any(child.role == PROMPT or child.id in holding for child in node.children):
            holding.add(node.id)
    return holding


def _section(node: Node | None, children: list[Node], steps_max: int) -> Section:
    section = Section(node)
    if node is not None:
        section.totals, section.start_ns, section.end_ns = node.totals, node.start_ns, node.end_ns
    _add(section, children, steps_max)
    return section


def _add(section: Section, nodes: list[Node], steps_max: int) -> None:
    steps = _steps(nodes, _NESTED_MAX)
    section.left_out += _trim(steps, steps_max - sum(1 for _ in all_steps(section.steps)))[1]
    section.steps += steps
    if section.node is not None:
        return
    for node in nodes:
        section.totals.add(node.totals)
        section.start_ns = min(section.start_ns or node.start_ns, node.start_ns)
        section.end_ns = max(section.end_ns, node.end_ns)


def _trim(steps: list[Step], room: int) -> tuple[int, int]:
    """Keep the first `room` steps, those within others included; how much room is left, and how many are left out."""
    left_out = 0
    for at, step in enumerate(steps):
        if room <= 0:
            left_out += sum(1 for _ in all_steps(steps[at:]))
            del steps[at:]
            break
        room, inner = _trim(step.steps, room - 1)
        left_out += inner
    return room, left_out


def _steps(nodes: list[Node], nested: int) -> list[Step]:
    """Calls, tools and sub-agents in time; what only groups them is looked through."""
    found: list[Step] = []
    stack = list(reversed(nodes))
    while stack:
        node = stack.pop()
        below = significant(node)
        if node.is_repeat:
            pass  # stands elsewhere; what it holds does not
        elif node.role == MODEL_CALL:
            found.append(Step("call", node))
        elif node.role in (TOOL_RUN, AGENT) and not _is_whole(node):
            found.append(Step("tool" if node.role == TOOL_RUN else "agent", node))
            if nested:
                found[-1].steps = _steps(below, nested - 1)
                continue
        stack.extend(reversed(below))
    return _in_order(found)


def _in_order(steps: list[Step]) -> list[Step]:
    """A tool starts when its call has been answered: where both are stamped alike, the call comes first."""
    for at in range(1, len(steps)):
        before, step = steps[at - 1], steps[at]
        if before.kind == "tool" and step.kind == "call" and step.node.start_ns - before.node.start_ns < SAME_NS:
            steps[at - 1], steps[at] = step, before
    return steps


def _is_whole(node: Node) -> bool:
    """Whether an agent is the one at work anyway, and no sub-agent."""
    return node.role in _OPEN_ROLES or (node.role == AGENT and not node.subagent)
