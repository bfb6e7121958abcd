"""What a destination may have of a record: secrets never, personal data and texts as its privacy mode says.

`full`: everything that is kept, without secrets. `redacted`: and without e-mail addresses and names of home folders.
`none`: and without any text of prompts, answers, tools and errors; sizes stay.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.model import Batch, Event, Point, Source, Span
from tachograph.redaction import redact, redact_text

_MAIL: Final = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}(?![\w-])")
_HOME: Final = re.compile(r"((?:/home/|/Users/|[\\/]+Users[\\/]+))([^\s\\/\"':;,<>|]{1,64})")
_PSEUDONYM_BYTES: Final = 6


def fit(batch: Batch, mode: str) -> None:
    """Take out of the batch, in place, what the destination may not have."""
    redact(batch, "none" if mode == "none" else "redacted")
    if mode == "full":
        return
    sources: dict[int, Source] = {}
    groups: tuple[list[Span] | list[Event] | list[Point], ...] = (batch.spans, batch.events, batch.points)
    for records in groups:
        for record in records:
            sources[id(record.source)] = record.source
            if mode == "none" and isinstance(record, Span):
                record.status_message = ""
            _mask_fields(record)
            if mode == "none":
                record.attributes = without_errors(record.attributes)
                _drop_inner_errors(record)
    for source in sources.values():
        _mask_fields(source)


def fit_text(text: str, mode: str) -> str:
    """A text as the destination may have it, "" where it may not."""
    if mode == "none":
        return ""
    found = redact_text(text)
    return found if mode == "full" else masked(found)


def masked(text: str) -> str:
    """The text without personal data; the same person is the same pseudonym everywhere."""
    if "@" in text:
        text = _MAIL.sub(lambda match: pseudonym(match[0]), text)
    if "home" in text or "Users" in text:
        text = _HOME.sub(r"\1~", text)
    return text


def pseudonym(name: str) -> str:
    """`user-` and 12 hex digits that stand for a person's name."""
    return "user-" + blake2b(name.lower().encode("utf-8", "replace"), digest_size=_PSEUDONYM_BYTES).hexdigest()


# Attributes that hold what an error said, which quotes what went wrong: texts.
_ERROR_KEY: Final = re.compile(r"(?:.*[._])?(?:message|stacktrace|stack|description|detail|error|reason)")


def without_errors(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes without the words of errors; their types stay."""
    return {
        key: value
        for key, value in attributes.items()
        if not (isinstance(value, str) and _ERROR_KEY.fullmatch(key) and not key.endswith("type"))
    }


def _drop_inner_errors(record: Span | Event | Point) -> None:
    if isinstance(record, Span):
        for inner in (*(record.events or ()), *(record.links or ())):
            inner["attributes"] = without_errors(inner.get("attributes") or {})
    elif isinstance(record, Event):
        if isinstance(record.body, str):
            record.body = None
        elif isinstance(record.body, dict):
            record.body = without_errors(record.body)


def _mask_fields(struct: msgspec.Struct) -> None:
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value and not isinstance(value, (int, float, Source)):
            setattr(struct, name, _masked(value))


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        _mask_fields(value)
    return value
