"""Codex rollouts line by line: turns, failed tools, sub-agents, copied history, packed and archived files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zstandard

from recordings import CAPTURES
from tachograph import lines, registry
from tachograph.config import Surroundings
from tachograph.errors import Rejected
from tachograph.model import FORK, PROMPT, SESSION, STEP, SUBAGENT, TOOL_RUN, Event
from tachograph.transcripts import codex
from test_transcripts import codex_count, codex_line, made, plain

PARENT = "01a1fb6f-c41e-7e42-8428-4daf8404c227"
CHILD = "01a1fb70-3a06-7a23-af54-e71d1daaad43"
OLD_TURN = "01a1fb6f-d464-7fb3-9f6d-8ad813e6b834"
OWN_TURN = "01a1fb70-3a29-73a3-a83a-bc03e8479c7c"


def events(path: Path) -> list[Event]:
    """The events of a whole file."""
    return codex.read(path, "")[0].events


def runs(path: Path) -> list[tuple[str, bool, str, int | None]]:
    """Name, outcome and duration of the tool runs of a file."""
    found = [e.meaning for e in events(path) if e.meaning and e.meaning.role == TOOL_RUN]
    return [(m.tool_name, m.is_error, m.error_message, m.duration_ns) for m in found]


def call(second: float, call_id: str, name: str, output: Any, *between: dict[str, Any], **more: Any) -> list[Any]:
    """A tool call and what came of it."""
    asked = codex_line(
        "response_item", second, type="function_call", name=name, call_id=call_id, arguments="{}", **more
    )
    given = codex_line("response_item", second + 1, type="function_call_output", call_id=call_id, output=output)
    return [asked, *between, given]


def said(second: float, text: str) -> dict[str, Any]:
    """A message in the user's name."""
    return codex_line(
        "response_item", second, type="message", role="user", content=[{"type": "input_text", "text": text}]
    )


def record(second: float, response_id: str, **more: Any) -> dict[str, Any]:
    """The usage of a response."""
    usage = {"input_tokens": 10, "output_tokens": 2}
    return codex_line("token_usage_record", second, response_id=response_id, usage=usage, **more)


def test_tool_runs_say_how_they_ended(tmp_path: Path) -> None:
    ended = codex_line(
        "event_msg", 5, type="exec_command_end", call_id="c2", exit_code=2, duration={"secs": 0, "nanos": 7}
    )
    item = {
        "type": "CommandExecution",
        "id": "c3",
        "exit_code": 0,
        "source": "unified_exec_startup",
        "status": "failed",
    }
    done = codex_line("event_msg", 7, type="item_completed", item={**item, "duration": {"secs": 0, "nanos": 9}})
    path = made(
        tmp_path / "rollout-1.jsonl",
        codex_line("session_meta", 0, id="t-1", source="cli"),
        *call(1, "c1", "exec_command", "Chunk ID: 1\nProcess exited with code 3\nOutput:\n"),
        *call(4, "c2", "shell", '{"output":"","metadata":{"exit_code":2,"duration_seconds":0.1}}', ended),
        *call(6, "c3", "exec_command", "Process exited with code 0\nOutput:\nProcess exited with code 9", done),
        *call(8, "c4", "add", [{"type": "input_text", "text": "42"}], namespace="mcp__demo"),
        *call(10, "c5", "shell", '{"output":"no","metadata":{"exit_code":127}}'),
        *call(12, "c6", "apply", {"content": "no", "success": False}),
        codex_line("response_item", 14, type="web_search_call", id="ws_1", status="completed", action={"query": "q"}),
    )
    second = 1_000_000_000
    assert runs(path) == [
        ("exec_command", True, "exit code 3", second),
        ("shell", True, "exit code 2", 7),
        ("exec_command", True, "", second),
        ("mcp__demo__add", False, "", second),
        ("shell", True, "exit code 127", second),
        ("apply", True, "", second),
        ("web_search", False, "", None),
    ]


def test_a_prompt_stands_once_however_often_it_is_told(tmp_path: Path) -> None:
    path = made(
        tmp_path / "rollout-1.jsonl",
        codex_line("session_meta", 0, id="t-1", source="cli"),
        said(1, "<environment_context>here</environment_context>"),
        said(1, "# AGENTS.md instructions for /w\n\n<INSTRUCTIONS>be kind</INSTRUCTIONS>"),
        said(2, "fix it"),
        codex_line("event_msg", 2, type="user_message", message="fix it"),
        record(3, "resp_1"),
        codex_line("event_msg", 4, type="user_message", message="<b>bold</b>?"),
        record(5, "resp_2"),
    )
    found = [e for e in events(path) if e.meaning and e.meaning.role == PROMPT]
    assert [e.contents[0].pieces for e in found if e.contents] == [["fix it"], ["<b>bold</b>?"]]
    assert [e.meaning.prompt_id for e in events(path) if e.meaning] == ["turn-1", "turn-1", "turn-2", "turn-2"]


def test_a_turn_says_how_long_it_took(tmp_path: Path) -> None:
    path = made(
        tmp_path / "rollout-1.jsonl",
        codex_line("session_meta", 0, id="t-1", source="cli"),
        codex_line("event_msg", 1, type="task_started", turn_id="u-1"),
        said(2, "go"),
        codex_line("event_msg", 3, type="turn_aborted", reason="interrupted"),
        codex_line("event_msg", 4, type="task_complete", turn_id="u-1", duration_ms=1500, time_to_first_token_ms=20),
    )
    found = [(e.name, e.meaning.role, e.meaning.duration_ns) for e in events(path) if e.meaning]
    assert found == [
        ("user_message", PROMPT, None),
        ("turn_aborted", STEP, None),
        ("task_complete", PROMPT, 1_500_000_000),
    ]
    assert {e.meaning.prompt_id for e in events(path) if e.meaning} == {"u-1"}


def test_errors_with_a_status_are_failed_calls(tmp_path: Path) -> None:
    info = {"response_too_many_failed_attempts": {"http_status_code": 429}}
    path = made(
        tmp_path / "rollout-1.jsonl",
        codex_line("session_meta", 0, id="t-1", source="cli"),
        codex_line("event_msg", 1, type="error", message="exceeded retry limit", codex_error_info=info),
        codex_line("event_msg", 2, type="error", message="no such model", codex_error_info="bad_request"),
    )
    found = [(e.meaning.is_call, e.meaning.http_status, e.meaning.error_type) for e in events(path) if e.meaning]
    assert found == [(True, 429, "response_too_many_failed_attempts"), (False, None, "bad_request")]


def test_a_sub_agent_knows_its_parent_and_leaves_out_the_history_that_it_got(tmp_path: Path) -> None:
    spawn = {"parent_thread_id": PARENT, "depth": 1, "agent_role": "explorer"}
    path = made(
        tmp_path / "rollout-child.jsonl",
        codex_line("session_meta", 0, id=CHILD, source={"subagent": {"thread_spawn": spawn}}),
        codex_line("session_meta", 0, id=PARENT, source="cli", cwd="/elsewhere"),
        codex_line("turn_context", 0, turn_id=OLD_TURN, model="gpt-5.5"),
        said(0, "what the user asked the parent"),
        *call(0, "c0", "exec_command", "old"),
        record(0, "resp_parent", thread_id=PARENT),
        codex_line("turn_context", 0.2, turn_id=OWN_TURN, model="gpt-5.5"),
        said(0.3, "look around"),
        *call(0.4, "c1", "exec_command", "new"),
        record(0.6, "resp_child", thread_id=CHILD),
    )
    found = [e.meaning for e in events(path) if e.meaning]
    assert {(m.session_id, m.parent_session_id, m.lineage, m.subagent) for m in found} == {
        (CHILD, PARENT, SUBAGENT, "explorer")
    }
    assert [m.response_id for m in found if m.is_call] == ["resp_child"]
    assert [m.tool_call_id for m in found if m.role == TOOL_RUN] == ["c1"]
    assert [e.contents[0].pieces for e in events(path) if e.name == "user_message" and e.contents] == [["look around"]]


def test_the_parent_says_which_tool_run_started_a_sub_agent(tmp_path: Path) -> None:
    answer = f'{{"agent_id":"{CHILD}","nickname":"Ada"}}'
    path = made(
        tmp_path / "rollout-1.jsonl",
        codex_line("session_meta", 0, id=PARENT, source="cli"),
        *call(1, "c1", "spawn_agent", answer),
        *call(3, "c2", "spawn_agent", "agent thread limit reached"),
    )
    (event,) = (e for e in events(path) if e.meaning and e.meaning.role == SESSION)
    assert event.meaning is not None
    meaning = event.meaning
    assert (meaning.session_id, meaning.parent_session_id, meaning.lineage) == (CHILD, PARENT, SUBAGENT)
    assert meaning.parent_tool_call_id == "c1"


def test_a_fork_of_an_older_version(tmp_path: Path) -> None:
    last = {"last_token_usage": {"input_tokens": 1000, "output_tokens": 100}}
    path = made(
        tmp_path / "rollout-1.jsonl",
        codex_line("session_meta", 0, id="t-2", source="cli", forked_from_id="t-1"),
        said(0.1, "copied"),
        codex_count(0.2, 5000, **last),
        said(7, "own"),
        codex_count(9, 7000, **last),
    )
    found = [e.meaning for e in events(path) if e.meaning]
    assert [(m.role, m.parent_session_id, m.lineage) for m in found] == [
        (PROMPT, "t-1", FORK),
        ("model_call", "t-1", FORK),
    ]


def packed(path: Path, source: bytes) -> Path:
    """A file packed as Codex packs its old ones."""
    path.write_bytes(zstandard.ZstdCompressor().compress(source))
    return path


def whole(path: Path) -> list[Event]:
    """The events of a file of which each reading takes a piece."""
    found: list[Event] = []
    position = ""
    while True:
        batch, after = codex.read(path, position)
        found += batch.events
        if after == position:
            return found
        position = after


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_packed_rollouts(tmp_path: Path, end: bytes) -> None:
    """With or without an end of the last line, they say what the plain file says, and are read once."""
    (source,) = (CAPTURES / "codex-tools" / "transcript").glob("*.jsonl")
    path = packed(tmp_path / f"{source.name}.zst", source.read_bytes().rstrip(b"\n") + end)
    assert plain(whole(path)) == plain(events(source))
    kind = registry.files_of(path)
    assert kind is not None and kind.read is codex.read


def test_packed_rollouts_of_many_pieces(tmp_path: Path) -> None:
    rows = [line for n in range(4) for line in call(n, f"c{n}", "exec_command", "x" * (lines.PIECE_BYTES // 3))]
    source = made(tmp_path / "rollout-1.jsonl", codex_line("session_meta", 0, id="t-1", source="cli"), *rows)
    path = packed(tmp_path / "rollout-1.jsonl.zst", source.read_bytes())
    batch, position = codex.read(path, "")
    assert 0 < len(batch.events) < 4
    assert len(codex.read(path, position)[0].events) > 0
    assert plain(whole(path)) == plain(whole(source))


def test_packed_rollouts_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "rollout-1.jsonl.zst"
    path.write_bytes(b"no Zstandard at all")
    with pytest.raises(Rejected):
        codex.read(path, "")
    with pytest.raises(Rejected):
        codex.read(tmp_path / "rollout-2.jsonl.zst", "")
    path.write_bytes(b"")
    assert codex.read(path, "")[0].events == []


def test_of_a_rollout_in_two_places_one_is_read(tmp_path: Path) -> None:
    for name in (
        "sessions/2026/11/20/rollout-a.jsonl",
        "sessions/2026/11/20/rollout-b.jsonl.zst",
        "archived_sessions/rollout-a.jsonl",
        "archived_sessions/rollout-b.jsonl",
        "archived_sessions/rollout-c.jsonl.zst",
        "archived_sessions/other.jsonl",
    ):
        path = tmp_path / ".codex" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = codex.discover(Surroundings(tmp_path, {}, tmp_path / "spool"))
    assert sorted(str(path.relative_to(tmp_path / ".codex").as_posix()) for path in found) == [
        "archived_sessions/rollout-c.jsonl.zst",
        "sessions/2026/11/20/rollout-a.jsonl",
        "sessions/2026/11/20/rollout-b.jsonl.zst",
    ]
