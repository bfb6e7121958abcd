"""Keeps the port of OTLP over gRPC until somebody knocks: only then is gRPC loaded, its 7 MB and its threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tachograph.errors import ConfigError
from tachograph.telemetry import say

_PIECE_BYTES = 64 * 1024


class Door(Protocol):
    """The server that takes the place of this one."""

    def start(self) -> None: ...

    def stop(self, grace_s: float) -> None: ...


class LateDoor:
    """A listening socket, which it owns, until the first connection; then what `open_door` opens on the same port.

    Connections that came before are passed on to that one, byte by byte, for as long as they last.
    """

    def __init__(self, listening: socket.socket, open_door: Callable[[], Door]) -> None:
        self._listening = listening
        self._address = listening.getsockname()[:2]
        self._open_door = open_door
        self._is_closing = False
        self._opened: Door | None = None
        self._thread = threading.Thread(target=self._wait, name="otlp-grpc-late", daemon=True)

    def start(self) -> None:
        """Take connections from now on."""
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more, and wait so long for the answers of those that were taken."""
        self._is_closing = True
        with suppress(OSError):
            socket.create_connection(self._address, timeout=1).close()  # so that it looks
        self._thread.join()
        if self._opened is not None:
            self._opened.stop(grace_s)

    def _wait(self) -> None:
        with self._listening as listening:
            knocking = [listening.accept()[0]]
            if not self._is_closing:
                import tachograph.receivers.otlp_grpc  # noqa: F401 - a moment, in which others still find the port open
            listening.setblocking(False)
            with suppress(OSError):
                while True:
                    knocking.append(listening.accept()[0])
        try:
            if not self._is_closing:
                self._opened = self._open_door()
                self._opened.start()
        except ConfigError as error:
            say("warning", f"{error.what}")
        for connection in knocking:
            self._pass_on(connection)

    def _pass_on(self, connection: socket.socket) -> None:
        """Connect somebody to the server that has been opened; where there is none, they are told by the end of it."""
        try:
            if self._opened is None:
                raise ConnectionRefusedError
            inside = socket.create_connection(self._address)
        except OSError:
            connection.close()
            return
        connection.setblocking(True)
        for source, target in ((connection, inside), (inside, connection)):
            threading.Thread(target=_copy, args=(source, target), name="otlp-grpc-first", daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # either side may end it
        while data := source.recv(_PIECE_BYTES):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)  # the other thread's reading ends as well
    target.close()
