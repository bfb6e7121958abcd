"""Claude Code's transcripts line by line: who said it, in which session, and what it says of failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recordings import CAPTURES
from tachograph import lines
from tachograph.model import FORK, MODEL_CALL, PROMPT, RESUME, SESSION, STEP, TOOL_RUN, Event
from tachograph.transcripts import claude_code
from test_transcripts import calls, claude_answer, made, reports_of


def user(uuid: str, content: Any, **more: Any) -> dict[str, Any]:
    """A line that stands in the user's name."""
    message = {"role": "user", "content": content}
    line = {"type": "user", "sessionId": "S", "uuid": uuid, "timestamp": "2026-11-20T10:00:01.000Z", "message": message}
    return {**line, **more}


def answered(message_id: str, *blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A line with an answer of these blocks."""
    line = claude_answer(message_id, "req_" + message_id, 10, **more)
    return {**line, "message": {**line["message"], "content": list(blocks)}}


def called(id_: str, name: str = "Bash", **given: Any) -> dict[str, Any]:
    """The block of a tool call."""
    return {"type": "tool_use", "id": id_, "name": name, "input": given}


def result(id_: str, content: Any, **more: Any) -> dict[str, Any]:
    """The block of a tool result."""
    return {"type": "tool_result", "tool_use_id": id_, "content": content, **more}


def events(path: Path) -> list[Event]:
    """The events of a whole file."""
    return claude_code.read(path, "")[0].events


def told(path: Path, role: str) -> list[tuple[str, str]]:
    """Name and first text of the events of a role."""
    found = [(e.name, e.contents) for e in events(path) if e.meaning and e.meaning.role == role]
    return [(name, contents[0].pieces[0] if contents else "") for name, contents in found]


def test_what_stands_in_the_users_name(tmp_path: Path) -> None:
    path = made(
        tmp_path / "S.jsonl",
        user("u1", "<command-name>/clear</command-name>\n<command-args></command-args>"),
        user("u2", "<local-command-stdout></local-command-stdout>"),
        user("u3", "<command-message>review</command-message><command-name>/review</command-name>"),
        user("u4", "look at everything", isMeta=True),
        user("u5", [{"type": "text", "text": "please"}]),
        user("u6", "[Request interrupted by user]"),
        user("u7", "<div> is not closed, why?"),
        user("u8", "<bash-input>make</bash-input>"),
        user("u9", "What was done so far", isCompactSummary=True),
        user("u10", "<task-notification>done</task-notification>"),
        {"type": "attachment", "sessionId": "S", "uuid": "a1", "timestamp": "2026-11-20T10:00:02.000Z"}
        | {"attachment": {"type": "queued_command", "prompt": "and hurry", "commandMode": "prompt"}},
        {"type": "attachment", "sessionId": "S", "uuid": "a2", "timestamp": "2026-11-20T10:00:02.000Z"}
        | {"attachment": {"type": "queued_command", "prompt": "done", "commandMode": "task-notification"}},
    )
    asked = [("command", "/review"), ("user", "please"), ("user", "<div> is not closed, why?")]
    assert told(path, PROMPT) == [*asked, ("queued_prompt", "and hurry")]
    named = {name for name, _ in told(path, STEP)}
    assert named == {"command", "note", "interrupted", "user_bash", "compact_summary"}


def test_everything_belongs_to_its_prompt(tmp_path: Path) -> None:
    path = made(
        tmp_path / "S.jsonl",
        user("u1", "first"),
        answered("msg_1", called("t1")),
        user("u2", [result("t1", "done")]),
        user("u3", "second", promptId="p-2"),
        answered("msg_2"),
    )
    assert [e.meaning.prompt_id for e in events(path) if e.meaning] == ["u1", "u1", "u1", "p-2", "p-2"]


def test_tool_runs_say_how_they_ended(tmp_path: Path) -> None:
    asked = answered("msg_1", *(called(f"t{n}") for n in range(5)))
    later = {"timestamp": "2026-11-20T10:00:03.000Z"}
    path = made(
        tmp_path / "S.jsonl",
        asked,
        user("u0", [result("t0", "fine")], toolUseResult={"durationMs": 70}, **later),
        user("u1", [result("t1", "Exit code 3\nno", is_error=True)], toolUseResult="Error: Exit code 3", **later),
        user("u2", [result("t2", "The user doesn't want to proceed", is_error=True)], **later),
        user("u3", [result("t3", "half")], toolUseResult={"interrupted": True}, **later),
        user("u4", [result("t4", "<tool_use_error>no such file</tool_use_error>", is_error=True)], **later),
    )
    runs = [e.meaning for e in events(path) if e.meaning and e.meaning.role == TOOL_RUN]
    assert [m.error_type for m in runs] == ["", "exit_code", "rejected", "interrupted", "tool_use_error"]
    assert [m.duration_ns for m in runs] == [70_000_000] + [3_000_000_000] * 4
    assert runs[1].error_message == "exit code 3"


def test_pictures_and_seals_are_left_out(tmp_path: Path) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD" * 1000}}
    path = made(
        tmp_path / "S.jsonl",
        user("u1", [{"type": "text", "text": "see"}, picture]),
        answered("msg_1", {"type": "thinking", "thinking": "hm", "signature": "U0VBTA" * 50}, called("t1")),
        user("u2", [result("t1", [picture])]),
    )
    kept = [piece for e in events(path) for c in e.contents or [] for piece in c.pieces]
    assert sum("[4000 characters]" in piece for piece in kept) == 2
    assert '{"type":"thinking","thinking":"hm"}' in kept
    assert not any("QUJD" in piece or "U0VBTA" in piece for piece in kept)


@pytest.mark.parametrize(
    ("line", "status", "is_call"),
    [
        ({"type": "system", "subtype": "api_error", "error": {"status": 529}, "retryAttempt": 1}, 529, True),
        ({"type": "system", "subtype": "api_error", "error": {"message": "Connection error."}}, None, True),
        (answered("m", {"type": "text", "text": "API Error: 400 {}"}, isApiErrorMessage=True), 400, True),
        (answered("m", {"type": "text", "text": "Please run /login"}, isApiErrorMessage=True), None, False),
    ],
)
def test_failed_attempts(tmp_path: Path, line: dict[str, Any], status: int | None, is_call: bool) -> None:
    path = made(tmp_path / "S.jsonl", {"timestamp": "2026-11-20T10:00:01.000Z", "sessionId": "S", **line})
    (event,) = events(path)
    assert event.meaning is not None
    assert (event.meaning.http_status, event.meaning.is_call, event.meaning.is_error) == (status, is_call, True)
    assert event.meaning.usage is None


def test_a_session_that_goes_on_with_another(tmp_path: Path) -> None:
    """Its file begins with the other's lines: they stay the other's, and count once with its own file."""
    one, two, three = (f"msg_01RnqDneN5jv93Vgrn7YCL5{n}" for n in range(3))
    history = [user("u1", "first", sessionId="A"), answered(one, sessionId="A")]
    first = made(tmp_path / "A.jsonl", *history)
    second_lines = [*history, user("u2", "more", sessionId="B"), answered(two, sessionId="B")]
    second = made(tmp_path / "B.jsonl", *second_lines)
    third = made(tmp_path / "C.jsonl", *second_lines, answered(three, sessionId="C"))
    found = [(e.meaning.session_id, e.meaning.parent_session_id, e.meaning.lineage) for e in events(third) if e.meaning]
    assert found == [("A", "", "")] * 2 + [("B", "A", RESUME)] * 2 + [("C", "B", RESUME)]
    read = [claude_code.read(path, "")[0] for path in (third, first, second)]
    assert calls(*read) == 3
    assert len({r.report_id for r in reports_of(*(claude_code.read(p, "")[0] for p in (first, second, third)))}) == 3


def test_a_fork_says_what_it_copied(tmp_path: Path) -> None:
    copied = {"forkedFrom": {"sessionId": "A", "messageUuid": "u1"}, "sessionId": "B"}
    path = made(tmp_path / "B.jsonl", user("x1", "first", **copied), user("x2", "instead", sessionId="B"))
    found = [(e.meaning.session_id, e.meaning.parent_session_id, e.meaning.lineage) for e in events(path) if e.meaning]
    assert found == [("A", "", ""), ("B", "A", FORK)]
    assert events(path)[0].attributes["uuid"] == "u1"


def test_sub_agents_in_the_file_of_their_session(tmp_path: Path) -> None:
    """Older versions write them there: known by the task that a tool call gave them, and followed line by line."""
    side = {"isSidechain": True, "parentUuid": None}
    started = [called("t1", "Task", prompt="look", subagent_type="Explore"), called("t2", "Task", prompt="write")]
    path = made(
        tmp_path / "S.jsonl",
        user("u1", "go"),
        answered("msg_1", *started),
        user("s1", "look", **side),
        user("s2", "write", **side),
        answered("msg_2", called("t3"), uuid="s3", isSidechain=True, parentUuid="s1"),
        answered("msg_3", uuid="s4", isSidechain=True, parentUuid="s2"),
        user("s5", [result("t3", "x")], isSidechain=True, parentUuid="s3"),
    )
    found = [(e.meaning.subagent, e.meaning.parent_tool_call_id) for e in events(path) if e.meaning]
    look, write = ("Explore", "t1"), ("sub-agent", "t2")
    assert found == [("", ""), ("", ""), look, write, look, write, look]
    assert len(told(path, PROMPT)) == 1


def test_a_sub_agent_without_the_file_beside_it_goes_by_its_id(tmp_path: Path) -> None:
    path = made(tmp_path / "agent-7f.jsonl", user("u1", "look", isSidechain=True, agentId="7f"))
    (event,) = events(path)
    assert event.meaning is not None
    assert (event.meaning.subagent, event.meaning.parent_tool_call_id) == ("7f", "")


def test_names_of_a_session(tmp_path: Path) -> None:
    path = made(
        tmp_path / "S.jsonl",
        {"type": "summary", "summary": "Made up", "leafUuid": "x"},
        user("u1", "go"),
        {"type": "custom-title", "customTitle": "My name", "sessionId": "S"},
        {"type": "ai-title", "aiTitle": "Made up later", "sessionId": "S"},
        user("u2", "on"),
    )
    assert told(path, SESSION) == [("session_name", "Made up"), ("session_name", "My name")]


def test_when_the_newest_versions_sent_a_request(tmp_path: Path) -> None:
    sent = {"type": "api-request", "sessionId": "S", "id": "r-1", "timestamp": "2026-11-20T09:59:58.500Z"}
    path = made(tmp_path / "S.jsonl", sent, answered("msg_1", requestRef="r-1"), answered("msg_2", requestRef="r-2"))
    assert [e.meaning.duration_ns for e in events(path) if e.meaning] == [1_500_000_000, None]


def test_what_a_recorded_session_tells() -> None:
    """All of one recording, in short; failures beside what went well."""
    (path,) = (CAPTURES / "claude-code-errors" / "transcript").rglob("*.jsonl")
    found = [
        (e.meaning.role, e.meaning.tool_name or e.meaning.request_model, e.meaning.error_message)
        for e in events(path)
        if e.meaning
    ]
    model = "claude-sonnet-4-5-20250929"
    assert [row for row in found if row[0]] == [
        (PROMPT, "", ""),
        (MODEL_CALL, "", "429 This request would exceed your rate limit"),
        *[(MODEL_CALL, model, "")] * 2,
        (TOOL_RUN, "Bash", "exit code 3"),
        (MODEL_CALL, model, ""),
        (TOOL_RUN, "Read", ""),
        (MODEL_CALL, model, ""),
    ]


def test_a_line_of_any_length(tmp_path: Path) -> None:
    """Longer than what is taken at once it is read; longer than what is taken at all it is left out, the rest read."""
    long, endless = "x" * (lines.PIECE_BYTES + 1), b'"%s"' % bytes(lines.LINE_BYTES_MAX + lines.PIECE_BYTES)
    path = made(tmp_path / "S.jsonl", user("u1", long), endless, user("u3", "z"))
    found, rejected, position = [], 0, ""
    while True:
        batch, after = claude_code.read(path, position)
        assert batch.size <= lines.LINE_BYTES_MAX
        found += [e.attributes["uuid"] for e in batch.events]
        rejected += batch.rejected
        if after == position:
            break
        position = after
    assert (found, rejected) == (["u1", "u3"], 1)
    assert json.loads(position)["offset"] == path.stat().st_size
