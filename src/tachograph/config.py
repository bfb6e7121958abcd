"""Settings: defaults < tachograph.toml < environment < flags; the only reader of the environment."""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import platformdirs

from tachograph.errors import ConfigError

FILE_NAME: Final = "tachograph.toml"
MIB: Final = 1024 * 1024
SPOOL: Final = "spool"  # in the home: what our plug-ins in agents have written and nobody has read yet
CONTENT_MODES: Final = ("none", "redacted", "full")
FORWARDERS: Final = "forwarders"  # the tables of destinations in the file
FOLLOW_WORDS: Final = ("auto", "off", "all")


class Address(NamedTuple):
    """Where a door is bound; port 0 = any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        host = self.host.lower().rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
            return (getattr(address, "ipv4_mapped", None) or address).is_loopback
        except ValueError:
            return False  # a name that may resolve to anything


OTLP_HTTP: Final = Address("127.0.0.1", 4318)  # the ports that every exporter tries by itself
OTLP_GRPC: Final = Address("127.0.0.1", 4317)
WEB: Final = Address("127.0.0.1", 4319)


class Placed(NamedTuple):
    """What a table of the settings file holds, and where it stands, for messages."""

    value: Any
    where: str
    lines: Mapping[str, int] = {}

    def place(self, key: str) -> str:
        """Where one of its keys stands: `tachograph.toml:12: forwarders.acme.url`."""
        line = self.lines.get(key)
        file, _, name = self.where.partition(": ")
        return f"{file if line is None else f'{FILE_NAME}:{line}'}: {name}.{key}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process, checked; the table SETTINGS says what each one means."""

    home: Path
    otlp_http: Address | None = OTLP_HTTP
    otlp_grpc: Address | None = OTLP_GRPC
    web: Address | None = WEB
    ingest_token: str = ""
    web_token: str = ""
    viewer_token: str = ""
    content: str = "redacted"
    follow: str = "auto"
    retention_days: int | None = 90
    retention_bytes: int | None = None
    relay_retention_days: int | None = None  # 0 = as long as retention_days says
    body_bytes_max: int = 64 * MIB
    queue_bytes_max: int = 256 * MIB
    memory_bytes: int | None = None
    forwarders: Mapping[str, Placed] = field(default_factory=dict)  # as they stand in the file: destinations.read

    @property
    def is_personal(self) -> bool:
        """Whether nobody but this machine's user reaches it: every door is on loopback, or closed."""
        return all(door is None or door.is_loopback for door in (self.otlp_http, self.otlp_grpc, self.web))

    def __repr__(self) -> str:
        """Without the tokens: a repr ends up in logs."""
        return (
            f"Settings(home={str(self.home)!r}, otlp_http={self.otlp_http}, otlp_grpc={self.otlp_grpc}, web={self.web})"
        )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where agents write on this machine: the user's home folder, the environment, and the spool of our plug-ins."""

    user_home: Path
    environment: Mapping[str, str]
    spool: Path

    def folders(self, variable: str, *defaults: str) -> list[Path]:
        """The folders that a variable names (a comma between several), else the defaults, relative to the home."""
        named = [text.strip() for text in self.environment.get(variable, "").split(",") if text.strip()]
        return [self.user_home / Path(text).expanduser() for text in named or defaults]


def surroundings(settings: Settings, environ: Mapping[str, str] | None = None) -> Surroundings:
    """Those of this process."""
    return Surroundings(Path.home(), os.environ if environ is None else environ, settings.home / SPOOL)


class BadValueError(ValueError):
    """A value that a parser below does not take; its text is what was expected instead."""


_SECRETS_IN_ADDRESS: Final = (
    # Up to the last @ is who asks: name and password, also where the rest is no address.
    (re.compile(r"^([A-Za-z][\w+.-]*:/*)?.*@", re.DOTALL), r"\g<1>[hidden]@"),
    (re.compile(r"([?#;]).*", re.DOTALL), r"\1[hidden]"),
    # What stands where a port is expected, and is none, is a password without its host.
    (re.compile(r"(:)(?!/)(?!\d{1,5}(?:[/?#,]|$))(?!\[hidden\])[^/?#,]+"), r"\1[hidden]"),
)
_PLAIN: Final = re.compile(r"[\w.-]{1,24}(?:[:/].*)?|[\w-]{1,24}(?:\.[\w-]{1,24})+(?:[:/].*)?", re.DOTALL)
_KEY: Final = re.compile(r"\b(?:sk|pk|rk|ph[cx]|gh[a-z]|glc|glsa|eyJ)[-_\w]{6,}")


def masked(value: Any, *, is_address: bool = False) -> str:
    """A wrong value as a message may repeat it: without what may be a secret in it."""
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if not isinstance(value, str):
        return f"{value!r}"
    text = value
    if is_address or "@" in value or "://" in value:
        for pattern, instead in _SECRETS_IN_ADDRESS:
            text = pattern.sub(instead, text)
        if "://" not in text and "[hidden]" not in text and not _PLAIN.fullmatch(text):
            return "a value"
    return f'"{_KEY.sub("[hidden]", text)}"'


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValueError("a text")
    return value.strip()


def _folder(value: Any) -> Path:
    text = _text(value)
    if not text:
        raise BadValueError("a folder")
    return Path(text).expanduser().absolute()


def _token(value: Any) -> str:
    text = _text(value)
    if not text.isascii() or any(c.isspace() or not c.isprintable() for c in text):
        raise BadValueError("printable ASCII without spaces, as a header can carry it")
    if 0 < len(text) < 16:
        raise BadValueError("at least 16 characters, so that it cannot be guessed")
    return text


def _content(value: Any) -> str:
    if value not in CONTENT_MODES:
        raise BadValueError("none, redacted or full")
    return str(value)


def _follow(value: Any) -> str:
    """Known words as they are, agents as a list without spaces; which agents there are is not known here."""
    names = value if isinstance(value, list) else str(value).split(",") if isinstance(value, str) else []
    given = [name.strip().lower() for name in names if isinstance(name, str) and name.strip()]
    if not given or len(given) < len(names) or (len(given) > 1 and set(given) & set(FOLLOW_WORDS)):
        raise BadValueError("auto, off, all, or names of agents with commas between them")
    return ",".join(given)


_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.%]+\]|[^:\s/\[\]]*):)?(?P<port>\d{1,5})")


def _address(value: Any) -> Address | None:
    """`host:port`, `:port` or `port` (the last two on 127.0.0.1), or `off`."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text.lower() == "off":
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise BadValueError('"host:port", a port of 127.0.0.1, or "off"')
    return Address((match["host"] or "127.0.0.1").strip("[]"), int(match["port"]))


_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("ib", 1024), ("b", 1000))
}


def _bytes(value: Any) -> int:
    """A number of bytes, or a text with a unit: `64 MiB`, `2GB`."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return int(value)
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([a-zA-Z]*)", value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS or float(match[1]) <= 0:
        raise BadValueError('a size such as "64 MiB" or "2 GB"')
    return max(1, math.floor(float(match[1]) * _UNITS[match[2].lower()]))


def _bytes_or_off(value: Any) -> int | None:
    return None if _is_off(value) else _bytes(value)


def _days_or_off(value: Any) -> int | None:
    if _is_off(value):
        return None
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"\d{1,5}", text) or int(text) < 1:
        raise BadValueError('a number of days from 1 to 99999, or "off" to keep everything')
    return int(text)


def _relay_days(value: Any) -> int:
    return _days_or_off(value) or 0


def _is_off(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() == "off"


class Setting(NamedTuple):
    """One setting: its name (also the field of Settings), what it takes, and what it is for."""

    name: str
    type: str
    default: str
    parse: Callable[[Any], Any]
    what: str

    @property
    def env(self) -> str:
        """Its environment variable."""
        return "TACHOGRAPH_" + self.name.upper()

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")


SETTINGS: Final = (
    Setting(
        "home", "folder", "the platform's data folder", _folder, "Everything that is kept; not settable in the file."
    ),
    Setting(
        "otlp_http", "address", "127.0.0.1:4318", _address, 'Where OTLP over HTTP comes in; "off" closes this door.'
    ),
    Setting(
        "otlp_grpc", "address", "127.0.0.1:4317", _address, 'Where OTLP over gRPC comes in; "off" closes this door.'
    ),
    Setting("web", "address", "127.0.0.1:4319", _address, 'Where the pages are; "off" serves none.'),
    Setting("ingest_token", "token", "none", _token, "Senders must show it as a bearer token; needed off loopback."),
    Setting("web_token", "token", "none", _token, "Readers of the pages must show it; needed off loopback."),
    Setting(
        "viewer_token", "token", "none", _token, "Who shows this one instead reads the pages, and changes nothing."
    ),
    Setting("content", "mode", "redacted", _content, "What is kept of prompts and answers: none, redacted or full."),
    Setting(
        "follow",
        "agents",
        "auto",
        _follow,
        'Whose own files are read as they grow: all, off, or names; "auto" is all where every door is on this machine.',
    ),
    Setting(
        "retention_days", "days", "90", _days_or_off, 'Days before this many are forgotten; "off" keeps everything.'
    ),
    Setting(
        "retention_bytes", "size", "off", _bytes_or_off, "The oldest days are forgotten when more than this is kept."
    ),
    Setting(
        "relay_retention_days",
        "days",
        "where only relays work 7",
        _relay_days,
        'A relay forgets what is forwarded after so many days, and a server does not; "off": as retention_days.',
    ),
    Setting("body_bytes_max", "size", "64 MiB", _bytes, "The largest request accepted, decompressed."),
    Setting(
        "queue_bytes_max", "size", "256 MiB", _bytes, "Memory for what is received and not yet stored; beyond: 503."
    ),
    Setting("memory_bytes", "size", "the store's choice", _bytes_or_off, "Memory that the store may use for its work."),
)
_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


def default_home() -> Path:
    """The platform's data folder for this user."""
    return Path(platformdirs.user_data_dir("tachograph", appauthor=False))


def load(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; raises ConfigError for the first that is wrong.

    `flags` holds values by setting name, None = not given. Empty variables count as not set, as everywhere in
    OpenTelemetry.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    variables = {s.name: environ[s.env] for s in SETTINGS if environ.get(s.env, "").strip()}
    values = _parse_all(variables, lambda name: f"environment: {_BY_NAME[name].env}")
    values |= _parse_all(given, lambda name: f"command line: {_BY_NAME[name].flag}")
    home = values.pop("home", None) or default_home()
    settings = Settings(home=home, **(_read_file(home / FILE_NAME) | values))
    body, queue = settings.body_bytes_max, settings.queue_bytes_max
    if queue < body:
        raise ConfigError(
            f"queue_bytes_max: got {queue}; expected {body} (body_bytes_max) or more",
            "raise queue_bytes_max, or lower body_bytes_max",
        )
    _check_tokens(settings)
    return settings


def _check_tokens(settings: Settings) -> None:
    """A token for viewers means something only beside another one for the admin."""
    if settings.viewer_token and not settings.web_token:
        raise ConfigError(
            "viewer_token: got one and no web_token, so everybody is an admin; expected both to be set",
            _example("web_token"),
        )
    if settings.viewer_token and settings.viewer_token == settings.web_token:
        raise ConfigError("viewer_token: got the same as web_token; expected another one", _example("viewer_token"))


def in_file(home: Path) -> dict[str, Any]:
    """The settings that the file in a home gives now, parsed; raises ConfigError where it is wrong."""
    return _read_file(home / FILE_NAME)


def origins(
    home: Path, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Of each setting where `load` took it from: flag, environment, file or default."""
    environ = os.environ if environ is None else environ
    given = {name for name, value in (flags or {}).items() if value is not None}
    written = in_file(home)
    return {
        one.name: "flag" if one.name in given
        else "environment" if environ.get(one.env, "").strip()
        else "file" if one.name in written
        else "default"
        for one in SETTINGS
    }  # fmt: skip


def _parse_all(values: Mapping[str, Any], where: Callable[[str], str]) -> dict[str, Any]:
    return {name: _parse(name, value, where(name)) for name, value in values.items()}


def _parse(name: str, value: Any, where: str) -> Any:
    """One parsed value; a wrong token is never repeated in the message."""
    try:
        return _BY_NAME[name].parse(value)
    except BadValueError as bad:
        shown = "a value" if name.endswith("_token") else masked(value, is_address=_BY_NAME[name].type == "address")
        raise ConfigError(f"{where}: got {shown}; expected {bad}", _example(name)) from None


def _example(name: str) -> str:
    examples = {
        "content": 'content = "redacted"',
        "follow": 'follow = "claude-code, pi"',
        "retention_days": "retention_days = 90",
        "relay_retention_days": "relay_retention_days = 7",
        "home": "a folder that you may write to, such as ~/tachograph",
    }
    by_type = {"address": f'{name} = "127.0.0.1:4318"', "token": "openssl rand -hex 32", "size": f'{name} = "64 MiB"'}
    return examples.get(name) or by_type[_BY_NAME[name].type]


def _read_file(path: Path) -> dict[str, Any]:
    """The settings of the file, none where there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", "make it a readable UTF-8 text file") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+), ", str(error))
        last = len(text.splitlines()) or 1  # where it ends too soon
        where = f"{FILE_NAME}:{line[1] if line else last}"
        raise ConfigError(f"{where}: not valid TOML: {error}", 'one setting a line: content = "redacted"') from None
    forwarders = table.pop(FORWARDERS, {})
    if not isinstance(forwarders, dict):
        where = f"{FILE_NAME}:{_line_of(text, FORWARDERS)}: {FORWARDERS}"
        raise ConfigError(f"{where}: got {masked(forwarders, is_address=True)}; expected tables", "[forwarders.acme]")
    for name in table:
        if name not in _BY_NAME or name == "home":
            raise _unknown(path, _line_of(text, name), name)
    values = _parse_all(table, lambda name: f"{FILE_NAME}:{_line_of(text, name)}: {name}")
    if forwarders:
        values[FORWARDERS] = {name: _placed(text, name, value) for name, value in forwarders.items()}
    return values


def _placed(text: str, name: str, value: Any) -> Placed:
    """A destination's table with the lines of its keys, as far as it is written as a table of its own."""
    header = re.compile(rf"""\s*\[\s*{FORWARDERS}\s*\.\s*["']?{re.escape(name)}["']?\s*[.\]]""")
    first = 0
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header.match(line):
            first = first or number
        elif line.lstrip().startswith("[") and first:
            break
        elif first and (match := re.match(r"""\s*["']?([\w-]+)["']?\s*[=.]""", line)):
            lines.setdefault(match[1], number)
    return Placed(value, f"{FILE_NAME}:{first or _line_of(text, FORWARDERS)}: {FORWARDERS}.{name}", lines)


def _unknown(path: Path, line: int, name: str) -> ConfigError:
    where = f"{path.name}:{line}: {name}"
    if name == "home":
        return ConfigError(f"{where}: got a home folder in the file that lies in it", "set TACHOGRAPH_HOME, or --home")
    names = [FORWARDERS, *(setting.name for setting in SETTINGS if setting.name != "home")]
    near = difflib.get_close_matches(name, names, n=3)
    return ConfigError(
        f"{where}: got an unknown setting; expected one of {', '.join(near or names)}",
        f"rename it to {near[0]}" if near else "remove the line",
    )


def _line_of(text: str, name: str) -> int:
    """The line (from 1) where a top-level key stands; the TOML reader does not tell."""
    pattern = re.compile(rf"""\s*\[{{0,2}}\s*["']?{re.escape(name)}["']?\s*[=.\]]""")
    return next((n for n, line in enumerate(text.splitlines(), start=1) if pattern.match(line)), 1)
