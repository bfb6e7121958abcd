"""Connections whose requests have one deadline each, however slowly the other side reads and answers."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException, HTTPResponse
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError


class Deadline:
    """When the request that is under way has to be over: connected, sent and answered."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.start()

    def start(self) -> None:
        """A request begins."""
        self._watch = urllib3.Timeout(total=self.timeout_s)
        self._watch.start_connect()

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return not self._watch.read_timeout

    def left_s(self) -> float:
        """Seconds that are left; raises TimeoutError where none are."""
        left_s = self._watch.read_timeout
        if not left_s:  # for a socket, 0 is not to wait at all
            raise TimeoutError(f"timed out after {self.timeout_s:g} s")
        return float(left_s)


def bounded(manager: urllib3.PoolManager, deadline: Deadline) -> urllib3.PoolManager:
    """The manager, with connections that keep to the deadline: urllib3's own timeouts begin anew with every byte."""

    class Plain(HTTPConnection):
        response_class = _Answer

        def _new_conn(self) -> socket.socket:
            return _connected(self, self._dns_host, deadline)

    class Secure(HTTPSConnection):
        response_class = _Answer

        def _new_conn(self) -> socket.socket:
            return _connected(self, self._dns_host, deadline)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager


def secured(context: ssl.SSLContext, deadline: Deadline) -> ssl.SSLContext:
    """The context, with sockets that keep to the deadline."""

    class Encrypted(_Keeping, ssl.SSLSocket):
        pass

    Encrypted.deadline = deadline
    context.sslsocket_class = Encrypted
    return context


class _Answer(HTTPResponse):
    """An answer whose head is whole: the standard library takes one that breaks off after its status for good."""

    def begin(self) -> None:
        file = self.fp
        self.fp = _Head(file)  # type: ignore[assignment] # lines are all that is read of it
        try:
            super().begin()
        finally:
            if self.fp is not None:  # else it was closed, and so is the file
                self.fp = file


class _Head:
    def __init__(self, file: Any) -> None:
        self._file = file
        self._has_begun = False

    def readline(self, longest: int = -1) -> bytes:
        line = bytes(self._file.readline(longest))
        if self._has_begun and not line.endswith(b"\n") and len(line) != longest:
            raise HTTPException("the answer broke off")
        self._has_begun = True
        return line

    def close(self) -> None:
        self._file.close()


class _Keeping:
    """What a socket does with what is left of the time."""

    deadline: Deadline

    def recv(self, *given: Any) -> bytes:
        return bytes(self._in_time().recv(*given))

    def recv_into(self, *given: Any) -> int:
        return int(self._in_time().recv_into(*given))

    def send(self, *given: Any) -> int:
        return int(self._in_time().send(*given))

    def sendall(self, *given: Any) -> None:
        self._in_time().sendall(*given)

    def _in_time(self) -> Any:
        self.settimeout(self.deadline.left_s())  # type: ignore[attr-defined] # a socket's
        return super()


class _Socket(_Keeping, socket.socket):
    pass


def _connected(to: HTTPConnection, host: str, deadline: Deadline) -> socket.socket:
    """A connection to the first address that takes one; each has its share of the time."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), to.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NameResolutionError(host, to, error) from error
    last: OSError = OSError("no address")
    for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        made = _Socket(family, kind, protocol)
        made.deadline = deadline
        try:
            for option in to.socket_options or ():
                made.setsockopt(*option)
            made.settimeout(deadline.left_s() / left)
            made.connect(address)
            made.settimeout(deadline.left_s())  # for the TLS handshake, which is one step for a socket
        except OSError as error:
            made.close()
            last = error
        else:
            return made
    if isinstance(last, TimeoutError):
        raise ConnectTimeoutError(to, f"Connection to {host} timed out") from last
    raise NewConnectionError(to, f"Failed to establish a new connection: {last}") from last
