"""A destination to test against: a real HTTP or gRPC server that does what a test says with each request."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

import grpc

PATIENCE_S = 120


class Request(NamedTuple):
    """What came: for gRPC the method is the path, and metadata are the headers; the body is decompressed."""

    path: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What to do: `stall` answers when the sink is closed, `break_off` answers half, `drop` nothing at all.

    `reset` answers half and resets the connection, `half_close` ends it within the headers, `garbage` answers what is
    no HTTP. `continue`, `chunked` and `unmeasured` are good answers: after two interim ones, in chunks, and without a
    length. A status below 300 is good over gRPC too; others are translated.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    how: str = "answer"


class Identity(NamedTuple):
    """What a server shows: PEM files of its certificate and key, and of the authority of clients that it asks for."""

    certificate: Path
    key: Path
    clients: Path | None = None

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.clients)
        made.load_cert_chain(self.certificate, self.key)
        if self.clients:
            made.verify_mode = ssl.CERT_REQUIRED
        return made

    def credentials(self) -> grpc.ServerCredentials:
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        clients = self.clients.read_bytes() if self.clients else None
        return grpc.ssl_server_credentials([pair], clients, require_client_auth=clients is not None)


GOOD = Reply()
LOST = ("break_off", "reset", "half_close", "garbage")  # it was taken, and the sender cannot know
ODD = ("continue", "chunked", "unmeasured")
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.UNAVAILABLE,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


_RAW = {"half_close": b"HTTP/1.1 200 OK\r\nContent-Le", "garbage": b"\x00\x16SSH-2.0\xff\r\n\r\n"}


class Sink:
    """An HTTP server on loopback. `requests` is all that came, `taken` what was answered with 2xx, in order.

    `taken` has what was read before an answer that breaks off, too: the server has it, the sender does not know.
    With `tls` it speaks nothing else.
    """

    def __init__(self, reply: Callable[[Request], Reply] = lambda _: GOOD, tls: Identity | None = None) -> None:
        self.reply = reply
        self._context = tls.context() if tls else None
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self._open(0)
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def _open(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        if self._context:
            self._server.socket = self._context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def decide(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            reply = self.reply(request)
            if reply.status < 300 and reply.how != "drop":
                self.taken.append(request)
            return reply

    def down(self) -> None:
        """Be away: connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)
        for connection in list(self.connections):  # else they would be kept alive, and answered
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def up(self) -> None:
        """Be there again, on the same port."""
        self._open(self.port)

    def close(self) -> None:
        self.released.set()
        self.down()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _handler(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else the body of each answer waits 40 ms for the ACK of its headers

        def setup(self) -> None:
            super().setup()
            sink.connections.add(self.connection)

        def handle(self) -> None:
            with suppress(ssl.SSLError, ConnectionError):  # what the other side does not like is its test's concern
                super().handle()

        def finish(self) -> None:
            sink.connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def _do(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            reply = sink.decide(Request(self.path, headers, body))
            self.close_connection = reply.how not in ("answer", "continue", "chunked")
            if reply.how == "stall":
                sink.released.wait(PATIENCE_S)
            if reply.how not in ("drop", "stall"):
                self._answer(reply)
            if reply.how == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def _answer(self, reply: Reply) -> None:
            if reply.how in _RAW:
                self.wfile.write(_RAW[reply.how])
                return
            if reply.how == "continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n" * 2)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            body = reply.body
            if reply.how == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
                body = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\nX-Trailer: 1\r\n\r\n"
            elif reply.how != "unmeasured":
                missing = 100 if reply.how in LOST else 0
                self.send_header("Content-Length", str(len(body) + missing))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET = do_PUT = _do  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Answering


class GrpcSink:
    """A gRPC server on loopback that takes any unary method; `reply` as of Sink, without `break_off`."""

    def __init__(self, reply: Callable[[Request], Reply] = lambda _: GOOD, tls: Identity | None = None) -> None:
        self.reply = reply
        self._tls = tls
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.port = self._open(0)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def _open(self, port: int) -> int:
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_AnyMethod(self),))
        address = f"127.0.0.1:{port}"
        bound = (
            self._server.add_secure_port(address, self._tls.credentials())
            if self._tls
            else self._server.add_insecure_port(address)
        )
        self._server.start()
        return bound

    def answer(self, request: Request, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.requests.append(request)
            reply = self.reply(request)
            if reply.status < 300 and reply.how != "drop":
                self.taken.append(request)
        if reply.how in ("stall", "drop"):
            if reply.how == "stall":
                self.released.wait(PATIENCE_S)
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        if reply.status >= 300:
            context.abort(_CODES.get(reply.status, grpc.StatusCode.UNKNOWN), reply.body.decode("utf-8", "replace"))
        return reply.body

    def down(self) -> None:
        self._server.stop(0).wait(PATIENCE_S)

    def up(self) -> None:
        self._open(self.port)

    def close(self) -> None:
        self.released.set()
        self.down()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, sink: GrpcSink) -> None:
        self._sink = sink

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        headers = {str(key): str(value) for key, value in details.invocation_metadata or ()}

        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            return self._sink.answer(Request(details.method, headers, body), context)

        return grpc.unary_unary_rpc_method_handler(answer)
