"""Pi's session files line by line: forks of forks, names, changes, what the user ran himself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tachograph.model import FORK, MODEL_CALL, PROMPT, SESSION, STEP, TOOL_RUN, Event
from tachograph.transcripts import pi
from test_transcripts import PI_HEAD, calls, made, pi_answer

A, B, C = (f"01a1fb6a-5343-7481-9aa4-0689015af0{n}d" for n in range(3))


def entry(type_: str, id_: str, second: int, hour: int = 10, **more: Any) -> dict[str, Any]:
    """An entry of a session file."""
    return {"type": type_, "id": id_, "timestamp": f"2026-11-20T{hour}:00:{second:02}.000Z", **more}


def asked(id_: str, text: str, second: int, hour: int = 10) -> dict[str, Any]:
    """An entry with what the user asked."""
    content = [{"type": "text", "text": text}]
    return entry("message", id_, second, hour, message={"role": "user", "content": content})


def head(session: str, hour: int, parent: str = "") -> dict[str, Any]:
    """The first line of a session, with its origin."""
    more = {"parentSession": f"/home/dev/sessions/{parent}"} if parent else {}
    return {**PI_HEAD, "id": session, "timestamp": f"2026-11-20T{hour}:00:00.000Z", **more}


def name(session: str, hour: int) -> str:
    """The name of a session's file."""
    return f"2026-11-20T{hour}-00-00-000Z_{session}.jsonl"


def events(path: Path) -> list[Event]:
    """The events of a whole file."""
    return pi.read(path, "")[0].events


def test_a_fork_of_a_fork_counts_each_history_once(tmp_path: Path) -> None:
    """What has no response id as well; also where the file of the fork between is gone."""
    first = [asked("a1", "one", 1), pi_answer("a2", 2)]
    second = [*first, asked("b1", "two", 1, 11), {**pi_answer("b2", 2), "timestamp": "2026-11-20T11:00:02.000Z"}]
    third = [*second, asked("c1", "three", 1, 12), {**pi_answer("c2", 2), "timestamp": "2026-11-20T12:00:02.000Z"}]
    files = [
        made(tmp_path / name(A, 10), head(A, 10), *first),
        made(tmp_path / name(B, 11), head(B, 11, name(A, 10)), *second),
        made(tmp_path / name(C, 12), head(C, 12, name(B, 11)), *third),
    ]
    found = [
        (e.meaning.session_id, e.meaning.parent_session_id, e.meaning.lineage) for e in events(files[2]) if e.meaning
    ]
    assert found == [(A, "", "")] * 2 + [(B, A, FORK)] * 2 + [(C, B, FORK)] * 2
    assert calls(*(pi.read(path, "")[0] for path in files)) == 3
    assert calls(*(pi.read(path, "")[0] for path in reversed(files))) == 3
    files[1].unlink()
    sessions = [e.meaning.session_id for e in events(files[2]) if e.meaning]
    assert sessions == [B, B, B, B, C, C]


def test_everything_belongs_to_its_prompt(tmp_path: Path) -> None:
    path = made(tmp_path / "a.jsonl", PI_HEAD, asked("u1", "one", 1), pi_answer("b1", 2), asked("u2", "two", 3))
    assert [(e.meaning.role, e.meaning.prompt_id) for e in events(path) if e.meaning] == [
        (PROMPT, "u1"),
        (MODEL_CALL, "u1"),
        (PROMPT, "u2"),
    ]
    assert [c.pieces for e in events(path) for c in e.contents or [] if c.slot == "prompt"] == [["one"], ["two"]]


def test_names_changes_and_asides(tmp_path: Path) -> None:
    path = made(
        tmp_path / "a.jsonl",
        PI_HEAD,
        entry("model_change", "m1", 1, provider="anthropic", modelId="claude-sonnet-4-5"),
        entry("thinking_level_change", "m2", 2, thinkingLevel="high"),
        entry("session_info", "m3", 3, name="a long talk"),
        entry("message", "m4", 4, message={"role": "bashExecution", "command": "make", "output": "no", "exitCode": 2}),
        entry("compaction", "m5", 5, summary="so far", usage={"input": 7, "output": 3}),
        entry("branch_summary", "m6", 6, summary="left"),
        entry("usage", "m7", 7, kind="cache_warm", model="claude-haiku-4-5", usage={"input": 9, "output": 1}),
    )
    found = [(e.name, e.meaning.role, e.meaning.request_model, e.meaning.is_error) for e in events(path) if e.meaning]
    assert found == [
        ("model_change", STEP, "", False),
        ("thinking_level_change", STEP, "", False),
        ("session_name", SESSION, "", False),
        ("user_bash", STEP, "", True),
        ("compaction", MODEL_CALL, "claude-sonnet-4-5", False),
        ("branch_summary", STEP, "", False),
        ("cache_warm", MODEL_CALL, "claude-haiku-4-5", False),
    ]


def test_a_failed_command_says_its_exit_code(tmp_path: Path) -> None:
    content = [{"type": "text", "text": "oops\n\nCommand exited with code 3"}]
    message = {"role": "toolResult", "toolCallId": "c1", "toolName": "bash", "content": content, "isError": True}
    path = made(tmp_path / "a.jsonl", PI_HEAD, entry("message", "t1", 1, message=message))
    (event,) = events(path)
    assert event.meaning is not None
    assert (event.meaning.role, event.meaning.error_message) == (TOOL_RUN, "exit code 3")
