"""Tells what a Pi process did as spans, events and points, with the identity that its spool gave."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from tachograph.hooks.pi_run import Process, Run
from tachograph.hooks.spans import ERROR, INTERNAL, filled
from tachograph.lines import SCOPES, Page
from tachograph.model import STEP, Attributes, Content, Event, Meaning, Point, Source, Span

# OTLP
_DELTA: Final = 1
# The bucket bounds that OpenTelemetry's SDKs use where nobody names others.
BOUNDS: Final = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)


class Telling:
    """One piece of a spool while it is read: takes what its lines tell and makes the records of it.

    `held` are calls that wait for the id of their session entry, by the session and the start of the message or the
    tool run; a line shortly behind tells it. They go out with the piece at the latest.
    """

    def __init__(self, page: Page, process: Process) -> None:
        self.page = page
        self.process = process
        self.held: dict[tuple[str, str | int], Span] = {}
        self._source: Source | None = None
        self._meanings: dict[tuple[str, str, str], Meaning] = {}

    def know(self, process: Process) -> None:
        """From here on, another process tells."""
        self.process = process
        self._source = None
        self._meanings.clear()

    @property
    def source(self) -> Source:
        """The resource and scope of all records."""
        if self._source is None:
            resource = self.process.resource or {"service.name": "pi"}
            self._source = Source(resource, scope_name=SCOPES["hook"] + "pi")
        return self._source

    def meaning(self, run: Run, role: str = STEP) -> Meaning:
        """The meaning of a record of a session: its identity, and the prompt that is open."""
        key = (run.session, run.parent_session_id, run.lineage)
        known = self._meanings.get(key)
        if known is None:
            known = self._meanings[key] = Meaning(
                dialect="pi",
                agent="pi",
                subagent=self.process.subagent,
                session_id=run.session,
                parent_session_id=run.parent_session_id,
                lineage=run.lineage,
                parent_tool_call_id=run.parent_tool_call_id,
                **self.process.identity,  # type: ignore[arg-type]  # only texts are in it
            )
        made: Meaning = known.__copy__()  # type: ignore[attr-defined]  # copy.copy takes three times as long
        made.role, made.prompt_id = role, run.prompt
        return made

    def span(
        self,
        run: Run,
        span_id: str,
        above: str,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        meaning: Meaning,
        *contents: Content,
        kind: int = INTERNAL,
        events: list[Attributes] | None = None,
        links: list[Attributes] | None = None,
        is_failed: bool = False,
    ) -> Span:
        """Make a span; whoever makes it hands it on with `add`."""
        is_failed = is_failed or meaning.is_error
        return Span(
            source=self.source,
            trace_id=run.trace_id,
            span_id=span_id,
            parent_id=above,
            name=name,
            kind=kind,
            start_ns=start_ns,
            end_ns=max(start_ns, end_ns),
            attributes=attributes,
            status_code=ERROR if is_failed else 0,
            status_message=meaning.error_message if is_failed else "",
            events=list(events) if events else None,
            links=list(links) if links else None,
            meaning=meaning,
            contents=filled(contents),
        )

    def add(self, span: Span) -> None:
        """Let a span go out with this piece."""
        self.page.spans.append(span)

    def hold(self, run: Run, key: str | int, span: Span) -> None:
        """Keep a call back until its session entry is told."""
        before = self.held.pop((run.session, key), None)
        if before is not None:
            self.add(before)
        self.held[run.session, key] = span

    def release(self, run: Run, key: str | int, message_id: str) -> None:
        """The session entry of a call that was held back."""
        span = self.held.pop((run.session, key), None)
        if span is not None and span.meaning is not None:
            span.meaning.message_id = message_id
            self.add(span)

    def release_all(self) -> None:
        """Let every call go out, whether its entry is known or not."""
        for span in self.held.values():
            self.add(span)
        self.held.clear()

    def event(
        self,
        run: Run,
        name: str,
        when_ns: int,
        attributes: Attributes,
        *contents: Content,
        span_id: str = "",
        meaning: Meaning | None = None,
    ) -> None:
        """Add a record of something that took no time, within the span given or the innermost one."""
        self.page.events.append(
            Event(
                source=self.source,
                time_ns=when_ns,
                name=name,
                attributes=attributes,
                trace_id=run.trace_id,
                span_id=span_id or run.above_steps,
                origin="hook",
                meaning=meaning or self.meaning(run),
                contents=filled(contents),
            )
        )

    def count(self, name: str, number: int, labels: Attributes, start_ns: int, end_ns: int, unit: str = "") -> None:
        """Add so many to a counter."""
        self.page.points.append(
            Point(
                source=self.source,
                name=name,
                attributes=labels,
                time_ns=end_ns,
                type="sum",
                unit=unit,
                temporality=_DELTA,
                is_monotonic=True,
                start_ns=start_ns,
                value=number,
            )
        )

    def measure(self, name: str, amount: float, labels: Attributes, start_ns: int, end_ns: int, unit: str) -> None:
        """Add one measurement to a histogram."""
        counts = [0] * (len(BOUNDS) + 1)
        counts[bisect_left(BOUNDS, amount)] = 1
        self.page.points.append(
            Point(
                source=self.source,
                name=name,
                attributes=labels,
                time_ns=end_ns,
                type="histogram",
                unit=unit,
                temporality=_DELTA,
                start_ns=start_ns,
                count=1,
                sum=amount,
                min=amount,
                max=amount,
                buckets={"bounds": list(BOUNDS), "counts": counts},
            )
        )


def happening(name: str, when_ns: int, attributes: Attributes) -> Attributes:
    """An event on a span."""
    return {"time_ns": when_ns, "name": name, "attributes": attributes, "dropped": 0}
