"""Copilot CLI's files: the event log of each session, and the store that has one row for each model call."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tachograph.config import Surroundings
from tachograph.errors import Busy, Rejected
from tachograph.lines import Page, items, read_lines, record, time_ns, told, words
from tachograph.model import MODEL_CALL, PROMPT, STEP, TOOL_RUN, Batch, Meaning, Usage
from tachograph.transcripts import sqlite
from tachograph.vocabulary import FINISH_REASONS, provider, tokens, whole

NAME: Final = "copilot"
BESIDE: Final = ("-wal",)
STORE: Final = "session-store.db"
# Tool runs and sub-agents that have not ended yet, carried from one reading to the next; more are forgotten.
_PENDING_MAX: Final = 200
_ROWS_MAX: Final = 5000
_TYPE: Final = re.compile(r"(session|user|system|assistant|tool|subagent|model|hook|skill)\.\w+")
# Of `assistant_usage_events`: what versions since 1.0.69 have in it.
_COLUMNS: Final = (
    *("id", "session_id", "model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("reasoning_tokens", "total_nano_aiu", "duration_ms", "time_to_first_token_ms", "finish_reason", "created_at"),
)


def discover(where: Surroundings) -> Iterator[Path]:
    """The event logs of all sessions, and the store beside them."""
    for folder in where.folders("COPILOT_HOME", ".copilot"):
        yield from folder.glob("session-state/*/events.jsonl")
        yield from filter(Path.is_file, [folder / STORE])


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file whose first line is this is one of Copilot's: an event log, or its store."""
    if first:
        return isinstance(first.get("data"), dict) and _TYPE.fullmatch(words(first.get("type"))) is not None
    if not sqlite.is_database(path):
        return False
    try:
        with sqlite.opened(path) as database:
            return set(_COLUMNS) <= sqlite.columns_of(database, "assistant_usage_events")
    except (Rejected, Busy, sqlite3.Error):
        return False


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs after `since`, and the position after them."""
    if path.suffix == ".db":
        return sqlite.read_tables(path, since, NAME, _ask)
    return read_lines(path, since, NAME, _understand)


# -- the store ---------------------------------------------------------------------------------------------------------


def _ask(database: sqlite3.Connection, page: Page) -> bool:
    """The rows after the last one read: they are numbered for good and never changed."""
    state = page.state
    names = ", ".join(f"u.{name}" for name in _COLUMNS)
    asked = (
        f"SELECT {names}, s.cwd, s.branch FROM assistant_usage_events u LEFT JOIN sessions s ON s.id = u.session_id"
        " WHERE u.id > ? ORDER BY u.id LIMIT ?"
    )
    rows = database.execute(asked, (_after(database, state), _ROWS_MAX)).fetchall()
    for row in rows:
        if not isinstance(row["id"], int):
            raise Rejected(f"{page.path.name}: got rows without numbers; expected Copilot's table of usage")
        state["last"] = [row["id"], words(row["created_at"])]
        _row(row, page)
    return len(rows) == _ROWS_MAX


def _after(database: sqlite3.Connection, state: dict[str, Any]) -> int:
    """The number to go on after; the start where the store was made anew and counts from 1 again."""
    last = state.get("last")
    if not (isinstance(last, list) and len(last) == 2 and isinstance(last[0], int)):
        return 0
    found = database.execute(
        "SELECT created_at FROM assistant_usage_events WHERE id >= ? ORDER BY id LIMIT 1", last[:1]
    )
    row = found.fetchone()
    return last[0] if row is not None and words(row["created_at"]) >= words(last[1]) else 0


def _row(row: sqlite3.Row, page: Page) -> None:
    state = page.state
    state["session"], state["cwd"] = words(row["session_id"]), words(row["cwd"])
    state["branch"] = words(row["branch"])
    parts = {name: row[f"{name}_tokens"] for name in ("cache_read", "cache_write", "reasoning")}
    meaning = _call(words(row["model"]), _usage(row["input_tokens"], row["output_tokens"], parts))
    meaning.duration_ns = whole(row["duration_ms"], 1_000_000)
    meaning.ttft_ns = whole(row["time_to_first_token_ms"], 1_000_000)
    meaning.finish_reason = _finish_reason(row["finish_reason"])
    _credit(meaning, row["total_nano_aiu"])
    page.add("assistant_usage_events", time_ns(row["created_at"]), meaning, {"id": row["id"]})


# -- the event log -----------------------------------------------------------------------------------------------------


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    data, agent = record(line.get("data")), words(line.get("agentId"))
    understand = _EVENTS.get(words(line.get("type")))
    if understand is not None:
        understand(data, agent, time_ns(line.get("timestamp")), page)


def _begin(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    context, state = record(data.get("context")), page.state
    for key, value in (
        ("session", data.get("sessionId")),
        ("version", data.get("copilotVersion")),
        ("cwd", context.get("cwd")),
        ("branch", context.get("branch")),
        ("repository", context.get("repository")),
        ("model", data.get("selectedModel")),
    ):
        if words(value):
            state[key] = value


def _model(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    if words(data.get("newModel")) and not agent:
        page.state["model"] = data["newModel"]


def _subagent(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    """The names of sub-agents, by their ids: other events tell only the id."""
    known = page.state.setdefault("agents", {})
    if agent and len(known) < _PENDING_MAX:
        known[agent] = words(data.get("agentName"))


def _prompt(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    # Skills, sub-agents' tasks and autopilot speak as the user, and say so.
    is_user = not agent and words(data.get("source")) in ("", "user") and not data.get("isAutopilotContinuation")
    if is_user:
        page.state["prompt"] = words(data.get("interactionId"))
    meaning = _meaning(PROMPT if is_user else STEP, agent, page)
    page.add("user.message", when, meaning, _ids(data), told("prompt", data.get("content")))


def _answer(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    """What the model said: the text of a call whose usage another event tells."""
    meaning = _meaning(MODEL_CALL, agent, page)
    meaning.response_id = words(data.get("apiCallId"))
    thoughts = told("thinking", words(data.get("reasoningText")))
    page.add("assistant.message", when, meaning, _ids(data), told("output", _said(data)), thoughts)


def _said(data: dict[str, Any]) -> Any:
    """The text alone, or with the tools that it asked for."""
    asked = items(data.get("toolRequests"))
    if not asked:
        return words(data.get("content"))
    parts = [{"type": "text", "content": data["content"]}] if words(data.get("content")) else []
    return parts + [
        {
            "type": "tool_call",
            "id": tool.get("toolCallId"),
            "name": tool.get("name"),
            "arguments": tool.get("arguments"),
        }
        for tool in asked
    ]


def _used(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    given = record(data.get("usage"))
    meaning = _spent(given, agent, page)
    meaning.response_id = words(given.get("apiCallId"))
    page.add("session.usage_record", when, meaning, {})


def _compacted(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    """The summary is a call of its own, of which no usage record tells."""
    given = record(data.get("compactionTokensUsed"))
    if given:
        page.add(
            "session.compaction_complete",
            when,
            _spent(given, agent, page),
            {},
            told("output", words(data.get("summaryContent"))),
        )


def _spent(given: dict[str, Any], agent: str, page: Page) -> Meaning:
    """A model call from what `usage` tells of it."""
    usage = {
        "cache_read": given.get("cacheReadTokens"),
        "cache_write": given.get("cacheWriteTokens"),
        "reasoning": given.get("reasoningTokens"),
    }
    counts = _usage(given.get("inputTokens"), given.get("outputTokens"), usage)
    meaning = _call(words(given.get("model")), counts, _meaning(MODEL_CALL, agent, page))
    if given.get("isByok") is True:
        meaning.provider = provider(words(given.get("providerType")))
    meaning.duration_ns = whole(given.get("duration"), 1_000_000)
    meaning.ttft_ns = whole(given.get("timeToFirstTokenMs"), 1_000_000)
    meaning.finish_reason = _finish_reason(given.get("finishReason"))
    _credit(meaning, record(given.get("copilotUsage")).get("totalNanoAiu"))
    return meaning


def _failed(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    """An error that ended the session's work: with an HTTP status it is that of a model call."""
    status = whole(data.get("statusCode"), 1, 999)
    meaning = _meaning(STEP, agent, page)
    if status is not None:
        meaning = _call(words(page.state.get("model")), None, meaning)
        meaning.http_status = status
    meaning.is_error, meaning.error_type = True, words(data.get("errorType"))
    meaning.error_message = words(data.get("message"))[:2000]
    page.add("session.error", when, meaning, {})


def _tool_begun(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    pending, call_id = page.state.setdefault("tools", {}), words(data.get("toolCallId"))
    if call_id and len(pending) < _PENDING_MAX:
        pending[call_id] = [words(data.get("toolName")), when, data.get("arguments")]


def _tool_ended(data: dict[str, Any], agent: str, when: int, page: Page) -> None:
    call_id = words(data.get("toolCallId"))
    name, begun, given = page.state.setdefault("tools", {}).pop(call_id, ("", 0, None))
    meaning = _meaning(TOOL_RUN, agent, page)
    meaning.operation, meaning.tool_name, meaning.tool_call_id = "execute_tool", name, call_id
    meaning.duration_ns = max(0, when - begun) if begun else None
    error, result = record(data.get("error")), record(data.get("result"))
    if data.get("success") is False:
        meaning.is_error, meaning.error_type = True, words(error.get("code"))
        meaning.error_message = words(error.get("message"))[:2000]
    said = result.get("content") if result else error.get("message")
    page.add("tool.execution_complete", when, meaning, _ids(data), told("arguments", given), told("result", said))


_EVENTS: Final = {
    "session.start": _begin,
    "session.resume": _begin,
    "session.context_changed": _begin,
    "session.model_change": _model,
    "session.usage_record": _used,
    "session.compaction_complete": _compacted,
    "session.error": _failed,
    "subagent.started": _subagent,
    "user.message": _prompt,
    "assistant.message": _answer,
    "tool.execution_start": _tool_begun,
    "tool.execution_complete": _tool_ended,
}


# -- both --------------------------------------------------------------------------------------------------------------


def _meaning(role: str, agent: str, page: Page) -> Meaning:
    """What every event shares: the prompt that it belongs to, and the sub-agent that it tells of."""
    state = page.state
    name = words(record(state.get("agents")).get(agent)) or agent
    repository = words(state.get("repository"))
    return Meaning(role=role, prompt_id=words(state.get("prompt")), subagent=name, repository=repository)


def _ids(data: dict[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in ("messageId", "turnId", "parentToolCallId") if words(data.get(key))}


def _call(model: str, usage: Usage | None, meaning: Meaning | None = None) -> Meaning:
    """One model call; of a sub-agent's as well."""
    meaning = meaning if meaning is not None else Meaning()
    meaning.role, meaning.is_call, meaning.operation = MODEL_CALL, True, "chat"
    meaning.request_model, meaning.usage = model, usage
    return meaning


def _usage(given: Any, output: Any, parts: dict[str, Any]) -> Usage | None:
    """Input with cache read and write in it, output with reasoning."""
    return tokens({"input": given, "output": output, **parts}, is_input_inclusive=True, is_output_inclusive=True)


def _finish_reason(given: Any) -> str:
    return FINISH_REASONS.get(words(given).lower(), words(given))


def _credit(meaning: Meaning, nano_aiu: Any) -> None:
    """AI credits are list-price money of a plan: one is 1e9 nano-AIU and lists at 0.01 USD."""
    credits = whole(nano_aiu)
    if credits:
        meaning.cost_nanousd, meaning.cost_kind, meaning.is_notional = round(credits / 100), "source_estimate", True
