"""A history of Claude Code sessions of any size, the same for the same seed, and what was really used in it."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

ENCODE = msgspec.json.Encoder().encode
LETTERS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BEGIN_S = 1_793_000_000
MODELS = ("claude-sonnet-4-5-20250929", "claude-opus-4-8", "claude-haiku-4-5-20251001")
PROJECTS = tuple(f"/home/dev/work/project-{n}" for n in range(12))
TEXT = """
def return import from class self value result index for while if else None True request response path open
read write token session parse error raise except with as yield lambda config test assert data list dict tuple
The function takes a path and returns what was read We should check the size before the loop starts
"""
WORDS = TEXT.split()
RESUMED = 0.06  # of the sessions begin with a copy of an earlier one
WITH_AGENTS = 0.02  # of the tool calls start a sub-agent
ROUNDS = (1, 14)  # model calls in answer to one prompt
PROMPTS = (2, 9)  # in one session


class Truth(NamedTuple):
    """What the history holds, each model call counted once."""

    sessions: int
    files: int
    size_bytes: int
    calls: int
    input_tokens: int  # with cache
    output_tokens: int
    prompts: int
    tool_runs: int


class History:
    """The lines of the sessions, one after another; a random generator decides everything."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.corpus = self._corpus(2_000_000)
        self.earlier: list[list[dict[str, Any]]] = []
        self.count = dict.fromkeys(Truth._fields, 0)

    def _corpus(self, size: int) -> str:
        """Lines of what looks like a program, to cut texts from."""
        rng, lines, length = self.rng, [], 0
        while length < size:
            line = "    " * rng.randrange(4) + " ".join(rng.choices(WORDS, k=rng.randrange(2, 14)))
            line += rng.choice(("", ":", "()", ' = "text"', f" = {rng.random():.6f}", f"  # {rng.getrandbits(32):08x}"))
            lines.append(line)
            length += len(line) + 1
        return "\n".join(lines)

    def text(self, low: int, high: int) -> str:
        """A piece of the corpus, most of them short."""
        size = int(low * (high / low) ** (self.rng.random() ** 1.5))
        at = self.rng.randrange(len(self.corpus) - size)
        return self.corpus[at : at + size]

    def name(self, prefix: str, length: int = 24) -> str:
        """An id as the provider makes them."""
        return prefix + "".join(self.rng.choices(LETTERS, k=length - len(prefix) + 4))

    def uuid(self) -> str:
        """An id as Claude Code makes them."""
        h = f"{self.rng.getrandbits(128):032x}"
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    def session(self) -> None:
        """Write one session's files."""
        rng = self.rng
        talk = Talk(self, self.uuid(), rng.choice(PROJECTS), BEGIN_S + rng.randrange(2_500_000))
        lines: list[dict[str, Any]] = []
        if self.earlier and rng.random() < RESUMED:
            lines.append({"type": "summary", "summary": self.text(20, 80), "leafUuid": self.uuid()})
            lines += [{**line, "sessionId": talk.session} for line in rng.choice(self.earlier)]
        own = [line for _ in range(rng.randint(*PROMPTS)) for line in talk.prompt()]
        if len(self.earlier) < 40 and len(own) < 120:
            self.earlier.append(own)
        self.write(talk.file(), lines + own)
        self.count["sessions"] += 1

    def write(self, path: Path, lines: list[dict[str, Any]]) -> None:
        """Write one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(ENCODE(line) + b"\n" for line in lines))
        self.count["files"] += 1
        self.count["size_bytes"] += path.stat().st_size


class Talk:
    """One session while it is written."""

    def __init__(self, history: History, session: str, cwd: str, begin_s: float) -> None:
        self.history = history
        self.session = session
        self.cwd = cwd
        self.now_s = begin_s
        self.last: str | None = None
        self.agent: dict[str, Any] = {}
        self.model = history.rng.choices(MODELS, (6, 3, 1))[0]
        self.context = 18_000

    def file(self) -> Path:
        """Where it lies."""
        return self.history.folder / "projects" / self.cwd.replace("/", "-") / f"{self.session}.jsonl"

    def line(self, kind: str, **more: Any) -> dict[str, Any]:
        """A line with what stands on all of them."""
        self.now_s += self.history.rng.uniform(0.05, 20)
        moment = datetime.fromtimestamp(self.now_s, UTC)
        before, self.last = self.last, self.history.uuid()
        return {
            "parentUuid": before,
            "isSidechain": bool(self.agent),
            **self.agent,
            "userType": "external",
            "cwd": self.cwd,
            "sessionId": self.session,
            "version": "2.0.76",
            "gitBranch": "main",
            "type": kind,
            **more,
            "uuid": self.last,
            "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def prompt(self) -> Iterator[dict[str, Any]]:
        """What the user asked, and all rounds of the answer."""
        rng = self.history.rng
        snapshot = {"messageId": self.history.uuid(), "trackedFileBackups": {}, "timestamp": "2026-11-20T10:00:00.000Z"}
        yield {"type": "file-history-snapshot", "messageId": snapshot["messageId"], "snapshot": snapshot}
        yield self.line("user", message={"role": "user", "content": self.history.text(20, 2000)})
        self.history.count["prompts"] += not self.agent
        rounds = rng.randint(*ROUNDS)
        for number in range(rounds):
            yield from self.answer(is_last=number == rounds - 1)

    def answer(self, is_last: bool) -> Iterator[dict[str, Any]]:
        """The lines of one model call, one for each block, and those of the tools that it asked for."""
        rng, history = self.history.rng, self.history
        blocks: list[dict[str, Any]] = []
        if rng.random() < 0.3:
            blocks.append({"type": "thinking", "thinking": history.text(80, 4000), "signature": history.name("E", 300)})
        if is_last or rng.random() < 0.6:
            blocks.append({"type": "text", "text": history.text(40, 3000)})
        tools = [] if is_last else [self.tool() for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        blocks += [block for block, _, _ in tools]
        answer = {"id": history.name("msg_01"), "type": "message", "role": "assistant", "model": self.model}
        request, used = history.name("req_011"), self.usage(len(blocks))
        for number, block in enumerate(blocks):
            is_end = number == len(blocks) - 1
            usage = used if is_end else {**used, "output_tokens": 1 + number}
            stop = ("end_turn" if is_last else "tool_use") if is_end else None
            message = {**answer, "content": [block], "stop_reason": stop, "stop_sequence": None, "usage": usage}
            yield self.line("assistant", message=message, requestId=request)
        for block, content, result in tools:
            self.history.count["tool_runs"] += 1
            if block["name"] == "Task":
                self.subagent(block["id"], block["input"]["prompt"])
            given = {"tool_use_id": block["id"], "type": "tool_result", "content": content, "is_error": False}
            yield self.line("user", message={"role": "user", "content": [given]}, toolUseResult=result)

    def usage(self, blocks: int) -> dict[str, Any]:
        """What the call used; counted here."""
        rng, count = self.history.rng, self.history.count
        written, output = rng.randrange(200, 6000), rng.randrange(20, 900) * blocks
        used = {"input_tokens": rng.randrange(3, 40), "cache_creation_input_tokens": written}
        used |= {"cache_read_input_tokens": self.context, "output_tokens": output}
        self.context = (self.context + written) % 180_000
        count["calls"] += 1
        count["input_tokens"] += used["input_tokens"] + written + used["cache_read_input_tokens"]
        count["output_tokens"] += output
        split = {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0}
        return {**used, "cache_creation": split, "service_tier": "standard"}

    def tool(self) -> tuple[dict[str, Any], Any, Any]:
        """A tool call, what the model gets back and what Claude Code keeps of it."""
        rng, history = self.history.rng, self.history
        path = f"{self.cwd}/src/{rng.choice(WORDS)}.py"
        if not self.agent and rng.random() < WITH_AGENTS:
            given = {"description": "Look around", "prompt": history.text(60, 900), "subagent_type": "Explore"}
            content = history.text(300, 4000)
            kept: Any = {"content": [{"type": "text", "text": content}], "totalDurationMs": 8000, "totalTokens": 9000}
            return self.called("Task", given), [{"type": "text", "text": content}], {**kept, "status": "completed"}
        kind = rng.choices(("Read", "Bash", "Edit", "Grep"), (4, 4, 2, 2))[0]
        if kind == "Read":
            text = history.text(400, 30_000)
            numbered = "\n".join(f"{n:6}→{line}" for n, line in enumerate(text.split("\n"), 1))
            file = {"filePath": path, "content": text, "numLines": text.count("\n") + 1, "startLine": 1}
            return self.called(kind, {"file_path": path}), numbered, {"type": "text", "file": file}
        if kind == "Edit":
            old, new = history.text(60, 900), history.text(60, 1500)
            kept = {"filePath": path, "oldString": old, "newString": new, "originalFile": history.text(800, 20_000)}
            patch = [{"oldStart": 1, "oldLines": 9, "newStart": 1, "newLines": 12, "lines": new.split("\n")}]
            given = {"file_path": path, "old_string": old, "new_string": new}
            return self.called(kind, given), history.text(200, 1500), {**kept, "structuredPatch": patch}
        text = history.text(30, 16_000)
        if kind == "Grep":
            kept = {"mode": "content", "numFiles": 0, "filenames": [], "content": text}
            return self.called(kind, {"pattern": rng.choice(WORDS), "path": self.cwd}), text, kept
        kept = {"stdout": text, "stderr": "", "interrupted": False, "isImage": False}
        return self.called(kind, {"command": history.text(20, 160), "description": "Run it"}), text, kept

    def called(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The block of a tool call."""
        return {"type": "tool_use", "id": self.history.name("toolu_01"), "name": name, "input": given}

    def subagent(self, tool_id: str, task: str) -> None:
        """Write the files of a sub-agent."""
        id_ = f"{self.history.rng.getrandbits(32):08x}"
        inner = Talk(self.history, self.session, self.cwd, self.now_s)
        inner.agent = {"agentId": id_}
        lines = [line for line in inner.prompt() if line["type"] != "file-history-snapshot"]
        lines[0]["message"]["content"] = task
        path = self.file().with_suffix("") / "subagents" / f"agent-{id_}.jsonl"
        self.history.write(path, lines)
        meta = {"agentType": "Explore", "description": "Look around", "toolUseId": tool_id, "spawnDepth": 1}
        path.with_name(f"agent-{id_}.meta.json").write_bytes(ENCODE(meta))


def write(folder: Path, size_bytes: int, seed: int = 1) -> Truth:
    """Write sessions until they take that many bytes; `folder` is what CLAUDE_CONFIG_DIR would name."""
    history = History(folder, seed)
    while history.count["size_bytes"] < size_bytes:
        history.session()
    return Truth(**history.count)


def main() -> None:
    """Write one and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("megabytes", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    truth = write(given.folder, given.megabytes * 1_000_000, given.seed)
    sys.stdout.write(ENCODE(truth._asdict()).decode() + "\n")


if __name__ == "__main__":
    main()
