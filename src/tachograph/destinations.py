"""Where data is forwarded to: the `[forwarders.NAME]` tables of the settings file, read and checked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct, field

from tachograph.config import BadValueError, Placed, masked
from tachograph.errors import ConfigError

PRIVACY_MODES: Final = ("full", "redacted", "none")
SIGNALS: Final = ("traces", "logs", "metrics")
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Option(NamedTuple):
    """One setting of a kind of destination: its name, what it takes, and what it is for.

    `parse` raises BadValueError with what was expected. A secret is never repeated in a message or shown.
    """

    name: str
    type: str
    default: Any
    parse: Callable[[Any], Any]
    what: str
    example: str = ""
    is_secret: bool = False


class Destination(Struct, frozen=True):
    """One destination, checked: what every kind has, and in `options` what its own kind has, by name.

    `where` is what a message begins with: `tachograph.toml:12: forwarders.acme`, or the variable that named it.
    """

    name: str
    kind: str
    where: str
    options: dict[str, Any] = field(default_factory=dict)
    is_enabled: bool = True
    agents: tuple[str, ...] = ()  # () = all
    projects: tuple[str, ...] = ()
    signals: tuple[str, ...] = SIGNALS
    privacy: str = "redacted"
    parts_max: int | None = None  # of one request; None = the kind's own
    # What its progress is kept under, "" = its name: variables that change name another destination, not the same.
    key: str = ""
    # Why nothing can be sent there, and what to do: variables alone name it, and they are wrong.
    trouble: str = ""
    hint: str = ""

    @property
    def identity(self) -> str:
        """What its progress is kept under."""
        return self.key or self.name

    def __repr__(self) -> str:
        """Without the options: they hold secrets, and a repr ends up in logs."""
        return f"Destination({self.name!r}, {self.kind!r})"


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise BadValueError("a text")
    return value.strip()


def url(value: Any) -> str:
    """An http(s) address without a slash at its end."""
    given = text(value)
    try:
        parts = urlsplit(given)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or any(c.isspace() or not c.isprintable() for c in given):
        raise BadValueError("a URL with a scheme and a host")
    return given.rstrip("/")


def base_url(value: Any) -> str:
    """An http(s) address that a path is put behind, without a slash at its end."""
    given = url(value)
    if "?" in given or "#" in given:
        raise BadValueError("a URL without ? and #, as a path is put behind it")
    return given


def truth(value: Any) -> bool:
    """True or false, also as a word."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise BadValueError("true or false")


def seconds(value: Any) -> float:
    """A number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 86_400:
        raise BadValueError("a number of seconds above 0")
    return float(value)


def count(value: Any) -> int:
    """A whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000:
        raise BadValueError("a whole number above 0")
    return int(value)


def words(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(one, str) and one.strip() for one in given):
        raise BadValueError("a list of texts")
    return tuple(one.strip() for one in given)


def names(value: Any) -> tuple[str, ...]:
    """As `words`, at least one: nothing at all would be sent otherwise."""
    given = words(value)
    if not given:
        raise BadValueError("at least one name; without the line, all")
    return given


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of these words."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise BadValueError(" or ".join(choices) if len(choices) < 3 else "one of " + ", ".join(choices))
        return str(value)

    return parse


def headers(value: Any) -> dict[str, str]:
    """A table of header names and values."""
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise BadValueError("a table of names and texts")
    for name, one in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not one.isprintable() or not one.isascii():
            raise BadValueError("header names and values as HTTP allows them")
    return dict(value)


def _signals(value: Any) -> tuple[str, ...]:
    given = words(value)
    if not given or any(one not in SIGNALS for one in given):
        raise BadValueError(f"some of {', '.join(SIGNALS)}")
    return given


# What every kind has.
COMMON: Final = (
    Option("kind", "word", "its name", text, "What it is: otlp, langfuse, posthog, prometheus or loki."),
    Option("enabled", "true or false", True, truth, "False keeps its place and sends nothing."),
    Option("agents", "list", "all", names, "Only what these agents did.", 'agents = ["pi", "codex"]'),
    Option("projects", "list", "all", names, "Only what was done in these projects.", 'projects = ["web"]'),
    Option("signals", "list", "all", _signals, "Some of traces, logs and metrics.", 'signals = ["traces"]'),
    Option(
        "privacy",
        "mode",
        "redacted",
        one_of(*PRIVACY_MODES),
        "What it may have of prompts, answers, arguments and results: full, redacted or none.",
        'privacy = "none"',
    ),
    Option("batch", "number", "the kind's own", count, "The most records of one request.", "batch = 500"),
)

# What kinds that are asked over HTTP have alike.
CREDENTIALS: Final = (
    Option("token", "text", "none", text, "Sent as a bearer token.", is_secret=True),
    Option("username", "text", "none", text, "For basic authentication, with `password`."),
    Option("password", "text", "none", text, "For basic authentication.", is_secret=True),
)
CONNECTION: Final = (
    Option("headers", "table", "none", headers, "More headers of each request.", is_secret=True),
    Option("timeout", "seconds", 30, seconds, "How long a request may take, with its answer."),
    Option("certificate_authority", "path", "the system's", text, "A PEM file to check the server with."),
    Option("client_certificate", "path", "none", text, "A PEM file to show to the server."),
    Option("client_key", "path", "none", text, "The PEM file of its key."),
)


def read(
    tables: Mapping[str, Placed],
    kinds: Mapping[str, Iterable[Option]],
    takes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> list[Destination]:
    """The destinations of the settings file, in its order; raises ConfigError for the first that is wrong.

    `kinds` names the options of each kind, `takes` its signals where those are not all.
    """
    found = [_read(name, table, kinds) for name, table in tables.items()]
    for one in found:
        taken = takes.get(one.kind, SIGNALS)
        if "signals" in tables[one.name].value and not set(one.signals) <= set(taken):
            where, expected = tables[one.name].place("signals"), ", ".join(taken)
            what = f"{where}: got {', '.join(one.signals)}; expected {expected}: {one.kind} takes nothing else"
            raise ConfigError(what, "signals = [" + ", ".join(f'"{word}"' for word in taken) + "]")
    return found


def _read(name: str, table: Placed, kinds: Mapping[str, Iterable[Option]]) -> Destination:
    if not NAME_PATTERN.fullmatch(name):
        expected = "a name of lower-case letters, digits, - and _"
        raise ConfigError(
            f"{table.where}: got the name {masked(name, is_address=True)}; expected {expected}", "[forwarders.acme]"
        )
    if not isinstance(table.value, dict):
        raise ConfigError(
            f"{table.where}: got {masked(table.value, is_address=True)}; expected a table", f"[forwarders.{name}]"
        )
    kind = table.value.get("kind", name)
    if kind not in kinds:
        where = table.place("kind")
        raise ConfigError(f"{where}: got {masked(kind)}; expected one of {', '.join(kinds)}", 'kind = "otlp"')
    known = {option.name: option for option in (*COMMON, *kinds[kind])}
    values: dict[str, Any] = {}
    for key, value in table.value.items():
        option = known.get(key)
        if option is None:
            raise _unknown(table.place(key), key, known)
        values[key] = parse(option, value, table.place(key))
    return made(name, str(kind), table.where, values)


def made(name: str, kind: str, where: str, values: Mapping[str, Any]) -> Destination:
    """A destination of parsed values, those of its kind in `options`."""
    common = {option.name for option in COMMON}
    return Destination(
        name,
        kind,
        where,
        options={key: value for key, value in values.items() if key not in common},
        is_enabled=values.get("enabled", True),
        agents=values.get("agents", ()),
        projects=values.get("projects", ()),
        signals=values.get("signals", SIGNALS),
        privacy=values.get("privacy", "redacted"),
        parts_max=values.get("batch"),
    )


def parse(option: Option, value: Any, where: str) -> Any:
    """One parsed value; raises ConfigError, which never repeats a secret."""
    try:
        return option.parse(value)
    except BadValueError as bad:
        shown = "a value" if option.is_secret else masked(value, is_address=option.type == "URL")
        hint = option.example or f"{option.name} = ..."
        raise ConfigError(f"{where}: got {shown}; expected {bad}", hint) from None


def _unknown(where: str, key: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(key, list(known), n=3)
    return ConfigError(
        f"{where}: got an unknown setting; expected one of {', '.join(near or sorted(known))}",
        f"rename it to {near[0]}" if near else "remove the line",
    )
