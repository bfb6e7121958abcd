"""The OTLP messages as protobuf classes in which attributes and values stay bytes until somebody reads them.

Most of the time of a decoder goes into one Python object per attribute and one more per value. So the official
descriptors are taken as they are, but every field of type KeyValue or AnyValue is declared `bytes`, which is the same
on the wire. `otlp_values` then reads those bytes, and can say how deep they nest before it goes there.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_PACKAGE: Final = "opentelemetry.proto."
_COMMON: Final = f".{_PACKAGE}common.v1."
_LEFT_AS_BYTES: Final = frozenset(_COMMON + name for name in ("KeyValue", "AnyValue", "ArrayValue", "KeyValueList"))

# In the order of their imports, as a pool wants them.
_FILES: Final[tuple[ModuleType, ...]] = (
    common_pb2,
    resource_pb2,
    trace_pb2,
    metrics_pb2,
    logs_pb2,
    trace_service_pb2,
    metrics_service_pb2,
    logs_service_pb2,
)


def _leave_as_bytes(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type_name in _LEFT_AS_BYTES:
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
    for nested in message.nested_type:
        _leave_as_bytes(nested)


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for module in _FILES:
        file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            _leave_as_bytes(message)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL: Final = _pool()


def _message(name: str) -> Any:
    """The class of a message, of which mypy knows nothing: it is made here and now."""
    return GetMessageClass(_POOL.FindMessageTypeByName(_PACKAGE + name))


TRACES: Final = _message("collector.trace.v1.ExportTraceServiceRequest")
METRICS: Final = _message("collector.metrics.v1.ExportMetricsServiceRequest")
LOGS: Final = _message("collector.logs.v1.ExportLogsServiceRequest")
KEY_VALUE: Final = _message("common.v1.KeyValue")
ANY_VALUE: Final = _message("common.v1.AnyValue")
ARRAY_VALUE: Final = _message("common.v1.ArrayValue")
KEY_VALUE_LIST: Final = _message("common.v1.KeyValueList")
