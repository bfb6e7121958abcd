"""What is remembered of a Pi process from one spool line to the next, and the ids that follow from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from tachograph.hooks.spans import digest, folder_name, resource_of, short
from tachograph.lines import items, record, time_ns, words
from tachograph.model import Attributes
from tachograph.vocabulary import IDENTITY, provider, text, whole

# A process works on one session at a time; those that were left behind without an end are forgotten at this many.
SESSIONS_MAX: Final = 8
TOOLS_MAX: Final = 200
# Some local servers count tool call ids from 0 in every answer: so many are remembered to tell a repeated one.
TOOL_IDS_MAX: Final = 64
EVENTS_MAX: Final = 50
EXCHANGES_MAX: Final = 100
# Sub-agents of sub-agents.
DEPTH_MAX: Final = 8
_TRACEPARENT: Final = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-")
_FIRST_LINE_BYTES: Final = 1_000_000


class Process(Struct, omit_defaults=True):
    """What the first line of a part says of the process that wrote it."""

    pid: str = ""
    open_ns: int = 0  # of the process's first line, which its trace ids are made of
    version: str = ""
    cwd: str = ""
    branch: str = ""
    mode: str = ""
    subagent: str = ""
    identity: dict[str, str] = field(default_factory=dict)  # fields of Meaning
    resource: Attributes = field(default_factory=dict)
    links: list[Attributes] = field(default_factory=list)  # the span of another program that it was started in
    # The tool run that started it, if one did.
    trace_id: str = ""
    above: str = ""
    parent_session_id: str = ""
    parent_tool_call_id: str = ""


class Tool(Struct, omit_defaults=True):
    """A tool run that goes on."""

    name: str
    span_id: str
    above: str  # the span that it lies in
    start_ns: int
    args: Any = None  # only within one piece of the file
    is_shown: bool = False


class Exchange(Struct, omit_defaults=True):
    """One HTTP request to a provider, as far as it has come."""

    number: int
    start_ns: int
    end_ns: int = 0
    status: int | None = None
    request_id: str = ""
    error: str = ""

    @property
    def is_failed(self) -> bool:
        """Whether it brought no answer; one that was answered is often torn down by the reader, which is no failure."""
        return bool(self.error) if self.status is None else self.status >= 400


class Run(Struct, omit_defaults=True):
    """One session while one process works on it; ids of spans, times in nanoseconds, 0 and "" = none open."""

    session: str
    trace_id: str
    span_id: str
    above: str = ""
    begun_ns: int = 0
    is_whole: bool = True  # its totals count from its beginning, which is told in this file
    shown_ns: int = -1  # the end that was told of its span while it was open; -1 = not told yet
    facts: Attributes = field(default_factory=dict)
    provider: str = ""
    model: str = ""
    thinking: str = ""
    name: str = ""
    parent_session_id: str = ""
    lineage: str = ""
    parent_tool_call_id: str = ""
    last_ns: int = 0
    events: list[Attributes] = field(default_factory=list)  # of the session's span
    prompts: int = 0
    turns: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    # the prompt
    prompt: str = ""
    prompt_ns: int = 0
    prompt_source: str = ""
    prompt_turns: int = 0
    prompt_shown_ns: int = -1
    prompt_outcome: str = ""
    has_run: bool = False  # the agent began to work on it
    stopped_ns: int = 0  # the agent stopped then, perhaps to try again
    # the turn
    turn: str = ""
    turn_ns: int = 0
    turn_index: int = 0
    turn_shown_ns: int = -1
    turn_tools: list[str] = field(default_factory=list)
    turn_events: list[Attributes] = field(default_factory=list)
    turn_usage: Attributes = field(default_factory=dict)
    # the model call
    request_ns: int = 0
    first_ns: int = 0
    asked: Attributes = field(default_factory=dict)
    status: int | None = None
    request_id: str = ""
    failures: int = 0  # attempts in a row that failed
    aside_ns: int = 0  # a compaction or branch summary began then
    exchanges: list[Exchange] = field(default_factory=list)
    # tools and the user
    tools: dict[str, Tool] = field(default_factory=dict)
    tool_ids: list[str] = field(default_factory=list)
    asking_ns: int = 0
    asking: str = ""

    @property
    def above_steps(self) -> str:
        """The innermost span that is open for what a turn holds."""
        return self.turn or self.prompt or self.span_id

    @property
    def above_asides(self) -> str:
        """The innermost span that is open for what lies beside the turns."""
        return self.prompt or self.span_id


class State(Struct, omit_defaults=True):
    """All that a reading remembers of one file."""

    process: Process = field(default_factory=Process)
    runs: dict[str, Run] = field(default_factory=dict)


def restored(told: dict[str, Any]) -> State:
    """The state of an earlier reading; an empty one where it is of a shape that is no longer known."""
    try:
        return msgspec.convert(told.get("spool") or {}, State)
    except msgspec.ValidationError:
        return State()


def trace_of(session: str, open_ns: int, pid: str) -> str:
    """The trace of a session in a process that no other Pi process started."""
    return digest(16, "pi", session, open_ns, pid)


def tool_span(session: str, open_ns: int, pid: str, call_id: str) -> str:
    """The span of a tool run: made of what a process that it starts is handed down, so that both name it."""
    return digest(8, "pi", session, open_ns, pid, "tool", call_id)


def process_of(line: dict[str, Any], path: Path) -> Process:
    """What an `open` line says of its process."""
    carried = time_ns(record(line.get("carry")).get("open_t"))
    process = Process(
        pid=str(whole(line.get("pid")) or 0),
        open_ns=carried or time_ns(line.get("t")),
        version=short(line.get("pi")),
        cwd=short(line.get("cwd")),
        branch=short(line.get("branch")),
        mode=short(line.get("mode")),
        subagent=short(line.get("subagent")),
    )
    _identify(process, line)
    if traced := _TRACEPARENT.match(words(line.get("traceparent"))):
        link: Attributes = {"trace_id": traced[1], "span_id": traced[2], "trace_state": "", "attributes": {}}
        process.links = [{**link, "dropped": 0, "flags": 0}]
    parent = parent_of(line)
    if parent is not None:
        session, call_id, open_ns, pid = parent
        process.parent_session_id, process.parent_tool_call_id = session, call_id
        if call_id:  # else there is no step that it would lie in
            process.trace_id = _root_trace(parent, path)
            process.above = tool_span(session, open_ns, pid, call_id)
    return process


def _identify(process: Process, line: dict[str, Any]) -> None:
    """Who and where, by the operator's own words (OTEL_RESOURCE_ATTRIBUTES), then by what the machine says."""
    given = resource_of(words(line.get("resource")))
    service = words(line.get("service")) or text(given.get("service.name")) or "pi"
    host = words(line.get("host"))
    resource = {"host.name": host} if host else {}
    if process.version:
        resource["service.version"] = process.version
    process.resource = {**resource, **given, "service.name": service}
    found = {name: next((v for n in names if (v := text(given.get(n)))), "") for name, names in IDENTITY.items()}
    found["user"] = found["user"] or words(line.get("user"))
    found["host"] = found["host"] or host
    found["branch"] = found["branch"] or process.branch
    found["project"] = found["project"] or folder_name(process.cwd)
    del found["session_id"]
    process.identity = {name: value for name, value in found.items() if value}


Parent = tuple[str, str, int, str]  # session id, tool call id, time of the first line, pid


def parent_of(line: dict[str, Any]) -> Parent | None:
    """The tool run that started a process; None where none did, or where its Pi ended before (a daemon's child)."""
    parts = words(line.get("parent")).split(";")
    if len(parts) < 4 or not parts[0] or line.get("parent_alive") is False:
        return None
    return parts[0], ";".join(parts[1:-2]), time_ns(_number(parts[-2])), parts[-1]


def _number(told: str) -> float | int | None:
    try:
        return float(told)
    except ValueError:
        return None


def _root_trace(parent: Parent, path: Path) -> str:
    """The trace that a parent's spans are in: its own parent's, up to the process that was started by a person.

    A process knows only its own parent; who that one's parent is stands in the first line of its spool, beside this.
    """
    for _ in range(DEPTH_MAX):
        session, _, open_ns, pid = parent
        above = next((found for line in _first_lines(path, pid, open_ns) if (found := parent_of(line))), None)
        if above is None or not above[1]:
            return trace_of(session, open_ns, pid)
        parent = above
    return trace_of(parent[0], parent[2], parent[3])


def _first_lines(path: Path, pid: str, open_ns: int) -> list[dict[str, Any]]:
    """The first line of the spool of the process with this pid that began then, if it is still there."""
    found = []
    if pid.isdecimal():
        for other in path.parent.glob(f"*-{pid}-1.jsonl"):
            try:
                with other.open("rb") as file:
                    line = record(msgspec.json.decode(file.readline(_FIRST_LINE_BYTES)))
            except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if line.get("e") == "open" and time_ns(line.get("t")) == open_ns:
                found.append(line)
    return found


def run_of(process: Process, session: str, when_ns: int) -> Run:
    """A session that a process begins to work on, or goes on with."""
    trace_id = process.trace_id or trace_of(session, process.open_ns, process.pid)
    run = Run(session, trace_id, digest(8, trace_id, "session", session, when_ns), above=process.above)
    run.begun_ns = run.last_ns = when_ns
    run.parent_session_id = process.parent_session_id if process.parent_session_id != session else ""
    run.parent_tool_call_id = process.parent_tool_call_id if run.parent_session_id else ""
    return run


def use_model(run: Run, told: Any) -> None:
    """Remember which model a session uses now."""
    model = record(told)
    run.provider = provider(short(model.get("provider"))) or run.provider
    run.model = short(model.get("id")) or run.model


def carry(process: Process, run: Run, told: dict[str, Any]) -> None:
    """Take over what the parts before told of a session."""
    run.is_whole = False
    run.begun_ns = time_ns(told.get("session_t")) or run.begun_ns
    run.span_id = digest(8, run.trace_id, "session", run.session, run.begun_ns)
    run.prompts, run.turns = whole(told.get("prompts")) or 0, whole(told.get("turns")) or 0
    if prompt_ns := time_ns(told.get("prompt_t")):
        open_prompt(run, prompt_ns)
        run.has_run = True
    if turn_ns := time_ns(told.get("turn_t")):
        open_turn(run, turn_ns, whole(told.get("turn_index")) or 0)
    run.request_ns, run.first_ns = time_ns(told.get("request_t")), time_ns(told.get("first_t"))
    for tool in items(told.get("tools")):
        open_tool(process, run, tool, time_ns(tool.get("t")))


def open_prompt(run: Run, when_ns: int) -> None:
    """A prompt is open from now on."""
    run.prompt, run.prompt_ns, run.prompt_shown_ns = digest(8, run.span_id, "prompt", when_ns), when_ns, -1
    run.prompt_source = run.prompt_outcome = ""
    run.prompt_turns = run.stopped_ns = run.failures = 0
    run.has_run = False


def open_turn(run: Run, when_ns: int, index: int) -> None:
    """A turn is open from now on."""
    run.turn, run.turn_ns, run.turn_index = digest(8, run.span_id, "turn", when_ns), when_ns, index
    run.turn_shown_ns, run.turn_tools, run.turn_events, run.turn_usage = -1, [], [], {}
    run.stopped_ns = 0


def open_tool(process: Process, run: Run, line: dict[str, Any], when_ns: int) -> Tool:
    """A tool run is open from now on."""
    call_id, outer = short(line.get("id")), run.tools.get(short(line.get("parent")))
    seed = call_id or f"#{when_ns}"
    if call_id in run.tool_ids:
        seed = f"{call_id}#{when_ns}"
    span_id = tool_span(run.session, process.open_ns, process.pid, seed)
    tool = Tool(short(line.get("name")) or "tool", span_id, outer.span_id if outer else run.above_steps, when_ns)
    run.tool_ids = [*run.tool_ids[-TOOL_IDS_MAX + 1 :], call_id]
    if len(run.tools) < TOOLS_MAX:
        run.tools[call_id] = tool
    if outer is None and len(run.turn_tools) < TOOLS_MAX:
        run.turn_tools.append(call_id)
    return tool
