"""OTLP, for whatever takes OpenTelemetry: its settings, and what the variables of OpenTelemetry say of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from tachograph import destinations
from tachograph.config import BadValueError, masked
from tachograph.destinations import SIGNALS, Destination, Option
from tachograph.errors import ConfigError
from tachograph.forwarders.contract import Forwarder

HTTP_PROTOBUF: Final = "http/protobuf"
HTTP_JSON: Final = "http/json"
GRPC: Final = "grpc"
AS_RECEIVED: Final = "as received"
_PORTS: Final = {GRPC: "http://localhost:4317"}
_HTTP: Final = "http://localhost:4318"


def _endpoint(value: Any) -> str:
    """A URL as it is, or host:port."""
    given = destinations.text(value)
    if "://" in given:
        destinations.url(given)
        return given
    try:
        parts = urlsplit(f"//{given}")
        is_good = bool(parts.hostname and parts.port) and parts.netloc == given
    except ValueError:
        is_good = False
    if not is_good or any(c.isspace() or not c.isprintable() for c in given):
        raise BadValueError("a URL with a scheme and a host, or host:port for gRPC")
    return given


_MILLISECONDS_MAX: Final = 86_400_000
_COMPRESSION: Final = destinations.one_of("gzip", "none")
_PROTOCOL: Final = destinations.one_of(HTTP_PROTOBUF, HTTP_JSON, GRPC)
_CONNECTION: Final = (
    Option(
        "endpoint",
        "URL",
        _HTTP,
        _endpoint,
        "Where it listens; over HTTP, `/v1/traces`, `/v1/logs` and `/v1/metrics` are put behind it.",
        'endpoint = "https://collector.example:4318"',
    ),
    Option("protocol", "word", HTTP_PROTOBUF, _PROTOCOL, "http/protobuf, http/json or grpc.", 'protocol = "grpc"'),
    Option(
        "headers",
        "table",
        "none",
        destinations.headers,
        "Headers of every request, for example a key.",
        'headers = { authorization = "Bearer ..." }',
        is_secret=True,
    ),
    Option("compression", "word", "gzip", _COMPRESSION, "gzip or none.", 'compression = "none"'),
    Option(
        "timeout",
        "seconds",
        10.0,
        destinations.seconds,
        "How long a request may take, with its answer.",
        "timeout = 30",
    ),
    Option(
        "certificate", "path", "the system's", destinations.text, "PEM file of the authorities that it is signed by."
    ),
    Option("client_certificate", "path", "none", destinations.text, "PEM file of our own certificate."),
    Option("client_key", "path", "none", destinations.text, "PEM file of its key."),
    Option("insecure", "true or false", False, destinations.truth, "gRPC to host:port without TLS."),
)
_SHAPE: Final = (
    Option(
        "shape",
        "word",
        "received",
        destinations.one_of("received", "normalised"),
        "received: spans, logs and metrics as they came. normalised: prompts, calls and tool runs of every source as "
        "GenAI spans, and the client metrics of the calls.",
        'shape = "normalised"',
    ),
    Option(
        "generation",
        "word",
        "B",
        destinations.one_of("A", "B", "C"),
        "Names of normalised attributes: A (conventions up to 1.36), B (1.37 to 1.41) or C (the latest).",
        'generation = "C"',
    ),
    Option(
        "temporality",
        "word",
        AS_RECEIVED,
        destinations.one_of(AS_RECEIVED, "cumulative", "delta"),
        "How counters and histograms count: as received, cumulative (Mimir, Prometheus) or delta (Datadog).",
        'temporality = "cumulative"',
    ),
    Option(
        "resource",
        "table",
        "none",
        lambda value: _resource(value),
        "Attributes for every resource that does not have them.",
        'resource = { "deployment.environment.name" = "team-a" }',
    ),
)


def _resource(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise BadValueError("a table of names and texts")
    return dict(value)


def _of_signal(signal: str) -> Iterator[Option]:
    for option in _CONNECTION:
        what = f"The same for {signal} alone"
        what += "; an address as it is, nothing is put behind it." if option.name == "endpoint" else "."
        yield option._replace(name=f"{signal}_{option.name}", default=f"{option.name}", what=what, example="")


OPTIONS: Final = (*_CONNECTION, *_SHAPE, *(option for signal in SIGNALS for option in _of_signal(signal)))


class Connection(NamedTuple):
    """Where and how one signal is sent. `is_whole`: the address is that of the signal, with nothing behind it."""

    endpoint: str
    protocol: str
    headers: dict[str, str]
    is_gzipped: bool
    timeout_s: float
    certificate: str
    client_certificate: str
    client_key: str
    is_insecure: bool
    is_whole: bool


def connection(destination: Destination, signal: str) -> Connection:
    """What the options say of one signal; raises ConfigError."""
    options = destination.options

    def of(name: str, default: Any) -> Any:
        return options.get(f"{signal}_{name}", options.get(name, default))

    protocol = of("protocol", HTTP_PROTOBUF)
    endpoint = of("endpoint", _PORTS.get(protocol, _HTTP))
    if protocol != GRPC and "://" not in endpoint:
        name = f"{signal}_endpoint" if f"{signal}_endpoint" in options else "endpoint"
        expected = f'a URL with a scheme, or protocol = "{GRPC}"'
        raise ConfigError(
            f"{destination.where}: {name}: got {masked(endpoint, is_address=True)}; expected {expected}",
            f'{name} = "http://{"host:port" if "@" in endpoint else endpoint}"',
        )
    return Connection(
        endpoint,
        protocol,
        of("headers", {}),
        of("compression", "gzip") == "gzip",
        of("timeout", 10.0),
        of("certificate", ""),
        of("client_certificate", ""),
        of("client_key", ""),
        of("insecure", False),
        f"{signal}_endpoint" in options,
    )


def make(destination: Destination, environment: Mapping[str, str]) -> Forwarder:
    """The forwarder of a destination; raises ConfigError."""
    from tachograph.forwarders.otlp_sending import Otlp  # only where there is one: it brings half of protobuf

    return Otlp(destination, environment)


def address(destination: Destination) -> str:
    """Where it sends to, for people."""
    found = dict.fromkeys(connection(destination, signal).endpoint for signal in destination.signals)
    return ", ".join(_without_secrets(one) for one in found)


def _without_secrets(endpoint: str) -> str:
    given = re.split(r"[?#]", endpoint, maxsplit=1)[0]
    scheme, sign, rest = given.partition("://") if "://" in given else ("", "", given)
    return f"{scheme}{sign}{rest.rpartition('@')[2]}"


# -- variables --------------------------------------------------------------------------------------------------------


def _pairs(value: str, is_strict: bool = False) -> dict[str, str]:
    """`k=v,k2=v2` with values percent-encoded; raises BadValueError."""
    found = {}
    for pair in value.split(","):
        if not pair.strip():
            continue
        name, sign, text = pair.partition("=")
        text = text if is_strict else text.partition(";")[0]
        if not sign or not name.strip():
            raise BadValueError("name=value pairs with commas between them")
        found[unquote(name.strip())] = unquote(text.strip(), errors="strict")
    return found


def _pairs_checked(value: Any) -> dict[str, str]:
    try:
        return destinations.headers(_pairs(value))
    except UnicodeDecodeError:
        raise BadValueError("percent-encoded UTF-8") from None


def _milliseconds(value: Any) -> float:
    match = re.fullmatch(r"\s*([0-9]{1,8})\s*", str(value))
    if match is None or not 0 < int(match[1]) < _MILLISECONDS_MAX:
        raise BadValueError(f"a whole number of milliseconds above 0 and below {_MILLISECONDS_MAX}")
    return int(match[1]) / 1000


def _word(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A word in small or capital letters, as the specification has it for variables."""
    return lambda value: parse(str(value).strip().lower())


def _truth(value: Any) -> bool:
    return bool(str(value).strip().lower() == "true")  # by the specification: anything else is false


# How the variables say what the options do, where that differs.
_PARSE: Final[dict[str, Callable[[Any], Any]]] = {
    "headers": _pairs_checked,
    "timeout": _milliseconds,
    "insecure": _truth,
    "protocol": _word(_PROTOCOL),
    "compression": _word(_COMPRESSION),
}
_TEMPORALITY: Final = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"


def from_environment(environ: Mapping[str, str]) -> Destination | None:
    """The destination that OpenTelemetry's variables name, None where none names an endpoint; raises ConfigError."""
    given = {name: value for name, value in environ.items() if value.strip()}
    endpoints = [f"OTEL_EXPORTER_OTLP_{prefix}ENDPOINT" for prefix in ("", *(f"{one.upper()}_" for one in SIGNALS))]
    where = next((name for name in endpoints if name in given), None)
    if where is None:
        return None  # what else is set is for other programs
    values: dict[str, Any] = {}
    for prefix, before in (("", ""), *((f"{signal.upper()}_", f"{signal}_") for signal in SIGNALS)):
        for option in _CONNECTION:
            variable = f"OTEL_EXPORTER_OTLP_{prefix}{option.name.upper()}"
            if variable in given:
                told = option._replace(parse=_PARSE.get(option.name, option.parse), example=f"{variable}=...")
                values[before + option.name] = destinations.parse(told, given[variable], variable)
    signals = tuple(signal for signal in SIGNALS if _is_sent(signal, values, given))
    if not signals:
        return None
    if _TEMPORALITY in given:
        known = destinations.one_of("cumulative", "delta", "lowmemory")
        word = destinations.parse(
            Option("temporality", "word", "", known, "", f"{_TEMPORALITY}=delta"),
            given[_TEMPORALITY].lower(),
            _TEMPORALITY,
        )
        values["temporality"] = "delta" if word == "lowmemory" else word
    values |= {"signals": signals, "resource": _resource_of(given)}
    return destinations.made("otlp", "otlp", where, values)


def _is_sent(signal: str, values: Mapping[str, Any], given: Mapping[str, str]) -> bool:
    has_endpoint = "endpoint" in values or f"{signal}_endpoint" in values
    exporters = [one.strip() for one in given.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(",")]
    return has_endpoint and "otlp" in exporters


def _resource_of(given: Mapping[str, str]) -> dict[str, str]:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME; the first counts whole or not at all, by the specification."""
    try:
        found = _pairs(given.get("OTEL_RESOURCE_ATTRIBUTES", ""), is_strict=True)
    except (BadValueError, UnicodeDecodeError):
        found = {}
    if "OTEL_SERVICE_NAME" in given:
        found["service.name"] = given["OTEL_SERVICE_NAME"].strip()
    return found
