"""Reads what spans and events mean, by the tables: the stage `normalise` of the road in."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any, Final

import msgspec

from tachograph.dialects import genai
from tachograph.dialects.table import FACTORS, Dialect, Name, Names, Record
from tachograph.model import AGENT, MODEL_CALL, STEP, Attributes, Batch, Content, Event, Meaning, Source, Span
from tachograph.vocabulary import FINISH_REASONS, TOKENS, number, provider, text, tokens, truth

# A text longer than this (characters) is kept once by its hash, whatever it is; shorter ones stay in the attributes.
LONG_TEXT: Final = 1024

_NUMBERS: Final = frozenset(("attempt", "http_status", "ttft_ns", "duration_ns", "cost_nanousd", "failed_attempts"))
_TRUTHS: Final = frozenset(("is_streaming", "is_error", "is_notional", "is_noise"))
_RAW_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODE: Final = msgspec.json.Encoder().encode


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
        # attribute -> (field, place in its order of precedence, factor to nanoseconds or 0)
        self.rules: dict[str, tuple[tuple[str, int, int], ...]] = {}
        for name, names in fields.items():
            for place, spec in enumerate(names):
                self._add(name, place, spec)
        self.slots = {key: slot for slot, keys in contents.items() for key in keys if not key.endswith("*")}
        self.prefixes = tuple((key[:-1], slot) for slot, keys in contents.items() for key in keys if key.endswith("*"))
        self.roles = tuple((dialect.roles or {}).items()) + (tuple(genai.ROLES.items()) if dialect.is_standard else ())
        self.named = {name: role for name, role in dialect.named_roles.items() if not name.endswith("*")}
        self.named_prefixes = tuple((n[:-1], role) for n, role in dialect.named_roles.items() if n.endswith("*"))
        self.masks = frozenset(dialect.masks)

    def _add(self, name: str, place: int, spec: Name) -> None:
        factor = 0 if isinstance(spec, str) else FACTORS[type(spec)]
        key = spec if isinstance(spec, str) else spec.name
        self.rules[key] = (*self.rules.get(key, ()), (name, place, factor))

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

    def __call__(self, batch: Batch) -> None:
        """Understand the records of a batch, in place."""
        sources: dict[int, tuple[Compiled | None, dict[str, Meaning]]] = {}
        records: list[Record] = [*batch.spans, *batch.events]
        for record in records:
            if record.meaning is not None:  # hooks and transcripts say themselves what they mean
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
        name, attributes = record.name, record.attributes
        for compiled in self._dialects:
            dialect = compiled.dialect
            if dialect.names and name.startswith(dialect.names):
                return compiled
        for compiled in self._dialects:
            if any(signature in attributes for signature in compiled.dialect.signatures):
                return compiled
        return self._plain


def _template(compiled: Compiled, source: Source) -> Meaning:
    """What the resource and scope alone say: the start of every record's meaning."""
    meaning = Meaning(dialect=compiled.dialect.name)
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
    """Set one record's meaning and contents in one pass over its attributes."""
    meaning: Meaning = copy(template)
    rules, slots, prefixes, masks = compiled.rules, compiled.slots, compiled.prefixes, compiled.masks
    best: dict[str, tuple[int, Any, int]] = {}
    moved: list[tuple[str, str]] | None = None
    for key, value in record.attributes.items():
        rule = rules.get(key)
        if rule is not None:
            for name, place, factor in rule:
                old = best.get(name)
                if (old is None or place < old[0]) and value is not None and value != "":
                    best[name] = (place, value, factor)
        slot = slots.get(key)
        if slot is not None:
            moved = moved or []
            moved.append((key, slot))
        elif isinstance(value, str):
            if len(value) > LONG_TEXT:
                moved = moved or []
                moved.append((key, _prefixed(key, prefixes)))
            elif prefixes and (slot := _prefixed(key, prefixes)):
                moved = moved or []
                moved.append((key, slot))
        elif prefixes and isinstance(value, list | int | float) and (slot := _prefixed(key, prefixes)):
            moved = moved or []
            moved.append((key, slot))
    usage: dict[str, Any] = {}
    for name, (_, value, factor) in best.items():
        if name in TOKENS:
            usage[name] = number(value)
        elif factor or name in _NUMBERS:
            amount = number(value)
            if amount is not None:
                setattr(meaning, name, round(amount * (factor or 1)))
        elif name in _TRUTHS:
            setattr(meaning, name, truth(value))
        else:
            word = text(value)
            if word and word not in masks:
                setattr(meaning, name, word)
    _conclude(record, compiled, meaning, usage)
    if moved:
        record.contents = _contents(record, moved, masks)
    if isinstance(record, Event):
        _body(record, compiled)
    record.meaning = meaning


def _prefixed(key: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    for prefix, slot in prefixes:
        if key.startswith(prefix):
            return slot
    return ""


def _conclude(record: Record, compiled: Compiled, meaning: Meaning, usage: dict[str, Any]) -> None:
    """What follows from the fields: usage, role, whether it is a call, errors, normalised words."""
    dialect = compiled.dialect
    if usage:
        meaning.usage = tokens(usage, dialect.is_input_inclusive, dialect.is_output_inclusive)
    role = compiled.role(record.name, record.attributes)
    meaning.role = role if role is not None else STEP
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
    if dialect.finish is not None:
        dialect.finish(record, meaning)
    if meaning.role == AGENT and meaning.usage is not None:
        meaning.is_rollup = True


def _exception(record: Record, meaning: Meaning) -> None:
    """The type and message of the last exception event of a failed span."""
    for event in reversed((record.events if isinstance(record, Span) else None) or ()):
        attributes = event.get("attributes") or {}
        if "exception.type" in attributes:
            meaning.error_type = text(attributes["exception.type"])
            meaning.error_message = meaning.error_message or text(attributes.get("exception.message"))
            return


def _contents(record: Record, moved: list[tuple[str, str]], masks: frozenset[str]) -> list[Content] | None:
    """Take the texts of some attributes out of a record, as contents."""
    contents: list[Content] = []
    attributes = record.attributes
    for key, slot in moved:
        value = attributes[key]
        if value in ("", None) or (isinstance(value, str) and value in masks):
            continue
        del attributes[key]
        contents.append(content(slot, key, value))
    return contents or None


def content(slot: str, key: str, value: Any) -> Content:
    """A Content of any attribute value; JSON lists in pieces, so that a history that grows is kept only once."""
    if isinstance(value, str):
        if value.startswith("["):
            try:
                return Content(slot, key, [bytes(raw).decode() for raw in _RAW_LIST.decode(value)], True)
            except (msgspec.DecodeError, UnicodeError):
                pass
        return Content(slot, key, [value])
    if isinstance(value, list):
        return Content(slot, key, [_ENCODE(item).decode() for item in value], True)
    return Content(slot, key, [_ENCODE(value).decode()])


def _body(event: Event, compiled: Compiled) -> None:
    """Move the body of a log record into the contents where it is long or a message."""
    body = event.body
    slot = MESSAGE_EVENTS.get(event.name, "")
    if body in (None, "") or not (slot or (isinstance(body, str) and len(body) > LONG_TEXT) or isinstance(body, dict)):
        return
    event.contents = [*(event.contents or ()), content(slot, "", body)]
    event.body = None


# Generation A: one log record per message, its body the message.
MESSAGE_EVENTS: Final[dict[str, str]] = {
    "gen_ai.system.message": "input",
    "gen_ai.user.message": "input",
    "gen_ai.assistant.message": "input",
    "gen_ai.tool.message": "input",
    "gen_ai.choice": "output",
}
