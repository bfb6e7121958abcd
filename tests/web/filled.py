"""A store filled with recordings and with what an attacker would send, and the pages over it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

import recordings
from tachograph import ledger, redaction
from tachograph.model import Batch, Content, Event, Meaning, Source, Span, Usage
from tachograph.pricing import Prices
from tachograph.store.contract import Store
from tachograph.web.app import create_app

NOW_NS = 1_795_225_000 * 1_000_000_000  # 2026-11-21, after every recording
API_TOKEN = "an-api-token-of-the-tests"
SETS = ("claude-code-content", "claude-code-subagent", "codex-tools", "opencode-tools", "py-openai-traceloop", "pi")
EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}\u202e"
_SOURCE = Source({"service.name": EVIL, "x": EVIL}, EVIL, EVIL)


def keep(store: Store, folder: Path, batches: Iterable[Batch], *, is_understood: bool = False) -> None:
    """Commit batches as the road in does, and settle the ledger."""
    for batch in batches:
        if is_understood:  # made by hand with its meaning
            redaction.redact(batch, "redacted")
            ledger.report(batch)
            store.commit([batch])
        else:
            store.commit([recordings.prepared(batch)])
    prices = Prices(folder / "prices.toml")
    while ledger.settle(store, prices.price):
        pass


def recorded(store: Store, folder: Path) -> None:
    """Keep the recordings of SETS, spans, events and transcripts."""
    for name in SETS:
        path = recordings.CAPTURES / name
        keep(store, folder, recordings.requests(path))
        keep(store, folder, recordings.transcripts(path))


def hostile() -> Batch:
    """A session whose every text is an attack."""
    start = NOW_NS - 60_000_000_000
    meaning: dict[str, Any] = {
        "session_id": EVIL + "/../..",
        "agent": EVIL,
        "project": EVIL,
        "branch": EVIL,
        "user": EVIL,
    }
    usage = Usage(input_uncached=1_000, cache_read=200, output=30)
    spans = [
        Span(
            _SOURCE, "e" * 32, f"{number:016x}", parent, EVIL, 1, start + number, start + number + 5_000_000,
            {EVIL: EVIL, "list": [EVIL, {"deep": EVIL}]}, 2, EVIL,
            events=[{"time_ns": start, "name": EVIL, "attributes": {EVIL: EVIL}, "dropped": 0}],
            links=[{"trace_id": EVIL, "span_id": EVIL, "attributes": {EVIL: EVIL}}],
            meaning=made, contents=contents,
        )
        for number, parent, made, contents in (
            (1, "", Meaning(role="prompt", prompt_id=EVIL, **meaning), [Content("prompt", "p", [EVIL])]),
            (
                2, f"{1:016x}",
                Meaning(
                    role="model_call", is_call=True, usage=usage, provider=EVIL, request_model=EVIL,
                    response_model=EVIL, response_id=EVIL, **meaning,
                ),
                [
                    Content("input", "i", ['{"role": "user", "content": "<script>alert(3)</script>"}'], True),
                    Content("output", "o", ['{"type": "tool_use", "name": "<b>x</b>", "input": "</pre><b>"}'], True),
                ],
            ),
            (
                3, f"{2:016x}",
                Meaning(
                    role="tool_run", tool_name=EVIL, tool_call_id=EVIL, is_error=True, error_message=EVIL, **meaning
                ),
                [Content("arguments", "a", [EVIL]), Content("result", "r", [EVIL])],
            ),
        )
    ]  # fmt: skip
    events = [Event(_SOURCE, start + 4, EVIL, {EVIL: EVIL}, body=EVIL, trace_id="e" * 32, span_id=f"{2:016x}")]
    return Batch(spans=spans, events=events)


def client(store: Store, **settings: object) -> TestClient:
    """A browser that talks to the pages of the store."""
    app = create_app(store, **({"clock": lambda: NOW_NS, "api_token": API_TOKEN} | settings))  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1:4319", raise_server_exceptions=False)
