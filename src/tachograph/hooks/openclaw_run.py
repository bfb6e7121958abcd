"""What is remembered of an OpenClaw gateway from one spool line to the next: conversations, requests, turns, calls."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct, field

from tachograph.hooks.spans import digest, folder_name, resource_of, short
from tachograph.lines import time_ns, words
from tachograph.model import Attributes, Meaning
from tachograph.vocabulary import IDENTITY, text

NAME: Final = "openclaw"
MAIN: Final = "main"  # the agent that is there without being named
# A gateway serves many people at once; conversations that were silent longest are forgotten at this many.
CHATS_MAX: Final = 200
CALLS_MAX: Final = 50
TOOLS_MAX: Final = 200
# What follows the channel in a session key: agent:<id>:<channel>:direct:<peer>.
_PLACES: Final = frozenset(("direct", "dm", "user", "group", "channel", "room"))
# What stands in a session key's third place where nobody wrote a message.
_KINDS: Final = frozenset(("cron", "heartbeat", "subagent", "acp"))


class Process(Struct, omit_defaults=True):
    """What the first line of a part says of the process that wrote it."""

    resource: Attributes = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)  # fields of Meaning


class Call(Struct, omit_defaults=True):
    """A model call that began; it is told once its end and its message are known."""

    span_id: str
    begun_ns: int
    start: dict[str, Any]  # its first line
    end: dict[str, Any] | None = None
    end_ns: int = 0
    message: dict[str, Any] | None = None


class Tool(Struct, omit_defaults=True):
    """A tool run that goes on."""

    name: str
    start_ns: int
    args: Any = None  # only within one piece of the file


class Turn(Struct, omit_defaults=True):
    """One run of an agent loop: an attempt at a request."""

    run: str
    span_id: str
    begun_ns: int
    last_ns: int = 0  # something happened in it then
    end_ns: int = 0  # 0 = it goes on
    shown_ns: int = 0  # the end that was told of it when it had ended
    facts: Attributes = field(default_factory=dict)
    error: str = ""
    is_error: bool = False
    tools: dict[str, Tool] = field(default_factory=dict)
    links: list[Attributes] = field(default_factory=list)


class Request(Struct, omit_defaults=True):
    """What a person, a schedule or another session asked for, from its arrival to its last answer.

    `is_aside`: nobody asked, OpenClaw makes the history shorter by itself.
    """

    run: str
    trace_id: str
    span_id: str
    begun_ns: int
    end_ns: int = 0  # of the last attempt or answer so far
    shown_ns: int = -1  # the end that was told last
    failures: int = 0  # attempts in a row that failed
    turns: int = 0
    facts: Attributes = field(default_factory=dict)
    prompt: Any = None
    is_asked: bool = False  # what was asked is known
    is_aside: bool = False


class Chat(Struct, omit_defaults=True):
    """One conversation, by its session key."""

    key: str
    session: str = ""
    agent: str = ""
    subagent: str = ""
    parent_session: str = ""
    parent_tool_call: str = ""
    channel: str = ""
    sender: str = ""
    cwd: str = ""
    asked_ns: int = 0  # a message arrived then, which no run has taken up yet
    asked: Any = None
    compacting_ns: int = 0
    request: Request | None = None
    turn: Turn | None = None
    calls: list[Call] = field(default_factory=list)
    last_ns: int = 0


class State(Struct, omit_defaults=True):
    """All that a reading remembers of one file; conversations by their session keys."""

    process: Process = field(default_factory=Process)
    chats: dict[str, Chat] = field(default_factory=dict)


def restored(told: dict[str, Any]) -> State:
    """The state of an earlier reading; an empty one where it is of a shape that is no longer known."""
    try:
        return msgspec.convert(told.get("spool") or {}, State)
    except msgspec.ValidationError:
        return State()


def process_of(line: dict[str, Any]) -> Process:
    """Who and where, by the operator's own words (OTEL_RESOURCE_ATTRIBUTES), then by what the machine says."""
    given = resource_of(words(line.get("resource")))
    host = words(line.get("host"))
    version = short(line.get("openclaw"))
    resource = {"host.name": host, "service.version": version, **given}
    resource["service.name"] = words(line.get("service")) or text(given.get("service.name")) or NAME
    found = {name: next((v for n in names if (v := text(given.get(n)))), "") for name, names in IDENTITY.items()}
    del found["session_id"]
    found["user"] = found["user"] or words(line.get("user"))
    found["host"] = found["host"] or host
    return Process(
        {name: value for name, value in resource.items() if value},
        {name: value for name, value in found.items() if value},
    )


def kind_of(key: str) -> str:
    """What a session key says of who asks: cron, heartbeat, subagent; "" where it is a person or nobody knows."""
    parts = key.split(":")
    return parts[2] if len(parts) > 2 and parts[0] == "agent" and parts[2] in _KINDS else ""


def channel_of(key: str) -> str:
    """The channel that a session key names, "" where it names none."""
    parts = key.split(":")
    place = next((n for n, part in enumerate(parts) if n > 2 and part in _PLACES), 0)
    return parts[2] if parts[0] == "agent" and place in (3, 4) else ""


def learn(chat: Chat, line: dict[str, Any]) -> None:
    """What any line may tell of the conversation that it belongs to."""
    chat.session = short(line.get("s")) or chat.session
    chat.agent = short(line.get("a")) or chat.agent
    chat.channel = short(line.get("channel")) or chat.channel or channel_of(chat.key)
    chat.sender = short(line.get("sender")) or chat.sender
    chat.cwd = short(line.get("cwd")) or chat.cwd


def meaning_of(process: Process, chat: Chat, role: str) -> Meaning:
    """The meaning of a record of a conversation: its identity, and the request that is open."""
    known = process.identity
    request = chat.request
    trigger = str(request.facts.get("openclaw.trigger", "")) if request else ""
    parent = chat.parent_session if chat.parent_session != chat.session else ""
    named = chat.subagent or (chat.agent if chat.agent != MAIN else "")
    meaning = Meaning(
        dialect=NAME,
        role=role,
        agent=NAME,
        session_id=chat.session,
        parent_session_id=parent,
        lineage="subagent" if parent else "",
        parent_tool_call_id=chat.parent_tool_call if parent else "",
        subagent=named,
        prompt_id=request.span_id if request else "",
    )
    for name, value in known.items():
        setattr(meaning, name, value)
    meaning.user = chat.sender or meaning.user
    meaning.channel = chat.channel or (trigger if trigger in _KINDS else "") or kind_of(chat.key) or meaning.channel
    meaning.project = meaning.project or folder_name(chat.cwd)
    return meaning


def trace_of(line: dict[str, Any]) -> tuple[str, str, str]:
    """OpenClaw's own trace id, span id and parent span id of a line, "" where there is none."""
    told = line.get("tr")
    ids = [short(part) for part in told] if isinstance(told, list) else []
    trace, span, parent = (*ids, "", "", "")[:3]
    if not _is_id(trace, 32):
        return "", "", ""
    return trace, span if _is_id(span, 16) else "", parent if _is_id(parent, 16) else ""


def _is_id(told: str, length: int) -> bool:
    return len(told) == length and set(told) <= set("0123456789abcdef") and set(told) != {"0"}


def begin_request(chat: Chat, line: dict[str, Any], t: int) -> Request:
    """The request that a run works on: the one it worked on before, or a new one."""
    run = short(line.get("r"))
    if chat.request is not None and run and chat.request.run == run:
        return chat.request
    began = chat.asked_ns or t
    trace_id = trace_of(line)[0] or digest(16, NAME, chat.key, run, began)
    request = Request(run, trace_id, digest(8, trace_id, "request", run or began), began)
    request.prompt, request.is_asked = chat.asked, chat.asked is not None
    chat.asked_ns, chat.asked = 0, None
    chat.request = request
    return request


def begin_aside(chat: Chat, line: dict[str, Any], t: int) -> Request:
    """A compaction between two requests."""
    began = chat.compacting_ns or t
    trace_id = trace_of(line)[0] or digest(16, NAME, chat.key, "compaction", began)
    chat.request = Request("", trace_id, digest(8, trace_id, "compaction", began), began, is_aside=True)
    return chat.request


def begin_turn(chat: Chat, line: dict[str, Any], t: int, is_told: bool) -> Turn:
    """A run of the agent loop. `is_told`: its own line tells of it, and not only what happens in it."""
    request = begin_request(chat, line, t)
    trace_id, span_id, _ = trace_of(line)
    if not is_told or not span_id:
        span_id = digest(8, request.span_id, "turn", request.turns)
    turn = Turn(short(line.get("r")), span_id, t, t)
    if trace_id and trace_id != request.trace_id:
        # Another attempt at the same request may have a trace of its own; the request keeps them together.
        turn.links.append({"trace_id": trace_id, "span_id": span_id, "trace_state": "", "attributes": {}})
    request.turns += 1
    request.end_ns = 0
    chat.turn = turn
    return turn


def when(line: dict[str, Any], name: str = "t") -> int:
    """The time of a line in nanoseconds, 0 where it has none."""
    return time_ns(line.get(name))
