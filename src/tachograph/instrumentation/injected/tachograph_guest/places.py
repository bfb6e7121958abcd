"""Puts the spans of a model's own library into the framework's span around them where the framework does not do so.

LangChain tells its instrumentations by callbacks, so their spans never become the context that the call runs in: the
call looks as if it stood beside them, and in a stream nothing else says that it is the same one.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from typing import Any

_FRAMEWORKS = ("opentelemetry.instrumentation.langchain", "openinference.instrumentation.langchain")
_LIBRARIES = (
    *("com.anthropic.sdk.python", "opentelemetry.instrumentation.genai.anthropic"),
    *("opentelemetry.instrumentation.genai.openai", "opentelemetry.instrumentation.openai_v2"),
    *("opentelemetry.instrumentation.openai.v1", "opentelemetry.instrumentation.anthropic"),
    *("openinference.instrumentation.openai", "openinference.instrumentation.anthropic"),
)
_PLACE = "_tachograph_place"
_OPEN_MAX = 100  # callbacks may never say that something has ended
_open: dict[tuple[int, int], list[Any]] = {}


def around(span: Any, above: Any) -> Any:
    """The span that a span which starts now lies in: `above`, unless a framework's span began after that here."""
    scope = getattr(span.instrumentation_scope, "name", "")
    if scope in _FRAMEWORKS:
        place = _here()
        setattr(span, _PLACE, place)
        spans = _open.setdefault(place, [])
        spans.append(span)
        del spans[:-_OPEN_MAX]
    elif scope in _LIBRARIES and _open:
        newest = next(iter(reversed(_open.get(_here(), []))), None)
        if newest is not None and newest.start_time >= (getattr(above, "start_time", None) or 0):
            return newest
    return above


def left(span: Any) -> None:
    """A span has ended."""
    place: tuple[int, int] | None = getattr(span, _PLACE, None)
    if place is None:
        return
    kept = [one for one in _open.pop(place, []) if one is not span]
    if kept:
        _open[place] = kept


def _here() -> tuple[int, int]:
    """This thread, and this task where there is an event loop."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
    return get_ident(), id(task)
