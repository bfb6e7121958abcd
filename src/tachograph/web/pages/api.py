"""The API for people who write programs: every endpoint with its parameters and what it answers."""

from __future__ import annotations

from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tachograph.web.api.answers import PREFIX
from tachograph.web.api.endpoints import ENDPOINTS
from tachograph.web.api.openapi import document
from tachograph.web.rendering import Site, render

Shape = dict[str, Any]


def api(site: Site, request: Request) -> Response:
    """The page: made of the document that programs read."""
    host = request.headers.get("host", "127.0.0.1:4319")
    return render(
        site, request, "api.html",
        endpoints=[_told(endpoint.path) for endpoint in ENDPOINTS],
        records=_records(), prefix=PREFIX, address=f"{request.url.scheme}://{host}{PREFIX}",
    )  # fmt: skip


@cache
def _told(path: str) -> Shape:
    operation: Shape = document()["paths"][f"/{path}"]["get"]
    record = _name(operation["responses"]["200"]["content"]["application/json"]["schema"])
    parameters = [
        one | {"takes": _type(one["schema"]), "default": one["schema"].get("default", "")}
        for one in operation["parameters"]
    ]
    anchor = path.replace("/", "-").replace("{", "").replace("}", "")
    return {"path": path, "anchor": anchor, "summary": operation["summary"], "parameters": parameters, "record": record}


@cache
def _records() -> list[Shape]:
    """Every shape of an answer with its fields."""
    schemas: Shape = document()["components"]["schemas"]
    return [
        {
            "name": name,
            "what": schema.get("description", ""),
            "fields": [
                {"name": field, "type": _type(shape), "record": _name(shape), "what": shape.get("description", "")}
                for field, shape in schema["properties"].items()
            ],
        }
        for name, schema in sorted(schemas.items())
    ]


def _name(shape: Shape) -> str:
    """The record that a field holds, or a list of it; "" = none."""
    inner = shape.get("items") or shape
    return str(inner.get("$ref", "")).rpartition("/")[2] if isinstance(inner, dict) else ""


def _type(shape: Shape) -> str:
    """What a value is, in a few words."""
    if "$ref" in shape:
        return _name(shape)
    if "anyOf" in shape:
        return " or ".join(_type(one) for one in shape["anyOf"])
    if "enum" in shape:
        return ", ".join(map(str, shape["enum"]))
    if shape.get("type") == "array":
        items = shape.get("items")
        return f"list of {_type(items)}" if isinstance(items, dict) and items else "list"
    if "minimum" in shape:
        return f"{shape['minimum']} to {shape['maximum']}"
    words = {"string": "text", "number": "number", "integer": "integer", "boolean": "true or false"}
    kind = str(shape.get("type", "anything"))
    return str(shape.get("format") or words.get(kind, kind))
