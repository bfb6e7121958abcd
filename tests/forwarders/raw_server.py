"""A server that does with a connection whatever a test says, byte by byte."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from sink import PATIENCE_S, Identity

DRIP_S = 0.02
DRIPS_MAX = 500  # then it goes on as if nothing were: who waits for that fails, and hangs nothing


class RawServer:
    """`answer` has the connection and a function that waits between two bytes, and is False when it is to end."""

    def __init__(
        self, answer: Callable[[socket.socket, Callable[[], bool]], None], tls: Identity | None = None
    ) -> None:
        self._answer = answer
        self._context = tls.context() if tls else None
        self._is_over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self._context is None:
                self._answer(connection, self._tick)
                return
            with self._context.wrap_socket(connection, server_side=True) as secure:
                self._answer(secure, self._tick)

    def _tick(self) -> bool:
        return not self._is_over.wait(DRIP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._server.close()
        self._thread.join(PATIENCE_S)


def read_request(connection: socket.socket) -> bytes:
    """The head and the body of one request, b"" where none comes."""
    with suppress(ssl.SSLError), connection.makefile("rb") as file:
        head = b""
        while line := file.readline(100_000):
            head += line
            if not line.strip():
                break
        length = next(
            (int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")), 0
        )
        return head + file.read(length)
    return b""


def dripping(
    before: bytes, drips: bytes = b"x", after: bytes = b""
) -> Callable[[socket.socket, Callable[[], bool]], None]:
    """Reads a request, answers `before` at once, `drips` again and again for some time, and then `after`."""

    def answer(connection: socket.socket, tick: Callable[[], bool]) -> None:
        if not read_request(connection):
            return
        connection.sendall(before)
        for _ in range(DRIPS_MAX):
            if not tick():
                return
            connection.sendall(drips)
        connection.sendall(after)

    return answer
