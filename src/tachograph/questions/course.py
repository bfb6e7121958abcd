"""The course of a session: its model calls one after the other, and what happened between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from tachograph.scan import Condition, Match, Reader, Scan

CALLS_MAX: Final = 20_000
HAPPENINGS_MAX: Final = 5_000
# A cache break: a model was asked again, its request did not get shorter, and yet less than half of what its last
# request had read from or written to the cache was read from it. Below so many tokens nothing is worth a word.
CACHED_MIN: Final = 1024
KEPT_SHARE: Final = 0.5
_CALL: Final = (
    *("call_id", "start_ns", "end_ns", "subagent", "provider", "model", "status", "attempt", "retry_of"),
    *("http_status", "error_type", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
    *("cost_nanousd", "cost_kind", "is_notional"),
)
# The names that sources give to what is neither prompt, call nor tool: name -> kind.
_NAMES: Final = {
    "compact_boundary": "compaction",
    "compact_summary": "compaction",
    "compacted": "compaction",
    "compaction": "compaction",
    "context_compacted": "compaction",
    "openclaw.compaction": "compaction",
    "session.compaction": "compaction",
    "session.compaction_complete": "compaction",
    "gemini_cli.chat_compression": "compaction",
    "branch_summary": "summary",
    "agent.aborted": "aborted",
    "interrupted": "aborted",
    "turn_aborted": "aborted",
    "user.bash": "bash",
    "user_bash": "bash",
    "claude_code.tool.blocked_on_user": "waiting",
    "permission": "waiting",
}
_SAME_NS: Final = 5_000_000_000  # two sources stamp one thing as far apart
_WAITED_NS: Final = 1_000_000_000  # shorter than that nobody waited


class Happening(Struct):
    """Something between the calls: `kind` is compaction, summary, aborted, bash, waiting, model, cache or retry.

    `said` is what a page writes of it, `texts` are (slot, hashes) of what is kept of it.
    """

    kind: str
    time_ns: int
    said: str = ""
    duration_ns: int = 0
    call_id: str = ""
    is_error: bool = False
    texts: list[tuple[str, list[str]]] = field(default_factory=list)


class Course(Struct):
    """The calls of a session in time (rows of a few columns), and everything that happened, in time."""

    calls: list[dict[str, Any]]
    happenings: list[Happening]


def course(reader: Reader, session_id: str) -> Course:
    """The course of a session, or of the trace that stands for one."""
    own = Match("session_id", "=", session_id)
    if session_id.startswith("trace:"):
        own = Match("trace_id", "=", session_id.removeprefix("trace:"))
    select: dict[str, Any] = {name: name for name in _CALL}
    order = (("start_ns", False), ("call_id", False))
    calls = reader.scan(Scan("calls", select, (own,), order_by=order, limit=CALLS_MAX)).rows()
    found = [*_told(reader, own), *switches(calls), *cache_breaks(calls), *retries(calls)]
    return Course(calls, sorted(found, key=lambda one: (one.time_ns, one.kind)))


def switches(calls: Sequence[dict[str, Any]]) -> list[Happening]:
    """Where the agent itself went on with another model.

    A single call between two of the same model (a title, a summary) is no switch, and sub-agents use what they like.
    """
    own = [call for call in calls if not call["subagent"] and call["status"] == "ok" and call["model"]]
    models = [call["model"] for call in own]
    steady = [
        call
        for at, call in enumerate(own)
        if not (0 < at < len(own) - 1 and models[at - 1] == models[at + 1] != models[at])
    ]
    return [
        Happening("model", call["start_ns"], f"{before['model']} → {call['model']}", call_id=call["call_id"])
        for before, call in pairwise(steady)
        if before["model"] != call["model"]
    ]


def cache_breaks(calls: Sequence[dict[str, Any]]) -> list[Happening]:
    """The calls that paid again for what a cache should have held."""
    found = []
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for call in calls:
        if call["status"] != "ok" or call["input_tokens"] is None:
            continue
        key = (call["subagent"], call["model"])
        before = last.get(key)
        last[key] = call
        if before is None:
            continue
        cached = (before["cache_read_tokens"] or 0) + (before["cache_write_tokens"] or 0)
        read = call["cache_read_tokens"] or 0
        if cached >= CACHED_MIN and call["input_tokens"] >= cached and read < cached * KEPT_SHARE:
            pause_ns = max(0, call["start_ns"] - (before["end_ns"] or before["start_ns"]))
            said = f"{read:,} of {cached:,} cached tokens read, {pause_ns // 1_000_000_000:,} s after the last call"
            found.append(Happening("cache", call["start_ns"], said, call_id=call["call_id"]))
    return found


def retries(calls: Sequence[dict[str, Any]]) -> list[Happening]:
    """The calls that failed, and those that tried again."""
    found = []
    for call in calls:
        attempt = call["attempt"] or 1
        is_again = attempt > 1 or bool(call["retry_of"])
        if call["status"] == "ok" and not is_again:
            continue
        told = [f"attempt {attempt}" if is_again or attempt > 1 else "", call["status"]]
        told += [str(call["http_status"] or ""), call["error_type"] or ""]
        said = ", ".join(dict.fromkeys(word for word in told if word))
        failed = call["status"] != "ok"
        found.append(Happening("retry", call["start_ns"], said, call_id=call["call_id"], is_error=failed))
    return found


def _told(reader: Reader, own: Match) -> list[Happening]:
    """What sources told of themselves; a thing that two of them tell is one."""
    names: Condition = Match("name", "in", list(_NAMES))
    select: dict[str, Any] = {name: name for name in ("name", "is_error", "duration_ns", "attributes", "contents")}
    found: list[Happening] = []
    for table, time_column in (("events", "time_ns"), ("spans", "start_ns")):
        asked = select | {"at": time_column}
        where = (own, names)
        rows = reader.scan(Scan(table, asked, where, order_by=((time_column, False),), limit=HAPPENINGS_MAX)).rows()
        found += [_happening(row) for row in rows]
    found = [one for one in found if one.kind != "waiting" or one.duration_ns >= _WAITED_NS]
    return _without_repeats(sorted(found, key=lambda one: one.time_ns))


def _happening(row: dict[str, Any]) -> Happening:
    kind = _NAMES[row["name"]]
    contents = row["contents"] if isinstance(row["contents"], list) else []
    texts = [(content["slot"], content["hashes"]) for content in contents if content.get("slot")]
    attributes = row["attributes"] if isinstance(row["attributes"], dict) else {}
    said = ""
    if kind == "compaction":
        before = _number(attributes, "tokens_before", "pre_tokens", "pi.compaction.tokens_before")
        after = _number(attributes, "tokens_after", "post_tokens", "pi.compaction.tokens_after")
        said = f"{before:,} → {after:,} tokens" if before and after else f"{before:,} tokens before" if before else ""
    elif kind == "waiting":
        said = next((v for k, v in attributes.items() if k in ("decision", "result") and isinstance(v, str)), "")
    elif kind == "bash":
        code = _number(attributes, "exitCode", "process.exit.code")
        said = "" if code is None else f"exit code {code}"
    return Happening(kind, row["at"] or 0, said, row["duration_ns"] or 0, "", bool(row["is_error"]), texts)


def _number(attributes: dict[str, Any], *keys: str) -> int | None:
    for key in keys:
        try:
            return msgspec.convert(attributes.get(key), int, strict=False)
        except msgspec.ValidationError:
            continue
    return None


def _without_repeats(found: Sequence[Happening]) -> list[Happening]:
    """One of those of a kind that were told at one time: the one that says more, and the texts of either."""
    kept: list[Happening] = []
    for one in found:
        same = next((k for k in reversed(kept[-6:]) if _is_same(k, one)), None)
        if same is None:
            kept.append(one)
            continue
        same.said = max(same.said, one.said, key=len)
        known = {slot for slot, _ in same.texts}
        same.texts += [text for text in one.texts if text[0] not in known]
    return kept


def _is_same(one: Happening, other: Happening) -> bool:
    if one.kind != other.kind or other.time_ns - one.time_ns > _SAME_NS or one.kind == "waiting":
        return False
    commands = [dict(each.texts).get("arguments") for each in (one, other)]
    return one.kind != "bash" or not all(commands) or commands[0] == commands[1]
