"""What a Codex rollout says of model calls: usage records, running totals of older versions, failures."""

from __future__ import annotations

from typing import Any, Final

from tachograph.lines import Page, items, record, told, words
from tachograph.model import MODEL_CALL, STEP, Content, Meaning
from tachograph.transcripts.codex_places import add, is_copy
from tachograph.vocabulary import tokens, whole

_MESSAGE_MAX: Final = 2000


def record_of(payload: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """The usage of one response; one of another session was copied with its history."""
    state["has_records"] = True
    thread = words(payload.get("thread_id"))
    is_own = thread == state.get("session") if thread else not is_copy(when, state)
    if is_own:
        _call(record(payload.get("usage")), words(payload.get("response_id")), "token_usage_record", when, state, page)
    else:
        state.pop("output", None)


def count(info: dict[str, Any], when: int, state: dict[str, Any], page: Page) -> None:
    """Older files: the last response's usage beside a running total; a repeated total is a repeated line."""
    total = record(info.get("total_token_usage"))
    if not info or state.get("has_records") or total == state.get("total"):
        return
    before = record(state.get("total"))
    state["total"] = total
    if is_copy(when, state):
        state.pop("output", None)
        return
    last = record(info.get("last_token_usage")) or _grown(before, total)
    _call(last, "", "token_count", when, state, page)


def _grown(before: dict[str, Any], total: dict[str, Any]) -> dict[str, Any]:
    """What a running total grew by, never below 0."""
    counts = {name: whole(amount) for name, amount in total.items()}
    return {name: max(0, n - (whole(before.get(name)) or 0)) for name, n in counts.items() if n is not None}


def failure(payload: dict[str, Any], when: int, page: Page) -> None:
    """An error: of a model call where it has an HTTP status."""
    info = payload.get("codex_error_info")
    kind = info if isinstance(info, str) else next(iter(record(info)), "")
    status = whole(record(record(info).get(kind)).get("http_status_code"), 1, 599)
    meaning = Meaning(
        role=MODEL_CALL if status else STEP,
        is_call=bool(status),
        operation="chat" if status else "",
        provider=words(page.state.get("provider")) if status else "",
        request_model=words(page.state.get("model")) if status else "",
        http_status=status,
        is_error=True,
        error_type=kind or "error",
        error_message=words(payload.get("message"))[:_MESSAGE_MAX],
    )
    add(page, "error", when, meaning)


def _call(given: dict[str, Any], response_id: str, name: str, when: int, state: dict[str, Any], page: Page) -> None:
    usage = tokens(
        {
            "input": given.get("input_tokens"),
            "output": given.get("output_tokens"),
            "cache_read": given.get("cached_input_tokens"),
            "cache_write": given.get("cache_write_input_tokens"),
            "reasoning": given.get("reasoning_output_tokens"),
        },
        is_input_inclusive=True,
        is_output_inclusive=True,
    )
    first, parts = state.pop("output", None) or (when, [])
    if usage is None:
        return
    output = [block for part in parts for block in items(part)]
    meaning = Meaning(
        role=MODEL_CALL,
        is_call=True,
        operation="chat",
        provider=words(state.get("provider")),
        request_model=words(state.get("model")),
        response_id=response_id,
        usage=usage,
        is_timed=False,
        duration_ns=max(0, when - first),  # since its first output: when it was asked is not told
    )
    add(page, name, when, meaning, told("output", output) if output else Content("output", "output", []))
