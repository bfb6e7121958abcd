"""What the API answers: JSON of checked records, and every error in one shape."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.responses import PlainTextResponse, Response

from tachograph.errors import Busy, Corrupt, Rejected, TachographError

PREFIX: Final = "/api/v1/"
MEDIA: Final = "application/json"
# How every error of ours is written: where, what came, what was expected.
_SAID: Final = re.compile(r"(?:(?P<where>.*?): )?got (?P<what>.*); expected (?P<expected>.*)", re.DOTALL)
_ENCODE: Final = msgspec.json.Encoder(decimal_format="number").encode


class Fault(Struct):
    """What is wrong: `what` came, `where`, what was `expected` there, and a `hint`; "" where nothing is to say."""

    what: str
    where: str
    expected: str
    hint: str


class Failure(Struct):
    """The answer to what could not be answered."""

    error: Fault


def fault_of(error: TachographError) -> Fault:
    """An error by its parts."""
    said = _SAID.fullmatch(error.what)
    if said is None:
        return Fault(error.what, "", "", error.hint)
    return Fault(f"got {said['what']}", said["where"] or "", said["expected"], error.hint)


def status_of(error: TachographError) -> int:
    """The status that says who has to act."""
    if isinstance(error, Rejected):
        return error.status
    return 503 if isinstance(error, Busy) else 500 if isinstance(error, Corrupt) else 400


def answer(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(_ENCODE(value), status, media_type=MEDIA)


def failure(error: TachographError, status: int | None = None) -> Response:
    """An error as JSON, with the time to wait where it says one."""
    said = answer(Failure(fault_of(error)), status or status_of(error))
    if isinstance(error, Busy):
        said.headers["Retry-After"] = str(error.retry_after_s)
    return said


def refusal(path: str, status: int, what: str, expected: str) -> Response:
    """A request that is not let in: in words, or as JSON where a program asked."""
    if path.startswith(PREFIX):
        return answer(Failure(Fault(what, "", expected, "")), status)
    return PlainTextResponse(f"{what[:1].upper()}{what[1:]}; expected {expected}.\n", status)
