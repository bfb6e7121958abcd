"""Steps for tests of forwarders: of recordings, as the feed tells them, and made by hand."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from fillings import NOON, SECOND, price
from notes import Notes
from recordings import everything
from tachograph import ledger
from tachograph.destinations import Destination
from tachograph.forwarders.contract import Item, Step
from tachograph.model import MODEL_CALL
from tachograph.pipeline.stepping import Steps
from tachograph.pipeline.waiting import QUIET_NS
from tachograph.store.duckdb import open_store

GOLDEN = Path(__file__).parents[1] / "data" / "forwarders"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def recorded(name: str, folder: Path, *, takes_changes: bool = False, privacy: str = "redacted") -> list[Item]:
    """The steps of a recording."""
    now_ns = NOON
    with closing(open_store(folder / "store", lambda: now_ns)) as store:
        for batch in everything(name):
            store.commit([batch])
        while ledger.settle(store, price):
            pass
        to = Destination("acme", "acme", "acme", privacy=privacy)
        feed, memory = Steps(store, to, takes_changes=takes_changes), Notes()
        until = store.sequence()
        found = [item for some in feed.read(0, until, memory) for item in some]
        if feed.is_due(now_ns + 2 * QUIET_NS, memory):
            found += [item for some in feed.due(now_ns + 2 * QUIET_NS, until, memory) for item in some]
        return found


CALL: dict[str, Any] = {
    "call_id": "call_1",
    "agent": "pi",
    "operation": "chat",
    "provider": "anthropic",
    "request_model": "claude-sonnet-4-5",
    "response_model": "claude-sonnet-4-5-20250929",
    "response_id": "msg_1",
    "input_uncached_tokens": 100,
    "cache_read_tokens": 2000,
    "cache_write_tokens": 300,
    "cache_write_1h_tokens": 120,
    "input_tokens": 2400,
    "output_tokens": 50,
    "reasoning_tokens": 20,
    "usage_status": "reported",
    "status": "ok",
    "http_status": 200,
    "finish_reason": "tool_call",
    "is_streaming": True,
    "ttft_ns": SECOND // 2,
    "duration_ns": 2 * SECOND,
    "cost_nanousd": 7_000_000,
    "cost_kind": "computed",
    "is_notional": False,
}
SESSION: dict[str, Any] = {
    "session_id": "s1",
    "agent": "pi",
    "project": "web",
    "channel": "telegram",
    "user": "ada",
    "environment": "Prod EU",
    "branch": "main",
    "lineage": "fork",
}


def step(number: int, role: str, above: int = 0, start: int = 0, end: int = 10, **more: Any) -> Step:
    """A step of session s1, under prompt 1; a model call has CALL as its call."""
    given: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_id": f"{above:016x}" if above else "",
        "role": role,
        "name": f"{role} {number}",
        "start_ns": NOON + start * SECOND,
        "end_ns": NOON + end * SECOND,
        "session_id": "s1",
        "session": SESSION,
        "call": CALL if role == MODEL_CALL else None,
        "root_id": f"{1:016x}",
        "root_role": "prompt",
    }
    return Step(**(given | more))


def items(*given: Step) -> list[Item]:
    """The steps on their way."""
    return [Item(f"{one.trace_id}:{one.span_id}", 1, one) for one in given]


def golden(kind: str, name: str, told: Any, is_writing: bool) -> Any:
    """What stands in the file of that name, after writing it anew where that is asked for."""
    path = GOLDEN / kind / f"{name}.json"
    if is_writing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
