"""Grafana Loki: events as lines, few labels, everything else as structured metadata; and a line for each model call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from tachograph import destinations
from tachograph.destinations import Destination, Option
from tachograph.errors import ConfigError, Rejected
from tachograph.forwarders.contract import CALLS, EVENTS, Accepted, Item, Memory, Part
from tachograph.forwarders.prometheus import authorization
from tachograph.forwarders.prometheus_names import DEFAULT, STRATEGIES, Labels, label_name, label_value
from tachograph.forwarders.temporality import latest_ns
from tachograph.model import Event, Meaning

ROUTE: Final = "push"
PATH: Final = "/loki/api/v1/push"
LINE_BYTES: Final = 250_000  # Loki's default limit is 256 kB
VALUE_CHARS: Final = 4096  # of one text of the metadata
METADATA_BYTES: Final = 60_000  # of a line's metadata: Loki's default limit is 64 kB, and 128 of them
METADATA_MAX: Final = 120
CALL: Final = "tachograph.call"  # the event name of a model call's line
KEEP_NS: Final = 7 * 24 * 3600 * 1_000_000_000
_FORGET_NS: Final = 3600 * 1_000_000_000
_FORGOTTEN: Final = "forgotten"
_PREFIX: Final = "call:"
_LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")
_TOLD_OF_CALLS: Final = (
    "call_id", "session_id", "trace_id", "span_id", "prompt_id", "subagent", "project", "channel", "repository",
    "branch", "operation", "provider", "model", "request_model", "response_model", "response_id", "input_tokens",
    "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "usage_status", "status",
    "http_status", "error_type", "error_message", "finish_reason", "cost_kind",
)  # fmt: skip

OPTIONS: tuple[Option, ...] = (
    Option(
        "url", "URL", "none", destinations.base_url, "Where Loki is; the path of its push API is added.",
        'url = "http://localhost:3100"',
    ),
    Option("calls", "true or false", True, destinations.truth, "A line for each model call, once it is known."),
    *destinations.CREDENTIALS,
    Option("tenant", "text", "none", destinations.text, "Sent as X-Scope-OrgID, which Loki for many tenants asks for."),
    *destinations.CONNECTION,
)  # fmt: skip


class Line(NamedTuple):
    """One line of a stream."""

    labels: Labels
    time_ns: int
    text: str
    metadata: dict[str, str]


def address(destination: Destination) -> str:
    """Where it sends to, for people."""
    from tachograph.forwarders.http import shown  # with no destination it is not needed

    return shown(_push_url(str(destination.options.get("url", ""))))


def from_environment(environ: Mapping[str, str]) -> Destination | None:
    """None: there are no well-known variables that name a Loki to push to."""
    return None


def make(destination: Destination, environment: Mapping[str, str] | None = None) -> Loki:
    """The forwarder; raises ConfigError where there is no `url`."""
    if not destination.options.get("url"):
        raise ConfigError(f"{destination.where}: got no url; expected one", 'url = "http://localhost:3100"')
    return Loki(destination.options, environment or {})


def _push_url(url: str) -> str:
    return url if url.endswith("/push") or not url else url + PATH


class Loki:
    """See contract.Forwarder."""

    derived_signal = "logs"
    takes_changes = False
    parts_max = 1000
    bytes_max = 1024 * 1024

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        from tachograph.forwarders.http import HttpClient
        from tachograph.forwarders.tls import Tls

        self.feeds: tuple[str, ...] = (EVENTS, CALLS) if options.get("calls", True) else (EVENTS,)
        names = ("certificate_authority", "client_certificate", "client_key")
        self._client = HttpClient(
            _push_url(options["url"]),
            authorization(options),
            timeout_s=options.get("timeout", 30),
            tls=Tls(*(options.get(name, "") for name in names)),
            environment=environment,
        )

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        """Forwarder.convert: one line for each record."""
        parts = []
        for item in items:
            line = None
            if isinstance(item.record, Event):
                line = of_event(item.record)
            elif isinstance(item.record, dict) and _is_first(item, memory):
                line = of_call(item.record)
            if line is not None:
                size = len(line.text) + sum(len(name) + len(value) for name, value in line.metadata.items()) + 100
                parts.append(Part(item, ROUTE, line, size))
        times = [part.value.time_ns for part in parts if isinstance(part.item.record, dict)]
        if times:
            _forget(memory, latest_ns(max(times), memory))
        return sorted(parts, key=lambda part: part.value.time_ns)

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        """Forwarder.send."""
        answer = self._client.post("", body([part.value for part in parts]), {"content-type": "application/json"})
        return Accepted(str(answer.status))

    def probe(self) -> Accepted:
        """Forwarder.probe: Loki refuses a request without a line, after it has looked who asks."""
        try:
            answer = self._client.post("", body([]), {"content-type": "application/json"})
        except Rejected as error:
            if error.status not in (400, 422):  # a proxy before it that takes nothing
                raise
            return Accepted(f"it is there ({error.status})")
        return Accepted(str(answer.status))

    def close(self) -> None:
        """Forwarder.close."""
        self._client.close()


def body(lines: Sequence[Line]) -> bytes:
    """The push API's JSON: lines by stream, in order of their times."""
    streams: dict[Labels, list[list[Any]]] = {}
    for line in sorted(lines, key=lambda one: one.time_ns):
        streams.setdefault(line.labels, []).append([str(line.time_ns), line.text, line.metadata])
    return msgspec.json.encode(
        {"streams": [{"stream": dict(labels), "values": values} for labels, values in streams.items()]}
    )


def of_event(event: Event) -> Line | None:
    """An event as a line: its body, or its name where it has none; None without a time."""
    time_ns = event.time_ns or event.observed_ns
    if not time_ns:
        return None
    resource, meant = event.source.resource, event.meaning or Meaning()
    text = event.name if event.body in (None, "") else label_value(event.body)
    service = str(resource.get("service.name") or "unknown_service")
    told = {
        "event_name": event.name, "trace_id": event.trace_id, "span_id": event.span_id, "origin": event.origin,
        "session_id": meant.session_id, "project": meant.project,
    }  # fmt: skip
    level = _LEVELS[min((event.severity - 1) // 4, 5)] if event.severity > 0 else "unknown"
    environment = resource.get("deployment.environment.name") or resource.get("deployment.environment")
    labels = _stream(service, meant.agent or service, level, label_value(environment))
    return Line(labels, time_ns, _cut(text), metadata({**resource, **event.attributes, **_given(told)}))


def of_call(row: dict[str, Any]) -> Line | None:
    """A row of `calls` as a line of JSON; None for the demo's, and without a time."""
    time_ns = row["end_ns"] or row["start_ns"]
    if not time_ns or row.get("is_demo"):
        return None
    agent = row["agent"] or "unknown_service"
    told: dict[str, Any] = {name: row[name] for name in _TOLD_OF_CALLS if row.get(name) not in (None, "")}
    for name, column in (("duration_s", "duration_ns"), ("ttft_s", "ttft_ns"), ("cost_usd", "cost_nanousd")):
        if row[column] is not None:
            told[name] = row[column] / 1e9
    labels = _stream(agent, agent, "info" if row["status"] == "ok" else "error", row["environment"])
    few = ("call_id", "session_id", "trace_id", "span_id", "project", "model", "status", "error_type")
    text = msgspec.json.encode(told).decode()
    return Line(labels, time_ns, _cut(text), metadata({"event_name": CALL, **_given({n: told.get(n) for n in few})}))


def _stream(service: str, agent: str, level: str, environment: str) -> Labels:
    told = {"service_name": service, "agent": agent, "level": level, "environment": environment}
    return tuple((name, label_value(value)) for name, value in sorted(told.items()) if value)


def _given(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value not in (None, "")}


def metadata(told: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as structured metadata, as much as Loki takes."""
    made: dict[str, str] = {}
    left = METADATA_BYTES
    for key, value in told.items():
        name, text = label_name(key, STRATEGIES[DEFAULT]), label_value(value)[:VALUE_CHARS]
        size = len(name) + len(text.encode())
        if name and text and size <= left and len(made) < METADATA_MAX:
            made[name] = text
            left -= size
    return made


def _cut(text: str) -> str:
    """The text as far as a line may be long."""
    packed = text.encode("utf-8", "replace")
    return packed[:LINE_BYTES].decode("utf-8", "ignore")


def _is_first(item: Item, memory: Memory) -> bool:
    """Whether this is what a call was when it was told: a call that changes later would be a second line."""
    key = _PREFIX + item.key
    packed = memory.get(key)
    if packed is not None:
        return item.seq <= int(packed.split(b" ")[0])
    end_ns = item.record["end_ns"] or 0 if isinstance(item.record, dict) else 0
    memory.put(key, b"%d %d" % (item.seq, end_ns))
    return True


def _forget(memory: Memory, now_ns: int) -> None:
    """Forget calls that ended long ago, once in an hour of the records' time."""
    packed = memory.get(_FORGOTTEN)
    if packed is not None and now_ns < int(packed) + _FORGET_NS:
        return
    memory.put(_FORGOTTEN, b"%d" % now_ns)
    for key in memory.keys(_PREFIX):
        told = memory.get(key)
        if told and int(told.split(b" ")[1]) < now_ns - KEEP_NS:
            memory.put(key, None)
