"""OpenClaw's plugin as a gateway calls it: what reaches the disk, and that nothing it meets can stop the gateway."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from recordings import CAPTURES
from tachograph.hooks import openclaw
from test_truth import Truth, makers, orders, replayed, truth_of

NODE = shutil.which("node")
PLUGIN = Path(__file__).parents[2] / "integrations" / "openclaw" / "src" / "index.js"
DRIVER = Path(__file__).with_name("openclaw_driver.mjs")
WORDS = "the quick brown canary"
KEY = "agent:main:telegram:direct:+49170555"
CHANNEL = {"sessionKey": KEY, "channelId": "telegram", "accountId": "default", "conversationId": "+49170555"}
AGENT = {"sessionKey": KEY, "sessionId": "s-1", "agentId": "main", "runId": "r-1"}
TRACE = {"trace": {"traceId": "a" * 32, "spanId": "b" * 16}}

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node")

Line = dict[str, Any]


def call(hook: str, event: Any, ctx: Line | None = None) -> Line:
    """One call of a hook."""
    return {"hook": hook, "event": event, "ctx": ctx or {}}


def drive(home: Path, calls: Iterable[Line], **env: str) -> Line:
    """Let the plugin meet these calls in a process of its own; what it registered and answered."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TACHOGRAPH_", "OTEL_"))}
    done = subprocess.run(
        [NODE or "", str(DRIVER), PLUGIN.as_uri()],
        input="\n".join(map(json.dumps, calls)),
        env={**clean, "HOME": str(home), "TACHOGRAPH_HOME": str(home), **env},
        capture_output=True,
        text=True,
        check=True,
    )
    told: Line = json.loads(done.stdout)
    assert told["said"] == []  # a hook that answers changes what the gateway does
    assert done.stderr == ""
    return told


def spooled(home: Path) -> list[Line]:
    """All lines of the spool."""
    return [json.loads(line) for path in openclaw_files(home) for line in path.read_text("utf-8").splitlines()]


def openclaw_files(home: Path) -> list[Path]:
    """The files of the spool, in order."""
    return sorted((home / "spool" / "openclaw").glob("*.jsonl"), key=lambda p: int(p.stem.rpartition("-")[2]))


CONVERSATION = [
    call("message_received", {"from": "Ada", "senderId": "+49170555", "content": WORDS, "messageId": "m1"}, CHANNEL),
    call("llm_input", {"provider": "openai", "model": "gpt-5", "prompt": WORDS, "historyMessages": []}, AGENT | TRACE),
    call("model_call_started", {"callId": "r-1:model:1", "provider": "openai", "model": "gpt-5"}, AGENT | TRACE),
    call("model_call_ended", {"callId": "r-1:model:1", "durationMs": 5, "outcome": "completed"}, AGENT | TRACE),
    call(
        "before_message_write",
        {
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": WORDS, "textSignature": "x"}],
                "responseId": "chatcmpl-0123456789abcdefghij",
                "stopReason": "stop",
                "timestamp": 1,
            }
        },
        AGENT,
    ),
    call("before_tool_call", {"toolName": "exec", "toolCallId": "c1", "params": {"command": WORDS}}, AGENT | TRACE),
    call(
        "after_tool_call", {"toolName": "exec", "toolCallId": "c1", "result": {"content": WORDS}, "error": WORDS}, AGENT
    ),
    call("agent_end", {"messages": [], "success": False, "error": "429 " + WORDS, "durationMs": 9}, AGENT | TRACE),
    call("message_sent", {"to": "+49170555", "content": WORDS, "success": True}, CHANNEL),
]


def test_what_reaches_the_disk(tmp_path: Path) -> None:
    drive(tmp_path, CONVERSATION)
    (path,) = openclaw_files(tmp_path)
    lines = spooled(tmp_path)
    assert [line["e"] for line in lines] == [
        "open",
        "message_received",
        "llm_input",
        "model_call_started",
        "model_call_ended",
        "assistant",
        "before_tool_call",
        "after_tool_call",
        "agent_end",
        "message_sent",
    ]
    assert lines[2]["tr"][0] == "a" * 32 and lines[5]["content"] == [{"type": "text", "text": WORDS}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.name.split("-")[1] == str(lines[0]["pid"])


def test_people_stay_behind_pseudonyms(tmp_path: Path) -> None:
    drive(tmp_path, CONVERSATION)
    drive(tmp_path, CONVERSATION)
    told = "".join(path.read_text("utf-8") for path in openclaw_files(tmp_path))
    assert "+49170555" not in told and "Ada" not in told
    senders = {line["sender"] for line in spooled(tmp_path) if "sender" in line}
    assert len(senders) == 1 and len(senders.pop()) == 12  # the same person in every process
    keys = {line["k"] for line in spooled(tmp_path) if "k" in line}
    assert len(keys) == 1 and keys.pop().startswith("agent:main:telegram:direct:")
    salt = tmp_path / "senders.salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    drive(tmp_path / "other", CONVERSATION, TACHOGRAPH_SENDERS="plain")
    assert {line["sender"] for line in spooled(tmp_path / "other") if "sender" in line} == {"+49170555"}


@pytest.mark.parametrize("how", ["variable", "file"])
def test_without_content_no_word_reaches_the_disk(how: str, tmp_path: Path) -> None:
    env = {"TACHOGRAPH_CONTENT": "none"} if how == "variable" else {}
    (tmp_path / "tachograph.toml").write_text('content = "none"\n[other]\ncontent = "full"\n', "utf-8")
    drive(tmp_path, CONVERSATION, **env)
    told = "".join(path.read_text("utf-8") for path in openclaw_files(tmp_path))
    assert "canary" not in told and "chatcmpl-" in told
    assert [line["error"] for line in spooled(tmp_path) if line["e"] == "agent_end"] == ["429"]


def test_the_recorded_hooks_are_the_calls_that_were_billed(tmp_path: Path) -> None:
    """The payloads of a real run; what the recorder shortened to texts is passed by."""
    recorded = (CAPTURES / "openclaw-hooks" / "hooks.jsonl").read_text("utf-8")
    calls = [json.loads(line) for line in recorded.splitlines() if line]
    drive(tmp_path, [call(c["hook"], c["event"], c["ctx"]) for c in calls if "event" in c])
    (path,) = openclaw_files(tmp_path)
    for order, batches in orders(makers([openclaw.read(path, "")[0]]), "hooks").items():
        assert replayed(batches, tmp_path / order, settle_each=True).told == truth_of("openclaw-hooks"), order


def test_answers_of_a_harness_without_messages_come_with_its_end(tmp_path: Path) -> None:
    answer = {"role": "assistant", "provider": "openai", "model": "gpt-5", "stopReason": "stop"}
    usage = {"input": 5, "output": 2, "cacheRead": 0, "cacheWrite": 0}
    now_ms = 4_000_000_000_000  # later than any run of this test
    said = [{**answer, "responseId": f"resp_{n:020}", "usage": usage, "timestamp": now_ms + n} for n in range(2)]
    history = [{**answer, "responseId": "resp_long_ago_0000000000", "usage": usage, "timestamp": 5}]
    end = call("agent_end", {"messages": [*history, *said], "success": True, "durationMs": 9}, AGENT | TRACE)
    drive(tmp_path, [CONVERSATION[1], call("before_message_write", {"message": said[0]}, AGENT), end])
    (path,) = openclaw_files(tmp_path)
    told = replayed([openclaw.read(path, "")[0]], tmp_path / "store", settle_each=True).told
    assert told == Truth(2, 0, 10)


def test_nothing_reaches_the_gateway(tmp_path: Path) -> None:
    """Payloads that throw, loop or are missing, a folder that cannot be written, hooks that are refused."""
    events: list[Any] = ["trap", None, 5, {}, []]
    hostile = [call(c["hook"], event, c["ctx"]) for c in CONVERSATION for event in events]
    hostile += [call("before_message_write", {"message": {"role": "assistant", "content": "loop"}}, AGENT)]
    drive(tmp_path / "a", [*hostile, *CONVERSATION])
    assert {line["e"] for line in spooled(tmp_path / "a")} >= {"message_received", "assistant", "message_sent"}
    (tmp_path / "file").write_text("no folder", "utf-8")
    drive(tmp_path / "file", CONVERSATION * 3)
    told = drive(tmp_path / "b", CONVERSATION, REFUSED="llm_input,agent_end")
    assert "llm_input" not in told["hooks"] and "assistant" in {line["e"] for line in spooled(tmp_path / "b")}


def test_switched_off_and_in_loads_without_agents_it_does_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert drive(home, CONVERSATION, TACHOGRAPH_DISABLED="1")["hooks"] == []
    assert drive(home, CONVERSATION, MODE="cli-metadata")["hooks"] == []
    assert not home.exists()
    assert drive(home, CONVERSATION, MODE="discovery")["hooks"] != []


def test_parts_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "openclaw"
    folder.mkdir(parents=True)
    for n in range(2):
        with (folder / f"{n}-99999999{n}-1.jsonl").open("wb") as file:
            file.truncate(150 * 1024 * 1024)  # a hole: takes no room
    text = "x" * 3_000_000
    big = [
        call(
            "before_message_write",
            {"message": {"role": "user", "content": [{"text": text[:250_000]}] * 12, "timestamp": n}},
            AGENT,
        )
        for n in range(7)
    ]
    drive(tmp_path, [*CONVERSATION, *big])
    lines = [
        json.loads(line)
        for p in openclaw_files(tmp_path)
        if p.stat().st_size < 1e8
        for line in p.read_bytes().splitlines()
    ]
    assert [line["part"] for line in lines if line["e"] == "open"] == [1, 2]
    assert [line["bytes"] for line in lines if line["e"] == "lost"] == [150 * 1024 * 1024]
    assert sum(line["e"] == "user" for line in lines) == 7
    cut = drive(tmp_path / "b", [call("before_message_write", {"message": {"role": "user", "content": text}}, AGENT)])
    (line,) = [line for line in spooled(tmp_path / "b") if line["e"] == "user"]
    assert cut["hooks"] and line["cut"] == len(text) - 256 * 1024 and len(line["text"]) < 300_000
