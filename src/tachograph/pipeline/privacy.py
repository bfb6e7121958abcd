"""What a destination may have of a record: secrets never, personal data and texts as its privacy mode says.

`full`: everything that is kept, without secrets. `redacted`: and without e-mail addresses and the names of users and of
their home folders. `none`: and without any text: names, ids, numbers and sizes stay (wordless).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.forwarders.contract import Step
from tachograph.model import Batch, Event, Point, Source, Span
from tachograph.pipeline import wordless
from tachograph.redaction import redact, redact_text
from tachograph.registry import DIALECTS
from tachograph.vocabulary import IDENTITY

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
# The names that dialects read a user from are those of users, whatever they look like.
_USER_NAMES: Final = frozenset((*IDENTITY["user"], "installation.id")) | {
    name for dialect in DIALECTS for name in dialect.fields.get("user", ()) if isinstance(name, str)
}
_STEP_TEXTS: Final = (
    *("name", "session_id", "prompt_id", "subagent", "tool_name", "tool_call_id", "error_type", "error_message"),
)
_FIT: Final[dict[type, Callable[[Any], None]]] = {
    Span: wordless.fit_span,
    Event: wordless.fit_event,
    Point: wordless.fit_point,
}


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
            _mask_fields(record)
            if not isinstance(record, Point) and record.meaning is not None:
                record.meaning.user = pseudonym(record.meaning.user)
            if mode == "none":
                _FIT[type(record)](record)
    for source in sources.values():
        _mask_fields(source)
        if mode == "none":
            wordless.fit_source(source)


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
        elif isinstance(value, list) and mode == "full":
            row[name] = [redact_text(one) if isinstance(one, str) else one for one in value]
        elif isinstance(value, list):
            row[name] = [masked(redact_text(one)) if isinstance(one, str) else one for one in value]
    if mode == "none":
        wordless.fit_row(row)
    return row


def fit_step(step: Step, mode: str) -> Step:
    """A step, before its texts are put in, as the destination may have it, in place; its rows are done by `fit_row`."""
    for name in _STEP_TEXTS:
        found = redact_text(getattr(step, name))
        found = found if mode == "full" else masked(found)
        setattr(step, name, wordless.of_field(name, found) if mode == "none" else found)
    if mode == "none" and not wordless.is_name(step.name):
        step.name = step.role or "step"
    return step


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
    return key in _USER_NAMES or _USER_KEY.fullmatch(key) is not None


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
