"""What a destination may have of a record: secrets never, personal data and texts as its privacy mode says.

`full`: everything that is kept, without secrets. `redacted`: and without e-mail addresses and the names of users and of
their home folders. `none`: and without any text of prompts, answers, tools and errors; sizes stay.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.model import Attributes, Batch, Event, Point, Source, Span
from tachograph.redaction import redact, redact_text

# An address ends in letters, so that versions (left-pad@1.3.0) are none; git@ is everybody.
_MAIL: Final = re.compile(r"(?<![\w.+%-])(?!git@)[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
# /home/NAME, /Users/NAME, C:\Users\NAME at any depth of quoting, and the folders that agents name after those.
_HOME: Final = re.compile(
    r"(/home/|/Users/|\\+Users\\+|(?:/|^)-(?:home|Users)-)"
    r"((?<=\\)[^\\/:*?\"<>|\r\n]{1,64}(?=\\)|(?<=-)[A-Za-z0-9_]{1,64}|(?<=[/\\])[^\s\\/\"':;,<>|)\]}]{1,64})"
)
_USER_KEY: Final = re.compile(
    r"(?i)(?:.*[._-])?(?:end_?)?user(?:[._-]?(?:id|name|email|full_?name|hash|login|account[._-]?(?:uu)?id))?"
    r"|(?:.*[._-])?(?:user|account)_?(?:uu)?id|(?:.*[._-])?(?:username|e?mail(?:_address)?|owner|author|login)"
)
_PSEUDONYM: Final = re.compile("user-[0-9a-f]{12}")
_PSEUDONYM_BYTES: Final = 6
_WORD_CHARS_MAX: Final = 256  # names, ids, paths and addresses are shorter
# Attributes that hold what an error said, which quotes what went wrong: texts.
_ERROR_KEY: Final = re.compile(
    r"(?i)(?:.*[._-])?(?:error|exception|status|failure)?[._-]?"
    r"(?:message|msg|stack_?trace|stack|traceback|description|details?|error|summary|title"
    r"|(?<!finish_)(?<!stop_)reason)"
)


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
            if mode == "none":
                _drop_texts(record)
            _mask_fields(record)
            if not isinstance(record, Point) and record.meaning is not None:
                record.meaning.user = pseudonym(record.meaning.user)
    for source in sources.values():
        if mode == "none":
            source.resource = _without_texts(source.resource)
            source.scope_attributes = _without_texts(source.scope_attributes)
        _mask_fields(source)


def fit_text(text: str, mode: str) -> str:
    """A text as the destination may have it, "" where it may not."""
    if mode == "none":
        return ""
    found = redact_text(text)
    return found if mode == "full" else masked(found)


def fit_row(row: dict[str, Any], mode: str) -> dict[str, Any]:
    """A row of the store without texts of its own (a call, a session) as the destination may have it, in place."""
    for name, value in row.items():
        if isinstance(value, str) and value:
            found = redact_text(value)
            row[name] = found if mode == "full" else pseudonym(found) if name == "user" else masked(found)
    for name in ("error_message", "title") if mode == "none" else ():
        if name in row:
            row[name] = ""
    return row


def masked(text: str) -> str:
    """The text without personal data; the same person is the same pseudonym everywhere."""
    if "@" in text:
        text = _MAIL.sub(lambda match: pseudonym(match[0]), text)
    if "home" in text or "Users" in text:
        text = _HOME.sub(r"\1~", text)
    return text


def pseudonym(name: str) -> str:
    """`user-` and 12 hex digits that stand for a person's name, "" for none; of a pseudonym the same."""
    if not name or _PSEUDONYM.fullmatch(name):
        return name
    return "user-" + blake2b(name.lower().encode("utf-8", "replace"), digest_size=_PSEUDONYM_BYTES).hexdigest()


@lru_cache(maxsize=8192)
def _is_user(key: str) -> bool:
    return _USER_KEY.fullmatch(key) is not None


@lru_cache(maxsize=8192)
def _is_of_error(key: str) -> bool:
    return _ERROR_KEY.fullmatch(key) is not None


def _drop_texts(record: Span | Event | Point) -> None:
    """What redaction's `none` leaves and a destination still may not have: the words of errors, and bodies."""
    if isinstance(record, Point):
        record.attributes = _without_texts(record.attributes)
        return
    record.attributes = _without_errors(record.attributes)
    for content in record.contents or ():  # what no dialect knows, and is too long to be anything but a text
        size = f"{content.key}.size_bytes"
        record.attributes[size] = record.attributes.get(size, 0) + sum(
            len(one.encode("utf-8", "replace")) for one in content.pieces
        )
    record.contents = None
    if record.meaning is not None:
        record.meaning.error_message = ""
    if isinstance(record, Span):
        record.status_message = ""
        for inner in (*(record.events or ()), *(record.links or ())):
            inner["attributes"] = _without_errors(inner.get("attributes") or {})
    else:
        record.body = _without_words(record.body)


def _without_texts(attributes: Attributes) -> Attributes:
    """Attributes as those of a span lose their texts: of who sent it, and of points, redaction drops none."""
    span = Span(Source({}), "", "", "", "", 0, 0, 0, attributes)
    redact(Batch(spans=[span]), "none")
    return _without_errors(span.attributes)  # type: ignore[no-any-return]


def _without_errors(value: Any) -> Any:
    """Attributes without the words of errors, at any depth, and without what is too long to be but a text."""
    if isinstance(value, str):
        return value if len(value) <= _WORD_CHARS_MAX else ""
    if isinstance(value, list):
        return [_without_errors(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept: Attributes = {}
    for key, item in value.items():
        if not (isinstance(item, str) and _is_of_error(key)):
            kept[key] = _without_errors(item)
    return kept


def _without_words(value: Any) -> Any:
    """A body without its texts, None where nothing is left: what lies in it has no names to go by."""
    if isinstance(value, str):
        return None
    if isinstance(value, list):
        return [item for item in map(_without_words, value) if item is not None] or None
    if isinstance(value, dict):
        return {key: item for key, one in value.items() if (item := _without_words(one)) is not None} or None
    return value


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
        return {masked(key): _masked_member(key, item) for key, item in value.items()}
    if isinstance(value, msgspec.Struct):
        _mask_fields(value)
    return value


def _masked_member(key: str, value: Any) -> Any:
    if isinstance(value, str) and _is_user(key):
        return pseudonym(value)
    return _masked(value)
