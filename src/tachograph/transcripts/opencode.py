"""OpenCode's database: one message for each model call, with its parts; sub-agents are sessions of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tachograph.config import Surroundings
from tachograph.errors import Busy, Rejected
from tachograph.lines import Page, record, time_ns, told, words
from tachograph.model import FORK, MODEL_CALL, PROMPT, SUBAGENT, TOOL_RUN, Batch, Content, Meaning, Usage
from tachograph.transcripts import sqlite
from tachograph.vocabulary import FINISH_REASONS, provider, tokens, whole

NAME: Final = "opencode"
BESIDE: Final = ("-wal",)
# Messages read at once, and the bytes of their parts after which no further one is begun: bounds memory.
_MESSAGES_MAX: Final = 500
_BYTES_MAX: Final = 8 * 1024 * 1024
# Messages that were begun and not ended are looked at again; more than run at once are what crashes left.
_OPEN_MAX: Final = 200
_MESSAGES: Final = (
    "SELECT m.rowid AS place, m.id, m.session_id, m.time_created, m.data, s.parent_id, s.directory, s.version,"
    " s.time_created AS begun FROM message m LEFT JOIN session s ON s.id = m.session_id WHERE"
)


class Message(NamedTuple):
    """One row, its session's columns beside it, and its JSON and parts decoded."""

    row: sqlite3.Row
    data: dict[str, Any]
    parts: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The parts of a type."""
        return [part for part in self.parts if part.get("type") == kind]


def discover(where: Surroundings) -> Iterator[Path]:
    """The database of each channel (`opencode.db`, `opencode-beta.db`), or the one that OPENCODE_DB names."""
    data = where.environment.get("XDG_DATA_HOME", "").strip() or ".local/share"
    named = where.environment.get("OPENCODE_DB", "").strip()
    for folder in where.folders("OPENCODE_DATA_DIR", f"{data}/opencode"):
        own = folder / named
        if named and own.is_file():
            yield own
        yield from (path for path in folder.glob("opencode*.db") if path != own)


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file is a database with OpenCode's tables."""
    if first or not sqlite.is_database(path):
        return False
    try:
        with sqlite.opened(path) as database:
            return all("session_id" in sqlite.columns_of(database, table) for table in ("message", "part"))
    except (Rejected, Busy, sqlite3.Error):
        return False


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs of the messages after `since`, and the position after them."""
    return sqlite.read_tables(path, since, NAME, _ask)


def _ask(database: sqlite3.Connection, page: Page) -> bool:
    """Messages that were open the last time, then the new ones; True while more may be left."""
    state = page.state
    reading = _Reading(database, page)
    waiting, state["open"] = state.get("open"), []
    for name in waiting if isinstance(waiting, list) else []:
        for row in database.execute(f"{_MESSAGES} m.id = ?", (str(name),)).fetchall():
            reading.read(row)
    after = (_after(database, state), _MESSAGES_MAX)
    rows = database.execute(f"{_MESSAGES} m.rowid > ? ORDER BY m.rowid LIMIT ?", after).fetchall()
    for row in rows:
        if not isinstance(row["place"], int):
            raise Rejected(f"{page.path.name}: got rows without numbers; expected OpenCode's table message")
        reading.read(row)
        state["last"] = [row["place"], str(row["id"])]
        state["newest"] = max(whole(row["time_created"]) or 0, whole(state.get("newest")) or 0)
        if reading.size_bytes > _BYTES_MAX:
            return True
    return len(rows) == _MESSAGES_MAX


def _after(database: sqlite3.Connection, state: dict[str, Any]) -> int:
    """The row number to go on after.

    Numbers come again when the newest rows were deleted, and are given anew by VACUUM: then it is the last row that
    is not younger than the youngest one read.
    """
    last = state.get("last")
    if not (isinstance(last, list) and len(last) == 2 and isinstance(last[0], int)):
        return 0
    row = database.execute("SELECT id FROM message WHERE rowid = ?", (last[0],)).fetchone()
    if row is not None and row["id"] == last[1]:
        return last[0]
    newest = (whole(state.get("newest")) or 0,)
    found = database.execute("SELECT max(rowid) AS place FROM message WHERE time_created <= ?", newest).fetchone()
    return found["place"] or 0


class _Reading:
    """One reading of the database: what it has found out about sessions and prompts on the way."""

    def __init__(self, database: sqlite3.Connection, page: Page) -> None:
        self.database = database
        self.page = page
        self.size_bytes = 0
        self._origins: dict[str, Meaning] = {}
        self._prompts: dict[str, str] = {}

    def read(self, row: sqlite3.Row) -> None:
        """Tell of a message that is complete; remember one that is not."""
        begun = whole(row["begun"])
        if begun and (whole(row["time_created"]) or 0) < begun:
            return  # a fork begins with a copy of its origin's messages, which were paid for there
        message = Message(row, _object(row["data"]), self._parts(str(row["id"])))
        state = self.page.state
        state["session"], state["cwd"] = words(row["session_id"]), words(row["directory"])
        state["version"] = words(row["version"])
        understand = {"user": self._prompt, "assistant": self._answer}.get(words(message.data.get("role")))
        if understand is not None and not understand(message):
            state["open"] = [*state["open"], str(row["id"])][-_OPEN_MAX:]

    def _parts(self, message_id: str) -> list[dict[str, Any]]:
        rows = self.database.execute("SELECT id, data FROM part WHERE message_id = ? ORDER BY id", (message_id,))
        found = []
        for row in rows:
            self.size_bytes += len(row["data"]) if isinstance(row["data"], str | bytes) else 0
            found.append({**_object(row["data"]), "id": str(row["id"])})
        return found

    def _prompt(self, message: Message) -> bool:
        """A message of the user's: open until its text is there; its own notes carry none of the user's."""
        text = _typed(message.parts)
        if text:
            meaning = self._meaning(message, PROMPT)
            meaning.prompt_id, meaning.subagent = str(message.row["id"]), ""  # the task is given to the sub-agent
            self.page.add("user", _ns(message.data, "created"), meaning, _ids(message), told("prompt", text))
        return bool(message.parts)

    def _answer(self, message: Message) -> bool:
        """A model call and the tools that it ran; open until it has ended or another one has begun after it."""
        if not (_ns(message.data, "completed") or record(message.data.get("error")) or self._is_left(message)):
            return False
        steps = message.of("step-finish")
        for part in message.of("retry"):
            self._attempt(message, part)
        # Messages of older versions may hold several calls, each with its own end.
        for step in steps if len(steps) > 1 else [message.data]:
            self._call(message, step)
        for part in message.of("tool"):
            self._tool(message, part)
        return True

    def _is_left(self, message: Message) -> bool:
        """Whether it never ended: a session's answers come one after another."""
        later = self.database.execute(
            'SELECT 1 FROM message WHERE session_id = ? AND rowid > ? AND data LIKE \'%"role":"assistant"%\' LIMIT 1',
            (message.row["session_id"], message.row["place"]),
        )
        return later.fetchone() is not None

    def _call(self, message: Message, given: dict[str, Any]) -> None:
        data = message.data
        meaning = self._call_meaning(message, str(given.get("id") or message.row["id"]))
        cost = whole(given.get("cost"), 1_000_000_000)
        if cost:  # 0 stands for a model whose price OpenCode does not know, or a subscription
            meaning.cost_nanousd, meaning.cost_kind = cost, "source_estimate"
        meaning.usage = _usage(record(given.get("tokens")))
        reason = words(given.get("reason")) or words(data.get("finish"))
        meaning.finish_reason = FINISH_REASONS.get(reason.lower(), reason)
        is_unfinished = not reason and not message.of("step-finish")
        if is_unfinished or record(data.get("error")):
            _fail(meaning, record(data.get("error")))
        if meaning.usage is not None and not meaning.usage.input_total and not meaning.usage.output:
            meaning.usage = None  # zeros stand for "never told"
        begun, end = _ns(data, "created"), _answered(message)
        meaning.duration_ns = max(0, end - begun) if begun and end else None
        texts = [words(part.get("text")) for part in message.of("text")]
        thoughts = [words(part.get("text")) for part in message.of("reasoning")]
        self.page.add(
            "assistant",
            end or begun,
            meaning,
            _ids(message),
            told("output", "\n".join(filter(None, texts))),
            Content("thinking", "reasoning", [text for text in thoughts if text]),
        )

    def _attempt(self, message: Message, part: dict[str, Any]) -> None:
        meaning = self._call_meaning(message, str(part["id"]))
        meaning.attempt = whole(part.get("attempt"))
        _fail(meaning, record(part.get("error")))
        # By the name of the other calls: what one source tells apart is never taken for one.
        self.page.add("assistant", _ns(part, "created"), meaning, _ids(message))

    def _call_meaning(self, message: Message, message_id: str) -> Meaning:
        meaning = self._meaning(message, MODEL_CALL)
        meaning.is_call, meaning.operation, meaning.message_id = True, "chat", message_id
        meaning.provider = provider(words(message.data.get("providerID")))
        meaning.request_model = words(message.data.get("modelID"))
        meaning.is_timed = False  # its end is that of the last text or the first tool, as near as the file tells
        return meaning

    def _tool(self, message: Message, part: dict[str, Any]) -> None:
        state = record(part.get("state"))
        begun, end = _ns(state, "start"), _ns(state, "end")
        if not end:
            return  # never ran, or never ended
        meaning = self._meaning(message, TOOL_RUN)
        meaning.operation, meaning.duration_ns = "execute_tool", max(0, end - begun) if begun else None
        meaning.tool_name, meaning.tool_call_id = words(part.get("tool")), words(part.get("callID"))
        if state.get("status") == "error":
            meaning.is_error, meaning.error_message = True, words(state.get("error"))[:2000]
        result = state.get("error") if meaning.is_error else state.get("output")
        self.page.add(
            "tool", end, meaning, _ids(message), told("arguments", state.get("input")), told("result", result)
        )

    def _meaning(self, message: Message, role: str) -> Meaning:
        """What all records of a message share: whose session it is, and the prompt that it answers."""
        origin = self._origin(message)
        return Meaning(
            role=role,
            prompt_id=self._prompt_of(words(message.data.get("parentID"))),
            parent_session_id=origin.parent_session_id,
            lineage=origin.lineage,
            parent_tool_call_id=origin.parent_tool_call_id,
            subagent=words(message.data.get("agent")) if origin.lineage == SUBAGENT else "",
        )

    def _prompt_of(self, message_id: str) -> str:
        """The id of the user's message, "" where OpenCode itself wrote it (compaction, going on after it)."""
        if message_id and message_id not in self._prompts:
            self._prompts[message_id] = message_id if _typed(self._parts(message_id)) else ""
        return self._prompts.get(message_id, "")

    def _origin(self, message: Message) -> Meaning:
        """Where a message's session comes from."""
        session, parent = words(message.row["session_id"]), words(message.row["parent_id"])
        known = self._origins.get(session)
        if known is None:
            known = Meaning()
            if parent:
                known.parent_session_id, known.lineage = parent, SUBAGENT
                known.parent_tool_call_id = self._started_by(parent, session)
            elif origin := self._forked_from(session, message.row["begun"]):
                known.parent_session_id, known.lineage = origin, FORK
            self._origins[session] = known
        return known

    def _started_by(self, parent: str, session: str) -> str:
        """The tool run of the parent that names the session of a sub-agent as its own."""
        rows = self.database.execute(
            "SELECT data FROM part WHERE session_id = ? AND data LIKE ?", (parent, f"%{session}%")
        )
        for part in (_object(row["data"]) for row in rows):
            if record(record(part.get("state")).get("metadata")).get("sessionId") == session:
                return words(part.get("callID"))
        return ""

    def _forked_from(self, session: str, begun: Any) -> str:
        """The session whose first message this one's first is a copy of, "" where it begins with its own."""
        first = "SELECT time_created FROM message WHERE session_id = ? ORDER BY time_created LIMIT 1"
        row = self.database.execute(first, (session,)).fetchone()
        if row is None or (whole(row["time_created"]) or 0) >= (whole(begun) or 0):
            return ""
        same = "SELECT session_id FROM message WHERE time_created = ? AND session_id != ? ORDER BY rowid LIMIT 1"
        found = self.database.execute(same, (row["time_created"], session)).fetchone()
        return words(found["session_id"]) if found is not None else ""


def _object(data: Any) -> dict[str, Any]:
    """The JSON object in a column; an empty one where it holds something else."""
    try:
        return record(msgspec.json.decode(data)) if isinstance(data, str | bytes) else {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}


def _ids(message: Message) -> dict[str, Any]:
    return {"id": str(message.row["id"])}


def _ns(data: dict[str, Any], name: str) -> int:
    return time_ns(record(data.get("time")).get(name))


def _typed(parts: list[dict[str, Any]]) -> str:
    """What the user typed; `synthetic` texts are OpenCode's own."""
    texts = (words(p.get("text")) for p in parts if p.get("type") == "text" and p.get("synthetic") is not True)
    return "\n".join(filter(None, texts))


def _answered(message: Message) -> int:
    """When the answer was complete: the message itself ends only after the tools that it asked for."""
    ends = [_ns(part, "end") for part in message.parts if part.get("type") in ("text", "reasoning")]
    ends += [_ns(record(part.get("state")), "start") for part in message.of("tool")]
    return max(ends, default=0) or _ns(message.data, "completed")


def _usage(given: dict[str, Any]) -> Usage | None:
    """Input without cache. Reasoning stands beside the output, unless the total says that it is part of it."""
    cache = record(given.get("cache"))
    counts = [whole(n) or 0 for n in (given.get("input"), cache.get("read"), cache.get("write"), given.get("output"))]
    return tokens(
        {
            "input": given.get("input"),
            "output": given.get("output"),
            "cache_read": cache.get("read"),
            "cache_write": cache.get("write"),
            "reasoning": given.get("reasoning"),
        },
        is_input_inclusive=False,
        is_output_inclusive=whole(given.get("total")) == sum(counts),
    )


def _fail(meaning: Meaning, error: dict[str, Any]) -> None:
    data = record(error.get("data"))
    meaning.is_error = True
    meaning.error_type = words(error.get("name")) or "unfinished"
    meaning.error_message = words(data.get("message"))[:2000]
    meaning.http_status = whole(data.get("statusCode"), 1, 999)
