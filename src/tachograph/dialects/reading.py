"""Reads what spans and events mean, by the tables: the stage `normalise` of the road in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from tachograph.dialects import forwarded, genai
from tachograph.dialects.table import FACTORS, Dialect, Names, Record
from tachograph.model import (
    AGENT,
    MODEL_CALL,
    SLOTS,
    STEP,
    TOOL_RUN,
    Attributes,
    Batch,
    Content,
    Event,
    Meaning,
    Source,
    Span,
)
from tachograph.vocabulary import (
    AMOUNT_MAX,
    FINISH_REASONS,
    MEANING_KEY,
    TOKENS,
    number,
    provider,
    text,
    tokens,
    truth,
    whole,
)

# A text longer than this (characters) is kept once by its hash, whatever it is; shorter ones stay in the attributes.
LONG_TEXT: Final = 1024

_TRUTHS: Final = frozenset(("is_streaming", "is_error", "is_notional", "is_noise"))
# The most that a field may say: the ledger makes one call of each failed attempt, so their number is no place to lie.
_MOST: Final = {"attempt": 100, "failed_attempts": 100, "http_status": 999}
# What went into a tool and what came out of it, where the attribute is one for input and output of any step.
_TOOL_SLOTS: Final = {"input": "arguments", "output": "result"}
_CLIENT: Final = 3  # OTLP SpanKind
_OTHERS: Final = _TRUTHS | {
    *("attempt", "http_status", "ttft_ns", "duration_ns", "cost_nanousd", "failed_attempts"),
    *("arguments_bytes", "result_bytes"),
}
# Plans kept for each dialect; flattened lists of messages make many shapes.
PLANS_MAX: Final = 4096
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode


# A field of Meaning and the attributes that hold it, best first, each with its factor to nanoseconds (0 = none).
Step = tuple[str, tuple[tuple[str, int], ...]]
# The steps for text fields, for numbers and truths, for token counts; and the attributes that are content.
Plan = tuple[tuple[Step, ...], tuple[Step, ...], tuple[Step, ...], tuple[tuple[str, str], ...]]


class Compiled:
    """A dialect's table turned round: attribute name -> what it is for, so that one pass over a record reads it."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        fields: dict[str, Names] = {**genai.IDENTITY}
        contents: dict[str, tuple[str, ...]] = {}
        if dialect.is_standard:
            fields |= genai.STANDARD
            contents |= genai.CONTENTS
        for name, names in dialect.fields.items():
            fields[name] = names
        for slot, keys in dialect.contents.items():
            contents[slot] = (*keys, *contents.get(slot, ()))
        self.fields = fields
        self.slots = {key: slot for slot, keys in contents.items() for key in keys if not key.endswith("*")}
        self.prefixes = tuple((key[:-1], slot) for slot, keys in contents.items() for key in keys if key.endswith("*"))
        self.roles = tuple((dialect.roles or {}).items()) + (tuple(genai.ROLES.items()) if dialect.is_standard else ())
        self.named = {name: role for name, role in dialect.named_roles.items() if not name.endswith("*")}
        self.named_prefixes = tuple((n[:-1], role) for n, role in dialect.named_roles.items() if n.endswith("*"))
        self.masks = frozenset(dialect.masks)
        self.named_contents = dialect.named_contents
        self.noise = frozenset(name for name in dialect.noise if not name.endswith("*"))
        self.noise_prefixes = tuple(name[:-1] for name in dialect.noise if name.endswith("*"))
        self.has_noise = bool(dialect.noise)
        self._plans: dict[tuple[str, ...], Plan] = {}

    def plan(self, attributes: Attributes) -> Plan:
        """How to read a record with these attribute names; records of one kind share one plan."""
        shape = tuple(attributes)
        plan = self._plans.get(shape)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            plan = self._plans[shape] = self._made(attributes)
        return plan

    def _made(self, attributes: Attributes) -> Plan:
        texts: list[Step] = []
        others: list[Step] = []
        usage: list[Step] = []
        for name, names in self.fields.items():
            found = []
            for spec in names:
                key, factor = (spec, 0) if isinstance(spec, str) else (spec.name, FACTORS[type(spec)])
                if key in attributes:
                    found.append((key, factor))
            if found:
                (usage if name in TOKENS else others if name in _OTHERS else texts).append((name, tuple(found)))
        moved = []
        for key in attributes:
            slot = self.slots.get(key) or next((slot for prefix, slot in self.prefixes if key.startswith(prefix)), "")
            if slot:
                moved.append((key, slot))
        return tuple(texts), tuple(others), tuple(usage), tuple(moved)

    def role(self, name: str, attributes: Attributes) -> str | None:
        """The role of a record by its name or its attributes; None where the dialect does not say."""
        role = self.named.get(name)
        if role is not None:
            return role
        for prefix, role in self.named_prefixes:
            if name.startswith(prefix):
                return role
        for key, values in self.roles:
            value = attributes.get(key)
            if isinstance(value, str) and value in values:
                return values[value]
        return None


class Normaliser:
    """The stage: sets `meaning` and `contents` of every span and event of a batch, by the first dialect that fits."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._dialects = [Compiled(d) for d in dialects]
        self._plain = Compiled(genai.GENAI)
        self._names = tuple(name for compiled in self._dialects for name in compiled.dialect.names)
        self._shapes: dict[tuple[str, ...], Compiled] = {}

    def __call__(self, batch: Batch) -> None:
        """Understand the records of a batch, in place."""
        sources: dict[int, tuple[Compiled | None, dict[str, Meaning]]] = {}
        records: list[Record] = [*batch.spans, *batch.events]
        for record in records:
            if record.meaning is not None:  # hooks and transcripts say themselves what they mean
                continue
            if MEANING_KEY in record.attributes and _forwarded(record):
                continue
            source = record.source
            known = sources.get(id(source))
            if known is None:
                known = sources[id(source)] = (self._by_source(source), {})
            compiled = known[0] or self._by_record(record)
            template = known[1].get(compiled.dialect.name)
            if template is None:
                template = known[1][compiled.dialect.name] = _template(compiled, source)
            _read(record, compiled, template)

    def _by_source(self, source: Source) -> Compiled | None:
        service = text(source.resource.get("service.name"))
        for compiled in self._dialects:
            for scope in compiled.dialect.scopes:
                if source.scope_name == scope or (scope[-1] == "*" and source.scope_name.startswith(scope[:-1])):
                    return compiled
        for compiled in self._dialects:
            if service in compiled.dialect.services:
                return compiled
        return None

    def _by_record(self, record: Record) -> Compiled:
        if record.name.startswith(self._names):
            for compiled in self._dialects:
                if compiled.dialect.names and record.name.startswith(compiled.dialect.names):
                    return compiled
        shape = tuple(record.attributes)
        found = self._shapes.get(shape)
        if found is None:
            if len(self._shapes) >= PLANS_MAX:
                self._shapes.clear()
            found = self._shapes[shape] = self._by_signature(record.attributes)
        return found

    def _by_signature(self, attributes: Attributes) -> Compiled:
        for compiled in self._dialects:
            if any(signature in attributes for signature in compiled.dialect.signatures):
                return compiled
        return self._plain


def _template(compiled: Compiled, source: Source) -> Meaning:
    """What the resource and scope alone say: the start of every record's meaning."""
    meaning = Meaning(dialect=compiled.dialect.name, is_cut_short=compiled.dialect.is_cut_short)
    for attributes in (source.scope_attributes, source.resource):
        for name, names in genai.IDENTITY.items():
            if not getattr(meaning, name):
                setattr(
                    meaning, name, next((v for n in names if isinstance(n, str) and (v := text(attributes.get(n)))), "")
                )
    meaning.agent = compiled.dialect.agent or text(source.resource.get("service.name"))
    if meaning.agent.startswith("unknown_service"):
        meaning.agent = ""
    return meaning


def _read(record: Record, compiled: Compiled, template: Meaning) -> None:
    """Set one record's meaning and contents."""
    meaning: Meaning = template.__copy__()  # type: ignore[attr-defined]  # copy.copy takes three times as long
    attributes = record.attributes
    texts, others, counts, moved = compiled.plan(attributes)
    masks = compiled.masks
    for name, keys in texts:
        for key, _ in keys:
            word = attributes[key]
            if word.__class__ is not str:
                word = text(word)
            if word and word not in masks:
                setattr(meaning, name, word)
                break
    for name, keys in others:
        _other(meaning, name, keys, attributes)
    usage: dict[str, Any] = {}
    for name, keys in counts:
        for key, _ in keys:
            amount = number(attributes[key])
            if amount is not None:
                usage[name] = amount
                break
    _conclude(record, compiled, meaning, usage)
    if moved and meaning.role == TOOL_RUN:
        moved = tuple((key, _TOOL_SLOTS.get(slot, slot)) for key, slot in moved)
    if compiled.named_contents:
        moved = _named(record, compiled, moved)
    for key, value in attributes.items():
        if value.__class__ is str and len(value) > LONG_TEXT and all(key != known for known, _ in moved):
            moved = (*moved, (key, ""))
    if moved:
        record.contents = _contents(record, moved, masks)
    record.meaning = meaning
    if record.__class__ is Event:
        _body(record)


def _forwarded(record: Record) -> bool:
    """Whether another Tachograph says what the record means; its texts are then contents again."""
    told = forwarded.taken(record.attributes)
    if told is None:
        return False
    record.meaning, origin = told
    if isinstance(record, Event):
        record.origin = origin
    contents = forwarded.texts(record)
    if contents is not None:
        record.contents = contents or None
        return True
    moved = [
        (key, key if key in SLOTS else "")
        for key, value in record.attributes.items()
        if isinstance(value, str) and (key in SLOTS or len(value) > LONG_TEXT)
    ]
    record.contents = _contents(record, moved, frozenset()) if moved else None
    if isinstance(record, Event):
        _body(record)
    return True


def _other(meaning: Meaning, name: str, keys: tuple[tuple[str, int], ...], attributes: Attributes) -> None:
    """Set a field that is a number, an amount of time or money, or a truth value."""
    for key, factor in keys:
        value: int | bool | None
        if name in _TRUTHS:
            value = truth(attributes[key])
        else:
            value = whole(attributes[key], factor or 1, _MOST.get(name, AMOUNT_MAX))
        if value is not None:
            setattr(meaning, name, value)
            return


def _conclude(record: Record, compiled: Compiled, meaning: Meaning, usage: dict[str, Any]) -> None:
    """What follows from the fields: usage, role, whether it is a call, errors, normalised words."""
    dialect = compiled.dialect
    if usage:
        meaning.usage = tokens(usage, dialect.is_input_inclusive, dialect.is_output_inclusive)
    role = compiled.role(record.name, record.attributes)
    if role is None:
        role = _unnamed(record, meaning)
    meaning.role = role
    if meaning.provider:
        meaning.provider = provider(meaning.provider)
    if meaning.finish_reason:
        meaning.finish_reason = FINISH_REASONS.get(meaning.finish_reason.lower(), meaning.finish_reason)
    if isinstance(record, Span):
        if record.status_code == 2:
            meaning.is_error = True
        if not meaning.error_message and meaning.is_error:
            meaning.error_message = record.status_message
    if meaning.error_type:
        meaning.is_error = True
    if meaning.is_error and not meaning.error_type:
        _exception(record, meaning)
    has_usage = meaning.usage is not None
    if meaning.role == MODEL_CALL:
        meaning.is_call = has_usage or meaning.is_error or dialect.bills_unknown
    elif has_usage and isinstance(record, Span):
        meaning.is_call = meaning.is_rollup = True
    if meaning.cost_nanousd is not None and not meaning.cost_kind:
        meaning.cost_kind = "source_estimate"
    if compiled.has_noise and (
        record.name in compiled.noise or record.name.startswith(compiled.noise_prefixes or "\0")
    ):
        meaning.is_noise = True
    if dialect.finish is not None:
        dialect.finish(record, meaning)
    if meaning.role == AGENT and meaning.usage is not None:
        meaning.is_rollup = True


def _unnamed(record: Record, meaning: Meaning) -> str:
    """The role of a record whose dialect names none: a client's span with a model and usage is a model call."""
    if (
        meaning.usage is not None
        and isinstance(record, Span)
        and (record.kind == _CLIENT or meaning.response_id)
        and (meaning.request_model or meaning.response_model)
    ):
        meaning.operation = meaning.operation or ("chat" if meaning.usage.output is not None else "")
        return MODEL_CALL
    return STEP


def _named(record: Record, compiled: Compiled, moved: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The contents of a record on which some attributes are something else than elsewhere."""
    mine = compiled.named_contents.get(record.name)
    if not mine:
        return moved
    own = [(key, slot) for key, slot in mine.items() if key in record.attributes]
    return (*((key, slot) for key, slot in moved if key not in mine), *own)


def _exception(record: Record, meaning: Meaning) -> None:
    """The type and message of the last exception event of a failed span."""
    for event in reversed((record.events if isinstance(record, Span) else None) or ()):
        attributes = event.get("attributes") or {}
        if "exception.type" in attributes:
            meaning.error_type = text(attributes["exception.type"])
            meaning.error_message = meaning.error_message or text(attributes.get("exception.message"))
            return


def _contents(record: Record, moved: Sequence[tuple[str, str]], masks: frozenset[str]) -> list[Content] | None:
    """Take the texts of some attributes out of a record, as contents."""
    contents: list[Content] = []
    attributes = record.attributes
    for key, slot in moved:
        value = attributes[key]
        if value in ("", "[]", None) or (isinstance(value, str) and value in masks):
            continue
        if isinstance(value, list) and (not value or isinstance(value[0], int | float)):
            continue  # an empty list says nothing, and a vector is no text
        if isinstance(value, int | float) and slot not in ("arguments", "result"):
            continue  # a score or an index among flattened texts
        del attributes[key]
        contents.append(content(slot, key, value))
    return contents or None


def content(slot: str, key: str, value: Any) -> Content:
    """A Content of any attribute value; JSON lists in pieces, so that a history that grows is kept only once."""
    if isinstance(value, str):
        if value.startswith("["):
            try:
                return Content(slot, key, [bytes(raw).decode() for raw in _RAW_LIST.decode(value)], True)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass  # it only begins like a list
        return Content(slot, key, [value])
    if isinstance(value, list):
        return Content(slot, key, [_ENCODE(item).decode() for item in value], True)
    return Content(slot, key, [_ENCODE(value).decode()])


def _body(event: Event) -> None:
    """Move the body of a log record into the contents where it is long or a message."""
    body = event.body
    slot = MESSAGE_EVENTS.get(event.name, "")
    if body in (None, "") or not (slot or (isinstance(body, str) and len(body) > LONG_TEXT) or isinstance(body, dict)):
        return
    if slot and isinstance(body, dict) and event.meaning is not None and not event.meaning.finish_reason:
        stop = text(body.get("finish_reason"))
        event.meaning.finish_reason = FINISH_REASONS.get(stop.lower(), stop)
    event.contents = [*(event.contents or ()), content(slot, "", body)]
    event.body = None


# Generation A: one log record per message, its body the message.
MESSAGE_EVENTS: Final[dict[str, str]] = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "input",
    "gen_ai.assistant.message": "input",
    "gen_ai.tool.message": "input",
    "gen_ai.choice": "output",
}
