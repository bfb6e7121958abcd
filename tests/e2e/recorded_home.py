"""A home to look at: every recording as if it had just happened, a session of each attack, and 20,000 older calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import attacks
import recordings
from tachograph import ledger, redaction
from tachograph.cli.recordings import parts_of, read
from tachograph.cli.staging import Stage, newest_ns
from tachograph.model import MODEL_CALL, TOOL_RUN, Batch, Meaning, Source, Span, Usage
from tachograph.pricing import Prices
from tachograph.store.duckdb import open_store

CALLS = 20_000
BIG_TRACE = "b" * 32  # one trace of all the generated calls of the last day
BIG_TRACE_SPANS = 20_000
SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
_MODELS = ("claude-sonnet-4-5", "gpt-5.1", "gemini-2.5-pro", "a-model-without-a-price")
_LABELS = {"project.name": "website", "enduser.id": "ada", "team.name": "platform"}


def make(home: Path) -> None:
    """Fill the store of a home, through the stages and the ledger."""
    now_ns = time.time_ns()
    home.mkdir(parents=True, exist_ok=True)
    store = open_store(home, time.time_ns)
    try:
        for batch in (*generated(now_ns), *attacks.sessions(now_ns - 600 * SECOND_NS)):
            redaction.redact(batch, "redacted")  # made with their meaning
            ledger.report(batch)
            store.commit([batch])
        for batch in recorded(now_ns):
            store.commit([recordings.prepared(batch)])
        prices = Prices(None)
        while ledger.settle(store, prices.price):
            pass
    finally:
        store.close()


def recorded(now_ns: int) -> Iterator[Batch]:
    """Every recording that there is, moved to the last days."""
    parts = groupby(parts_of([recordings.CAPTURES]), lambda part: part.path.relative_to(recordings.CAPTURES).parts[0])
    for number, (name, some) in enumerate(parts):
        batches = [batch for part in some for batch in read(part)]
        end_ns = max(map(newest_ns, batches), default=0)
        stage = Stage(name, now_ns - (number + 1) * DAY_NS // 16 - end_ns, _LABELS)
        for batch in batches:
            played = stage.play(batch)
            played.is_demo = False
            yield played


def generated(now_ns: int) -> Iterator[Batch]:
    """Many calls in many sessions, from ten to forty days ago, and one trace of 20,000 steps."""
    source = Source({"service.name": "generated"})
    start_ns, step_ns = now_ns - 40 * DAY_NS, 30 * DAY_NS // CALLS
    for first in range(0, CALLS, 2_000):
        yield Batch(
            spans=[_call(source, number, start_ns + number * step_ns) for number in range(first, first + 2_000)]
        )
    yield Batch(spans=[_step(source, number, now_ns - 9 * DAY_NS) for number in range(BIG_TRACE_SPANS)])


def _call(source: Source, number: int, at_ns: int) -> Span:
    session = number // 25
    meaning = Meaning(
        role=MODEL_CALL, is_call=True, session_id=f"generated-{session}", agent="generated", provider="openai",
        request_model=_MODELS[number % 4], response_model=_MODELS[number % 4], user=f"user-{session % 40}",
        project=f"project-{session % 12}", team=f"team-{session % 5}", channel=("cli", "ide")[session % 2],
        usage=Usage(input_uncached=100 + number % 900, cache_read=number % 7_000, output=20 + number % 300),
        ttft_ns=SECOND_NS // 5, is_error=number % 97 == 0, error_type="429" if number % 97 == 0 else "",
    )  # fmt: skip
    end_ns = at_ns + SECOND_NS + number % 977 * 1_000_000
    return Span(source, f"{session + 1:032x}", f"{number + 1:016x}", "", "chat", 3, at_ns, end_ns, {}, meaning=meaning)


def _step(source: Source, number: int, at_ns: int) -> Span:
    """One step of the big trace: under the one before it whose number is a tenth of its own."""
    meaning = Meaning(role=TOOL_RUN, tool_name=f"tool-{number % 9}", session_id="generated-big", agent="generated")
    meaning.is_error = number % 499 == 498
    parent = f"{number // 10 + 1:016x}" if number else ""
    start_ns = at_ns + number * 1_000_000
    end_ns = start_ns + 1_000_000 * max(1, 20_000 - number)
    return Span(
        source, BIG_TRACE, f"{number + 1:016x}", parent, f"step {number}", 1, start_ns, end_ns, {}, meaning=meaning
    )
