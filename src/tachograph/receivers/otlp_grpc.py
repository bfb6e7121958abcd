"""OTLP over gRPC: raw bytes in, answered only when they are durable."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from tachograph.errors import ConfigError, Rejected
from tachograph.receivers import otlp
from tachograph.receivers.intake import Failure, Intake, failure

THREADS: Final = 32  # each waits for its commit: so many requests can share one
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
ENVELOPE_BYTES: Final = (
    64 * 1024
)  # so that a body of exactly the limit is refused by us, with words, not by the library

Export = Callable[[bytes, grpc.ServicerContext], bytes]


class Details(grpc.Status):
    """A google.rpc.Status for the trailers, with RetryInfo where trying again helps."""

    def __init__(self, failed: Failure) -> None:
        status = status_pb2.Status(code=failed.rpc_code, message=failed.message)
        if failed.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=failed.retry_after_s))
            packed = any_pb2.Any()
            packed.Pack(retry)
            status.details.append(packed)
        self.code = CODES[failed.rpc_code]
        self.details = failed.message
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


class OtlpGrpc:
    """The gRPC server; its threads are its own from `start` until `stop`."""

    def __init__(self, intake: Intake, address: str) -> None:
        self._intake = intake
        size = intake.body_bytes_max + ENVELOPE_BYTES
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="otlp-grpc"),
            options=[
                ("grpc.max_receive_message_length", size),
                ("grpc.so_reuseport", 0),  # or a second server would silently take half of the requests
            ],
        )
        self._server.add_generic_rpc_handlers(
            tuple(self._service(name, signal) for signal, name in otlp.SERVICES.items())
        )
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(f"otlp_grpc: cannot listen on {address}: {error}", "choose another port") from None

    def start(self) -> None:
        """Take requests from now on."""
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Take no more, and wait so long for the answers of those that were taken."""
        self._server.stop(grace_s).wait()

    def _service(self, name: str, signal: str) -> grpc.GenericRpcHandler[bytes, bytes]:
        return grpc.method_handlers_generic_handler(
            name, {otlp.METHOD: grpc.unary_unary_rpc_method_handler(self._export(signal))}
        )

    def _export(self, signal: str) -> Export:
        """The method of one service: bytes in, bytes out, nothing decoded by the library."""

        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return self._keep(signal, body, dict(context.invocation_metadata()))
            except Exception as error:  # noqa: BLE001 - a sender is always answered; `failure` says aloud what is a bug
                self._refuse(failure(error), context)

        return export

    def _keep(self, signal: str, body: bytes, metadata: dict[str, Any]) -> bytes:
        authorization = metadata.get("authorization", "")
        if not self._intake.allows(authorization.encode() if isinstance(authorization, str) else authorization):
            hint = "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20<token>"
            raise Rejected("authorization: expected the bearer token of this receiver", hint, status=401)
        limit = self._intake.body_bytes_max
        if len(body) > limit:
            raise Rejected(f"body: got {len(body)} bytes; expected {limit} at most", "send smaller batches", status=413)
        self._intake.room.take(len(body))
        try:
            kept, answer = self._intake.take(signal, body, "", otlp.PROTOBUF)
            kept.result()
            return answer
        finally:
            self._intake.room.give(len(body))

    def _refuse(self, failed: Failure, context: grpc.ServicerContext) -> NoReturn:
        self._intake.note(failed)
        context.abort_with_status(Details(failed))
