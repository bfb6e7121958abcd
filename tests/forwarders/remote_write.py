"""Remote write's messages as protobuf itself reads them, made of their fields' names and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sink import Request

_TYPES = {"string": 9, "double": 1, "int64": 3, "uint32": 13, "int32": 5}
_Fields = list[tuple[str, int, str, str]]  # name, number, "*" = repeated, type


def _message(fields: dict[str, _Fields], wanted: str) -> Any:
    package = wanted.lower()
    file = descriptor_pb2.FileDescriptorProto(name=f"{wanted}.proto", package=package)
    for message, members in fields.items():
        made = file.message_type.add(name=message)
        for name, number, label, type_ in members:
            field = made.field.add(name=name, number=number, label=3 if label == "*" else 1)
            field.type = _TYPES.get(type_, 11)  # type: ignore[assignment]
            if type_ not in _TYPES:
                field.type_name = f".{package}.{type_}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{wanted}"))


VERSION_1 = _message(
    {
        "Label": [("name", 1, "", "string"), ("value", 2, "", "string")],
        "Sample": [("value", 1, "", "double"), ("timestamp", 2, "", "int64")],
        "Metadata": [("type", 1, "", "int32"), ("family", 2, "", "string"), ("help", 4, "", "string")],
        "Series": [("labels", 1, "*", "Label"), ("samples", 2, "*", "Sample")],
        "WriteRequest": [("timeseries", 1, "*", "Series"), ("metadata", 3, "*", "Metadata")],
    },
    "WriteRequest",
)
VERSION_2 = _message(
    {
        "Sample": [("value", 1, "", "double"), ("timestamp", 2, "", "int64"), ("start", 3, "", "int64")],
        "Metadata": [("type", 1, "", "int32"), ("help", 3, "", "uint32"), ("unit", 4, "", "uint32")],
        "Series": [("refs", 1, "*", "uint32"), ("samples", 2, "*", "Sample"), ("metadata", 5, "", "Metadata")],
        "Request": [("symbols", 4, "*", "string"), ("timeseries", 5, "*", "Series")],
    },
    "Request",
)


def keys(requests: Iterable[Request]) -> list[str]:
    """Every sample, by its series, time and value."""
    found = []
    for request in requests:
        body = bytes(cramjam.snappy.decompress_raw(request.body))
        for labels, samples in _one(body) if "v2" in request.headers["content-type"] else _old(body):
            found += [f"{labels} {sample.timestamp} {sample.value}" for sample in samples]
    return found


def _one(body: bytes) -> list[tuple[Any, Any]]:
    read = VERSION_2.FromString(body)
    return [([read.symbols[ref] for ref in series.refs], series.samples) for series in read.timeseries]


def _old(body: bytes) -> list[tuple[Any, Any]]:
    read = VERSION_1.FromString(body)
    return [([text for one in s.labels for text in (one.name, one.value)], s.samples) for s in read.timeseries]
