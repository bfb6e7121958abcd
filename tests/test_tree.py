"""Trees of any spans, events and calls: everything stands once, parents come first, nothing goes round."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recordings import CAPTURES, prepared, requests
from tachograph import ledger
from tachograph.model import Batch, Content, Event, Meaning, Source, Span, Usage
from tachograph.pricing import Prices
from tachograph.scan import Match, Scan
from tachograph.store.duckdb import DuckStore, open_store
from tachograph.tree import Node, Tree, beginning, session_tree, significant, trace_tree

S = 1_000_000_000
START = 1_763_000_000 * S
SOURCE = Source({"service.name": "agent"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckStore]:
    """One store for all trees: each test has ids of its own."""
    kept = open_store(tmp_path_factory.mktemp("trees"), lambda: START)
    yield kept
    kept.close()


def keep(store: DuckStore, spans: list[Span], events: list[Event] | None = None) -> None:
    """Commit what has its meaning already, and settle the calls."""
    batch = Batch(spans=spans, events=events or [])
    ledger.report(batch)
    store.commit([batch])
    while ledger.settle(store, Prices().price):
        pass


def span(
    trace: str, number: int, parent: int | None, start: float = 0, took: float = 1, name: str = "", **meaning: object
) -> Span:
    """A span at `start` seconds."""
    begin = START + int(start * S)
    ids = f"{number:016x}", "" if parent is None else f"{parent:016x}"
    made = Meaning(**meaning)  # type: ignore[arg-type]
    return Span(SOURCE, trace, *ids, name or f"span {number}", 1, begin, begin + int(took * S), {}, meaning=made)


def event(at: float, origin: str = "log", texts: list[Content] | None = None, **meaning: object) -> Event:
    """An event at `at` seconds."""
    made = Meaning(**meaning)  # type: ignore[arg-type]
    # The attribute keeps two events of one moment apart.
    attributes = {"n": f"{origin} {at} {sorted(map(str, meaning.items()))}"}
    return Event(
        SOURCE, START + int(at * S), f"{made.role} event", attributes, origin=origin, meaning=made, contents=texts
    )


def outline(tree: Tree) -> list[str]:
    """The tree as indented lines of role and name."""
    lines = []
    for depth, node in tree.walk():
        name = node.tool_name or node.subagent or node.prompt_id or node.name
        lines.append(f"{'  ' * depth}{node.role or '-'} {name}")
    return lines


TRACES = iter(range(1, 1_000_000))


def new_trace() -> str:
    """A trace id that no other test has."""
    return f"{next(TRACES):032x}"


SPANS = st.lists(
    st.tuples(
        st.integers(0, 12), st.none() | st.integers(0, 14), st.integers(0, 5), st.booleans(),
        st.sampled_from(["", "prompt", "turn", "agent", "model_call", "tool_run", "session"]),
        st.sampled_from(["", "p1", "p2"]),
        st.sampled_from(["", "s1", "s2"]),
    ),
    max_size=30,
)  # fmt: skip
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["prompt", "tool_run", "agent", "model_call", "turn", ""]), st.integers(-1, 7),
        st.sampled_from(["", "p1", "p2", "p3"]), st.sampled_from(["", "t1", "t2"]), st.sampled_from(["", "sub"]),
        st.none() | st.integers(0, 14), st.sampled_from(["log", "transcript"]),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60)
@given(SPANS, EVENTS)
def test_everything_stands_exactly_once(
    store: DuckStore, spans: list[tuple[Any, ...]], events: list[tuple[Any, ...]]
) -> None:
    trace, session = new_trace(), f"session {new_trace()}"
    made = [
        span(
            trace, n, parent, start, role=role, is_noise=noise, prompt_id=prompt, subagent=sub, session_id=session,
            is_call=role == "model_call", usage=Usage(input_uncached=n) if role == "model_call" else None,
        )
        for n, parent, start, noise, role, prompt, sub in spans
    ]  # fmt: skip
    told = [
        event(at, origin, role=role, prompt_id=prompt, tool_call_id=tool, subagent=sub, session_id=session)
        for role, at, prompt, tool, sub, _, origin in events
    ]
    for one, (_, _, _, _, _, inside, _) in zip(told, events, strict=True):
        if inside is not None:
            one.trace_id, one.span_id = trace, f"{inside:016x}"
    keep(store, made, told)
    wanted = {f"{number:016x}" for number, *_ in spans}
    calls = store.scan(Scan("calls", {"id": "call_id"}, (Match("session_id", "=", session),))).data["id"]
    for tree in (trace_tree(store, trace), session_tree(store, session)):
        check(tree)
        seen = [node.span_id for _, node in tree.walk() if node.origin == "span"]
        assert sorted(seen) == sorted(wanted)
    carried = [node.call_id for _, node in session_tree(store, session).walk() if node.call_id]
    assert sorted(carried) == sorted(calls)
    heard = [one for _, node in session_tree(store, session).walk() for one in node.event_ids]
    assert len(heard) == len(set(heard))


def check(tree: Tree) -> None:
    """What holds of every tree."""
    nodes = [node for _, node in tree.walk()]
    assert len({node.id for node in nodes}) == len(nodes) == tree.nodes
    for node in (tree.root, *nodes):
        assert all(child.parent == node.id for child in node.children)
        assert [c.start_ns for c in node.children] == sorted(c.start_ns for c in node.children)
        assert not any(child.is_noise for child in significant(node))
    assert tree.root.totals.spans == sum(node.origin == "span" for node in nodes)
    assert tree.noise == sum(node.is_noise for node in nodes)
    shown = list(significant(tree.root))
    for node in shown:
        shown.extend(significant(node))
    assert len(shown) == tree.nodes - tree.noise
    # Noise at the top has nothing shown above it but the root, and is counted there.
    assert sum(node.inner for node in (tree.root, *shown)) == tree.noise


def test_a_circle_is_cut_where_it_began(store: DuckStore) -> None:
    trace = new_trace()
    keep(
        store,
        [
            span(trace, 1, 3, start=2),
            span(trace, 2, 1, start=1),
            span(trace, 3, 2, start=3),
            span(trace, 4, 3, start=4),
        ],
    )
    assert outline(trace_tree(store, trace)) == ["- span 2", "  - span 3", "    - span 1", "    - span 4"]


def test_orphans_of_a_trace_stand_at_the_root_in_time(store: DuckStore) -> None:
    trace = new_trace()
    keep(store, [span(trace, 1, 77, start=3), span(trace, 2, None, start=1), span(trace, 3, 2, start=2)])
    assert outline(trace_tree(store, trace)) == ["- span 2", "  - span 3", "- span 1"]


def test_a_chain_of_10000_spans_is_no_trouble(store: DuckStore) -> None:
    trace = new_trace()
    keep(store, [span(trace, n, n - 1 if n > 1 else None, start=n / 1000) for n in range(1, 10_001)])
    tree = trace_tree(store, trace)
    assert max(depth for depth, _ in tree.walk()) == 9_999


def test_events_alone_make_prompts_tools_and_calls(store: DuckStore) -> None:
    session = new_trace()
    texts = [Content("prompt", "", ["do it"])]
    keep(
        store, [],
        [
            event(1, role="prompt", prompt_id="one", session_id=session, texts=texts),
            event(2, role="model_call", is_call=True, prompt_id="one", request_id="r1", session_id=session,
                  usage=Usage(input_uncached=5, output=7), response_model="gpt-4o"),
            event(4, role="tool_run", tool_name="bash", tool_call_id="t1", duration_ns=S, session_id=session),
            event(9, role="prompt", prompt_id="two", session_id=session),
            event(10, role="tool_run", tool_name="read", subagent="helper", session_id=session, is_error=True),
        ],
    )  # fmt: skip
    tree = session_tree(store, session)
    assert outline(tree) == [
        "prompt one", "  model_call one", "  tool_run bash", "prompt two", "  agent helper", "    tool_run read",
    ]  # fmt: skip
    first, second = tree.root.children
    assert first.totals.calls == 1 and first.totals.input_tokens == 5 and first.totals.output_tokens == 7
    assert first.children[1].duration_ns == S
    assert second.totals.errors == 1 and first.texts and first.texts[0][0] == "prompt"


def test_one_tool_run_told_by_span_log_and_transcript_stands_once(store: DuckStore) -> None:
    session, trace = new_trace(), new_trace()
    keep(
        store,
        [
            span(trace, 1, None, 0, 9, role="prompt", prompt_id="p", session_id=session),
            span(trace, 2, 1, 2, 2, role="tool_run", tool_name="bash", tool_call_id="t1", session_id=session),
            span(trace, 3, 2, 2.1, 1, role="tool_run", tool_name="bash", tool_call_id="t1", session_id=session),
        ],
        [
            event(0, role="prompt", prompt_id="p", session_id=session),
            event(2, "transcript", role="tool_run", tool_name="bash", tool_call_id="t1", session_id=session),
            event(4, "log", role="tool_run", tool_name="bash", duration_ns=2 * S, session_id=session),
        ],
    )
    tree = session_tree(store, session)
    assert outline(tree) == ["prompt p", "  tool_run bash", "    tool_run bash"]
    assert tree.root.totals.tool_runs == 1
    assert len(tree.root.children[0].children[0].event_ids) == 2


def test_a_log_and_a_files_of_one_tool_run_meet_by_time(store: DuckStore) -> None:
    session = new_trace()
    keep(
        store, [],
        [
            event(1, "transcript", role="tool_run", tool_name="bash", tool_call_id="t1", session_id=session),
            event(3, "log", role="tool_run", tool_name="bash", duration_ns=2 * S, session_id=session),
            event(3.1, "transcript", role="tool_run", tool_name="bash", tool_call_id="t1", session_id=session),
            event(8, "transcript", role="tool_run", tool_name="bash", tool_call_id="t2", session_id=session),
            event(9, "log", role="tool_run", tool_name="bash", duration_ns=S, session_id=session),
        ],
    )  # fmt: skip
    tree = session_tree(store, session)
    assert [len(node.event_ids) for node in tree.root.children] == [3, 2]


def test_an_answer_that_a_transcript_writes_in_lines_is_whole(store: DuckStore) -> None:
    session = new_trace()
    said: dict[str, Any] = {
        "role": "model_call", "is_call": True, "request_id": f"req {session}", "session_id": session,
        "usage": Usage(input_uncached=1),
    }  # fmt: skip
    parts = ["thinking", "words", "words", "a tool"]
    lines = [event(n, "transcript", [Content("output", "", [part])], **said) for n, part in enumerate(parts)]
    keep(store, [], [*lines, event(9, "log", [Content("output", "", ["words, as the log has them"])], **said)])
    [node] = session_tree(store, session).root.children
    [(slot, hashes)] = node.texts
    texts = store.texts(hashes)
    assert slot == "output" and [texts[hash_] for hash_ in hashes] == ["thinking", "words", "a tool"]


def test_two_libraries_that_report_one_call_carry_it_once(store: DuckStore) -> None:
    trace = new_trace()
    both: dict[str, Any] = {
        "role": "model_call",
        "is_call": True,
        "response_id": f"chatcmpl-{trace}",
        "provider": "openai",
    }
    usage = Usage(input_uncached=10, output=2)
    keep(store, [span(trace, 1, None, 0, 3, usage=usage, **both), span(trace, 2, 1, 1, 1, usage=usage, **both)])
    tree = trace_tree(store, trace)
    assert tree.root.totals.calls == 1 and tree.root.totals.input_tokens == 10
    assert sorted(node.is_repeat for _, node in tree.walk()) == [False, True]


def test_a_program_that_holds_the_prompt_stays_above_it(store: DuckStore) -> None:
    session, trace = new_trace(), new_trace()
    keep(
        store,
        [
            span(trace, 1, None, 0.5, 9, name="program", session_id=session, prompt_id="p"),
            span(trace, 2, 1, 1, 5, role="prompt", prompt_id="p", session_id=session),
        ],
    )
    assert outline(session_tree(store, session)) == ["- p", "  prompt p"]


def test_another_sessions_spans_stay_out(store: DuckStore) -> None:
    mine, other, trace = new_trace(), new_trace(), new_trace()
    keep(store, [span(trace, 1, None, session_id=mine), span(trace, 2, None, session_id=other)])
    assert [node.span_id for _, node in session_tree(store, mine).walk()] == [f"{1:016x}"]


def test_nothing_known_is_an_empty_tree(store: DuckStore) -> None:
    for tree in (trace_tree(store, "none"), session_tree(store, "none"), session_tree(store, "trace:none")):
        assert tree.nodes == 0 and not list(tree.walk()) and tree.root.totals.cost_nanousd is None


def test_a_session_without_a_name_is_that_of_its_trace(store: DuckStore, tmp_path: Path) -> None:
    trace = new_trace()
    keep(store, [span(trace, 1, None, role="model_call", is_call=True, usage=Usage(input_uncached=3))])
    tree = session_tree(store, f"trace:{trace}")
    assert tree.nodes == 1 and tree.root.totals.calls == 1


def test_nodes_of_different_traces_with_one_span_id_are_two(store: DuckStore) -> None:
    session, first, second = new_trace(), new_trace(), new_trace()
    keep(store, [span(first, 1, None, session_id=session), span(second, 1, None, session_id=session)])
    nodes: list[Node] = [node for _, node in session_tree(store, session).walk()]
    assert len(nodes) == 2


def test_an_earlier_attempt_stands_beside_its_call_and_takes_no_span_from_it(tmp_path: Path) -> None:
    """A log record names the prompt's span, in which it was written: that span stays the prompt's."""
    store = open_store(tmp_path, lambda: 1_795_300_000_000_000_000)
    for batch in requests(CAPTURES / "claude-code-errors"):
        store.commit([prepared(batch)])
    while ledger.settle(store, Prices(None).price):
        pass
    session = store.scan(Scan("sessions", {"id": "session_id"})).data["id"][0]
    tree = session_tree(store, session)
    shown = [(node.role, node.status) for _, node in tree.walk() if node.role in ("prompt", "model_call")]
    store.close()
    assert shown == [("prompt", ""), ("model_call", "failed"), *[("model_call", "ok")] * 3]


def child(
    at: float, session: str, parent: str, call: str = "", lineage: str = "subagent", subagent: str = ""
) -> list[Event]:
    """The records of a session that comes from another: its task and one call."""
    task = event(at, role="prompt", prompt_id="task")
    used = Usage(input_uncached=5, output=7)
    call_ = event(
        at + 0.1, role="model_call", is_call=True, request_id=f"r {session}", usage=used, response_model="task"
    )
    for made in (task, call_):
        told = made.meaning
        assert told is not None
        told.session_id, told.parent_session_id, told.lineage = session, parent, lineage
        told.parent_tool_call_id, told.subagent = call, subagent
    return [task, call_]


def test_the_session_of_a_sub_agent_stands_below_the_tool_run_that_started_it(store: DuckStore) -> None:
    mine, sub, deeper, beside, forked = (new_trace() for _ in range(5))
    keep(
        store, [],
        [
            event(1, role="prompt", prompt_id="p", session_id=mine),
            event(5, role="tool_run", tool_name="task", tool_call_id="t1", duration_ns=3 * S, session_id=mine),
            event(6, role="tool_run", tool_name="bash", tool_call_id="t2", duration_ns=3 * S, session_id=mine),
            event(9, role="tool_run", tool_name="task", tool_call_id="t3", duration_ns=2 * S, session_id=mine),
            *child(3, sub, mine, "t1", subagent="scout"),
            *child(3.5, deeper, sub),
            *child(8, beside, mine),
            *child(6, forked, mine, lineage="fork"),
        ],
    )  # fmt: skip
    tree = session_tree(store, mine)
    assert outline(tree) == [
        "prompt p",
        "  tool_run task",
        "    agent scout", "      prompt task", "        model_call task",
        "        agent sub-agent", "          prompt task", "            model_call task",
        "  tool_run bash",
        "  tool_run task",
        "    agent sub-agent", "      prompt task", "        model_call task",
    ]  # fmt: skip
    assert tree.root.totals.calls == 3 and tree.root.totals.tool_runs == 3
    assert tree.nodes == len(list(tree.walk()))
    assert {node.id for _, node in tree.walk()} >= {f"session:{sub}", f"session:{deeper}", f"session:{beside}"}


def test_sessions_that_say_they_come_from_each_other_end(store: DuckStore) -> None:
    one, other = new_trace(), new_trace()
    keep(store, [], [*child(1, one, other), *child(2, other, one)])
    assert session_tree(store, one).root.totals.calls == 2
    assert session_tree(store, other).root.totals.calls == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 5), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 12),
)
def test_the_beginning_of_a_tree_is_the_beginning(
    store: DuckStore, shape: list[tuple[int, int, bool]], steps: int
) -> None:
    trace = new_trace()
    spans = [  # parents stand before their children, are none of the trace, or there are none
        span(trace, number, None if parent < 0 else min(parent, 99 if parent > 25 else number - 1), at, is_noise=inner)
        for number, (parent, at, inner) in enumerate(shape, start=1)
    ]
    keep(store, spans)
    whole = [node.id for _, node in trace_tree(store, trace).walk()]
    begun = beginning(store, trace, steps)
    first = [node.id for _, node in begun.tree.walk()]
    assert first == whole[: len(first)] and begun.spans == len(shape)
    known = beginning(store, trace, steps, (0, store.sequence()))
    assert [node.id for _, node in known.tree.walk()] == first
    told = [node for _, node in begun.tree.walk() if not node.is_noise]
    assert len(told) == min(steps, sum(not inner for *_, inner in shape)) or len(first) == steps * 10


def test_the_beginning_has_the_calls_of_its_steps_and_the_times_of_all(store: DuckStore) -> None:
    trace = new_trace()
    asked = Usage(10, output=5)
    keep(
        store,
        [
            span(trace, 1, None, 0, 9, role="agent"),
            span(trace, 2, 1, 1, 1, role="model_call", is_call=True, request_model="m", usage=asked),
            span(trace, 3, 1, 2, 30, role="model_call", is_call=True, request_model="m", usage=asked),
        ],
    )
    begun = beginning(store, trace, 2)
    assert [bool(node.call_id) for _, node in begun.tree.walk()] == [False, True]
    assert (begun.start_ns, begun.end_ns, begun.spans) == (START, START + 32 * S, 3)


def test_what_goes_round_or_is_not_there_has_no_beginning(store: DuckStore) -> None:
    trace = new_trace()
    keep(store, [span(trace, 1, 2), span(trace, 2, 1)])
    assert not beginning(store, trace, 9).tree.nodes and beginning(store, trace, 9).spans == 2
    assert not beginning(store, new_trace(), 9).spans
