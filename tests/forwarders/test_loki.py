"""Loki: few labels, the rest as metadata, lines in order, and each call once."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from fillings import NOON, SECOND
from notes import Notes
from recordings import CAPTURES, prepared, requests
from sink import Reply, Sink
from tachograph.destinations import Destination
from tachograph.errors import ConfigError
from tachograph.forwarders import loki, prometheus
from tachograph.forwarders.contract import Item
from tachograph.forwarders.loki import LINE_BYTES, METADATA_MAX, Loki
from tachograph.model import Event, Meaning, Source
from told import CALL, golden

SOURCE = Source({"service.name": "claude-code", "service.version": "2", "deployment.environment.name": "prod"})


def made(url: str = "http://127.0.0.1:1", **options: Any) -> Loki:
    return loki.make(Destination("l", "loki", "l", options={"url": url, **options}), {})


def event(second: int, **more: Any) -> Item:
    told: dict[str, Any] = {"severity": 9, "body": "claude_code.tool_result", "trace_id": "0af7", **more}
    attributes = told.pop("attributes", {"tool_name": "Bash", "event.sequence": 3, "success": True})
    meaning = Meaning(session_id="s1", agent="claude-code", project="web")
    record = Event(SOURCE, NOON + second * SECOND, "claude_code.tool_result", attributes, meaning=meaning, **told)
    return Item(f"e{second}", 1, record)


def call(seq: int = 1, **more: Any) -> Item:
    row = {**CALL, "end_ns": NOON, "start_ns": NOON - SECOND, "environment": "", "session_id": "s1", "model": "big"}
    return Item("c1", seq, {**row, "ttft_ns": None, **more})


def test_a_request() -> None:
    with Sink(lambda _: Reply(204)) as sink:
        to = made(sink.url, tenant="acme")
        parts = to.convert([event(2), event(1, severity=17), call()], Notes())
        assert to.send("push", parts).answer == "204"
        to.close()
    [request] = sink.requests
    assert request.path == "/loki/api/v1/push" and request.headers["x-scope-orgid"] == "acme"
    streams = {tuple(one["stream"].values()): one for one in json.loads(request.body)["streams"]}
    told = streams["claude-code", "prod", "info", "claude-code"]
    assert set(told["stream"]) == {"agent", "environment", "level", "service_name"}
    [[time, line, metadata]] = told["values"]
    assert (time, line) == (str(NOON + 2 * SECOND), "claude_code.tool_result")
    assert metadata["tool_name"] == "Bash" and metadata["success"] == "true" and metadata["event_sequence"] == "3"
    assert metadata["trace_id"] == "0af7" and metadata["session_id"] == "s1" and metadata["service_version"] == "2"
    [[_, line, metadata]] = streams["pi", "info", "pi"]["values"]
    assert json.loads(line)["cost_usd"] == 0.007 and metadata["call_id"] == "call_1"


def test_lines_are_in_order_of_their_times() -> None:
    parts = made().convert([event(3), event(1), event(2)], Notes())
    [stream] = json.loads(loki.body([part.value for part in reversed(parts)]))["streams"]
    assert [int(value[0]) for value in stream["values"]] == [NOON + n * SECOND for n in (1, 2, 3)]


def test_a_call_that_changes_is_no_second_line() -> None:
    memory, to = Notes(), made()
    assert len(to.convert([call(1)], memory)) == 1
    assert len(to.convert([call(1)], memory)) == 1, "what is read again is told again"
    assert to.convert([call(2, output_tokens=70)], memory) == []
    assert made(calls=False).feeds == ("events",)


def test_what_is_too_long_is_cut() -> None:
    many = {f"key.{number}": "x" * 10_000 for number in range(300)}
    [part] = made().convert([event(1, body="é" * LINE_BYTES, attributes=many)], Notes())
    assert len(part.value.text.encode()) <= LINE_BYTES
    assert len(part.value.metadata) <= METADATA_MAX
    assert sum(len(name) + len(value) for name, value in part.value.metadata.items()) < 64_000


@pytest.mark.parametrize(("body", "line"), [(None, "said"), ({"a": 1}, '{"a":1}'), ("hello", "hello")])
def test_the_line_is_the_body_or_the_name(body: Any, line: str) -> None:
    record = Event(SOURCE, NOON, "said", {}, body=body)
    [part] = made().convert([Item("e", 1, record)], Notes())
    assert part.value.text == line and ("level", "unknown") in part.value.labels


def test_probing_and_what_is_missing() -> None:
    with Sink(lambda _: Reply(422, b"at least one valid stream is required")) as sink:
        to = made(sink.url)
        assert "422" in to.probe().answer
        to.close()
    with pytest.raises(ConfigError, match="got no url"):
        loki.make(Destination("l", "loki", "tachograph.toml:3", options={}), {})


@pytest.mark.parametrize("name", ["claude-code-errors", "codex-errors"])
def test_recordings_give_the_lines_that_they_gave(name: str) -> None:
    events = [event for batch in requests(CAPTURES / name) for event in prepared(batch, "none").events][:4]
    lines = [line for event in events if (line := loki.of_event(event)) is not None]
    told = json.loads(loki.body(lines))
    assert told == golden("loki", name, told, os.environ.get("TACHOGRAPH_GOLDEN") == "write")
    assert lines


@pytest.mark.parametrize("kind", [loki, prometheus])
def test_the_address_shows_no_secret(kind: Any) -> None:
    to = Destination("x", "x", "x", options={"url": "https://me:secret@host/push?key=secret", "token": "secret"})
    assert "secret" not in kind.address(to) and "host" in kind.address(to)
