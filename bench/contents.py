"""Disk for conversations whose every request sends the whole history again: what is kept against what was sent."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import load

from tachograph import ledger, redaction, registry
from tachograph.model import Batch, Source, Span
from tachograph.scan import Agg, Scan
from tachograph.store.duckdb import open_store

CONVERSATIONS = 200
TURNS = 20


def conversation(rng: random.Random, source: Source) -> Batch:
    """Twenty model calls, each with all messages so far: a question of 300 and an answer of 1,500 characters a turn."""
    trace, session = uuid.UUID(int=rng.getrandbits(128)).hex, uuid.UUID(int=rng.getrandbits(128)).hex
    history: list[dict[str, object]] = []
    spans = []
    for turn in range(TURNS):
        history.append({"role": "user", "parts": [{"type": "text", "content": load.words(rng, 300)}]})
        answer = {"role": "assistant", "parts": [{"type": "text", "content": load.words(rng, 1500)}]}
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.conversation.id": session,
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": 400 * (turn + 1),
            "gen_ai.usage.output_tokens": 400,
            "gen_ai.input.messages": json.dumps(history),
            "gen_ai.output.messages": json.dumps([answer]),
        }
        start = time.time_ns() + turn * 1_000_000_000
        spans.append(Span(source, trace, f"{turn + 1:016x}", "", "chat", 3, start, start + 500_000_000, attributes))
        history.append(answer)
    return Batch(spans=spans)


def main() -> None:
    """Print bytes sent, bytes of text kept and bytes on disk."""
    rng = random.Random(1)
    source = Source({"service.name": "bench"}, "opentelemetry.instrumentation.genai.openai")
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), time.time_ns)
        sent = 0
        for _ in range(CONVERSATIONS):
            batch = conversation(rng, source)
            sent += sum(len(v) for s in batch.spans for k, v in s.attributes.items() if k.endswith("messages"))
            for stage in (registry.normalise, redaction.redact, ledger.report):
                stage(batch)
            store.commit([batch])
        kept = store.scan(Scan("contents", {"bytes": Agg("sum", "bytes")})).data["bytes"][0]
        store.tidy()
        store.close()
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(
        f"sent {sent / 1e6:.1f} MB of messages; text kept {kept / 1e6:.1f} MB ({sent / kept:.1f} times less); ", end=""
    )
    print(f"all on disk {disk / 1e6:.1f} MB ({sent / disk:.1f} times less)")


if __name__ == "__main__":
    main()
