"""A kind of destination that is as simple as can be, so that the frame can be tested without any protocol's rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sink import Request
from tachograph import destinations
from tachograph.destinations import Destination, Option
from tachograph.forwarders.contract import CALLS, EVENTS, POINTS, SPANS, STEPS, Accepted, Item, Memory, Part, Step
from tachograph.forwarders.http import HttpClient
from tachograph.model import Event, Span
from tachograph.registry import ForwarderKind

OPTIONS = (
    Option("url", "URL", "none", destinations.url, "Where it is.", 'url = "http://127.0.0.1:1"'),
    Option("key", "text", "none", destinations.text, "Lets in.", is_secret=True),
    Option("timeout", "seconds", 10, destinations.seconds, "How long to wait."),
)
_NUMBER = "number"


class Plain:
    """One JSON list for each request; each record has a running number of its route, which is what it remembers."""

    feeds: tuple[str, ...] = (SPANS, EVENTS, POINTS, CALLS, STEPS)
    derived_signal = "traces"
    takes_changes = False
    parts_max = 20
    bytes_max = 100_000

    def __init__(self, destination: Destination, environment: Mapping[str, str]) -> None:
        options = destination.options
        headers = {"authorization": f"Bearer {options['key']}"} if "key" in options else {}
        timeout_s = options.get("timeout", 60.0)
        self._http = HttpClient(options["url"], headers, timeout_s=timeout_s, environment=environment)

    def convert(self, items: Sequence[Item], memory: Memory) -> list[Part]:
        found = []
        for item in items:
            kind = type(item.record)
            route = {Span: "spans", Event: "events", Step: "steps", dict: "calls"}.get(kind, "points")
            number = int(memory.get(f"{_NUMBER} {route}") or b"0") + 1
            memory.put(f"{_NUMBER} {route}", str(number).encode())
            value = {"key": f"{route} {item.key}", "number": number, "record": msgspec.to_builtins(item.record)}
            found.append(Part(item, route, value, 1000))
        return found

    def send(self, route: str, parts: Sequence[Part]) -> Accepted:
        body = json.dumps([part.value for part in parts]).encode()
        answer = self._http.post(f"/{route}", body, {"content-type": "application/json"})
        told = json.loads(answer.body or b"{}")
        return Accepted(str(answer), told.get("rejected", 0), told.get("why", ""))

    def probe(self) -> Accepted:
        return Accepted(str(self._http.get("/")))

    def close(self) -> None:
        self._http.close()


def received(requests: Iterable[Request]) -> list[str]:
    """The keys of what came, in order."""
    return [value["key"] for request in requests if request.body for value in json.loads(request.body)]


PLAIN = ForwarderKind(OPTIONS, Plain, lambda _: None, lambda destination: str(destination.options["url"]))
