"""What stays of a record where no text may leave: names, ids, numbers and words; of everything else its size.

Nobody can know by its name what an attribute of somebody's own holds. So a text stays for how it looks: like an id, a
number, a version, a date, the name of a model or a tool, a word of a short list. Names that are known for naming things
(of services, hosts, models, tools, projects) stay as long as they are short.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tachograph.model import Attributes, Event, Meaning, Point, Source, Span
from tachograph.redaction import is_content_key
from tachograph.registry import DIALECTS
from tachograph.vocabulary import IDENTITY, RESOURCE

_SIZE: Final = ".size_bytes"
_WORD_CHARS_MAX: Final = 64
_WORDS_OF_NAME_MAX: Final = 5
_THING_CHARS_MAX: Final = 160
_WORDS_OF_THING_MAX: Final = 8
_WORDS_IN_LIST_MAX: Final = 8  # of an attribute that nobody knows: a longer list may be a text cut into its words
_DIGEST_BYTES: Final = 6

# The `@` of a version (claude-sonnet-4@20250514) is followed by nothing but numbers, that of an address never is.
_VERSION: Final = r"(?:@v?[0-9]+(?:\.[0-9]+){0,3})?"
_WORD: Final = re.compile(
    rf"[A-Za-z0-9_][A-Za-z0-9._:+-]*(?:/[A-Za-z0-9][A-Za-z0-9._:+-]*)?{_VERSION}={{0,2}}"  # name, org/name
    r"|[+-]?\.?[0-9][0-9.eE+-]*"
    r"|@[a-z0-9-]+/[A-Za-z0-9._-]+"  # a package
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?: ?(?:Z|UTC|[+-][0-9:]{4,5}))?"
    r"|(?:https?|grpc|wss?)://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]*)?"
    r"|\[redacted:[a-z_]+\]|\[\]|\{\}"
)
_NAME: Final = re.compile(rf"[A-Za-z0-9._/:-]+{_VERSION}(?: [A-Za-z0-9._/:-]+{_VERSION})*")
_THING: Final = re.compile(r"[\w .:/\\@+()#&'*~=$\[\]-]+")
# Files and folders: the home of somebody at any place, a drive, and what ends as files do.
_PLACE: Final = re.compile(
    r"(?i)(?:^|.*[/\\-])(?:home|users)[/\\-].*|[a-z]:/.*|"
    r".*\.(?:md|txt|pdf|docx?|xlsx?|pptx?|odt|rtf|csv|tsv|jsonl?|ya?ml|toml|xml|html?|s?css|py|ipynb|[jt]sx?|[cm]js|"
    r"rs|rb|php|java|kt|swift|cc|[ch]pp|cs|sh|ps1|bat|sql|sqlite3?|cfg|png|jpe?g|gif|svg|webp|mp[34]|zip|gz|pem)"
    r"(?:[: ].*)?"
)
_KEY: Final = re.compile(r"[A-Za-z0-9_.:@$\[\]#-]{1,128}")
_SCOPE: Final = re.compile(r"@?[A-Za-z0-9_][A-Za-z0-9._@/:-]{0,127}")
_SCHEMA: Final = re.compile(r"https?://[A-Za-z0-9./_-]{1,120}")
_TRACE_STATE: Final = re.compile(r"(?:[a-z0-9_@*/-]{1,64}=[A-Za-z0-9._:;~+/-]{1,64}(?:,|$)){1,32}")
_METRIC: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}")
_UNIT: Final = re.compile(r"[A-Za-z0-9_.%/*^()\[\]{}-]{0,32}")

_SPAN_KINDS: Final = ("span", "internal", "server", "client", "producer", "consumer")
# What the fields of a meaning name: things, not what was said.
_THINGS: Final = frozenset(
    (
        *("session_id", "prompt_id", "subagent", "team", "project", "channel", "environment", "provider", "message_id"),
        *("request_id", "request_model", "response_model", "response_id", "tool_call_id", "tool_name"),
    )
)
# What the OpenTelemetry conventions call who sends and what was asked of whom, where values may be no words.
# Command lines are texts.
_CONVENTIONS: Final = frozenset(
    """
    service.name service.namespace service.version service.instance.id deployment.environment.name deployment.name
    telemetry.sdk.name telemetry.distro.name host.name host.type host.image.name host.cpu.model.name os.name os.version
    os.description process.runtime.name process.runtime.version process.runtime.description process.executable.name
    container.name container.image.name container.image.id container.image.tags k8s.cluster.name k8s.node.name
    k8s.namespace.name k8s.pod.name k8s.container.name k8s.deployment.name k8s.job.name cloud.account.id
    cloud.resource_id aws.ecs.cluster.arn aws.ecs.task.arn faas.name faas.instance device.manufacturer device.model.name
    http.route rpc.service rpc.method operation.name
    """.split()  # noqa: SIM905 - a name a line would take a page
)


def _known() -> frozenset[str]:
    """The names of attributes that name things."""
    found = {name for field, names in IDENTITY.items() if field != "user" for name in names}
    for dialect in DIALECTS:
        found.update(
            name for of, names in dialect.fields.items() if of in _THINGS for name in names if isinstance(name, str)
        )
    return frozenset(found | RESOURCE.keys() | _CONVENTIONS)


_KNOWN: Final = _known()
# Attributes that hold what an error said, which quotes what went wrong: texts.
_ERROR_KEY: Final = re.compile(
    r"(?i)(?:.*[._-])?(?:error|exception|status|failure)?[._-]?"
    r"(?:message|msg|stack_?trace|stack|traceback|description|details?|error|summary|title"
    r"|(?<!finish_)(?<!stop_)reason)"
)


# Texts


def is_word(text: str) -> bool:
    """Whether a text looks like an id, a number, a version, a date, a name of a model or a word of a short list."""
    return len(text) <= _WORD_CHARS_MAX and _WORD.fullmatch(text) is not None and _PLACE.fullmatch(text) is None


def is_name(text: str) -> bool:
    """Whether a text looks like what many spans are called alike: few plain words."""
    return (
        len(text) <= _WORD_CHARS_MAX
        and text.count(" ") < _WORDS_OF_NAME_MAX
        and _NAME.fullmatch(text) is not None
        and _PLACE.fullmatch(text) is None
    )


def is_thing(text: str) -> bool:
    """Whether a text is short enough for the name of a thing."""
    if len(text) > (_THING_CHARS_MAX if text.isascii() else _THING_CHARS_MAX // 4):  # some scripts need no blanks
        return False
    return _THING.fullmatch(text) is not None and len(text.split()) <= _WORDS_OF_THING_MAX


@lru_cache(maxsize=8192)
def _rule(key: str) -> Callable[[str], bool] | None:
    """What a text under this name has to look like to stay; None: it never does."""
    if key in _KNOWN:
        return is_thing
    return None if _ERROR_KEY.fullmatch(key) else is_word


@lru_cache(maxsize=8192)
def _is_key(key: str) -> bool:
    return _KEY.fullmatch(key) is not None


def size(value: Any) -> int:
    """The bytes of a text in UTF-8, of anything else of its JSON."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    try:
        return len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return len(json.dumps(value))


def _digest(*told: Any) -> str:
    text = json.dumps(told, sort_keys=True, default=str).encode("utf-8", "replace")
    return blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


# Attributes


def attributes(given: Attributes) -> tuple[Attributes, int]:
    """Attributes whose texts are `<name>.size_bytes` where they may not stay, and how many had no name to keep."""
    kept: Attributes = {}
    left_out = 0
    for key, value in given.items():
        if not _is_key(key):
            left_out += 1
        else:
            _put(kept, key, value)
    return kept, left_out


def _put(kept: Attributes, key: str, value: Any) -> None:
    if is_content_key(key) and isinstance(value, (str, list, dict)):
        kept[key + _SIZE] = size(value)
        return
    if isinstance(value, dict):
        encoded = value.get("$bytes")
        if isinstance(encoded, str):
            kept[key + _SIZE] = len(encoded.rstrip("=")) * 3 // 4
        else:
            kept[key] = attributes(value)[0]
        return
    rule = _rule(key)
    if isinstance(value, str) and value:
        is_kept = rule is not None and rule(value)
    elif isinstance(value, list):
        is_kept, value = _is_list_kept(value, rule, key in _KNOWN), _members(value)
    else:
        is_kept = True
    if is_kept:
        kept[key] = value
    else:
        kept[key + _SIZE] = size(value)


def _is_list_kept(values: list[Any], rule: Callable[[str], bool] | None, is_known: bool) -> bool:
    texts = list(_texts(values))
    if not texts:
        return True
    is_short = is_known or len(texts) <= _WORDS_IN_LIST_MAX
    return rule is not None and is_short and all(map(rule, texts))


def _texts(values: list[Any]) -> list[str]:
    """The texts of a list and of lists in it."""
    found = [value for value in values if isinstance(value, str)]
    for value in values:
        if isinstance(value, list):
            found += _texts(value)
    return found


def _members(values: list[Any]) -> list[Any]:
    """A list whose tables have lost their texts."""
    made: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            holder: Attributes = {}
            _put(holder, "value", value)
            made.append(holder.get("value", holder))
        else:
            made.append(_members(value) if isinstance(value, list) else value)
    return made


# Records, in place


def fit_source(source: Source) -> None:
    """Who sent it. Senders that differed only in a text still differ."""
    before = (source.resource, source.scope_attributes)
    source.resource, left_out = attributes(source.resource)
    source.resource_dropped += left_out
    if source.resource != before[0]:
        source.resource["tachograph.resource"] = _digest(before[0])
    source.scope_attributes, left_out = attributes(source.scope_attributes)
    source.scope_dropped += left_out
    if not _SCOPE.fullmatch(source.scope_name):
        source.scope_name = ""
    if not is_word(source.scope_version):
        source.scope_version = ""
    if not _SCHEMA.fullmatch(source.resource_schema_url):
        source.resource_schema_url = ""
    if not _SCHEMA.fullmatch(source.scope_schema_url):
        source.scope_schema_url = ""


def fit_span(span: Span) -> None:
    """A span without texts: its message is gone, its name is that of its kind where it is none."""
    _fit_told(span)
    span.status_message = ""
    span.trace_state = _trace_state(span.trace_state)
    if not is_name(span.name):
        span.name = _SPAN_KINDS[span.kind] if 0 <= span.kind < len(_SPAN_KINDS) else _SPAN_KINDS[0]
    for inner in span.events or ():
        _fit_inner(inner)
        inner["name"] = inner.get("name", "") if is_name(inner.get("name", "")) else "event"
    for inner in span.links or ():
        _fit_inner(inner)
        inner["trace_state"] = _trace_state(inner.get("trace_state") or "")


def fit_event(event: Event) -> None:
    """An event without texts: of its body the numbers stay, and the size of its words."""
    _fit_told(event)
    if event.name and not is_name(event.name):
        event.name = event.origin
    if event.severity_text and not is_word(event.severity_text):
        event.severity_text = ""
    words = _size_of_words(event.body)
    event.body = _numbers(event.body)
    if words:
        event.attributes["body" + _SIZE] = event.attributes.get("body" + _SIZE, 0) + words


def fit_point(point: Point) -> None:
    """A point without texts. Series that differed only in a text still differ, so that nothing is added up wrongly."""
    before = point.attributes
    point.attributes, _ = attributes(before)
    if point.attributes != before:
        point.attributes["tachograph.series"] = _digest(point.name, before)
    if not _METRIC.fullmatch(point.name):
        point.name = f"metric-{_digest(point.name)}"
    if not _UNIT.fullmatch(point.unit):
        point.unit = ""
    point.description = ""
    if point.metadata:
        point.metadata = attributes(point.metadata)[0] or None
    for exemplar in point.exemplars or ():
        exemplar["attributes"] = attributes(exemplar.get("attributes") or {})[0]


def _fit_told(record: Span | Event) -> None:
    contents, record.contents = record.contents, None
    record.attributes, left_out = attributes(record.attributes)
    record.dropped_attributes += left_out
    for content in contents or ():  # what no dialect knows, and is too long to be anything but a text
        if _is_key(content.key):
            key = content.key + _SIZE
            record.attributes[key] = record.attributes.get(key, 0) + sum(map(size, content.pieces))
        else:
            record.dropped_attributes += 1
    if record.meaning is not None:
        fit_meaning(record.meaning)


def _fit_inner(inner: Attributes) -> None:
    inner["attributes"], left_out = attributes(inner.get("attributes") or {})
    if left_out:
        inner["dropped"] = (inner.get("dropped") or 0) + left_out


def _trace_state(text: str) -> str:
    return text if _TRACE_STATE.fullmatch(text) else ""


def _size_of_words(value: Any) -> int:
    if isinstance(value, str):
        return size(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_size_of_words, inner))


def _numbers(value: Any) -> Any:
    """A body without its texts, None where nothing is left: what lies in it has no names to go by."""
    if isinstance(value, str):
        return None
    if isinstance(value, list):
        return [item for item in map(_numbers, value) if item is not None] or None
    if isinstance(value, dict):
        found = ((key, _numbers(one)) for key, one in value.items() if _is_key(key))
        return {key: one for key, one in found if one is not None} or None
    return value


# What was made of records


def fit_meaning(meaning: Meaning) -> None:
    """What a record means, without what an error said."""
    for name in meaning.__struct_fields__:
        value = getattr(meaning, name)
        if isinstance(value, str) and value:
            setattr(meaning, name, of_field(name, value))


def fit_row(row: Attributes) -> None:
    """A row of the store without texts."""
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = of_field(name, value)
        elif isinstance(value, list):
            row[name] = [one for one in value if not isinstance(one, str) or is_thing(one)]


def of_field(name: str, text: str) -> str:
    """What a field of ours says, "" where that is none of the things that it is for; an id is still one."""
    if name in ("error_message", "title", "price_note"):
        return ""
    if name == "error_type":
        return text if is_word(text) else ""
    if is_thing(text):
        return text
    return f"id-{_digest(text)}" if name.endswith("_id") or name == "retry_of" else ""
