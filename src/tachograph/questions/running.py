"""Which sessions run now, what each is doing and since when, and what is being spent by the minute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from tachograph.model import AGENT, MODEL_CALL, PROMPT, SESSION, TOOL_RUN, TURN
from tachograph.questions.lookup import sessions
from tachograph.scan import Agg, Any_, Bucket, Condition, Match, Reader, Scan

MINUTE_NS: Final = 60 * 1_000_000_000
ALIVE_NS: Final = 30 * MINUTE_NS  # a session of which nothing was heard for longer is not shown
STALLED_NS: Final = 5 * MINUTE_NS  # tools and answers take long; of ones that take longer something is wrong
SPEND_MINUTES: Final = 60
_SESSIONS_MAX: Final = 50
_RECORDS_MAX: Final = 2000  # the newest, of all these sessions together
_TRACE: Final = "trace:"
_IS_OPEN: Final = "attributes.tachograph.is_open"
_STEPS: Final = (SESSION, TURN, AGENT, MODEL_CALL, TOOL_RUN)
_SAME: Final[dict[str, Any]] = {
    **{name: name for name in ("trace_id", "span_id", "session_id", "role", "name", "tool_name")},
    "model": "request_model",
}

Doing = Literal["tool", "model", "user", "unknown", "ended"]
# Of moments at one time the later in this order is the newer one.
_ORDER: Final[dict[str, int]] = {"asked": 0, "tool": 1, "call": 2, "announced": 3, "answered": 4, "ended": 5}


class Step(Struct):
    """What a session is doing: a tool runs, a model answers, the user is waited for; `name` says which."""

    doing: Doing
    name: str = ""
    since_ns: int = 0


class Running(Struct):
    """A session that runs: its row of `sessions`, its step, its last prompt, when it was last heard of."""

    session: dict[str, Any]
    step: Step
    prompt_hash: str = ""
    heard_ns: int = 0
    in_flight: int = 0  # calls and tools that are known to have begun and not to have ended
    is_stalled: bool = False


class _Heard(Struct):
    """What was heard of one session, while it is gathered; times are those of the records."""

    moments: list[tuple[int, int, Step]]
    open: dict[str, Step]
    prompt: tuple[int, str] = (0, "")
    heard_ns: int = 0

    def note(self, time_ns: int, kind: str, step: Step) -> None:
        self.moments.append((time_ns, _ORDER[kind], step))
        self.heard_ns = max(self.heard_ns, time_ns)


def running(reader: Reader, now_ns: int) -> list[Running]:
    """The sessions that were heard of in the last half hour and have not ended, those at work first.

    What a session is doing is read off its newest records: a step that its source says is open, else what must follow
    on the last one that ended.
    """
    rows = sessions(reader, since_ns=now_ns - ALIVE_NS, limit=_SESSIONS_MAX)
    if not rows:
        return []
    heard = {row["session_id"]: _Heard([], {}) for row in rows}
    session_of = _traces(reader, list(heard))
    since_ns = now_ns - 2 * ALIVE_NS
    for told in _records(reader, heard, session_of, since_ns):
        session_id = told["session_id"] if told["session_id"] in heard else session_of.get(told["trace_id"], "")
        if session_id in heard:
            _hear(heard[session_id], told)
    for call in _calls(reader, list(heard), list(session_of), since_ns):
        session_id = call["session_id"] or session_of.get(call["trace_id"], "")
        if session_id in heard:
            _hear_call(heard[session_id], call)
    found = [_running(row, heard[row["session_id"]], now_ns) for row in rows]
    at_work = [one for one in found if one.step.doing != "ended"]
    rank = {"tool": 0, "model": 0, "unknown": 1, "user": 2}
    return sorted(at_work, key=lambda one: (rank[one.step.doing], one.is_stalled, -one.heard_ns))


def spend(reader: Reader, now_ns: int) -> dict[str, list[float]]:
    """Dollars of each of the last 60 minutes by kind of cost: billed, source_estimate, computed, notional.

    The last minute is the one that is not over. Kinds of which there is nothing are left out.
    """
    first = now_ns // MINUTE_NS - SPEND_MINUTES + 1
    select: dict[str, Any] = {
        "minute": Bucket("start_ns", "minute"),
        "cost_kind": "cost_kind",
        "is_notional": "is_notional",
        "cost_nanousd": Agg("sum", "cost_nanousd"),
    }
    where = (Match("start_ns", ">=", first * MINUTE_NS), Match("cost_kind", "!=", ""))
    spent: dict[str, list[float]] = {}
    for row in reader.scan(Scan("calls", select, where, ("minute", "cost_kind", "is_notional"))).rows():
        at = row["minute"] // MINUTE_NS - first
        if at < SPEND_MINUTES:  # a sender's clock may be ahead
            kind = "notional" if row["is_notional"] else row["cost_kind"]
            spent.setdefault(kind, [0.0] * SPEND_MINUTES)[at] += (row["cost_nanousd"] or 0) / 1e9
    return spent


def _traces(reader: Reader, session_ids: Sequence[str]) -> dict[str, str]:
    """Trace -> session, for records that name none."""
    scan = Scan(
        "trace_sessions",
        {"trace_id": "trace_id", "session_id": "session_id"},
        (Match("session_id", "in", list(session_ids)),),
        limit=_RECORDS_MAX,
    )
    found = {row["trace_id"]: row["session_id"] for row in reader.scan(scan).rows()}
    return found | {one.removeprefix(_TRACE): one for one in session_ids if one.startswith(_TRACE)}


def _records(
    reader: Reader, session_ids: Iterable[str], traces: Iterable[str], since_ns: int
) -> Iterable[dict[str, Any]]:
    """The newest spans and events of the sessions, the newest telling of each span alone.

    Of prompts, which may be long ago, more than of the rest; their texts alone are looked at.
    """
    commits = Scan("commits", {"seq": Agg("min", "seq")}, (Match("time_ns", ">=", since_ns),))
    first_seq = reader.scan(commits).data["seq"][0]
    if first_seq is None:
        return
    ours = Any_((Match("session_id", "in", list(session_ids)), Match("trace_id", "in", list(traces))))
    recent = (Match("seq", ">=", first_seq), ours)
    prompts = (*recent, Match("role", "=", PROMPT))
    yield from _spans(reader, (*prompts, Match("end_ns", ">=", since_ns)), has_texts=True)
    yield from _events(reader, (*prompts, Match("time_ns", ">=", since_ns)), has_texts=True)
    steps = (*recent, Match("role", "in", list(_STEPS)))
    yield from _spans(reader, (*steps, Match("end_ns", ">=", since_ns + ALIVE_NS)))
    yield from _events(reader, (*steps, Match("time_ns", ">=", since_ns + ALIVE_NS)))


def _spans(reader: Reader, where: tuple[Condition, ...], has_texts: bool = False) -> Iterable[dict[str, Any]]:
    select = _SAME | {"start_ns": "start_ns", "end_ns": "end_ns", "is_open": _IS_OPEN}
    select |= {"contents": "contents"} if has_texts else {}
    newest = (("seq", True), ("end_ns", True))
    seen: set[tuple[str, str]] = set()
    for row in reader.scan(Scan("spans", select, where, order_by=newest, limit=_RECORDS_MAX)).rows():
        if (key := (row["trace_id"], row["span_id"])) not in seen:
            seen.add(key)
            yield row | {"is_span": True, "is_open": row["is_open"] in (True, "true")}


def _events(reader: Reader, where: tuple[Condition, ...], has_texts: bool = False) -> Iterable[dict[str, Any]]:
    select = _SAME | {name: name for name in ("time_ns", "duration_ns", "is_rollup", "origin", "output_tokens")}
    select |= {"contents": "contents"} if has_texts else {}
    newest = (("time_ns", True),)
    for row in reader.scan(Scan("events", select, where, order_by=newest, limit=_RECORDS_MAX)).rows():
        yield row | {"is_span": False}


def _calls(reader: Reader, session_ids: list[str], traces: list[str], since_ns: int) -> list[dict[str, Any]]:
    """The newest calls of the sessions, as the ledger has them."""
    names = ("session_id", "trace_id", "start_ns", "end_ns", "model", "status", "finish_reason")
    ours = Any_((Match("session_id", "in", session_ids), Match("trace_id", "in", traces)))
    where = (Match("end_ns", ">=", since_ns + ALIVE_NS), ours)
    scan = Scan("calls", {name: name for name in names}, where, order_by=(("end_ns", True),), limit=_RECORDS_MAX)
    return reader.scan(scan).rows()


def _hear(heard: _Heard, told: dict[str, Any]) -> None:
    if told["is_span"]:
        _hear_span(heard, told)
        return
    at, role = told["time_ns"], told["role"]
    if role == PROMPT:
        _hear_prompt(heard, told, at)
        over = told["duration_ns"] is not None  # an event that says how long it took comes at the end
        heard.note(at, "answered" if over else "asked", Step("user" if over else "model", since_ns=at))
    elif role == TOOL_RUN:
        heard.note(at, "tool", Step("model", since_ns=at))
    elif role == MODEL_CALL and told["origin"] == "log" and told["is_rollup"] and told["output_tokens"] is None:
        heard.note(at, "announced", Step("model", told["model"], at))  # it tells that a call begins


def _hear_span(heard: _Heard, told: dict[str, Any]) -> None:
    role, start, end = told["role"], told["start_ns"], told["end_ns"]
    if role == PROMPT:
        _hear_prompt(heard, told, start)
        heard.note(start, "asked", Step("model", since_ns=start))
    if told["is_open"]:
        heard.heard_ns = max(heard.heard_ns, end)
        if role == TOOL_RUN:
            heard.open[told["span_id"]] = Step("tool", told["tool_name"] or told["name"], start)
        elif role != SESSION:
            heard.open[told["span_id"]] = Step("model", told["model"] if role == MODEL_CALL else "", start)
    elif role == TOOL_RUN:
        heard.note(end, "tool", Step("model", since_ns=end))
    elif role == PROMPT:
        heard.note(end, "answered", Step("user", since_ns=end))
    elif role == SESSION:
        heard.note(end, "ended", Step("ended", since_ns=end))


def _hear_prompt(heard: _Heard, told: dict[str, Any], time_ns: int) -> None:
    for content in told["contents"] or ():
        if content.get("slot") == "prompt" and content.get("hashes") and time_ns > heard.prompt[0]:
            heard.prompt = (time_ns, content["hashes"][0])


def _hear_call(heard: _Heard, call: dict[str, Any]) -> None:
    end, finish = call["end_ns"] or call["start_ns"], call["finish_reason"]
    if call["status"] == "aborted":
        step = Step("user", since_ns=end)
    elif call["status"] != "ok":
        step = Step("unknown", "failed call", end)  # it may be tried again
    elif finish == "tool_call":
        step = Step("tool", since_ns=end)
    else:
        step = Step("user" if finish else "unknown", since_ns=end)
    heard.note(end, "call", step)


def _running(row: dict[str, Any], heard: _Heard, now_ns: int) -> Running:
    newest = max(heard.moments, key=lambda moment: moment[:2], default=None)
    step = newest[2] if newest else Step("unknown", since_ns=row["end_ns"] or 0)
    over_ns = max((time for time, order, _ in heard.moments if order >= _ORDER["answered"]), default=0)
    going_on = [one for one in heard.open.values() if one.since_ns >= over_ns]  # of earlier ones nobody told the end
    if going_on:
        # The innermost of what goes on began last; a tool or a call says more than the prompt around it.
        inner = max(going_on, key=lambda one: (one.doing == "tool", bool(one.name), one.since_ns))
        step = inner if inner.name else step
    heard_ns = max(heard.heard_ns, row["end_ns"] or 0)
    is_stalled = step.doing in ("tool", "model") and now_ns - heard_ns >= STALLED_NS
    in_flight = sum(bool(one.name) for one in going_on)
    return Running(row, step, heard.prompt[1], heard_ns, in_flight, is_stalled)
