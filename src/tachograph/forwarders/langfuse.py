"""Sends steps to Langfuse, over its OTLP endpoint and under its own attribute names."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tachograph.config import BadValueError
from tachograph.destinations import Destination, Option, base_url, made, one_of, parse, seconds, text, words
from tachograph.errors import ConfigError
from tachograph.forwarders import langfuse_spans
from tachograph.forwarders.contract import STEPS, Accepted, Item, Memory, Part, Step

if TYPE_CHECKING:
    from tachograph.forwarders.http import HttpClient

NAME: Final = "langfuse"
CLOUD: Final = "https://cloud.langfuse.com"
PATH: Final = "/api/public/otel/v1/traces"
ROUTE: Final = "traces"
_PARTS_MAX: Final = 512
_BYTES_MAX: Final = 4 * 1024 * 1024  # Langfuse logs a warning above 16 MB
# 4 = written at once and seen within seconds; without it a slower path is taken.
_HEADERS: Final = {"x-langfuse-ingestion-version": "4"}


def share(value: Any) -> float:
    """A number from 0 to 1, also as a text."""
    try:
        given = float(value)
    except (TypeError, ValueError):
        given = -1.0
    if isinstance(value, bool) or not 0 <= given <= 1:
        raise BadValueError("a number from 0 to 1")
    return given


def _path(value: Any) -> str:
    """A path, with one slash before it."""
    return "/" + text(value).lstrip("/")


def _compression(value: Any) -> str:
    return one_of("gzip", "none")(value.strip().lower() if isinstance(value, str) else value)


def _seconds(value: Any) -> float:
    """Seconds, also as a text."""
    try:
        return seconds(float(value) if isinstance(value, str) else value)
    except ValueError:
        raise BadValueError("a number of seconds above 0") from None


OPTIONS: Final = (
    Option("url", "URL", CLOUD, base_url, "Where Langfuse is: its cloud (EU) if not said.", f'url = "{CLOUD}"'),
    Option("path", "path", PATH, _path, "Where traces are taken there.", 'path = "/otel/v1/traces"'),
    Option("public_key", "text", None, text, "The project's public key.", 'public_key = "pk-lf-..."'),
    Option("secret_key", "text", None, text, "Its secret key.", 'secret_key = "sk-lf-..."', is_secret=True),
    Option(
        "environment",
        "text",
        "the session's",
        text,
        "The environment of everything sent.",
        'environment = "production"',
    ),
    Option("release", "text", "none", text, "The release of everything sent.", 'release = "v2.1"'),
    Option("tags", "list", "none", words, "Tags beside those of agent, channel and session.", 'tags = ["platform"]'),
    Option("sample_rate", "0 to 1", 1, share, "The share of traces that is sent.", "sample_rate = 0.1"),
    Option("compression", "word", "gzip", _compression, "gzip or none.", 'compression = "none"'),
    Option("timeout", "seconds", 10, _seconds, "How long a request may take, with its answer.", "timeout = 5"),
    Option("certificate", "path", "the system's", text, "Authorities to trust (PEM).", 'certificate = "/etc/ca.pem"'),
)
# Of Langfuse's own SDK; the later name of two is the older one.
_VARIABLES: Final = (
    ("url", ("LANGFUSE_BASE_URL", "LANGFUSE_HOST")),
    ("path", ("LANGFUSE_OTEL_TRACES_EXPORT_PATH",)),
    ("compression", ("LANGFUSE_OTEL_COMPRESSION",)),
    ("public_key", ("LANGFUSE_PUBLIC_KEY",)),
    ("secret_key", ("LANGFUSE_SECRET_KEY",)),
    ("environment", ("LANGFUSE_TRACING_ENVIRONMENT",)),
    ("release", ("LANGFUSE_RELEASE",)),
    ("sample_rate", ("LANGFUSE_SAMPLE_RATE",)),
    ("timeout", ("LANGFUSE_TIMEOUT",)),
)


def from_environment(environ: Mapping[str, str]) -> Destination | None:
    """The destination that the variables of Langfuse's SDK name, None where they name none."""
    environ = {name: value for name, value in environ.items() if value.strip()}
    keys = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
    missing = [name for name in keys if not environ.get(name)]
    if len(missing) == len(keys):
        return None
    if missing:
        given = next(name for name in keys if name not in missing)
        raise ConfigError(f"{given}: got no {missing[0]} beside it; expected both keys", f"export {missing[0]}=...")
    options = {option.name: option for option in OPTIONS}
    values: dict[str, Any] = {}
    for name, variables in _VARIABLES:
        variable = next((one for one in variables if environ.get(one)), None)
        if variable is not None:
            values[name] = parse(options[name], environ[variable], variable)
    if environ.get("LANGFUSE_TRACING_ENABLED", "").strip().lower() == "false":
        values["enabled"] = False
    return made(NAME, NAME, keys[0], values)


def address(destination: Destination) -> str:
    """Where it sends, to show."""
    from tachograph.forwarders.http import shown  # with no destination it is not needed

    return shown(destination.options.get("url", CLOUD))


def make(destination: Destination, environment: Mapping[str, str]) -> Langfuse:
    """A forwarder to the destination; raises ConfigError where a key is missing."""
    from tachograph.forwarders.http import TIMEOUT_S, HttpClient  # as in `address`
    from tachograph.forwarders.tls import Tls

    options = destination.options
    for name in ("public_key", "secret_key"):
        if not options.get(name):
            raise ConfigError(f"{destination.where}: got no {name}; expected the project's", f'{name} = "..."')
    if str(options["public_key"]).startswith("sk-") and str(options["secret_key"]).startswith("pk-"):
        what = "got the secret key as public_key and the public key as secret_key; expected them the other way round"
        raise ConfigError(f"{destination.where}: {what}", 'public_key = "pk-lf-..." and secret_key = "sk-lf-..."')
    credentials = f"{options['public_key']}:{options['secret_key']}".encode()
    client = HttpClient(
        options.get("url", CLOUD),
        _HEADERS | {"authorization": "Basic " + b64encode(credentials).decode()},
        timeout_s=options.get("timeout", TIMEOUT_S),
        tls=Tls(authority=options.get("certificate", "")),
        environment=environment,
    )
    shaping = langfuse_spans.Shaping(
        environment=options.get("environment", ""),
        release=options.get("release", ""),
        tags=options.get("tags", ()),
    )
    is_gzipped = options.get("compression", "gzip") == "gzip"
    return Langfuse(client, shaping, options.get("sample_rate", 1.0), options.get("path", PATH), is_gzipped)


class Langfuse:
    """One Langfuse project."""

    feeds: tuple[str, ...] = (STEPS,)
    derived_signal = "traces"
    takes_changes = True  # spans of the same id replace each other
    parts_max = _PARTS_MAX
    bytes_max = _BYTES_MAX

    def __init__(
        self, client: HttpClient, shaping: langfuse_spans.Shaping, sample_rate: float, path: str, is_gzipped: bool
    ) -> None:
        self._client = client
        self._path = path
        self._is_gzipped = is_gzipped
        self._shaping = shaping
        self._bound = round(sample_rate * 2**64)

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        """Forwarder.convert."""
        parts = []
        for item in items:
            if isinstance(item.record, Step):
                span = self._shaping.span(item.record)
                # As the SDK samples: by the last 64 bits of the trace, so that a trace is there or is not.
                if int(span.trace_id[16:], 16) < self._bound:
                    parts.append(Part(item, ROUTE, span, langfuse_spans.size_of(span)))
        return parts

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        """Forwarder.send."""
        from tachograph import otlp_messages  # protobuf is slow to import

        body = otlp_messages.traces([part.value for part in parts]).SerializeToString()
        answer = self._client.post(
            self._path, body, {"content-type": "application/x-protobuf"}, is_gzipped=self._is_gzipped
        )
        rejected, why = _errors(answer.status, answer.body)
        return Accepted(str(answer), rejected, why)

    def probe(self) -> Accepted:
        """Forwarder.probe: a request without spans is checked and leaves nothing."""
        return self.send(ROUTE, [])

    def close(self) -> None:
        """Forwarder.close."""
        self._client.close()


def _errors(status: int, body: bytes) -> tuple[int, str]:
    """What a mixed answer (207) says was not taken: how much, and why the first."""
    if status != 207:
        return 0, ""
    try:
        errors = msgspec.json.decode(body)["errors"]
        return len(errors), str(errors[0].get("message") or errors[0].get("error")) if errors else ""
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return 0, ""
