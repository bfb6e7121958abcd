"""What every forwarder must do; one suite of tests holds each of them to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from msgspec import Struct, field

from tachograph.model import Event, Point, Span

# What a forwarder may ask for. The first three are what came in, as it came in; the last two are what was made of it.
SPANS: Final = "spans"
EVENTS: Final = "events"
POINTS: Final = "points"
CALLS: Final = "calls"  # rows of the table `calls`: each model call once, priced
STEPS: Final = "steps"  # the tree of a session, the same for every source: see Step
FEEDS: Final = (SPANS, EVENTS, POINTS, CALLS, STEPS)

# In the memory of a round: the records of the feed STEPS were told before, and what is counted counted them then.
AGAIN: Final = "again"
# And the time when the round began, in nanoseconds: what times of records are held against, some of which are wrong.
NOW: Final = "now"


class Step(Struct):
    """One step of a session, ready to be told: a prompt, an agent, a turn, a model call or a tool run.

    Ids are OTLP's (32 and 16 hex digits), the same whenever the step is asked for. `call` is the row of `calls` of a
    model call. Texts are those that the destination may have; "" and [] = none, or not to be told. `is_over`: nothing
    more will come; a step that is not is told again when it is, to who takes changes.
    """

    trace_id: str
    span_id: str
    parent_id: str
    role: str
    name: str
    start_ns: int
    end_ns: int
    session_id: str
    session: dict[str, Any]  # the row of `sessions`
    prompt_id: str = ""
    subagent: str = ""
    tool_name: str = ""
    tool_call_id: str = ""
    is_error: bool = False
    error_type: str = ""
    error_message: str = ""
    call: dict[str, Any] | None = None
    is_over: bool = True
    # Messages as the GenAI conventions write them, [{"role", "parts": [{"type", ...}]}], and plain texts.
    system: str = ""
    input_messages: list[dict[str, Any]] = field(default_factory=list)
    left_out: int = 0  # messages before those, which were too much
    output_messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)  # definitions offered to the model
    arguments: str = ""  # of a tool run, JSON where it was
    result: str = ""
    prompt: str = ""  # what the user asked for, of a prompt
    answer: str = ""  # the last words of the agent, of a prompt
    root_id: str = ""  # the span id of the step at the top of this one in its trace, its own where it is that
    root_role: str = ""
    is_later_prompt: bool = False  # that one is a prompt, and its recorded trace has others before it


class Item(Struct):
    """One record on its way: `key` names it for ever, `seq` is the commit that brought it or changed it last."""

    key: str
    seq: int
    record: Span | Event | Point | Step | dict[str, Any]


class Part(Struct):
    """What a forwarder made of an item; parts of one `route` may travel in one request."""

    item: Item
    route: str  # traces, logs, metrics, ...: the forwarder's own word
    value: Any
    size_bytes: int = 0  # about, 0 = small


class Accepted(Struct, frozen=True):
    """The answer to parts that were taken: all of them, but `rejected` that it does not name, and `why`."""

    answer: str = ""
    rejected: int = 0
    why: str = ""


class Memory(Protocol):
    """What a forwarder or a feed has to remember between two rounds, kept in one transaction with the cursor.

    A round that fails leaves it as it was. Values are msgpack bytes of the owner's choice.
    """

    def get(self, key: str) -> bytes | None:
        """The value, None where there is none."""
        ...

    def put(self, key: str, value: bytes | None) -> None:
        """Keep a value; None forgets it."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`."""
        ...


class Forwarder(Protocol):
    """One destination's protocol; called from one thread, and from no other.

    `feeds`: which records it takes; those that are made of others (calls, steps) become `derived_signal` here, and are
    left out where the destination is not for that. `takes_changes`: a step that was told may be told again under the
    same id, and the newer replaces the older. `parts_max` and `bytes_max` bound one request.
    """

    feeds: tuple[str, ...]
    derived_signal: str
    takes_changes: bool
    parts_max: int
    bytes_max: int

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        """Make parts of items, in their order, with the same ids each time; no network.

        What cannot be told is left out."""
        ...

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        """Send the parts in one request and wait for the answer.

        Raises Busy (not taken: send the same again, after `retry_after_s`; with a status of 5xx other than 502 to 504
        it may be the request that is at fault, and the caller finds out), Rejected (some of it will never be taken:
        the caller sends halves, to find out which) or ConfigError (nothing will be taken until the operator has acted).
        """
        ...

    def probe(self) -> Accepted:
        """Ask the destination whether it would take something, if possible without a trace there; raises as `send`."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Feed(Protocol):
    """Where a destination's records come from, as far as it may have them: filtered, and without what is private."""

    def read(self, since: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """The records that the commits after `since` up to `until` brought or changed, some at a time, in order."""
        ...


@runtime_checkable
class PendingFeed(Feed, Protocol):
    """A feed some of whose records are ready only when nothing more has come for a while."""

    def is_due(self, until_ns: int, memory: Memory) -> bool:
        """Whether some are ready; `until_ns`: all that was committed before has been read."""
        ...

    def due(self, until_ns: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """Those that are ready; `until` is the last commit that was read."""
        ...
