"""Reads from the store what happened, as steps: the tree of each session that a window of commits touched.

A session's steps stand in one trace for each thing that stands alone, usually a prompt: the trace that was recorded,
where one was, else one of the prompt's own. A step is told when it is over. Of a prompt that is not known before the
next one comes, or before the session has been quiet for a minute; until then it is pending, and looked at again.
A long session is not looked at in every window: see waiting.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from tachograph.destinations import Destination
from tachograph.forwarders.contract import AGAIN, Item, Memory, Step
from tachograph.model import MODEL_CALL, SUBAGENT
from tachograph.pipeline import privacy
from tachograph.pipeline.feeding import fit_call, of_changes, of_window
from tachograph.pipeline.gathering import Gathered
from tachograph.pipeline.placing import Placed, Told, forget, is_step, place, sessions_of
from tachograph.pipeline.telling import with_texts
from tachograph.pipeline.waiting import QUIET_NS, Waiting
from tachograph.pipeline.windows import LARGE, Bounds
from tachograph.questions.lookup import CALL_COLUMNS, SESSION_COLUMNS
from tachograph.scan import Agg, Bucket, Match, Reader, Scan
from tachograph.tree import Node, Tree, session_tree

QUIET_AT_ONCE: Final = 200  # sessions of one round: what is remembered of them is kept together
_DEPTH: Final = 8  # sub-agents of sub-agents
_AT_ONCE: Final = 1000  # values of one condition
_FEW: Final = 3  # fewer sessions are read one by one
_REACHED: Final = "steps:reached"
_LONELY: Final = "call:"  # a call that no source names a session of is a session of its own
_UNTOLD: Final = frozenset(("seq", "reports", "provenance", "price_note"))  # of a call: they change without news

Row = dict[str, Any]


class _Touch(Struct):
    """What a window told of a session: the last commit that did, and how many spans and events."""

    seq: int = 0
    records: int = 0

    def add(self, other: _Touch) -> None:
        self.seq, self.records = max(self.seq, other.seq), self.records + other.records


class _Look(Struct):
    """One look at a session: why, and up to which commit."""

    session_id: str
    seq: int
    until: int
    until_ns: int  # when that one was made
    memory: Memory
    waiting: Waiting
    is_again: bool = False
    is_quiet: bool = False


class Steps:
    """The feed STEPS of one destination. `takes_changes`: open steps are told too, and again when they changed."""

    def __init__(
        self, reader: Reader, destination: Destination, bounds: Bounds = LARGE, *, takes_changes: bool
    ) -> None:
        self._reader, self._destination, self._bounds = reader, destination, bounds
        self._takes_changes = takes_changes

    def read(self, since: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """Feed.read; a window that was read before gives all its steps once more."""
        packed = memory.get(_REACHED)
        is_again = packed is not None and until <= msgspec.msgpack.decode(packed, type=int)
        if is_again:
            memory.put(AGAIN, b"1")
        else:
            memory.put(_REACHED, msgspec.msgpack.encode(until))
        waiting, until_ns = Waiting(memory), self._time_ns(until)
        looks: dict[str, int] = {}
        for session_id, touch in self._touched(since, until).items():
            if is_again or not waiting.has_to_wait(session_id, touch.seq, touch.records, until_ns):
                looks[session_id] = touch.seq
        if not is_again:
            looks = {**dict(waiting.long_due(until_ns)), **looks}
        ordered = sorted(looks.items(), key=lambda one: (one[1], one[0]))
        yield from self._sessions(
            [_Look(name, seq, until, until_ns, memory, waiting, is_again=is_again) for name, seq in ordered]
        )
        if is_again:
            return
        yield from self._quiet(until_ns, until, memory, waiting)
        waiting.keep(until_ns)
        forget(memory, until_ns)

    def is_due(self, until_ns: int, memory: Memory) -> bool:
        """Whether a step is over since nothing came for so long; `until_ns`: everything before was read."""
        return Waiting(memory).is_due(until_ns)

    def due(self, until_ns: int, until: int, memory: Memory) -> Iterator[list[Item]]:
        """The steps that are over since nothing came for so long; `until`: the last commit that was read."""
        waiting = Waiting(memory)
        yield from self._quiet(until_ns, until, memory, waiting)
        long = [_Look(name, seq, until, until_ns, memory, waiting) for name, seq in waiting.long_due(until_ns)]
        yield from self._sessions(long)
        waiting.keep(until_ns)

    def _quiet(self, until_ns: int, until: int, memory: Memory, waiting: Waiting) -> Iterator[list[Item]]:
        due = waiting.quiet_due(until_ns, QUIET_AT_ONCE)
        yield from self._sessions(
            [_Look(name, seq, until, until_ns, memory, waiting, is_quiet=True) for name, seq in due]
        )

    # -- which sessions ------------------------------------------------------------------------------------------------

    def _touched(self, since: int, until: int) -> dict[str, _Touch]:
        """The sessions that the window told of, sub-agents' by who started them."""
        found: defaultdict[str, _Touch] = defaultdict(_Touch)
        traces: defaultdict[str, _Touch] = defaultdict(_Touch)
        for table, column, where in (
            *((table, "seq", of_window(since, until)) for table in ("spans", "events", "reports", "calls")),
            ("calls", "changed_seq", of_changes(since, until)),
        ):
            select: dict[str, str | Agg | Bucket] = {"session_id": "session_id", "trace_id": "trace_id"}
            select["seq"], select["records"] = Agg("max", column), Agg("count")
            asked = Scan(table, select, where, group_by=("session_id", "trace_id"))
            for row in self._reader.scan(asked).rows():
                into, name = (found, row["session_id"]) if row["session_id"] else (traces, row["trace_id"])
                if name:
                    into[name].add(_Touch(row["seq"], row["records"] if table in ("spans", "events") else 0))
        for trace_id, session_id in self._sessions_of_traces(sorted(traces)):
            found[session_id].add(traces[trace_id])
        for call_id, seq in self._lonely(since, until):
            found[_LONELY + call_id].add(_Touch(seq))
        return self._roots(found)

    def _sessions_of_traces(self, traces: list[str]) -> Iterator[tuple[str, str]]:
        for some in _chunks(traces):
            select: dict[str, str | Agg | Bucket] = {"trace_id": "trace_id", "session_id": "session_id"}
            for row in self._reader.scan(Scan("trace_sessions", select, (Match("trace_id", "in", some),))).rows():
                yield row["trace_id"], row["session_id"]

    def _lonely(self, since: int, until: int) -> Iterator[tuple[str, int]]:
        alone = (Match("session_id", "=", ""), Match("trace_id", "=", ""))
        for column, window in (("seq", of_window(since, until)), ("changed_seq", of_changes(since, until))):
            asked = Scan("calls", {"call_id": "call_id", "seq": column}, (*window, *alone))
            for row in self._reader.scan(asked).rows():
                yield row["call_id"], row["seq"]

    def _roots(self, touched: Mapping[str, _Touch]) -> dict[str, _Touch]:
        """The sessions with those of sub-agents replaced by the ones that they stand in."""
        above: dict[str, str] = {}
        wanted = sorted(touched)
        for _ in range(_DEPTH):
            parents: list[str] = []
            for some in _chunks(wanted):
                where = (Match("session_id", "in", some), Match("lineage", "=", SUBAGENT))
                select: dict[str, str | Agg | Bucket] = {"id": "session_id", "parent": "parent_session_id"}
                for row in self._reader.scan(Scan("sessions", select, where)).rows():
                    if row["parent"] and row["id"] not in above:
                        above[row["id"]] = row["parent"]
                        parents.append(row["parent"])
            if not parents:
                break
            wanted = sorted(set(parents))
        known = self._known(set(above.values()))
        found: defaultdict[str, _Touch] = defaultdict(_Touch)
        for session_id, touch in touched.items():
            found[_root(session_id, above, known)].add(touch)
        return found

    def _known(self, wanted: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for some in _chunks(sorted(wanted)):
            where = (Match("session_id", "in", some),)
            found.update(self._reader.scan(Scan("sessions", {"id": "session_id"}, where)).data["id"])
        return found

    # -- some sessions -------------------------------------------------------------------------------------------------

    def _sessions(self, looks: list[_Look]) -> Iterator[list[Item]]:
        """What is told of sessions, in order; what many of them need is read for all of them at once."""
        for at in range(0, len(looks), self._bounds.sessions):
            together = looks[at : at + self._bounds.sessions]
            rows = self._session_rows(together)
            mine: list[tuple[_Look, Row]] = []
            for look in together:
                row = rows.get(look.session_id) or self._row(look.session_id)
                if self._is_mine(row):
                    mine.append((look, row))
                else:
                    look.waiting.left(look.session_id)
            for some in _groups(mine, self._bounds.session_records):
                yield from self._grown(some)

    def _grown(self, looks: Sequence[tuple[_Look, Row]]) -> Iterator[list[Item]]:
        reader = self._reader if len(looks) < _FEW else self._gathered([look for look, _ in looks])
        trees: list[tuple[_Look, Row, Tree]] = []
        held = 0
        for look, row in looks:
            tree = _tree(reader, look.session_id)
            if trees and held + tree.nodes > self._bounds.nodes:
                yield from self._told(trees)
                trees, held = [], 0
            trees.append((look, row, tree))
            held += tree.nodes
        yield from self._told(trees)

    def _gathered(self, looks: Sequence[_Look]) -> Gathered:
        ids = [look.session_id for look in looks]
        alone = [name.removeprefix(_LONELY) for name in ids if name.startswith(_LONELY)]
        named = [name for name in ids if not name.startswith(_LONELY)]
        return Gathered(self._reader, named, alone, self._bounds.session_records)

    def _told(self, trees: Sequence[tuple[_Look, Row, Tree]]) -> Iterator[list[Item]]:
        steps = [node for *_, tree in trees for _, node in tree.walk() if is_step(node)]
        calls, open_spans = self._calls(steps), self._open_spans(steps)
        chosen: list[tuple[Placed, Step]] = []
        sequences: list[int] = []
        for look, row, tree in trees:
            news = self._news(look, row, tree, open_spans, calls)
            chosen += news
            sequences += [look.seq] * len(news)
        told = 0
        for some in with_texts(self._reader, chosen, self._destination.privacy, self._bounds.page_bytes):
            numbered = zip(some, sequences[told : told + len(some)], strict=True)
            yield [Item(f"{step.trace_id}:{step.span_id}", seq, step) for step, seq in numbered]
            told += len(some)

    def _news(
        self, look: _Look, row: Row, tree: Tree, open_spans: Collection[str], calls: dict[str, Row]
    ) -> list[tuple[Placed, Step]]:
        """The steps of one session that are to be told; that they are is remembered."""
        told = Told(look.memory, look.session_id, sessions_of(tree))
        chosen: list[tuple[Placed, Step]] = []
        is_pending = False
        for one in place(tree, told, open_spans, look.is_quiet):
            call = calls.get(one.node.call_id)
            if one.node.role == MODEL_CALL and (call is None or call["seq"] > look.until):
                continue  # its own commit comes, and touches the session again
            is_pending = is_pending or not one.is_over
            if self._is_wanted(one, call, row) and (look.is_again or self._is_news(one, call)):
                step = privacy.fit_step(self._step(one, call, row), self._destination.privacy)
                chosen.append((one, step))
        if not look.is_again:
            told.keep(look.until_ns)
            records = max(tree.nodes, _records(row))
            pending = (self._time_ns(look.seq) + QUIET_NS, look.seq) if is_pending else None
            look.waiting.looked(look.session_id, records, look.until_ns, pending)
        return chosen

    def _session_rows(self, looks: Sequence[_Look]) -> dict[str, Row]:
        ids = sorted({look.session_id for look in looks if not look.session_id.startswith(_LONELY)})
        rows = self._rows("sessions", SESSION_COLUMNS, "session_id", ids) if ids else []
        return {row["session_id"]: row for row in rows}

    def _row(self, session_id: str) -> Row:
        """What the calls of a session say of it, where they are all that is known."""
        row: Row = dict.fromkeys(SESSION_COLUMNS)
        row.update(session_id="" if session_id.startswith(_LONELY) else session_id)
        where = ("call_id", session_id.removeprefix(_LONELY)) if not row["session_id"] else ("session_id", session_id)
        names = ("agent", "project", "user", "host", "channel", "repository", "branch", "team", "environment")
        for call in self._rows("calls", names, where[0], [where[1]])[:1]:
            row.update(call)
        return row | {name: "" for name in names if row[name] is None} | {"title": row["title"] or ""}

    def _rows(self, table: str, names: Iterable[str], column: str, values: list[str]) -> list[Row]:
        return _rows(self._reader, table, names, column, values)

    def _is_mine(self, row: Row) -> bool:
        to = self._destination
        has_agent = not to.agents or row["agent"] in to.agents
        return has_agent and (not to.projects or row["project"] in to.projects)

    def _is_wanted(self, one: Placed, call: Row | None, row: Row) -> bool:
        """Whether a step is one of those that the destination is for: also within a session that is."""
        agent = (call["agent"] if call else "") or one.node.agent or row["agent"]
        project = (call["project"] if call else "") or row["project"]
        to = self._destination
        return (not to.agents or agent in to.agents) and (not to.projects or project in to.projects)

    def _is_news(self, one: Placed, call: Row | None) -> bool:
        if not self._takes_changes and (one.ids.told or not one.is_over):
            return False
        digest = _digest(one, call)
        is_news, one.ids.told = digest != one.ids.told, digest
        return is_news

    def _open_spans(self, steps: Sequence[Node]) -> set[str]:
        """The nodes whose span was told while it went on, and not yet as ended."""
        ended = (node for node in steps if node.origin == "span" and node.has_ended and node.role != MODEL_CALL)
        ids = sorted({node.span_id for node in ended})
        where = Match("attributes.tachograph.is_open", "not_null")
        is_open: set[str] = set()
        for some in _chunks(ids):
            found = self._reader.scan(Scan("spans", {"id": "span_id"}, (Match("span_id", "in", some), where)))
            is_open.update(found.data["id"])
        if not is_open:
            return set()
        select: dict[str, str | Agg | Bucket] = {"trace_id": "trace_id", "span_id": "span_id"}
        select["rows"], select["open"] = Agg("count"), Agg("count", "attributes.tachograph.is_open")
        asked = Scan("spans", select, (Match("span_id", "in", sorted(is_open)),), group_by=("trace_id", "span_id"))
        rows = self._reader.scan(asked).rows()
        return {f"{row['trace_id']}:{row['span_id']}" for row in rows if row["rows"] == row["open"]}

    def _calls(self, steps: Sequence[Node]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for some in _chunks(sorted({node.call_id for node in steps if node.call_id})):
            rows = self._rows("calls", CALL_COLUMNS, "call_id", some)
            found.update((row["call_id"], row) for row in rows)
        return found

    def _step(self, one: Placed, call: Row | None, row: Row) -> Step:
        node, mode = one.node, self._destination.privacy
        above = one.above
        is_one_trace = above is not None and above.ids.trace_id == one.ids.trace_id
        root = one.root or one
        return Step(
            trace_id=one.ids.trace_id.hex(),
            span_id=one.ids.span_id.hex(),
            parent_id=above.ids.span_id.hex() if above is not None and is_one_trace else "",
            role=node.role,
            name=node.name,
            start_ns=node.start_ns,
            end_ns=max(node.start_ns, node.end_ns),
            session_id=row["session_id"] or "",
            session=_fit_session(row, mode),
            prompt_id=one.prompt_id,
            subagent=one.subagent,
            tool_name=node.tool_name,
            tool_call_id=node.tool_call_id,
            is_error=node.is_error,
            error_type=_error_type(node, call),
            error_message=node.error if node.is_error else "",
            call=None if call is None else fit_call(dict(call), mode),
            is_over=one.is_over,
            root_id=root.ids.span_id.hex(),
            root_role=root.node.role,
            is_later_prompt=one.is_later_prompt,
        )

    def _time_ns(self, seq: int) -> int:
        """When a commit was made, 0 where that is not kept any more."""
        rows = self._reader.scan(Scan("commits", {"time_ns": "time_ns"}, (Match("seq", "=", seq),))).rows()
        return int(rows[0]["time_ns"] or 0) if rows else 0


def _root(session_id: str, above: dict[str, str], known: set[str]) -> str:
    seen = {session_id}
    while (parent := above.get(session_id)) and parent in known and parent not in seen:
        seen.add(parent)
        session_id = parent
    return session_id


def _chunks(values: list[str]) -> Iterator[list[str]]:
    return (values[at : at + _AT_ONCE] for at in range(0, len(values), _AT_ONCE))


def _groups(looks: Sequence[tuple[_Look, Row]], records_max: int) -> Iterator[list[tuple[_Look, Row]]]:
    """Sessions whose records fit into memory together."""
    group: list[tuple[_Look, Row]] = []
    held = 0
    for look, row in looks:
        records = _records(row)
        if group and held + records > records_max:
            yield group
            group, held = [], 0
        group.append((look, row))
        held += records
    if group:
        yield group


def _records(row: Row) -> int:
    return int(row["spans"] or 0) + int(row["events"] or 0)


def _rows(reader: Reader, table: str, names: Iterable[str], column: str, values: list[str]) -> list[Row]:
    select: dict[str, str | Agg | Bucket] = {name: name for name in names}
    return reader.scan(Scan(table, select, (Match(column, "in", values),))).rows()


def _tree(reader: Reader, session_id: str) -> Tree:
    if not session_id.startswith(_LONELY):
        return session_tree(reader, session_id)
    call_id = session_id.removeprefix(_LONELY)
    node = Node(id=session_id, origin="call", role=MODEL_CALL, call_id=call_id)
    names = ("model", "start_ns", "end_ns", "status", "agent", "subagent")
    for row in _rows(reader, "calls", names, "call_id", [call_id]):
        node.name, node.start_ns, node.end_ns = row["model"], row["start_ns"] or 0, row["end_ns"] or 0
        node.is_error, node.agent, node.subagent = row["status"] != "ok", row["agent"], row["subagent"]
    return Tree(id=session_id, root=Node(id="", children=[node]))


def _digest(one: Placed, call: Row | None) -> bytes:
    """What a step is: another digest is news."""
    node = one.node
    below = [(child.ids.span_id, child.node.texts) for child in one.below if child.node.role == MODEL_CALL]
    told = (node.name, node.start_ns, node.end_ns, node.is_error, node.error, node.texts, one.is_over, below)
    known = {name: value for name, value in (call or {}).items() if name not in _UNTOLD}
    above = b"" if one.above is None else one.above.ids.span_id
    return blake2b(msgspec.msgpack.encode((told, known, above)), digest_size=8).digest()


def _error_type(node: Node, call: Row | None) -> str:
    if not node.is_error:
        return ""
    return str((call or {}).get("error_type") or (call or {}).get("http_status") or "_OTHER")


def _fit_session(row: Row, mode: str) -> Row:
    """The row of a session as the destination may have it."""
    return privacy.fit_row(dict(row), mode)
