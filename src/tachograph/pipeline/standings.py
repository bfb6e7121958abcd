"""Where a destination stands, in the words of the pages; and where one stands that cannot be sent to."""

from __future__ import annotations

from typing import Any

from tachograph.destinations import Destination
from tachograph.pipeline.forwarding import Standing
from tachograph.pipeline.progress import State


def troubled(one: Destination) -> Standing:
    """One that variables alone name, and that they name wrong: it takes nothing until somebody puts them right."""
    state = State(answer=f"{one.trouble} (try: {one.hint})" if one.hint else one.trouble, is_refusing=True)
    told = one.name, one.kind, "", "refusing", one.signals, one.privacy, one.agents, one.projects
    return Standing(*told, state, identity=one.identity)


def as_shown(standing: Standing, now_ns: int) -> dict[str, Any]:
    """A standing in the words of the page of destinations."""
    state = standing.state
    is_open = standing.word == "refusing" or (standing.word == "waiting" and state.retry_ns > now_ns)
    return {
        "name": standing.name,
        "kind": standing.kind,
        "url": standing.address,
        "word": standing.word,
        "signals": standing.signals,
        "privacy": standing.privacy,
        "agents": standing.agents,
        "projects": standing.projects,
        "circuit": "open" if is_open else "half-open" if standing.word == "waiting" else "closed",
        "lag_commits": standing.lag_commits,
        "lag_s": standing.lag_ns / 1_000_000_000,
        "records_per_s": standing.per_minute / 60,
        "sent": state.sent,
        "refused": state.refused,
        "lost": state.lost,
        "has_lost_lately": standing.has_lost_lately,
        "requests": state.requests,
        "failed": state.failed,
        "dead_letters": standing.refused_kept,
        "answered_ns": state.answered_ns or None,
        "answer": state.answer,
        "is_refusing": standing.word == "refusing",
        "retry_ns": state.retry_ns if is_open and state.retry_ns else None,
        "cursor": state.cursor,
    }
