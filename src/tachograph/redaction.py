"""Take secrets out of a batch before anything of it is kept or passed on, and message texts where they are not wanted.

A record is first written as one JSON text and that text is searched once by an engine of linear time (the one that
pydantic-core brings). Only a record in which that finds something is looked at field by field, so that clean telemetry
costs microseconds. The first look may be too strict, never too lax: what the second finds, the first must have seen.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import astuple
from pydantic_core import SchemaValidator, core_schema

from tachograph.errors import ConfigError
from tachograph.model import Attributes, Batch, Content, Event, Point, Report, Source, Span

MODES: Final = ("redacted", "none", "full")
_Record = Span | Event | Point | Report

# How secrets look


class _Shape(NamedTuple):
    """How one kind of secret looks: `keep` stays, `secret` goes, `then` must follow, `ahead` must hold for the secret.

    Conditions look 99 characters ahead at most and a match takes all it has seen, so that no text takes quadratic time.
    `trigger` is what tells in linear time whether a text is worth a closer look: without lookaround, seeing all that
    the rest sees, in the text itself and in a JSON text that quotes it. By default it is keep, secret and then.
    `search` is the search that looks for the trigger.
    """

    kind: str
    secret: str
    keep: str = ""
    then: str = ""
    ahead: str = ""
    trigger: str = ""
    search: int = 0


_SOLID = "[A-Za-z0-9_-]"
_VALUE = r"""[^\x00-\x20"'\\,;&<>(){}\[\]`]"""
_PREFIXES = (
    r"gsk_|r8_|xai-|pplx-|tvly-|nvapi-|csk-|dapi|shp(?:at|ca|pa|ss)_|dckr_pat_|lin_api_|sntry[su]_|hvs\.|ntn_"
    r"|sq0(?:csp|atp|idp)-|ATATT3|NRAK-|PMAK-|pscale_(?:tkn|pw|oauth)_|gl(?:sa|c)_|dp\.(?:pt|st|ct)\.|figd_|rubygems_"
)
_BLANK = r"(?:[ \t]|\\+[nrt]){0,6}"
_SIGN = f"{_BLANK}(?:=>|:=|[:=]){_BLANK}"
_QUOTE = r"""\\*["']"""
_PARAMETER = r"(?:[?&]|&amp;|\\+u0026)"  # where a parameter of an address begins
_PARAMETER_TRIGGER = (
    "(?:sig|ignature|Security-Token|code|access_token|refresh_token|id_token|client_secret)=[A-Za-z0-9%+/=_~.-]{16}"
)
_PEM_END = "PRIVATE KEY(?: BLOCK)?-----"
_PEM = r"(?:[A-Za-z0-9+/=\s,:.()_-]|\\+[nrtu/])"


def _cased(*names: str) -> str:
    """A pattern of names in the spellings that occur: api_key, api-key, apikey, apiKey, ApiKey, API_KEY.

    Spelled out and not by ignoring case, because the first look is fast only with a few literals to search for.
    """
    spellings = []
    for name in names:
        words = name.split("_")
        spellings.append("[_-]?".join(f"[{word[0]}{word[0].upper()}]{word[1:]}" for word in words))
        spellings.append("[_-]?".join(word.upper() for word in words))
    return "(?:" + "|".join(spellings) + ")"


_PASSWORD = _cased("password", "passwd", "passphrase", "passcode", "pwd") + "|[_-]pass|[_-]PASS"
_SECRET = (
    _cased("secret", "credential", "connection_string", "shared_access_signature")
    + "(?:[_-]?(?:[aA]ccess|ACCESS))?(?:[_-]?(?:[kK]ey|KEY))?|"
    + _cased("api", "access", "private", "signing", "encryption", "account", "master")
    + "[_-]?(?:[kK]ey|KEY)"
)
_SECRETS = f"(?:{_SECRET})[sS]?"
_TOKEN = "[A-Za-z][_-]?(?:Token|TOKEN)|[A-Za-z][_-]token"
_HEADER = _cased("authorization", "cookie") + "[sS]?"
# What is given to a program on its command line: `--api-key X`, `--password=X`.
_FLAGS = _cased(
    "password", "passwd", "token", "auth_token", "access_token", "api_key", "secret", "client_secret", "secret_key"
)
# A name and its value as two members or two arguments: {"name": "API_KEY", "value": "X"}, ["--password", "X"].
_MEMBER = (
    f"{_QUOTE}(?:name|key|Name|Key)(?:{_QUOTE}){_SIGN}{_QUOTE}[A-Za-z0-9_.-]{{0,40}}"
    f"(?:{_PASSWORD}|{_SECRETS}|{_TOKEN}|{_HEADER})"
    f"(?:{_QUOTE}){_BLANK},{_BLANK}{_QUOTE}[vV]alue(?:{_QUOTE}){_SIGN}{_QUOTE}"
)
_MEMBER_TRIGGER = f"{_QUOTE}{_BLANK},{_BLANK}{_QUOTE}[vV]alue"
_ARGUMENT = f"--{_FLAGS}(?:{_QUOTE}){_BLANK},{_BLANK}{_QUOTE}"
_NAMED = f"(?:{_PASSWORD}|{_SECRETS}|{_TOKEN})(?:{_QUOTE})?{_SIGN}"
_NAMED_QUOTED = f"(?:{_PASSWORD}|{_SECRETS}|{_TOKEN}|{_HEADER})(?:{_QUOTE})?{_SIGN}\\[?{_BLANK}{_QUOTE}"
# Any of the names, then a sign, then something that might be a value: for attributes and texts alike.
_NAMED_TRIGGER = (
    f"(?:{_cased('pass', 'pwd')}(?:word|wd|phrase|code|WORD|WD|PHRASE|CODE)?[sS]?|"
    f"{_cased('token')}|{_cased('authorization', 'cookie')}[sS]?|{_SECRETS})"
    f"(?:{_QUOTE})?{_SIGN}(?:\\[?{_BLANK}{_QUOTE}(?s:.)|{_VALUE}{{6}}|[0-9\\[{{-])"
)

# A quoted value up to its end, at the depth of quoting where it stands: plain, in a JSON text, in one in another.
_QUOTED = (
    r"(?:(?<=(?<!\\)\")(?:[^\"\\\n]|\\.)+"
    r"|(?<=(?<!\\)')(?:[^'\\\n]|\\.)+"
    r"|(?<=(?<!\\)\\\")(?:[^\"\\]|\\\\(?:[^\"\\]|\\\"|\\\\))+"
    r"|(?<=\\['\"])[^\"'\\]+)"
)

_SHAPES: Final = (
    _Shape(
        "private_key",
        f"-----BEGIN [A-Z0-9 ]{{0,30}}{_PEM_END}(?:{_PEM}*?-----END [A-Z0-9 ]{{0,30}}{_PEM_END}|{_PEM}*)",
        trigger="-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY",
    ),
    # Too long to stand in a word by chance: found also where something is glued before them.
    _Shape("anthropic_key", f"sk-ant-{_SOLID}{{8,}}", keep="(?:)", search=1),
    _Shape("langfuse_key", f"[ps]k-lf-{_SOLID}{{8,}}"),
    _Shape("openai_key", f"sk-{_SOLID}{{16,}}", ahead=f"(?={_SOLID}{{0,99}}[0-9])"),
    _Shape("google_key", f"AIza{_SOLID}{{30,}}|ya29\\.{_SOLID}{{16,}}|GOCSPX-{_SOLID}{{16,}}"),
    _Shape("github_token", "gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}", keep="(?:)"),
    _Shape("github_token", "gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}"),
    _Shape("gitlab_token", f"gl(?:pat|ptt|dt|rt|cbt|soat|ft|imt|agent)-{_SOLID}{{16,}}"),
    _Shape("slack_token", f"xox[abceoprs]-{_SOLID}{{10,}}|xapp-{_SOLID}{{16,}}"),
    _Shape("slack_webhook", "[A-Z0-9]{6,}/[A-Z0-9]{6,}/[A-Za-z0-9]{12,}", keep=r"hooks\.slack\.com/services/"),
    _Shape("aws_key", "(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", then="(?:[^A-Za-z0-9]|$)", search=1),
    _Shape("huggingface_token", "hf_[A-Za-z0-9]{20,}", ahead="(?=hf_[A-Za-z0-9]{0,99}[0-9A-Z])", search=2),
    _Shape("npm_token", "npm_[A-Za-z0-9]{30,}"),
    _Shape("pypi_token", f"pypi-{_SOLID}{{16,}}", ahead=f"(?={_SOLID}{{0,99}}[A-Z0-9])"),
    _Shape("stripe_key", "[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,}"),
    _Shape("sendgrid_key", f"SG\\.{_SOLID}{{16,}}\\.{_SOLID}{{16,}}"),
    _Shape("digitalocean_token", "do[opr]_v1_[a-f0-9]{20,}", search=2),
    _Shape("posthog_key", "ph[cx]_[A-Za-z0-9]{16,}"),
    _Shape("langsmith_key", "lsv2_(?:pt|sk)_[A-Za-z0-9_]{16,}"),
    _Shape("logfire_token", "pylf_v[0-9]_[a-z]{2}_[A-Za-z0-9]{16,}", search=2),
    _Shape(
        "api_key",
        f"(?:{_PREFIXES}){_SOLID}{{24,}}",
        ahead="(?=[A-Za-z0-9_.-]{0,99}[0-9])",
        search=1,
    ),
    _Shape("age_key", "AGE-SECRET-KEY-1[A-Z0-9]{40,}"),
    _Shape("square_token", f"EAAA{_SOLID}{{56,}}", search=2),
    _Shape("twilio_key", "SK[0-9a-f]{32}", then="(?:[^A-Za-z0-9]|$)", search=2),
    _Shape("discord_token", f"[MNO][A-Za-z0-9]{{22,27}}\\.{_SOLID}{{6}}\\.{_SOLID}{{27,}}", search=5),
    _Shape(
        "signature",
        "[A-Za-z0-9%+/=_~-]{16,}",
        keep=rf"{_PARAMETER}(?:sig|[sS]ignature|X-(?:Amz|Goog)-Signature|X-Amz-Security-Token)=",
        trigger=_PARAMETER_TRIGGER,
        search=4,
    ),
    _Shape(
        "token",
        "[A-Za-z0-9%+/=_~.-]{16,}",
        keep=rf"{_PARAMETER}(?:code|access_token|refresh_token|id_token|client_secret)=",
        ahead="(?=[A-Za-z%+/=_~.-]{0,99}[0-9])",
        trigger=_PARAMETER_TRIGGER,
        search=4,
    ),
    _Shape("telegram_token", f"[0-9]{{8,10}}:AA{_SOLID}{{33}}", trigger=f":AA{_SOLID}{{33}}"),
    _Shape("jwt", f"eyJ{_SOLID}{{8,}}(?:\\.{_SOLID}*){{1,4}}", ahead="(?<!-)"),
    _Shape(
        "password", r"[^\x00-\x20/@\"'\\<>\[\]]+", keep=r"://[^\x00-\x20/@:\"'\\<>\[\]]*:", then="@"
    ),  # scheme://user:password@host
    _Shape(
        "password",
        r"[^\x00-\x20\"'\\\[]+",
        keep=rf"curl [^\n]{{0,200}}?(?:-u|--user)[ =](?:{_QUOTE})?[^\x00-\x20:\"'\\]+:",
        trigger="curl [^\n]{0,400}?(?:-u|--user)[ =]",
        search=1,
    ),
    _Shape(
        "authorization",
        r"[A-Za-z0-9+/=._~:-]{12,}",
        keep=_cased("bearer", "basic") + r"(?:[ \t]|\\+t|%20|\+){1,4}",
        ahead="(?=[A-Za-z+/=._~:-]{0,99}(?:[0-9]|[a-z][A-Z]|=))",
        search=2,
    ),
    _Shape(
        "authorization",
        f"{_VALUE}{{8,}}",
        keep=f"{_cased('authorization')}(?:{_QUOTE})?{_SIGN}(?:{_QUOTE})?",
        ahead=f"(?={_VALUE}{{0,99}}[0-9])",
        trigger=_NAMED_TRIGGER,
    ),
    _Shape(
        "authorization",
        f"{_VALUE}{{8,}}",
        keep=f"{_cased('authorization')}(?:{_QUOTE})?{_SIGN}(?:{_QUOTE})?[A-Za-z][A-Za-z0-9-]{{1,20}}[ \t]{{1,4}}",
        ahead=f"(?={_VALUE}{{0,99}}[0-9])",
        trigger="(?:uthorization|UTHORIZATION)[^\\n]{1,60}?[ \\t]",
    ),
    _Shape(
        "cookie",
        r"(?:[^\x00-\x1f\"'\\\[]|\[redacted:[a-z_]+\]){6,}",
        keep=rf"{_cased('cookie')}(?:{_QUOTE})?{_BLANK}:{_BLANK}(?:{_QUOTE})?",
        ahead=r"(?=[^\x00-\x20\"'\\=;]{1,64}=)",
    ),
    _Shape("", f"{_VALUE}{{6,}}", keep=f"--{_FLAGS}[ =]", ahead="(?![$*%<\\[])"),
    _Shape("", f"(?!\\[redacted:){_QUOTED}", keep=_MEMBER, trigger=_MEMBER_TRIGGER, search=3),
    _Shape("", f"(?!\\[redacted:){_QUOTED}", keep=_ARGUMENT, trigger=_ARGUMENT),
    _Shape("", f"(?!\\[redacted:){_QUOTED}", keep=_NAMED_QUOTED, trigger=_NAMED_TRIGGER),
    _Shape(
        "",
        f"(?![$*%]){_VALUE}{{6,}}",
        keep=_NAMED,
        ahead=f"(?={_VALUE}{{0,99}}[0-9!@#^*+/?~])(?!{_VALUE}{{0,99}}\\()",  # a function that is called is no value
        trigger=_NAMED_TRIGGER,
    ),
    _Shape(
        "token",
        "[A-Za-z0-9_./+=~-]{16,}",
        keep=f"{_cased('token')}(?:{_QUOTE})?{_SIGN}(?:{_QUOTE})?",
        ahead="(?=[A-Za-z_./+=~-]{0,99}[0-9])",
        trigger=_NAMED_TRIGGER,
    ),
)

# A secret without a name starts where a word starts; also after an escape in a quoted text (\n) or an address (%3D).
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"


def _kind(name: str) -> str:
    """What is behind a name: password, private_key, api_key, token, cookie, authorization, else secret."""
    plain = name.lower().replace("-", "_")
    if "pass" in plain or "pwd" in plain:
        return "password"
    for kind in ("private_key", "api_key", "connection_string", "token", "cookie", "authorization"):
        if kind in plain or kind.replace("_", "") in plain:
            return kind
    return "secret"


def _any_of(triggers: list[str]) -> Callable[[str], bool]:
    """Whether any of the triggers is in a text. Text that is no Unicode (lone surrogates) is never found."""
    pattern = "|".join(f"(?:{trigger})" for trigger in triggers)
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).isinstance_python


def _trigger(shape: _Shape) -> str:
    return shape.trigger or f"{shape.keep}(?:{shape.secret}){shape.then}"


def _compiled(shape: _Shape) -> re.Pattern[str]:
    then = f"(?={shape.then})" if shape.then else ""
    return re.compile(f"({shape.keep or _START}){shape.ahead}(?:{shape.secret}){then}")


class _Finder(NamedTuple):
    """A shape made ready; `is_named` where _NAMED_TRIGGER is what tells of it."""

    kind: str
    is_likely: Callable[[str], bool]
    pattern: re.Pattern[str]
    is_named: bool


_FINDERS: Final = [
    _Finder(shape.kind, _any_of([_trigger(shape)]), _compiled(shape), shape.trigger == _NAMED_TRIGGER)
    for shape in _SHAPES
]
# A few hundred characters, up to one that can only be the last of what _NAMED_TRIGGER sees.
_PIECE: Final = re.compile(r"(?s).{1,256}[^\n,;&(){}]*.?")
_SECRET_KEY: Final = re.compile(
    f"(?:(?:^pass|^PASS|{_PASSWORD})[sS]?|{_SECRETS}|{_HEADER}|{_TOKEN}|[tT]oken|TOKEN)$"  # tokens are a count
)


# Several searches, as the engine is ten times faster with few literals in each: which stand together is measured.
_may_hold_named: Final = _any_of([_NAMED_TRIGGER])
_may_hold_some: Final = [
    _any_of([_trigger(shape) for shape in _SHAPES if shape.search == number and shape.trigger != _NAMED_TRIGGER])
    for number in sorted({shape.search for shape in _SHAPES})
]


_SHORT: Final = 300  # of so few characters one search for all is cheaper than to begin several
_may_hold_any: Final = _any_of([_trigger(shape) for shape in _SHAPES if shape.trigger != _NAMED_TRIGGER])


def _may_hold_other(text: str) -> bool:
    """Whether a text may hold a secret that is known by how it looks, whatever its name."""
    if len(text) < _SHORT:
        return _may_hold_any(text)
    for search in _may_hold_some:  # noqa: SIM110 - a generator costs as much as a search
        if search(text):
            return True
    return False


def _may_hold_secret(text: str) -> bool:
    """The first look at a text."""
    return _may_hold_named(text) or _may_hold_other(text)


_TOKEN_BYTES_MIN: Final = 8  # an attribute `token` with a shorter text is a word of a text, not a secret


def redact_text(text: str) -> str:
    """The text with each secret in it replaced by `[redacted:kind]`; doing it twice changes nothing more."""
    is_unicode = text.isascii() or _is_unicode(text)
    if is_unicode and not _may_hold_secret(text):
        return text
    pieces: list[tuple[int, int]] | None = None
    has_others = not is_unicode or _may_hold_other(text)
    for finder in _FINDERS:
        if not finder.is_named and not has_others:
            continue
        if not is_unicode:
            text = finder.pattern.sub(partial(_replacement, finder.kind), text)
        elif finder.is_likely(text):
            if pieces is None and finder.is_named:
                pieces = [piece.span() for piece in _PIECE.finditer(text) if finder.is_likely(piece[0])]
            parts = list(_parts(text, finder, pieces if pieces and finder.is_named else [(0, len(text))]))
            if len(parts) > 1:
                text, pieces = "".join(parts), None
                has_others = _may_hold_other(text)
    return text


def _replacement(kind: str, match: re.Match[str]) -> str:
    return f"{match[1]}[redacted:{kind or _kind(match[1])}]"


def _parts(text: str, finder: _Finder, pieces: list[tuple[int, int]]) -> Iterator[str]:
    """The text in parts, those that the finder finds replaced; what it finds begins in one of the pieces.

    The engine that can look ahead reads 5 MB a second, so it is only let loose where the fast one has seen a trigger.
    """
    done = 0
    for start, end in pieces:
        at = max(start, done)
        while found := finder.pattern.search(text, at, end):
            whole = finder.pattern.match(text, found.start())  # it may go on behind the piece
            at = whole.end() if whole else found.start() + 1
            if whole:
                yield text[done : whole.start()]
                yield _replacement(finder.kind, whole)
                done = at
    yield text[done:]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=8192)
def _secret_kind(key: str) -> str:
    """What kind of secret an attribute of this name holds, "" = none."""
    match = _SECRET_KEY.search(key)
    return _kind(match[0]) if match else ""


# Records

# How the model spells bytes, and maps that name their value.
_BYTES: Final = "$bytes"
_BYTES_KEYS: Final = {_BYTES}
_PAIR_KEYS: Final = {"name", "key"}


def redact(batch: Batch, mode: str = "redacted") -> None:
    """Take the secrets out of everything in the batch, in place.

    Modes: `redacted` keeps messages without their secrets; `none` keeps no text of prompts, answers and tools, only
    their sizes; `full` keeps messages as they came and takes secrets out of everything else.
    """
    if mode not in MODES:
        raise ConfigError(f"content: got {mode!r}; expected one of {', '.join(MODES)}", 'content = "redacted"')
    sources: dict[int, Source] = {}
    groups: tuple[Sequence[Span | Event | Point], ...] = (batch.spans, batch.events, batch.points)
    for records in groups:
        for record in records:
            sources[id(record.source)] = record.source
            if mode == "none" and not isinstance(record, Point):
                _drop_contents(record)
            if _is_suspect(record, mode):
                _redact_fields(record, mode)
    for source in sources.values():
        _redact_fields(source)
    for report in batch.reports:
        if _is_suspect(report, mode):
            _redact_fields(report)
    batch.reasons = [redact_text(reason) for reason in batch.reasons]


_encode: Final = msgspec.json.Encoder().encode


def _is_suspect(record: _Record, mode: str) -> bool:
    """The first look: may any text of the record hold a secret? The source is looked at once for all its records."""
    source, meaning, contents = _PLACES[type(record)]
    fields = list(astuple(record))
    if source is not None:
        fields[source] = None
    if meaning is not None and fields[meaning] is not None:
        fields[meaning] = astuple(fields[meaning])  # without the names of its many fields
    if contents is not None and fields[contents]:
        if any(_secret_kind(content.key) for content in fields[contents]):
            return True
        if mode == "full":
            fields[contents] = [content for content in fields[contents] if not content.slot]
    try:
        text = _encode(fields).decode()
        return _BYTES in text or _may_hold_secret(text)
    except (UnicodeError, ValueError, OverflowError, RecursionError):
        return True  # not what JSON can say, so it takes the long way


def _place(record: type[_Record], name: str) -> int | None:
    names = record.__struct_fields__
    return names.index(name) if name in names else None


_PLACES: Final = {
    record: (_place(record, "source"), _place(record, "meaning"), _place(record, "contents"))
    for record in (Span, Event, Point, Report)
}


def _redact_fields(struct: Any, mode: str = "") -> None:
    """The second look: every field of a record, whatever fields it has."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value and not isinstance(value, (int, float, Source)):
            setattr(struct, name, _redacted(value, mode))


def _redacted(value: Any, mode: str) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list):
        return _redacted_arguments(value, [_redacted(item, mode) for item in value])
    if isinstance(value, dict):
        if value.keys() == _BYTES_KEYS and isinstance(value[_BYTES], str):
            return {_BYTES: _redacted_bytes(value[_BYTES])}
        if _PAIR_KEYS & value.keys() and "value" in value:
            value = _redacted_pair(value)
        return {redact_text(key): _redacted_member(key, item, mode) for key, item in value.items()}
    if isinstance(value, Content):
        _redact_content(value, mode)
    elif isinstance(value, msgspec.Struct):
        _redact_fields(value, mode)
    return value


def _redacted_pair(value: dict[str, Any]) -> dict[str, Any]:
    """A map that names what its member `value` is, as {"name": "API_KEY", "value": "X"}."""
    name = next(value[key] for key in ("name", "key") if key in value)
    if not isinstance(name, str):
        return value
    return {**value, "value": _redacted_member(name, value["value"], "")}


def _redacted_arguments(given: list[Any], clean: list[Any]) -> list[Any]:
    """A list that may be a command line, as ["--password", "X"]: what stands behind a flag is what that says it is."""
    for at, (flag, word) in enumerate(pairwise(given), start=1):
        if not isinstance(flag, str) or not isinstance(word, str):
            continue
        if flag.startswith("--") and not word.startswith("--"):
            pair = redact_text(json.dumps((flag, word)))
            if "[redacted:" in pair:
                with suppress(ValueError):  # what is no JSON any more was found as a whole
                    clean[at] = json.loads(pair)[1]
    return clean


def _redacted_bytes(encoded: str) -> str:
    """Base64 of bytes without the secrets that their text holds, whatever else they are."""
    try:
        raw = b64decode(encoded, validate=True)
    except ValueError:
        return redact_text(encoded)
    for encoding in ("utf-8", "latin-1"):
        with suppress(UnicodeError):
            text = raw.decode(encoding)
            clean = redact_text(text)
            return encoded if clean == text else b64encode(clean.encode(encoding)).decode()
    return encoded


def _redact_content(content: Content, mode: str) -> None:
    kind = _secret_kind(content.key)
    if kind and not content.slot:
        content.pieces, content.is_list = [f"[redacted:{kind}]"], False
    elif mode != "full" or not content.slot:
        _redact_fields(content)


def _redacted_member(key: str, value: Any, mode: str) -> Any:
    """An attribute: all of its value goes where its name is that of a secret."""
    kind = _secret_kind(key)
    if not kind or value is None or value is True or value is False or value in ("", [], {}):
        return _redacted(value, mode)
    if kind == "token" and (
        isinstance(value, (int, float)) or (isinstance(value, str) and len(value) < _TOKEN_BYTES_MIN)
    ):
        return value  # a count, or a token of a text
    return f"[redacted:{kind}]"


# Mode `none`: the texts of prompts, answers and tools by the names of the attributes that hold them. The dialects name
# theirs in the contents they make; this list is for records that no dialect claims, and for the events inside spans.
_CONTENT_KEY: Final = re.compile(
    r"""(?x)
    gen_ai\.(?:prompt|completion)(?:\.\d.*)? | gen_ai\.(?:input|output)\.messages | gen_ai\.system_instructions
    | gen_ai\.tool\.(?:call\.)?(?:arguments|result|definitions|message) | gen_ai\.(?:event\.)?content(?:\..*)?
    | llm\.(?:prompts|completions|tools|functions|input_messages|output_messages|request\.functions)(?:\..*)?
    | llm\.prompt_template\.(?:template|variables) | llm\.function_call | (?:input|output)\.value
    | message\.(?:content|contents|tool_calls)(?:\..*)? | (?:embedding\.embeddings|retrieval\.documents)(?:\..*)?
    | reranker\.(?:input_documents|output_documents|query)(?:\..*)?
    | ai\.(?:prompt|response\.(?:text|object|toolCalls|reasoning)|toolCall\.(?:args|result)|values?)(?:\..*)?
    | traceloop\.entity\.(?:input|output) | openclaw\.content\..* | mcp\.request\.argument\..*
    | (?:haystack|crewai)\..*(?:inputs?|outputs?|input_data|output_data|messages|arguments|result|replies)
    | (?:tool[._])?(?:parameters|input|output|arguments|args|args_summary|response|result|json_schema) | function_args
    | (?:user_|system_)?prompt | (?:assistant_)?response | completion | messages | final_result
    | all_messages(?:_events)? | pydantic_ai\.(?:all_messages|final_result)
    | (?:request_|response_)?body | thinking | reasoning | content | text
    | parts | tool_calls | new_messages | diff | (?:bash_|full_)?command
    | crewai\.(?:crew\.(?:tasks|agents)|task\.description)
    | (?:llm|embedding)\.invocation_parameters | model_request_parameters
    """
)


@lru_cache(maxsize=8192)
def is_content_key(key: str) -> bool:
    """Whether an attribute of this name holds a text of the conversation."""
    return _CONTENT_KEY.fullmatch(key) is not None


def _drop_contents(record: Span | Event) -> None:
    """Leave only the sizes of prompts, answers and tool texts: `<attribute>.size_bytes`, `body.size_bytes`."""
    attributes = record.attributes
    kept = []
    for content in record.contents or ():
        if content.slot or not content.key or is_content_key(content.key):
            attributes.pop(content.key, None)
            size = f"{content.key or 'body'}.size_bytes"
            attributes[size] = attributes.get(size, 0) + sum(len(piece.encode()) for piece in content.pieces)
        else:
            kept.append(content)
    record.contents = kept or None
    record.attributes = _without_texts(attributes)
    if isinstance(record, Event):
        record.body = _without_texts(record.body)
    else:
        for inner in (*(record.events or ()), *(record.links or ())):
            inner["attributes"] = _without_texts(inner.get("attributes") or {})


def _without_texts(value: Any) -> Any:
    """A value without the members that hold texts of the conversation, at any depth."""
    if isinstance(value, list):
        return [_without_texts(item) for item in value] if any(item.__class__ in _NESTED for item in value) else value
    if not isinstance(value, dict):
        return value
    kept: Attributes = {}
    for key, item in value.items():
        if is_content_key(key) and isinstance(item, (str, list, dict)):
            kept[f"{key}.size_bytes"] = len(item.encode() if isinstance(item, str) else _encode(item))
        else:
            kept[key] = _without_texts(item) if item.__class__ in _NESTED else item
    return kept


_NESTED: Final = frozenset((dict, list))
