"""Which reports tell of the same call: a pure function of the set of reports, whatever order they came in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from tachograph.ledger import identity
from tachograph.model import Report

# Two sources stamp the same call at most this far apart (nanoseconds): the start and end of its own duration stand
# beside it. Measured on the recordings: below 0.1 s; the rest is room for slow disks and clocks in whole seconds.
NEAR_NS: Final = 5_000_000_000
# A parent chain longer than this is a loop or hostile.
DEPTH_MAX: Final = 1000


class Cluster:
    """Reports known to be of one call, and what stands against more of them."""

    __slots__ = ("end_ns", "ids", "models", "order", "reports", "rollups", "sources", "start_ns", "status")

    def __init__(self, told: Report) -> None:
        self.reports = [told]
        self.rollups: list[Report] = []
        self.sources = {identity.source_of(told)}
        self.start_ns, self.end_ns = told.start_ns, told.end_ns
        self.ids = {
            k: v for k, v in (("response", told.meaning.response_id), ("request", told.meaning.request_id)) if v
        }
        self.models = {m for m in (told.meaning.request_model, told.meaning.response_model) if m}
        self.status = told.meaning.http_status
        self.order = told.report_id

    def absorb(self, other: Cluster) -> None:
        """Take over the reports of another cluster."""
        self.reports += other.reports
        self.rollups += other.rollups
        self.sources |= other.sources
        self.start_ns, self.end_ns = min(self.start_ns, other.start_ns), max(self.end_ns, other.end_ns)
        self.ids = other.ids | self.ids
        self.models |= other.models
        self.status = self.status if self.status is not None else other.status
        self.order = min(self.order, other.order)

    def contradicts(self, other: Cluster) -> bool:
        """Whether something says that these are two calls."""
        if self.sources & other.sources:
            return True
        if any(self.ids[kind] != other.ids[kind] for kind in self.ids.keys() & other.ids.keys()):
            return True
        if self.status is not None and other.status is not None and self.status != other.status:
            return True
        return bool(self.models and other.models) and not any(_akin(a, b) for a in self.models for b in other.models)

    def gap_ns(self, other: Cluster) -> int:
        """Time between the two, 0 where they overlap."""
        return max(0, self.start_ns - other.end_ns, other.start_ns - self.end_ns)

    @property
    def input_total(self) -> int | None:
        """Input tokens that its reports agree on, None where none tells."""
        for told in self.reports:
            if told.meaning.usage is not None and told.meaning.usage.input_total is not None:
                return told.meaning.usage.input_total
        return None

    @property
    def output(self) -> int | None:
        """Output tokens of the first report that tells."""
        return next(
            (u.output for r in self.reports if (u := r.meaning.usage) is not None and u.output is not None), None
        )

    @property
    def is_error(self) -> bool:
        """Whether every report tells of a failure."""
        return all(told.meaning.is_error for told in self.reports)


def _akin(one: str, other: str) -> bool:
    """Whether two names may be one model: `claude-sonnet-4-5` and `claude-sonnet-4-5-20250929`, `openai/gpt-5`."""
    one, other = one.rpartition("/")[2].lower(), other.rpartition("/")[2].lower()
    return one.startswith(other) or other.startswith(one)


def match(
    reports: Iterable[Report], sessions: Mapping[str, str], parents: Mapping[str, Mapping[str, str]]
) -> list[Cluster]:
    """Sort reports into clusters, one for each call.

    `sessions`: report id -> session id, as far as known; `parents`: trace id -> span id -> parent id. Deterministic:
    the same set of reports gives the same clusters.
    """
    ordered = sorted({r.report_id: r for r in reports}.values(), key=lambda r: (r.start_ns, r.report_id))
    scopes = {r.report_id: identity.scope_of(r, sessions.get(r.report_id, "")) for r in ordered}
    clusters = _by_ids(ordered, scopes)
    clusters = _by_span(clusters)
    clusters = _by_tree(clusters, parents)
    return _by_announcement(_by_likeness(clusters, scopes), scopes)


def _by_ids(reports: list[Report], scopes: Mapping[str, str]) -> list[Cluster]:
    """Join reports that share a strong identity, through any number of others."""
    owner: dict[str, Cluster] = {}
    clusters: dict[int, Cluster] = {}
    for told in reports:
        cluster = Cluster(told)
        names = identity.strong(told, scopes[told.report_id])
        for name in names:
            other = owner.get(name)
            if other is None or other is cluster:
                continue
            other.absorb(cluster)
            clusters.pop(id(cluster), None)
            for mine in [n for n, c in owner.items() if c is cluster] if cluster.reports[0] is not told else ():
                owner[mine] = other
            cluster = other
        clusters[id(cluster)] = cluster
        for name in names:
            owner[name] = cluster
    return list(clusters.values())


def _by_span(clusters: list[Cluster]) -> list[Cluster]:
    """Join a log record to the model call span that it was written inside."""
    spans = {(r.trace_id, r.span_id): c for c in clusters for r in c.reports if r.origin == "span"}
    kept = []
    for cluster in clusters:
        told = cluster.reports[0]
        target = spans.get((told.trace_id, told.span_id)) if told.span_id and told.origin != "span" else None
        if target is not None and target is not cluster and not target.contradicts(cluster):
            target.absorb(cluster)
        else:
            kept.append(cluster)
    return kept


def _by_tree(clusters: list[Cluster], parents: Mapping[str, Mapping[str, str]]) -> list[Cluster]:
    """Join a span to the one call inside it that it repeats; a span that sums up several calls is no call."""
    owner = {(r.trace_id, r.span_id): c for c in clusters for r in c.reports if r.origin == "span"}
    for cluster in clusters:
        for told in cluster.reports:
            # A log record that announces a call stands for the span that it was written in.
            if told.origin != "span" and identity.has_place(told):
                owner.setdefault((told.trace_id, told.span_id), cluster)
    inner: dict[int, list[Cluster]] = defaultdict(list)
    for (trace_id, span_id), cluster in owner.items():
        above = _above(cluster, trace_id, span_id, parents.get(trace_id) or {}, owner)
        if above is not None and all(c is not cluster for c in inner[id(above)]):
            inner[id(above)].append(cluster)
    gone: dict[int, Cluster] = {}
    # Innermost first: a call that was joined to its wrapper stands for both further up.
    for cluster in sorted(clusters, key=lambda c: (-c.start_ns, c.end_ns, c.order)):
        inside = _distinct(_standing(c, gone) for c in inner.get(id(cluster), ()))
        inside = [c for c in inside if c is not cluster]
        if inside:
            target = _repeated(cluster, inside)
            if target is not None:
                target.absorb(cluster)
                gone[id(cluster)] = target
            elif not _is_only_source(cluster, inside):
                first = min(inside, key=lambda c: (c.start_ns, c.order))
                first.rollups += cluster.reports + cluster.rollups
                gone[id(cluster)] = first
    return [c for c in clusters if id(c) not in gone]


def _standing(cluster: Cluster, gone: Mapping[int, Cluster]) -> Cluster:
    while id(cluster) in gone:
        cluster = gone[id(cluster)]
    return cluster


def _distinct(clusters: Iterable[Cluster]) -> list[Cluster]:
    return list({id(c): c for c in clusters}.values())


def _above(
    cluster: Cluster,
    trace_id: str,
    span_id: str,
    parents: Mapping[str, str],
    owner: Mapping[tuple[str, str], Cluster],
) -> Cluster | None:
    """The nearest cluster that a span lies in, its own left out."""
    parent = parents.get(span_id, "")
    for _ in range(DEPTH_MAX):
        if not parent or parent == span_id:
            return None
        found = owner.get((trace_id, parent))
        if found is not None and found is not cluster:
            return found
        parent = parents.get(parent, "")
    return None


def _repeated(outer: Cluster, inside: list[Cluster]) -> Cluster | None:
    """The call inside that the outer span repeats, None where it sums up or tells of something else."""
    if any(told.meaning.is_rollup for told in outer.reports):
        return None
    total = outer.input_total
    if total is None:
        return inside[0] if len(inside) == 1 else None
    same = [c for c in inside if c.input_total == total]
    if len(same) == 1:
        return same[0]
    untold = [c for c in inside if c.input_total is None and not c.is_error]
    return untold[0] if len(untold) == 1 and len(inside) == 1 else None


def _is_only_source(outer: Cluster, inside: list[Cluster]) -> bool:
    """Whether the outer span alone tells how many tokens were used."""
    return outer.input_total is not None and all(c.input_total is None for c in inside)


def _by_likeness(clusters: list[Cluster], scopes: Mapping[str, str]) -> list[Cluster]:
    """Join clusters of different sources in one scope with the same tokens (or none told) at the same time."""
    buckets: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        names = {name for r in cluster.reports if (name := identity.weak(r, scopes[r.report_id]))}
        told = sorted(n for n in names if n.startswith("tokens:")) or sorted(names)
        buckets[told[0] if told else cluster.order].append(cluster)
    joined: list[Cluster] = []
    for bucket in buckets.values():
        if len(bucket) == 1:
            joined += bucket
            continue
        kept: list[Cluster] = []
        for cluster in sorted(bucket, key=lambda c: (c.end_ns, c.start_ns, c.order)):
            fits = [
                c
                for c in kept
                if c.gap_ns(cluster) <= NEAR_NS
                and not c.contradicts(cluster)
                and (c.input_total is not None or c.is_error == cluster.is_error)
            ]
            if fits:
                best = min(
                    fits, key=lambda c: (_differ(c.output, cluster.output), abs(c.end_ns - cluster.end_ns), c.order)
                )
                best.absorb(cluster)
            else:
                kept.append(cluster)
        joined += kept
    return joined


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


def _by_announcement(clusters: list[Cluster], scopes: Mapping[str, str]) -> list[Cluster]:
    """Join a call whose end alone was told to the last announcement before it in its scope; what is left of the
    announcements are calls whose end was lost."""
    begun: dict[str, list[Cluster]] = defaultdict(list)
    ended: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        scope = next((s for r in cluster.reports if (s := scopes[r.report_id])), "")
        if all(identity.announces(r) for r in cluster.reports):
            begun[scope].append(cluster)
        elif any(not r.meaning.is_timed for r in cluster.reports):
            ended[scope].append(cluster)
    gone: set[int] = set()
    for scope, ends in ended.items():
        open_ones = sorted(begun.get(scope, ()), key=lambda c: (c.start_ns, c.order))
        for end in sorted(ends, key=lambda c: (c.end_ns, c.order)):
            before = [c for c in open_ones if c.start_ns <= end.end_ns and not c.contradicts(end)]
            if before:
                open_ones.remove(before[-1])
                gone.add(id(before[-1]))
                end.absorb(before[-1])
    return [c for c in clusters if id(c) not in gone]
