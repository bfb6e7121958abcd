"""OpenClaw's sessions: its database as it grows, the files of older versions, and what was put away."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import CAPTURES
from tachograph import registry
from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.ledger.working import calls_of
from tachograph.model import FORK, MODEL_CALL, PROMPT, SUBAGENT, TOOL_RUN, Batch, Event, Meaning
from tachograph.transcripts import openclaw
from test_transcripts import ANYTHING
from test_truth import Truth, makers, orders, replayed

RECORDED = CAPTURES / "openclaw-spool-gateway"
FILE = RECORDED / "transcript" / "agents" / "main" / "agent" / openclaw.DATABASE
(ARCHIVE,) = (RECORDED / "archives").rglob("*.zst")
BILLED = json.loads((RECORDED / "truth.json").read_text("utf-8"))
# OpenClaw keeps neither the attempt that it tried again nor the call that made the history shorter.
KEPT = Truth(
    sum(c["status"] == 200 and not c["is_compaction"] for c in BILLED["calls"]),
    sum(c["status"] == 400 for c in BILLED["calls"]),
    sum(c["input_tokens_total"] for c in BILLED["calls"] if not c["is_compaction"]),
)


def batches_of(path: Path, since: str = "") -> Iterator[Batch]:
    """The batches of a file, reading by reading."""
    position = since
    while True:
        batch, after = openclaw.read(path, position)
        if after == position:
            return
        position = after
        yield batch


def told(path: Path, since: str = "") -> list[Event]:
    """All events of a file."""
    return [event for batch in batches_of(path, since) for event in batch.events]


def meanings(events: list[Event], role: str) -> list[Meaning]:
    """What the events of a role say."""
    return [e.meaning for e in events if e.meaning is not None and e.meaning.role == role]


def place(folder: Path, name: str = openclaw.DATABASE, agent: str = "main") -> Path:
    """Where a file of an agent lies, with the folders made."""
    below = "agent" if name == openclaw.DATABASE else "sessions"
    path = folder / "agents" / agent / below / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A copy of the recorded database that a test may change."""
    return Path(shutil.copy(FILE, place(tmp_path)))


def change(path: Path, *statements: str) -> None:
    """Change a database as OpenClaw might."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def rows(path: Path, session: str) -> list[str]:
    """The entries of a session as its file would hold them."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT event_json FROM transcript_events WHERE session_id = ? ORDER BY seq"
        return [row[0] for row in connection.execute(query, (session,))]


def test_the_database_tells_every_call_that_is_kept(tmp_path: Path) -> None:
    for order, made in orders(makers(list(batches_of(FILE))), "openclaw").items():
        assert replayed(made, tmp_path / order, settle_each=order == "twice").told == KEPT, order


def test_what_an_entry_says() -> None:
    events = told(FILE)
    calls = meanings(events, MODEL_CALL)
    assert all(call.agent == "openclaw" and call.project == "ws" for call in calls)
    child = [call for call in calls if call.lineage]
    assert [(c.parent_session_id, c.lineage, c.subagent, c.channel) for c in child] == [
        ("s-task", SUBAGENT, "scan", "")
    ]
    spawned = [t.tool_call_id for t in meanings(events, TOOL_RUN) if t.tool_name == "sessions_spawn"]
    assert [c.parent_tool_call_id for c in child] == spawned
    assert {m.channel for m in meanings(events, PROMPT)} == {"", "cron"}
    (failed,) = [call for call in calls if call.is_error]
    assert (failed.http_status, failed.usage) == (400, None)


def test_it_is_followed_row_by_row(database: Path, tmp_path: Path) -> None:
    """The same events, however few rows were there each time; nothing is told twice."""
    whole = [(e.name, e.time_ns, e.meaning) for e in told(FILE)]
    with closing(sqlite3.connect(FILE)) as source:
        entries = source.execute("SELECT rowid, * FROM transcript_events ORDER BY rowid").fetchall()
    change(database, "DELETE FROM transcript_events")
    position, found = "", []
    with closing(sqlite3.connect(database)) as target:
        for n in range(0, len(entries), 7):
            marks = ", ".join("?" * len(entries[0]))
            names = "rowid, session_id, seq, event_json, created_at, event_zstd, event_utf8_bytes, navigation_json"
            target.executemany(f"INSERT INTO transcript_events ({names}) VALUES ({marks})", entries[n : n + 7])
            target.commit()
            batch, position = openclaw.read(database, position)
            found += [(e.name, e.time_ns, e.meaning) for e in batch.events]
    # The tool run that started a sub-agent is known once it has ended.
    for _, _, meaning in (*whole, *found):
        if meaning is not None:
            meaning.parent_tool_call_id = ""
    assert found == whole
    assert openclaw.read(database, position)[1] == position


def test_packed_entries_and_those_that_are_none(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for rowid, text in connection.execute("SELECT rowid, event_json FROM transcript_events").fetchall():
            packed = zstandard.compress(text.encode())
            connection.execute(
                "UPDATE transcript_events SET event_json = NULL, event_zstd = ? WHERE rowid = ?", (packed, rowid)
            )
        connection.execute("UPDATE transcript_events SET event_zstd = x'00' WHERE rowid = 2")
        connection.commit()
    assert len(told(database)) == len(told(FILE)) - 1


def test_rows_that_took_the_place_of_deleted_ones(database: Path) -> None:
    position = list(batches_of(database))[-1].positions[str(database)]
    answer = next(text for text in rows(database, "s-tools") if '"assistant"' in text)
    later = 1_900_000_000_000
    change(
        database,
        "DELETE FROM transcript_events WHERE session_id = (SELECT session_id FROM transcript_events"
        " ORDER BY rowid DESC LIMIT 1)",
    )
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES ('s-new', 1, ?, ?)",
            (answer, later),
        )
        connection.commit()
    (event,) = told(database, position)
    assert event.meaning is not None and event.meaning.session_id == "s-new"


def test_a_fork_is_its_origins_history(database: Path) -> None:
    """Entries from before a session began are those of the session that it was forked from."""
    change(
        database,
        "UPDATE session_nodes SET fork_source_session_id = 's-tools' WHERE current_session_id = 's-fatal'",
        "UPDATE transcript_events SET event_json = replace(event_json, 'T06:38:09.0', 'T06:00:09.0')"
        " WHERE session_id = 's-fatal'",
    )
    found = {
        (e.meaning.session_id, e.meaning.lineage, e.meaning.parent_session_id) for e in told(database) if e.meaning
    }
    assert ("s-fatal", FORK, "s-tools") in found
    copied = [e for e in told(database) if e.meaning and e.meaning.session_id == "s-tools" and e.name == "model_change"]
    assert len(copied) == 2


def test_what_openclaw_itself_says_is_no_call(database: Path) -> None:
    change(
        database,
        "UPDATE transcript_events SET event_json = replace(event_json, 'provider\":\"fake', 'provider\":\"openclaw')",
    )
    assert not meanings(told(database), MODEL_CALL)


@pytest.mark.parametrize("ending", ["", ".deleted.2026-11-21T06-46-44.788Z", ".reset.2026-11-21T06-46-44.788Z"])
def test_files_of_older_versions_tell_the_same(ending: str, database: Path, tmp_path: Path) -> None:
    """And where a session is in both, its calls are one."""
    path = place(tmp_path, f"s-tools.jsonl{ending}", "ops")
    path.write_text("".join(text + "\n" for text in rows(FILE, "s-tools")), "utf-8")
    assert registry.files_of(path) is not None and registry.files_of(path) == registry.files_of(database)
    events = told(path)
    ids = [call.response_id for call in meanings(events, MODEL_CALL)]
    assert ids == [c.response_id for c in meanings(told(FILE), MODEL_CALL) if c.session_id == "s-tools"]
    assert {m.subagent for m in meanings(events, MODEL_CALL)} == {"ops"}
    both = [*batches_of(database), *batches_of(path)]
    assert replayed(both, tmp_path / "store", settle_each=False).told == KEPT


def test_an_archive_tells_what_was_deleted(tmp_path: Path) -> None:
    path = Path(shutil.copy(ARCHIVE, place(tmp_path, ARCHIVE.name)))
    assert [e.name for e in told(path)] == [
        e.name for e in told(FILE) if e.meaning and e.meaning.session_id == "s-fatal"
    ]
    both = [*batches_of(FILE), *batches_of(path)]
    assert replayed(both, tmp_path / "store", settle_each=False).told == KEPT


def test_where_they_lie(tmp_path: Path) -> None:
    usual = place(tmp_path / ".openclaw")
    profile, old = place(tmp_path / ".openclaw-work"), place(tmp_path / ".clawdbot", "a.jsonl")
    gone, trajectory = (
        place(tmp_path / ".openclaw", "b.jsonl.reset.1.zst"),
        place(tmp_path / ".openclaw", "a.trajectory.jsonl"),
    )
    moved, elsewhere = place(tmp_path / "state", agent="ops"), place(tmp_path / "service" / ".openclaw")
    for path in (usual, profile, old, gone, trajectory, moved, elsewhere):
        path.touch()

    def found(**environment: str) -> set[Path]:
        return set(openclaw.discover(Surroundings(tmp_path, environment, tmp_path / "spool")))

    assert found() == {usual, profile, old, gone}
    assert found(OPENCLAW_STATE_DIR=str(tmp_path / "state")) == {moved}
    assert found(OPENCLAW_HOME=str(tmp_path / "service")) == {elsewhere}


def test_whose_files_they_are(tmp_path: Path) -> None:
    """Pi's by their shape, OpenClaw's by their place."""
    header = '{"type":"session","version":3,"id":"x","timestamp":"2026-11-21T06:38:09.000Z","cwd":"/w"}\n'
    for folder, agent in (("agents/main/sessions", "openclaw"), ("sessions/--w--", "pi")):
        path = tmp_path / folder / "x.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(header, "utf-8")
        kind = registry.files_of(path)
        assert kind is not None and kind.agent == agent
    other = tmp_path / "other.sqlite"
    change(other, "CREATE TABLE transcript_events (name TEXT)")
    assert registry.files_of(other) is None


def test_a_database_of_another_shape_is_rejected(database: Path) -> None:
    change(database, "DROP TABLE transcript_events")
    with pytest.raises(Rejected, match="openclaw's database"):
        openclaw.read(database, "")


def test_tables_of_another_version(database: Path) -> None:
    """Without the tables beside them, entries still tell their calls."""
    change(database, "DROP TABLE session_windows", "DROP TABLE session_nodes")
    assert len(meanings(told(database), MODEL_CALL)) == KEPT.calls + KEPT.failed


@settings(max_examples=30, deadline=None)
@given(entries=st.lists(ANYTHING, max_size=8), position=st.text(max_size=20))
def test_anything_at_all(tmp_path_factory: pytest.TempPathFactory, entries: list[Any], position: str) -> None:
    path = place(tmp_path_factory.mktemp("state"))
    shutil.copy(FILE, path)
    with closing(sqlite3.connect(path)) as connection:
        for n, entry in enumerate(entries):
            connection.execute(
                "UPDATE transcript_events SET event_json = ? WHERE rowid = ?", (json.dumps(entry), 5 + n)
            )
        connection.commit()
    for batch in batches_of(path, position):
        calls_of([], {}, {})
        assert all(event.source.scope_name == "transcript.openclaw" for event in batch.events)
