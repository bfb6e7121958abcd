"""Talking to the server that holds the store: one process may open it, so every other one asks that."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tachograph.config import Address
from tachograph.errors import Busy, ConfigError, Corrupt, QueryError, Rejected, TachographError
from tachograph.model import Batch
from tachograph.questions import wire
from tachograph.scan import Columns, Match, Scan
from tachograph.store.folder import FolderLock

# What a running server writes into its home, readable by its owner only.
FILE_NAME: Final = "server.json"
_SETTLED_S: Final = 10.0
_LOOK_S: Final = 0.05
_TAKEN_OVER_S: Final = 10.0
_TIMEOUT_S: Final = 120  # for one answer: a backup or a question over years takes its time


class Running(msgspec.Struct):
    """Where the server of a home is, and the token that lets its owner in."""

    pid: int
    web: str = ""
    otlp_http: str = ""
    otlp_grpc: str = ""
    token: str = ""
    version: str = ""
    is_relay: bool = False  # started by an agent's plug-in: it makes room for a server


def find(home: Path) -> Running | None:
    """The server that runs on this home, None where none answers."""
    try:
        found = msgspec.json.decode((home / FILE_NAME).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not found.web or not found.token:
        return None
    try:
        Server(found).sequence()
    except (OSError, http.client.HTTPException, TachographError):
        return None  # left behind by one that was killed, or another program on its port
    return found


def take_over(home: Path) -> None:
    """Have a relay make room, and wait for whoever has the store only for a moment; a server is left alone.

    Where the store does not become free, opening it says who has it.
    """
    for _ in range(round(_TAKEN_OVER_S / _LOOK_S)):
        found = find(home)
        if found is not None and not found.is_relay:
            return
        if found is not None:
            with suppress(OSError, http.client.HTTPException, TachographError):  # it may be stopping already
                Server(found).stop()
        if not home.exists() or is_free(home):
            return
        time.sleep(_LOOK_S)


def is_free(home: Path) -> bool:
    """Whether no process has the store of a home."""
    try:
        FolderLock(home).release()
    except ConfigError:
        return False
    return True


def reachable(address: Address) -> str:
    """`host:port` as a client of this machine writes it: bound to every interface, it is reached on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return str(address._replace(host=host))


def publish(home: Path, where: Running) -> None:
    """Write where the server is, for its owner's eyes only, whole or not at all."""
    file = home / FILE_NAME
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(msgspec.json.encode(where))
    new.replace(file)


def withdraw(file: Path) -> None:
    """Remove what `publish` wrote, if it was this process."""
    try:
        if msgspec.json.decode(file.read_bytes(), type=Running).pid == os.getpid():
            file.unlink()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return  # never written, or not ours: find() recognises what is left behind


class Server:
    """A running server as the store it holds: a Reader, and what else its owner may ask of it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        address = urlsplit(running.web)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80

    def scan(self, scan: Scan) -> Columns:
        """As Reader.scan."""
        return wire.columns_from_json(self._ask("POST", "scan", wire.scan_to_json(scan)))

    def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """As Reader.texts."""
        answer = self._ask("POST", "texts", msgspec.json.encode({"hashes": list(hashes)}))
        return msgspec.json.decode(answer, type=dict[str, str])

    def sql(self, query: str, limit: int | None = None, stop: threading.Event | None = None) -> Columns:
        """As Reader.sql."""
        body = msgspec.json.encode({"query": query, "limit": limit})
        return wire.columns_from_json(self._ask("POST", "sql", body))

    def sequence(self) -> int:
        """As Reader.sequence."""
        return int(msgspec.json.decode(self._ask("GET", "sequence"), type=dict[str, int])["sequence"])

    def settle(self) -> None:
        """Wait until all that was committed by now is worked into calls, for as long as a person would."""
        wanted = self.sequence()
        scan = Scan("meta", {"value": "value"}, (Match("key", "=", "settled_seq"),))
        for _ in range(round(_SETTLED_S / _LOOK_S)):
            settled = self.scan(scan).data["value"]
            if int(settled[0] if settled else 0) >= wanted:  # a new store knows of no settlement, and needs none
                return
            time.sleep(_LOOK_S)

    def commit(self, batch: Batch) -> int:
        """Send a decoded batch down the server's road; returns once it is durable."""
        answer = self._ask("POST", "commit", msgspec.msgpack.encode(batch), "application/msgpack")
        return int(msgspec.json.decode(answer, type=dict[str, int])["sequence"])

    def backup(self, target: Path) -> None:
        """Have the server write a backup; `target` is a path of this machine."""
        self._ask("POST", "backup", msgspec.json.encode({"target": str(target.absolute())}))

    def clear_demo(self) -> int:
        """As Store.clear_demo."""
        return int(msgspec.json.decode(self._ask("POST", "demo/clear", b"{}"), type=dict[str, int])["removed"])

    def followed(self) -> list[dict[str, Any]]:
        """How far the files of agents are read, by kind of file: the fields of pipeline.Followed."""
        return msgspec.json.decode(self._ask("GET", "followed"), type=list[dict[str, Any]])

    def forwarded(self) -> bytes:
        """Where each destination stands: the fields of pipeline.forwarding.Standing, as JSON."""
        return self._ask("GET", "forwarded")

    def probes(self, name: str) -> bytes:
        """Have it ask a destination, by "" each, whether it would take something: pipeline.roster.Probe, as JSON."""
        return self._ask("POST", "probes", msgspec.json.encode({"name": name}))

    def stop(self) -> None:
        """Have it stop in order; it does so soon after this has returned."""
        self._ask("POST", "stop", b"{}")

    def _ask(self, method: str, what: str, body: bytes | None = None, media_type: str = "application/json") -> bytes:
        """One request to the server's own API; raises what the server raised."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.running.token}", "Content-Type": media_type}
        try:
            connection.request(method, f"/api/v1/{what}", body, headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise _error(response.status, answer)
        return answer


def _error(status: int, body: bytes) -> TachographError:
    """The error that the server answered with, as the class it was."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = {}
    error = told.get("error")
    if isinstance(error, dict):  # said at the door, before any question was looked at
        error = f"server: {error.get('what')}; expected {error.get('expected')}"
    what, hint = str(error or f"server: answered {status}"), str(told.get("hint") or "")
    if status == 503:
        return Busy(what, hint)
    if status in (401, 403):
        return ConfigError(what, hint)
    kinds: dict[str, type[TachographError]] = {
        "ConfigError": ConfigError,
        "Corrupt": Corrupt,
        "Rejected": Rejected,
        "QueryError": QueryError,
    }
    if 400 <= status < 500:
        return kinds.get(str(told.get("kind")), QueryError)(what, hint)
    return Corrupt(what, hint)
