"""The parameters of the API: what each takes, as the document says it and as it is read; anything else is refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct
from starlette.requests import Request

from tachograph.errors import QueryError
from tachograph.questions import DIMENSIONS, TIMES, zone_of
from tachograph.web.asking import RANGES

Kind = Literal["text", "number", "choice", "moment", "zone", "list"]

_ID_CHARS_MAX: Final = 8000  # an agent may choose an id as long as it likes; this is what an address has room for
_YEARS: Final = range(1971, 2200)


class Parameter(Struct, frozen=True):
    """One parameter; `choices` are all that a choice or list takes.

    `least` and `most` bound a number; `most` is also how many characters a text has, and how many names a list.
    """

    name: str
    what: str
    kind: Kind = "text"
    default: Any = ""
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int = 1000
    is_in_path: bool = False
    is_needed: bool = False

    def read(self, text: str) -> Any:
        """The value that a text stands for; raises QueryError."""
        return _READ[self.kind](self, text)

    def wrong(self, text: str, expected: str) -> QueryError:
        """The error for a text that it does not take."""
        return QueryError(f'{self.name}: got "{text[:100]}"; expected {expected}', f"see {self.name} in /api")

    def schema(self) -> dict[str, Any]:
        """What it takes, as JSON Schema."""
        if self.kind == "number":
            return {"type": "integer", "minimum": self.least, "maximum": self.most, "default": self.default}
        if self.kind == "choice":
            return {"type": "string", "enum": list(self.choices), "default": self.default}
        if self.kind == "list":
            return {"type": "array", "items": {"type": "string", "enum": list(self.choices)}, "maxItems": self.most}
        if self.kind == "moment":
            return {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
        return {"type": "string", "maxLength": self.most} | ({"minLength": 1} if self.is_needed else {})

    def described(self) -> dict[str, Any]:
        """Its entry in the OpenAPI document."""
        where = "path" if self.is_in_path else "query"
        told: dict[str, Any] = {"name": self.name, "in": where, "description": self.what, "schema": self.schema()}
        if self.kind == "list":
            told |= {"style": "form", "explode": False}
        return told | ({"required": True} if self.is_in_path or self.is_needed else {})


def _text(parameter: Parameter, text: str) -> str:
    if len(text) > parameter.most or "\0" in text:
        raise parameter.wrong(text, f"at most {parameter.most} characters, none of them zero")
    if parameter.is_needed and not text:
        raise parameter.wrong(text, "a text")
    return text


def _number(parameter: Parameter, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or not parameter.least <= int(text) <= parameter.most:
        raise parameter.wrong(text, f"a whole number from {parameter.least} to {parameter.most}")
    return int(text)


def _choice(parameter: Parameter, text: str) -> str:
    if text not in parameter.choices:
        raise parameter.wrong(text, f"one of {', '.join(parameter.choices)}")
    return text


def _list(parameter: Parameter, text: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    for name in names:
        _choice(parameter, name)
    if len(names) > parameter.most or len(set(names)) < len(names):
        raise parameter.wrong(text, f"at most {parameter.most} of {', '.join(parameter.choices)}, each once")
    return names


def _moment(parameter: Parameter, text: str) -> str:
    """The text itself, once it is known to be a day or a time: its zone is found out later."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.year not in _YEARS:
        raise parameter.wrong(text, "a day such as 2026-11-01 or a time such as 2026-11-01T12:00:00Z")
    return text


def _zone(parameter: Parameter, text: str) -> str:
    zone_of(_text(parameter, text))
    return text


_READ: Final = {
    "text": _text, "number": _number, "choice": _choice, "list": _list, "moment": _moment, "zone": _zone,
}  # fmt: skip


def values_of(request: Request, known: Sequence[Parameter]) -> dict[str, Any]:
    """The values of a request by name; raises QueryError for one that is wrong, unknown, or given twice."""
    given = list(request.query_params.multi_items())
    names = [parameter.name for parameter in known if not parameter.is_in_path]
    for name, text in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            expected = f"one of {', '.join(names)}" if names else "no parameter"
            raise QueryError(f'parameter: got "{name[:100]}"; expected {expected}', f"{near[0]}=" if near else "")
        if sum(other == name for other, _ in given) > 1:
            raise QueryError(f'{name}: got it twice, once as "{text[:100]}"; expected it once')
    texts: Mapping[str, str] = dict(given)
    return {parameter.name: _value(parameter, request, texts) for parameter in known}


def _value(parameter: Parameter, request: Request, texts: Mapping[str, str]) -> Any:
    if parameter.is_in_path:
        return parameter.read(request.path_params[parameter.name])
    if parameter.name in texts:
        return parameter.read(texts[parameter.name])
    if parameter.is_needed:
        raise QueryError(f"{parameter.name}: got none; expected {parameter.what.lower()}", f"{parameter.name}=")
    return parameter.default


def id_of(name: str, what: str) -> Parameter:
    """The parameter in a path that is an id."""
    return Parameter(name, what, most=_ID_CHARS_MAX, is_in_path=True)


def ordered(orders: Mapping[str, str], default: str) -> Parameter:
    """The parameter that says what rows are ordered by."""
    choices = tuple(name for order in orders for name in (order, f"-{order}"))
    return Parameter("order", "What comes first; with a - before it the least or oldest.", "choice", default, choices)


def limited(default: int, most: int = 1000) -> Parameter:
    """The parameter that says how much one answer holds."""
    return Parameter("limit", "How many one answer holds.", "number", default, most=most)


CURSOR: Final = Parameter(
    "cursor", "Where to go on: next of the answer before, with everything else as it was.", most=_ID_CHARS_MAX
)
TIMEZONE: Final = Parameter("timezone", "The zone of days and hours, such as Europe/Berlin.", "zone", "UTC")
Q: Final = Parameter("q", "A filter, as on the pages: agent:pi cost>0.5")
PERIOD: Final = (
    Parameter("range", "A period up to now.", "choice", "all", tuple(RANGES)),
    Parameter("from", "From this day or time on, instead of a range.", "moment"),
    Parameter("to", "Up to the end of this day, or this time.", "moment"),
    TIMEZONE,
)
BY: Final = Parameter("by", "What to count by, up to three, with commas.", "list", (), (*TIMES, *DIMENSIONS), most=3)
