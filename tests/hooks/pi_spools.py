"""Spools as the Pi extension writes them, made line by line, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tachograph import ledger
from tachograph.hooks import pi
from tachograph.ledger.working import calls_of
from tachograph.model import Batch, Call, Event, Meaning, Report, Span
from tachograph.pricing import Prices
from tachograph.redaction import redact
from tachograph.store.duckdb import DuckStore
from tachograph.tree import session_tree

NOW_NS = 1_795_300_000_000_000_000
MS = 1_000_000
START_MS = 1_795_219_218_000.25
SESSION = "01a1fb67-5edd-70a2-b290-44b5a0caabd3"
USAGE = {"input": 10, "output": 4, "cacheRead": 80, "cacheWrite": 10, "reasoning": 1, "cost": {"total": 0.002}}


class Spool:
    """The lines that one Pi process writes; each `line` is `step_ms` later than the one before."""

    def __init__(self, pid: int = 100, session: str = SESSION, start_ms: float = START_MS) -> None:
        self.pid = pid
        self.session = session
        self.opened_ms = self.now_ms = start_ms
        self.lines: list[dict[str, Any]] = []
        self.calls = 0

    def line(self, event: str, step_ms: float = 10.0, **facts: Any) -> Spool:
        """One more line."""
        self.now_ms += step_ms if self.lines else 0.0
        self.lines.append({"e": event, "t": self.now_ms, "s": self.session, **facts})
        return self

    def open(self, **facts: Any) -> Spool:
        """The first line, and the start of the session."""
        model = {"provider": "anthropic", "id": "claude-sonnet-4-5"}
        about = {"pi": "1.5.2", "cwd": "/home/dev/shop", "host": "box", "user": "dev", "branch": "main"}
        self.line("open", v=1, part=1, pid=self.pid, model=model, **{**about, **facts})
        return self.line("session_start", reason="startup", model=model)

    def ask(self, text: str = "mend the till", **facts: Any) -> Spool:
        """A prompt begins."""
        return self.line("input", text=text, chars=len(text), source="interactive", **facts).line("agent_start")

    def settle(self, **facts: Any) -> Spool:
        """A prompt ends."""
        return self.line("agent_end", messages=2).line("agent_settled", **facts)

    def answer(self, **facts: Any) -> Spool:
        """One attempt at a model call: request, first piece, end, and the entry it becomes."""
        self.calls += 1
        self.line("request", provider="anthropic", model="claude-sonnet-4-5", stream=True, messages=3)
        sent = int(self.now_ms)
        if facts.get("stop") not in ("error", "aborted"):
            self.line("first", 100.0, kind="text")
        told = {
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "usage": USAGE,
            "stop": "stop",
            "timestamp": sent,
            "responseId": f"msg_{self.pid:010}{self.calls:010}",
            "content": [{"type": "text", "text": "done"}],
        }
        self.line("message_end", 50.0, **{**told, **facts})
        return self.line("message_entry", 1.0, entry=f"e{self.pid}{self.calls}", timestamp=sent)

    def fail(self, error: str = '429 {"message":"slow down"}', **facts: Any) -> Spool:
        """An attempt that brought nothing."""
        nothing = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
        return self.answer(stop="error", error=error, usage=nothing, responseId=None, content=[], **facts)

    def turn(self, outcome: str = "completed", **facts: Any) -> Spool:
        """A whole turn without tools."""
        self.line("turn_start", turn=0)
        if outcome == "error":
            self.fail(**facts)
        else:
            self.answer(**facts)
        return self.line("turn_end", turn=0, outcome=outcome, results=[])

    def tool(self, call_id: str, name: str = "bash", **facts: Any) -> Spool:
        """A tool run."""
        self.line("tool_start", id=call_id, name=name, args={"command": "make"})
        return self.line("tool_end", 30.0, id=call_id, name=name, isError=False, durationMs=29, result="ok", **facts)

    def end(self) -> Spool:
        """The process ends in good order."""
        return self.line("session_shutdown", reason="quit")

    def write(self, folder: Path, part: int = 1) -> Path:
        """The file of it."""
        path = folder / f"{int(self.opened_ms)}-{self.pid}-{part}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), "utf-8")
        return path


def keep(store: DuckStore, *batches: Batch) -> None:
    """Commit batches one by one, each settled, as if they came live."""
    for batch in batches:
        batch.digest = ""
        redact(batch)
        ledger.report(batch)
        store.commit([batch])
        while ledger.settle(store, Prices().price):
            pass


def read(path: Path) -> Batch:
    """All of a file."""
    return pi.read(path, "")[0]


def told(record: Span | Event) -> Meaning:
    """What a record means; a hook's says so itself."""
    assert record.meaning is not None
    return record.meaning


def last(batches: Iterable[Batch]) -> dict[str, Span]:
    """The last state of every span, by its id."""
    return {span.span_id: span for batch in batches for span in batch.spans}


def named(batch: Batch, name: str) -> list[Span]:
    """The spans whose name begins so, in time."""
    return sorted((s for s in batch.spans if s.name.startswith(name)), key=lambda s: s.start_ns)


def calls(*batches: Batch) -> list[Call]:
    """What the ledger makes of batches, in time."""
    reports: dict[str, Report] = {}
    parents: dict[str, dict[str, str]] = {}
    for batch in batches:
        ledger.report(batch)
        reports |= {r.report_id: r for r in batch.reports}
        for span in batch.spans:
            parents.setdefault(span.trace_id, {})[span.span_id] = span.parent_id
    sessions = {r.report_id: r.meaning.session_id for r in reports.values()}
    return sorted(calls_of(list(reports.values()), sessions, parents), key=lambda c: (c.start_ns, c.call_id))


def outline(store: DuckStore, session: str) -> list[str]:
    """A session's tree as indented lines."""
    lines = []
    for depth, node in session_tree(store, session).walk():
        if node.id.startswith("session:"):
            lines.append(f"{'  ' * depth}sub-agent {node.subagent}")
        else:
            lines.append(f"{'  ' * depth}{node.name}{' ' + node.status if node.status else ''}")
    return lines


def whole_session() -> Spool:
    """A session with most of what can happen in one."""
    spool = Spool().open(resource="deployment.environment.name=prod,enduser.id=ann%40shop.example,tenant.id=t1")
    spool.ask().line("turn_start", turn=0).answer(stop="toolUse", tools=[{"id": "call_1", "name": "bash"}])
    spool.tool("call_1", error="exit 2", exit=2).line("turn_end", turn=0, outcome="completed", results=["r1"])
    spool.turn().settle(aborted=False)
    spool.line("model_select", model={"provider": "openai", "id": "gpt-5"}, previous={"id": "claude-sonnet-4-5"})
    spool.line("thinking_level_select", level="high", previous="off").line("user_bash", command="ls")
    spool.ask("again").turn("error").line("agent_end").line("agent_start").turn().settle(aborted=False)
    return spool.end()
