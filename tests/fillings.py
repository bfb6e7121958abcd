"""A store filled by hand: calls whose every number is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from tachograph import ledger
from tachograph.model import MODEL_CALL, Batch, Call, Content, Event, Meaning, Source, Span, Usage
from tachograph.store.contract import Store

SECOND = 1_000_000_000
NOON = 1_795_176_000 * SECOND  # 2026-11-20 12:00 UTC
PRICES = {"big": 1_000_000, "small": 1_000}


def price(call: Call) -> None:
    """One amount per call and model, as the source said where it did; `free` models have none."""
    if call.meaning.cost_nanousd is not None:
        call.cost_nanousd, call.cost_kind = call.meaning.cost_nanousd, call.meaning.cost_kind
        call.is_notional = bool(call.meaning.is_notional)
    elif call.meaning.usage is not None and call.meaning.response_model in PRICES:
        call.cost_nanousd, call.cost_kind = PRICES[call.meaning.response_model], "computed"


@dataclass
class Filling:
    """A store and what is going to be committed to it."""

    store: Store
    source: Source = field(default_factory=lambda: Source({"service.name": "tester", "service.version": "1"}))
    batch: Batch = field(default_factory=Batch)
    _made: int = 0

    def call(self, model: str = "big", at_ns: int = NOON, usage: Usage | None = None, **meaning: object) -> str:
        """Add a span that reports a call; returns its span id."""
        self._made += 1
        span_id, trace_id = f"{self._made:016x}", str(meaning.pop("trace_id", f"{self._made:032x}"))
        said = Meaning(
            dialect="genai", role=MODEL_CALL, is_call=True, response_model=model, usage=usage, agent="tester"
        )
        for name, value in meaning.items():
            setattr(said, name, value)
        self.batch.spans.append(
            Span(self.source, trace_id, span_id, "", f"chat {model}", 3, at_ns, at_ns + SECOND, {}, meaning=said)
        )
        return span_id

    def event(
        self, name: str, meaning: Meaning | None, contents: list[Content] | None = None, at_ns: int = NOON
    ) -> None:
        """Add a log event."""
        self.batch.events.append(Event(self.source, at_ns, name, {}, meaning=meaning, contents=contents))

    def done(self) -> Store:
        """Commit and settle."""
        ledger.report(self.batch)
        self.store.commit([self.batch])
        self.batch = Batch()
        while ledger.settle(self.store, price):
            pass
        return self.store
