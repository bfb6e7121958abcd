"""Works what was committed since the last time into calls: finds all reports concerned, matches, merges, prices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Final, Protocol

from tachograph.ledger import identity
from tachograph.ledger.matching import match
from tachograph.ledger.merging import attempts, call_of
from tachograph.model import Call, Report, Settlement, Unsettled
from tachograph.scan import Agg, Bucket, Match, Reader, Scan

# Reports worked off in one go: bounds memory and the time a reader may wait.
REPORTS_MAX: Final = 20_000


class Shelf(Reader, Protocol):
    """What the ledger needs of the store (store.contract.Store tells what each does)."""

    def unsettled(self, limit: int) -> Unsettled: ...

    def reports(
        self, keys: Collection[int] = (), traces: Collection[str] = (), ids: Collection[str] = ()
    ) -> list[Report]: ...

    def parents(self, traces: Collection[str]) -> dict[str, dict[str, str]]: ...

    def settle(self, settlement: Settlement) -> None: ...


def settle(store: Shelf, price: Callable[[Call], None], reports_max: int = REPORTS_MAX) -> bool:
    """Work off one part of what is not yet settled; True while more may be left."""
    todo = store.unsettled(reports_max)
    if todo.until <= todo.since:
        return False
    settlement = Settlement(until=todo.until)
    if todo.reports:
        reports, traces, found = _closure(store, todo.reports, dict(todo.sessions))
        sessions = {r.report_id: _session(r, traces) for r in reports}
        spans = Counter(r.trace_id for r in reports if identity.has_place(r))
        nested = [trace_id for trace_id, count in spans.items() if count > 1]
        parents = store.parents(nested) if nested else {}
        settlement.calls = calls_of(reports, sessions, parents)
        settlement.keys = found
        for call in settlement.calls:
            price(call)
    store.settle(settlement)
    return True


def calls_of(reports: Collection[Report], sessions: dict[str, str], parents: dict[str, dict[str, str]]) -> list[Call]:
    """The calls that a closed set of reports tells of; `sessions`: report id -> session id."""
    calls = [call_of(cluster, sessions) for cluster in match(reports, sessions, parents)]
    failed: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.status != "ok" and _place(call):
            failed[_place(call)].append(call)
    return calls + [
        earlier
        for call in calls
        if call.meaning.failed_attempts
        for earlier in attempts(call, failed.get(_place(call), []))
    ]


def _place(call: Call) -> str:
    """Within what the attempts of a call are told of; "" = nowhere."""
    return call.meaning.session_id or call.trace_id


def _session(told: Report, traces: dict[str, str]) -> str:
    """A report's own session, else that of its trace."""
    return told.meaning.session_id or traces.get(told.trace_id, "")


def _closure(
    store: Shelf, reports: list[Report], traces: dict[str, str]
) -> tuple[list[Report], dict[str, str], dict[str, list[int]]]:
    """All reports that share an identity with the given ones, through any number of others; the sessions of their
    traces; and the identities of each."""
    known: dict[str, Report] = {}
    found: dict[str, list[int]] = {}
    asked: set[int] = set()
    edge = reports
    while edge:
        traces |= _sessions_of(
            store, {r.trace_id for r in edge if r.trace_id and not r.meaning.session_id} - traces.keys()
        )
        for told in edge:
            known[told.report_id] = told
            found[told.report_id] = identity.keys(told, _session(told, traces))
        new = {key for told in edge for key in found[told.report_id]} - asked
        asked |= new
        edge = [r for r in store.reports(keys=new) if r.report_id not in known] if new else []
    return list(known.values()), traces, found


def _sessions_of(store: Shelf, trace_ids: set[str]) -> dict[str, str]:
    """Trace id -> session id, for the traces that are bound to one."""
    if not trace_ids:
        return {}
    select: dict[str, str | Agg | Bucket] = {"trace_id": "trace_id", "session_id": "session_id"}
    rows = store.scan(Scan("trace_sessions", select, (Match("trace_id", "in", sorted(trace_ids)),)))
    return dict(zip(rows.data["trace_id"], rows.data["session_id"], strict=True))
