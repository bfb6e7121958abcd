"""OpenClaw's sessions: the SQLite database of each agent, the files of older versions, and what was put away."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard

from tachograph.config import Surroundings
from tachograph.errors import Busy, Rejected
from tachograph.lines import Page, read_lines, read_packed, record, words
from tachograph.model import SUBAGENT, Batch
from tachograph.transcripts import pi, sqlite
from tachograph.vocabulary import whole

NAME: Final = "openclaw"
BESIDE: Final = ("-wal",)
MAIN: Final = "main"  # the agent that is there without being named
DATABASE: Final = "openclaw-agent.sqlite"
# Its names so far; a profile adds its own to the first.
_FOLDERS: Final = (".openclaw", ".clawdbot", ".moltbot", ".moldbot")
# A session's file, also once it was deleted or reset: <id>.jsonl.deleted.<when>.<id>.zst
_FILE: Final = re.compile(r".+\.jsonl(\.(deleted|reset)\..+)?")
_PACKED: Final = ".zst"
# Entries looked at in one reading: some megabytes with long tool outputs.
_ROWS_MAX: Final = 1000
_BYTES_MAX: Final = 8 * 1024 * 1024
# A packed entry holds at most this much: a rule of the table.
_ENTRY_BYTES_MAX: Final = 4 * 1024 * 1024
# Sessions whose state is remembered; one that was silent for longer is looked up again.
_SESSIONS_MAX: Final = 100
_ROWS: Final = "SELECT rowid AS place, * FROM transcript_events"


def discover(where: Surroundings) -> Iterator[Path]:
    """The databases and session files of all agents, in the folder that is set or in those that are usual."""
    home = where.environment.get("OPENCLAW_HOME", "").strip()
    usual = [f"{home}/{name}" if home else name for name in _FOLDERS]
    folders = where.folders("OPENCLAW_STATE_DIR", *usual)
    if not where.environment.get("OPENCLAW_STATE_DIR", "").strip():
        folders += sorted(folders[0].parent.glob(_FOLDERS[0] + "-*"))
    for folder in folders:
        yield from folder.glob(f"agents/*/agent/{DATABASE}")
        yield from (path for path in folder.glob("agents/*/sessions/*") if _is_session(path))


def _is_session(path: Path) -> bool:
    return _FILE.fullmatch(path.name) is not None and ".trajectory." not in path.name


def is_mine(path: Path, first: dict[str, Any]) -> bool:
    """Whether a file is OpenClaw's: its files are Pi's by their shape, and known by where they lie."""
    if path.suffix == _PACKED:
        return path.parent.name == "sessions" and _is_session(path)
    if first:
        return first.get("type") == "session" and _agent_of(path) != "" and _is_session(path)
    if not sqlite.is_database(path):
        return False
    try:
        with sqlite.opened(path) as database:
            return {"session_id", "seq", "event_json"} <= sqlite.columns_of(database, "transcript_events")
    except (Rejected, Busy, sqlite3.Error):
        return False


def _agent_of(path: Path) -> str:
    """The agent whose folder a file lies in: agents/<agent>/sessions/<file>, agents/<agent>/agent/<database>."""
    return path.parents[1].name if len(path.parents) > 2 and path.parents[2].name == "agents" else ""


def read(path: Path, since: str) -> tuple[Batch, str]:
    """The prompts, model calls and tool runs after `since`, and the position after them."""
    if path.suffix == _PACKED:
        return read_packed(path, since, NAME, _understand)
    if ".jsonl" in path.name:
        return read_lines(path, since, NAME, _understand)
    return sqlite.read_tables(path, since, NAME, _ask)


def _understand(line: dict[str, Any], state: dict[str, Any], page: Page) -> None:
    """One entry, as Pi would tell it."""
    message = record(line.get("message"))
    if message.get("role") == "assistant" and message.get("provider") == NAME:
        return  # what OpenClaw itself put into the conversation, such as a copy of what it sent
    usage = record(message.get("usage"))
    if "reasoningTokens" in usage and "reasoning" not in usage:
        usage["reasoning"] = usage["reasoningTokens"]
    known = len(page.events)
    pi.understand(line, state, page)
    agent = _agent_of(page.path)
    for event in page.events[known:]:
        if event.meaning is not None and agent != MAIN:
            event.meaning.subagent = agent


def _ask(database: sqlite3.Connection, page: Page) -> bool:
    """The entries that are new, in the order they were written; True while more may be left."""
    reading = _Reading(database, page)
    after = (_after(database, page.state), _ROWS_MAX)
    count = 0
    for row in database.execute(f"{_ROWS} WHERE rowid > ? ORDER BY rowid LIMIT ?", after):
        count += 1
        reading.read(row)
        page.state["last"] = [row["place"], str(row["session_id"]), row["seq"]]
        page.state["newest"] = max(whole(row["created_at"]) or 0, whole(page.state.get("newest")) or 0)
        if reading.size_bytes > _BYTES_MAX:
            return True
    return count == _ROWS_MAX


def _after(database: sqlite3.Connection, state: dict[str, Any]) -> int:
    """The row number to go on after.

    Numbers come again when the newest rows were deleted, and are given anew by VACUUM: then it is the last row that
    is not younger than the youngest one read.
    """
    last = state.get("last")
    if not (isinstance(last, list) and len(last) == 3 and isinstance(last[0], int)):
        return 0
    row = database.execute("SELECT session_id, seq FROM transcript_events WHERE rowid = ?", (last[0],)).fetchone()
    if row is not None and [row["session_id"], row["seq"]] == last[1:]:
        return last[0]
    newest = (whole(state.get("newest")) or 0,)
    found = database.execute("SELECT max(rowid) AS place FROM transcript_events WHERE created_at <= ?", newest)
    place = found.fetchone()["place"]
    return place if isinstance(place, int) else 0


class _Reading:
    """One reading of the database: what it has found out about sessions on the way."""

    def __init__(self, database: sqlite3.Connection, page: Page) -> None:
        self.database = database
        self.page = page
        self.size_bytes = 0
        self._sessions: dict[str, _Session] = {}
        self._columns = {name: sqlite.columns_of(database, name) for name in ("session_windows", "session_nodes")}

    def read(self, row: sqlite3.Row) -> None:
        """Tell of one entry, with the state of its session."""
        whole_state, session_id = self.page.state, str(row["session_id"])
        line = self._entry(row)
        self.page.state = self._state(whole_state, session_id)
        known = len(self.page.events)
        try:
            if line.get("type") != "session":  # the header, by which the session began
                _understand(line, self.page.state, self.page)
        finally:
            self.page.state = whole_state
        session = self._session(session_id)
        for event in self.page.events[known:]:
            meaning = event.meaning
            if meaning is not None:
                meaning.channel = meaning.channel or session.channel
                meaning.subagent = session.name or meaning.subagent
                if session.parent and not meaning.lineage:
                    meaning.parent_session_id, meaning.lineage = session.parent, SUBAGENT
                    meaning.parent_tool_call_id = session.tool_call

    def _state(self, state: dict[str, Any], session_id: str) -> dict[str, Any]:
        """What is remembered of a session; one that is not, begins with its first entry again."""
        kept = state.get("sessions")
        sessions = state["sessions"] = kept if isinstance(kept, dict) else {}
        known = record(sessions.pop(session_id, None))
        if not known:
            known = self._begin(session_id)
        sessions[session_id] = known
        while len(sessions) > _SESSIONS_MAX:
            del sessions[next(iter(sessions))]
        return known

    def _begin(self, session_id: str) -> dict[str, Any]:
        first = self.database.execute(f"{_ROWS} WHERE session_id = ? ORDER BY seq LIMIT 1", (session_id,)).fetchone()
        header = self._entry(first) if first is not None else {}
        state: dict[str, Any] = {}
        if header.get("type") == "session":
            pi.understand({**header, "id": session_id, "parentSession": ""}, state, self.page)
        state["chain"] = (state.get("chain") or [[session_id, 0]])[:1]
        if source := self._session(session_id).fork_source:
            state["chain"].append([source, 0])
        return state

    def _entry(self, row: sqlite3.Row) -> dict[str, Any]:
        """The JSON object of a row; an empty one where it holds something else."""
        told = row["event_json"]
        packed = row["event_zstd"] if told is None and "event_zstd" in row.keys() else None  # noqa: SIM118
        try:
            if isinstance(packed, bytes):
                told = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_ENTRY_BYTES_MAX)
            self.size_bytes += len(told) if isinstance(told, str | bytes) else 0
            return record(msgspec.json.decode(told)) if isinstance(told, str | bytes) else {}
        except (zstandard.ZstdError, msgspec.DecodeError, UnicodeError, RecursionError):
            return {}

    def _session(self, session_id: str) -> _Session:
        known = self._sessions.get(session_id)
        if known is None:
            window = self._row("session_windows", "session_id", session_id)
            node = self._row("session_nodes", "session_key", words(window.get("session_key")))
            known = self._sessions[session_id] = _Session()
            known.channel = words(window.get("channel")) or ("cron" if node.get("created_via") == "cron" else "")
            known.fork_source = words(node.get("fork_source_session_id"))
            if node.get("created_via") == "spawn":
                self._descend(known, window, node)
        return known

    def _descend(self, session: _Session, window: dict[str, Any], node: dict[str, Any]) -> None:
        """Who started a sub-agent: the session that its parent's key stands for, by a tool run that names it."""
        keys = (window.get("parent_session_key"), node.get("parent_session_key"), node.get("spawned_by"))
        parent = self._row("session_nodes", "session_key", next(filter(None, map(words, keys)), ""))
        session.parent = words(parent.get("current_session_id"))
        session.name = words(node.get("label")) or SUBAGENT
        named = (session.parent, f"%{words(window.get('session_key'))}%")
        rows = self.database.execute(f"{_ROWS} WHERE session_id = ? AND event_json LIKE ? ORDER BY seq", named)
        messages = (record(self._entry(row).get("message")) for row in rows)
        runs = (words(message.get("toolCallId")) for message in messages if message.get("role") == "toolResult")
        session.tool_call = next(filter(None, runs), "")

    def _row(self, table: str, column: str, value: str) -> dict[str, Any]:
        """The row of a table of ours with this value, as far as this version of OpenClaw has such."""
        if not value or column not in self._columns[table]:
            return {}
        row = self.database.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,)).fetchone()
        return dict(row) if row is not None else {}


class _Session:
    """What the tables beside the entries say of a session."""

    def __init__(self) -> None:
        self.channel = ""
        self.name = ""  # of the sub-agent whose session it is
        self.parent = ""
        self.tool_call = ""
        self.fork_source = ""
