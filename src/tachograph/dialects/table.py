"""What a dialect is: a table that says how to recognise a source and where it puts what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from msgspec import Struct, field

from tachograph.model import Event, Meaning, Span

Record = Span | Event


class Ms(NamedTuple):
    """An attribute in milliseconds, read into nanoseconds."""

    name: str


class Seconds(NamedTuple):
    """An attribute in seconds, read into nanoseconds."""

    name: str


class Dollars(NamedTuple):
    """An attribute in US dollars, read into nano-dollars."""

    name: str


Name = str | Ms | Seconds | Dollars
Names = tuple[Name, ...]


class Dialect(Struct, kw_only=True):
    """One way of saying what an agent did; everything that can be said in a table stands in the table.

    Recognised by the first that fits of: scope name (a trailing * = prefix), service name, span or event name prefix,
    signature attribute. `fields` maps a field of Meaning (or of Usage: `input`, `output`, `cache_read`,
    `cache_write`, `cache_write_1h`, `reasoning`) to the attributes that hold it, best first; the GenAI conventions
    stand behind every dialect, so a dialect lists only what it says differently. `finish` says what a table cannot.
    """

    name: str
    agent: str = ""  # the product, where the dialect belongs to one; else service.name is the agent
    scopes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    fields: Mapping[str, Names] = field(default_factory=dict)
    # attribute -> value -> role; the first attribute with a known value decides
    roles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # span or event name (a trailing * = prefix) -> role
    named_roles: Mapping[str, str] = field(default_factory=dict)
    # slot -> attributes whose text is content; a trailing * = all attributes that begin so, by their index
    contents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # record name -> attribute -> slot, where the same attribute is something else on this record
    named_contents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # names of records (a trailing * = prefix) that are the program's own internals: kept, but folded in views
    noise: tuple[str, ...] = ()
    is_input_inclusive: bool = True  # input tokens contain cache read and cache write
    is_output_inclusive: bool = True  # output tokens contain reasoning
    is_standard: bool = True  # the GenAI conventions' names are read as well
    bills_unknown: bool = True  # a model call span without usage is still a call (else only with usage or error)
    is_cut_short: bool = False  # the exporter is known to lose the end of a session
    masks: tuple[str, ...] = ()  # words that stand for a value that was withheld
    finish: Callable[[Record, Meaning], None] | None = None


FACTORS: Final[dict[type, int]] = {Ms: 1_000_000, Seconds: 1_000_000_000, Dollars: 1_000_000_000}
