"""Deliveries from a real store, with a clock that moves when a delivery waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fillings import NOON, SECOND, Filling
from tachograph.destinations import Destination
from tachograph.forwarders.contract import Forwarder
from tachograph.model import MODEL_CALL, PROMPT, TOOL_RUN, Content, Event, Meaning, Point, Source, Span, Usage
from tachograph.pipeline.delivering import Delivery
from tachograph.pipeline.forwarding import HOLD_NS
from tachograph.pipeline.progress import FILE_NAME, Progress
from tachograph.pipeline.routing import feeds_from
from tachograph.store.contract import Store

SESSIONS = 3
CALLS = 5  # of each session
ROUNDS_MAX = 5000


def fill(
    store: Store, sessions: int = SESSIONS, calls: int = CALLS, first: int = 0, at_ns: int = NOON, is_demo: bool = False
) -> None:
    """Sessions that go on side by side: a commit for each call, with a tool run, an event and a point."""
    filling = Filling(store)
    for number in range(calls):
        for session in range(first, first + sessions):
            _one(filling, session, number, at_ns + (number * sessions + session) * SECOND)
            filling.batch.is_demo = is_demo
            filling.done()


def _one(filling: Filling, session: int, number: int, at_ns: int) -> None:
    trace, name = f"{session + 1:032x}", f"session-{session}"
    source = Source({"service.name": "tester", "session.id": name})

    def span(n: int, parent: int, what: str, meaning: Meaning, *contents: Content) -> Span:
        ids = [f"{session + 1:08x}{one:08x}" if one else "" for one in (n, parent)]
        made = Span(source, trace, ids[0], ids[1], what, 1, at_ns + n, at_ns + SECOND, {"n": n}, meaning=meaning)
        made.contents = list(contents) or None
        return made

    def meant(role: str, **more: object) -> Meaning:
        said = Meaning(dialect="genai", role=role, session_id=name, agent="tester", project="web")
        for key, value in more.items():
            setattr(said, key, value)
        return said

    top, asked = 10 * number + 1, Content("prompt", "prompt", [f"do {number}"])
    call = meant(
        MODEL_CALL, is_call=True, response_model="big", response_id=f"msg_{session}_{number}",
        usage=Usage(input_uncached=10, output=5), provider="anthropic", operation="chat",
    )  # fmt: skip
    said = Content("output", "gen_ai.output.messages", ['[{"role":"assistant","content":"done"}]'])
    filling.batch.spans += [
        span(top, 0, "prompt", meant(PROMPT, prompt_id=f"p{number}"), asked),
        span(top + 1, top, "chat big", call, said),
        span(top + 2, top, "execute_tool bash", meant(TOOL_RUN, tool_name="bash", tool_call_id=f"t{session}{number}")),
    ]
    filling.batch.events.append(Event(source, at_ns, "said", {"n": number}, body=f"{name} {number}", meaning=meant("")))
    filling.batch.points.append(
        Point(source, "tester.tokens", {"model": "big"}, at_ns, "sum", "{token}", temporality=1, is_monotonic=True,
              start_ns=at_ns - SECOND, value=15)
    )  # fmt: skip


class Trip:
    """One destination on a store; `now_ns` is the time, which `run` moves on whenever there is nothing to do."""

    def __init__(
        self, home: Path, store: Store, make: Callable[[Destination], Forwarder], destination: Destination, now_ns: int
    ) -> None:
        self.home, self.store, self.make, self.destination, self.now_ns = home, store, make, destination, now_ns
        self.begin()
        if self.delivery.state.cursor:
            self.progress.rewind(destination.name, 0)

    def begin(self) -> None:
        """Begin as after a start of the process, with nothing but what the file says."""
        self.progress = Progress(self.home / FILE_NAME)
        forwarder = self.make(self.destination)
        self.delivery = Delivery(
            self.destination.name,
            forwarder,
            feeds_from(self.store)(self.destination, forwarder),
            self.store,
            self.progress,
            lambda: self.now_ns,
            lambda: 0.5,
            parts_max=self.destination.parts_max,
            hold_ns=HOLD_NS,
        )

    def killed(self) -> None:
        """Forget all that is in memory."""
        self.end()
        self.begin()

    def end(self) -> None:
        self.delivery.close()
        self.progress.close()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until it has nothing more to do for two minutes, or `until` is true."""
        idle_s, rounds = 0.0, 0
        while idle_s < 120 and not until():
            rounds += 1
            assert rounds < ROUNDS_MAX, f"it goes round in circles: {self.delivery.state}"
            wait_s = self.delivery.round()
            idle_s = 0.0 if wait_s == 0 or self.delivery.state.failures else idle_s + wait_s
            self.now_ns += round(wait_s * SECOND)
