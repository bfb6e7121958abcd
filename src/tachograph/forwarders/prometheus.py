"""Prometheus and what takes its remote write (Mimir, Thanos, VictoriaMetrics, Grafana Cloud): series that only grow.

It sends metrics as they came in, as totals, and what the ledger makes of calls and steps (prometheus_calls). Where
`scrape` is on the same series stand at `/metrics`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from socket import gethostname
from typing import Any, Final

import msgspec

from tachograph import destinations
from tachograph.config import BadValueError
from tachograph.destinations import Destination, Option
from tachograph.errors import ConfigError, Rejected
from tachograph.forwarders import prometheus_calls, prometheus_points
from tachograph.forwarders.contract import CALLS, POINTS, STEPS, Accepted, Item, Memory, Part, Step
from tachograph.forwarders.prometheus_calls import DERIVED, Calls
from tachograph.forwarders.prometheus_names import DEFAULT, STRATEGIES, Labels, metric_name
from tachograph.forwarders.prometheus_points import Points
from tachograph.forwarders.prometheus_scrapes import Scrapes
from tachograph.forwarders.prometheus_series import FORGET_MS, Gain, Streams, digest
from tachograph.forwarders.prometheus_wire import STALE, Family, Series, joined, of_instance, version_1, version_2
from tachograph.forwarders.temporality import latest_ns
from tachograph.model import Point

ROUTE: Final = "write"
_VERSIONS: Final = ("auto", "1.0", "2.0")
_HEADERS: Final = {
    1: {"content-type": "application/x-protobuf", "x-prometheus-remote-write-version": "0.1.0"},
    2: {
        "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "x-prometheus-remote-write-version": "2.0.0",
    },
}
# A server that says one of these has taken all other samples of the request.
_PARTLY: Final = (
    "out of order", "out-of-order", "out of bounds", "duplicate sample", "too old", "too far in the future",
    "err-mimir-sample", "err-mimir-too-far",
)  # fmt: skip
_TARGET: Final = "target:"
_TARGET_MS: Final = 60_000  # between two samples of target_info
_FORGOTTEN: Final = "forgotten"
_FORGET_NS: Final = 3600 * 1_000_000_000
_SAMPLE_BYTES: Final = 16
_SERIES_BYTES: Final = 120
_AT_ONCE: Final = 20  # series of one part: what a server finds too much can be halved
_Target = tuple[int, Labels]  # when it was said last, and its labels


def _labels(value: Any) -> tuple[str, ...]:
    return destinations.words(value) if value else ()


def _optional_text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValueError("a text")
    return value.strip()


OPTIONS: tuple[Option, ...] = (
    Option(
        "url", "URL", "none", destinations.url, "Where remote write goes, with its path.",
        'url = "http://localhost:9090/api/v1/write"',
    ),
    Option(
        "scrape", "true or false", False, destinations.truth,
        "True shows the same series at /metrics of the pages' address; then `url` may be left out.",
    ),
    Option(
        "version", "version", "auto", destinations.one_of(*_VERSIONS),
        "Of remote write: 1.0, 2.0, or auto, which is 2.0 where the server takes it.", 'version = "1.0"',
    ),
    Option(
        "names", "strategy", DEFAULT, destinations.one_of(*STRATEGIES),
        "How metrics are named, by the words of Prometheus' own setting. Mimir's default is "
        "UnderscoreEscapingWithoutSuffixes.",
        'names = "UnderscoreEscapingWithoutSuffixes"',
    ),
    Option(
        "spellings", "word", "one", destinations.one_of("one", "both"),
        "Both writes every metric with and without unit and `_total`, for dashboards that expect either.",
        'spellings = "both"',
    ),
    Option(
        "derived", "true or false", True, destinations.truth,
        "Metrics made of calls and steps, in the place of those of the same name that came in.",
    ),
    Option(
        "keep_labels", "list", "none", _labels,
        "Attributes that become labels although they have many values.", 'keep_labels = ["user.id"]',
    ),
    Option("job", "text", "the service", _optional_text, "The label `job` of all series.", 'job = "otel-collector"'),
    Option(
        "instance", "text", "this machine's name", _optional_text,
        "The label `instance` of what is written: all that write to one server need their own.", 'instance = "laptop"',
    ),
    *destinations.CREDENTIALS,
    Option("tenant", "text", "none", destinations.text, "Sent as X-Scope-OrgID, which Mimir asks for."),
    *destinations.CONNECTION,
)  # fmt: skip


def address(destination: Destination) -> str:
    """Where it sends to, for people."""
    from tachograph.forwarders import http  # with no destination it is not needed

    url = destination.options.get("url")
    return http.shown(url) if url else "/metrics"


def from_environment(environ: Mapping[str, str]) -> Destination | None:
    """None: there are no well-known variables that name a Prometheus to write to."""
    return None


def make(destination: Destination, environment: Mapping[str, str] | None = None) -> Prometheus:
    """The forwarder; raises ConfigError where neither `url` nor `scrape` is given."""
    options = destination.options
    if not options.get("url") and not options.get("scrape"):
        raise ConfigError(
            f"{destination.where}: got neither url nor scrape; expected one of them",
            'url = "http://localhost:9090/api/v1/write"',
        )
    return Prometheus(options, environment or {})


def scrapes(memories: Sequence[Memory], clock: Callable[[], int]) -> Scrapes:
    """What `/metrics` says of the series in these memories; one for as long as the process runs."""
    return Scrapes(memories, clock)


def authorization(options: Mapping[str, Any]) -> dict[str, str]:
    """The headers that say who sends."""
    told = dict(options.get("headers") or {})
    if token := options.get("token"):
        told["authorization"] = f"Bearer {token}"
    elif user := options.get("username"):
        pair = f"{user}:{options.get('password', '')}".encode()
        told["authorization"] = f"Basic {b64encode(pair).decode()}"
    if tenant := options.get("tenant"):
        told["x-scope-orgid"] = tenant
    return told


class Prometheus:
    """See contract.Forwarder."""

    derived_signal = "metrics"
    takes_changes = False
    parts_max = 500
    bytes_max = 2 * 1024 * 1024

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._is_derived = bool(options.get("derived", True))
        self.feeds: tuple[str, ...] = (POINTS, CALLS, STEPS) if self._is_derived else (POINTS,)
        self._job = str(options.get("job", ""))
        self._instance = str(options.get("instance", gethostname()))
        self._keep: tuple[str, ...] = options.get("keep_labels", ())
        wanted = STRATEGIES[options.get("names", DEFAULT)]
        other = wanted._replace(has_suffixes=not wanted.has_suffixes)
        self._strategies = (wanted, other) if options.get("spellings") == "both" else (wanted,)
        version = options.get("version", "auto")
        self._version = 1 if version == "1.0" else 2
        self._may_fall_back = version == "auto"
        self._client = None
        if options.get("url"):
            from tachograph.forwarders.http import HttpClient
            from tachograph.forwarders.tls import Tls

            names = ("certificate_authority", "client_certificate", "client_key")
            self._client = HttpClient(
                options["url"],
                authorization(options),
                timeout_s=options.get("timeout", 30),
                tls=Tls(*(options.get(name, "") for name in names)),
                environment=environment,
            )

    def names(self, name: str, unit: str, type_: str, is_monotonic: bool) -> tuple[str, ...]:
        """The names of a metric, each once."""
        made = (metric_name(name, unit, type_, is_monotonic, strategy) for strategy in self._strategies)
        return tuple(dict.fromkeys(filter(None, made)))

    # -- from records to samples -----------------------------------------------------------------------------------

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        """Forwarder.convert: a part for each record that makes samples."""
        points = Points(memory, self.names, self._keep, self._job)
        calls = Calls(memory, self.names, self._job, self._keep)
        gains: list[tuple[Gain, int]] = []
        for index, item in enumerate(items):
            gains += ((gain, index) for gain in self._gains(item.record, points, calls))
        if not gains:
            return []
        for gain, _ in gains:  # one that is ahead would hold up all that add to its series, and end the others
            gain.time_ns = latest_ns(gain.time_ns, memory)
        gains.sort(key=lambda one: one[0].time_ns)
        order = {index: place for place, (_, index) in enumerate(gains)}  # records in the order of their samples
        streams = Streams(memory)
        for gain, index in gains:
            streams.add(gain, order[index])
        now_ns, last = gains[-1][0].time_ns, len(gains) - 1
        streams.keep(last, now_ns // 1_000_000)
        self._forget(memory, now_ns)
        made = streams.made
        targets = _targets(items, points, memory, now_ns // 1_000_000)
        if targets:
            made.setdefault(last, []).extend(targets)
        return [
            _part(items[gains[place][1]], some[at : at + _AT_ONCE])
            for place, some in sorted(made.items())
            for at in range(0, len(some), _AT_ONCE)
        ]

    def _gains(self, record: Any, points: Points, calls: Calls) -> list[Gain]:
        if isinstance(record, Point):
            if self._is_derived and record.name in DERIVED:
                return []
            gain = points.gain(record)
            return [] if gain is None else [gain]
        if isinstance(record, Step):
            return calls.of_step(record)
        return calls.of_call(record) if isinstance(record, dict) else []

    def _forget(self, memory: Memory, now_ns: int) -> None:
        """Once in an hour of the records' time."""
        packed = memory.get(_FORGOTTEN)
        if packed is not None and now_ns < int(packed) + _FORGET_NS:
            return
        memory.put(_FORGOTTEN, str(now_ns).encode())
        prometheus_points.forget(memory, now_ns)
        prometheus_calls.forget(memory, now_ns)
        for key in memory.keys(_TARGET):
            packed = memory.get(key)
            if packed and msgspec.msgpack.decode(packed, type=_Target)[0] < now_ns // 1_000_000 - FORGET_MS:
                memory.put(key, None)

    # -- on the wire -----------------------------------------------------------------------------------------------

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        """Forwarder.send."""
        return self._write(of_instance(joined(series for part in parts for series in part.value), self._instance))

    def probe(self) -> Accepted:
        """Forwarder.probe: a request without a series."""
        return self._write([])

    def close(self) -> None:
        """Forwarder.close."""
        if self._client is not None:
            self._client.close()

    def _write(self, series: list[Series]) -> Accepted:
        if self._client is None:
            return Accepted("kept to be scraped")
        import cramjam

        from tachograph.forwarders.http import NotTakenError

        body = (version_2 if self._version == 2 else version_1)(series)
        headers = {**_HEADERS[self._version], "content-encoding": "snappy"}
        packed = bytes(cramjam.snappy.compress_raw(body))
        try:
            answer = self._client.post("", packed, headers, is_gzipped=False)
        except NotTakenError:
            if self._falls_back():
                return self._write(series)
            raise
        except Rejected as error:
            if error.status == 400 and any(word in error.what for word in _PARTLY):
                return Accepted("400", rejected=1, why=error.what)  # how many it does not say
            raise
        is_understood = self._version == 1 or "x-prometheus-remote-write-samples-written" in answer.headers
        if not is_understood and self._falls_back():
            return self._write(series)  # an older server: it took nothing of what it does not know
        return Accepted(str(answer.status))

    def _falls_back(self) -> bool:
        """Go on with version 1.0, where the settings leave that open."""
        if self._version == 1 or not self._may_fall_back:
            return False
        self._version = 1
        return True


def _part(item: Item, series: list[Series]) -> Part:
    samples = sum(len(one.samples) for one in series)
    return Part(item, ROUTE, series, samples * _SAMPLE_BYTES + len(series) * _SERIES_BYTES)


def _targets(items: Sequence[Item], points: Points, memory: Memory, now_ms: int) -> list[Series]:
    """`target_info` of the senders: what else is known of each `job`, and what ended."""
    found: dict[str, Labels] = {}
    for item in items:
        if isinstance(item.record, Point):
            resource = item.record.source.resource
            identity = digest(text for pair in sorted(points.resource_labels(resource).items()) for text in pair)
            found[identity] = points.target(resource)
    made: list[Series] = []
    for identity, labels in found.items():
        key = _TARGET + identity
        packed = memory.get(key)
        told = msgspec.msgpack.decode(packed, type=_Target) if packed else None
        if not labels or (told is not None and told[1] == labels and now_ms < told[0] + _TARGET_MS):
            continue
        if told is not None and told[1] != labels:
            made.append(_target(told[1], max(now_ms, told[0] + 1), STALE))
        ms = max(now_ms, told[0] + 1 if told else 0)
        made.append(_target(labels, ms, 1.0))
        memory.put(key, msgspec.msgpack.encode((ms, labels)))
    return made


def _target(labels: Labels, ms: int, value: float) -> Series:
    family = Family("target_info", "gauge", "", "What is known of a sender.")
    return Series(tuple(sorted((("__name__", "target_info"), *labels))), family, 0, [(ms, value)])
