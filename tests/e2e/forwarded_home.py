"""A home that forwards: to a place that takes all, one that is busy, one that knows no such key, one that is choosy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

import recordings
from served import Served
from sink import GOOD, Reply, Request, Sink
from tachograph.cli.recordings import parts_of

# Name of a destination, which is the first part of its path -> what it answers.
ANSWERS: Final = {
    "collector": GOOD,
    "busy": Reply(503, b"no room, come back later", {"Retry-After": "120"}),
    "wrong-key": Reply(401, b"unknown key"),
    "choosy": Reply(400, b"unknown field"),
}
_SENT: Final = ("py-openai-v2", "py-anthropic-native")
_TRIES: Final = 600  # half a second each


@contextmanager
def forwarding(home: Path) -> Iterator[Served]:
    """A server over this home once each destination is in its state; beside them stands one that is not there."""
    with Sink(_answer) as sink:
        home.mkdir(parents=True)
        places = {name: f"{sink.url}/{name}" for name in ANSWERS} | {"away": "http://127.0.0.1:9"}
        tables = (f'[forwarders.{name}]\nkind = "otlp"\nendpoint = "{url}"\n' for name, url in places.items())
        (home / "tachograph.toml").write_text("\n".join(tables), "utf-8")
        server = Served(home)
        try:
            _send(server.otlp)
            _wait(server.web)
            yield server
        finally:
            server.stop()


def _answer(request: Request) -> Reply:
    return ANSWERS[request.path.split("/")[1]]


def _send(otlp: str) -> None:
    for part in parts_of([recordings.CAPTURES / name for name in _SENT]):
        if part.signal and part.path.suffix == ".bin":
            headers = {"Content-Type": "application/x-protobuf"}
            httpx.post(f"{otlp}/v1/{part.signal}", content=part.path.read_bytes(), headers=headers).raise_for_status()


def _wait(web: str) -> None:
    for _ in range(_TRIES):
        if all(map(_is_told, httpx.get(f"{web}/destinations?format=jsonl").text.splitlines())):
            return
        time.sleep(0.5)
    raise SystemExit("forwarding: a destination did not answer; expected each in its state")


def _is_told(line: str) -> bool:
    row: dict[str, Any] = json.loads(line)
    return bool(row["sent"] or row["dead_letters"] or row["failed"])
