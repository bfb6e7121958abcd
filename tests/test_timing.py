"""Where the time of a tree went: own times, and the critical path, of any tree."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tachograph.tree.nodes import Node, Tree, finish
from tachograph.tree.timing import critical_path, self_times

BASE = 1_000


def tree(*steps: tuple[str, str, int, int], noise: str = "") -> Tree:
    """A tree of (id, parent, start, end); "" is the root."""
    root = Node(id="")
    nodes = {"": root}
    for id_, parent, start, end in steps:
        node = nodes[id_] = Node(id=id_, origin="span", start_ns=BASE + start, end_ns=BASE + end, is_noise=id_ in noise)
        node.parent = parent
        nodes[parent].children.append(node)
    finish(root)
    return Tree("t", root, len(nodes) - 1)


def path(made: Tree) -> list[tuple[str, int, int]]:
    """The critical path as (id, start, end)."""
    return [(one.node.id, one.start_ns - BASE, one.end_ns - BASE) for one in critical_path(made)]


def test_the_path_goes_by_what_ended_last_before() -> None:
    made = tree(("a", "", 0, 100), ("b", "a", 10, 40), ("c", "a", 20, 60), ("d", "a", 60, 90), ("e", "d", 70, 80))
    assert path(made) == [("a", 0, 20), ("c", 20, 60), ("d", 60, 70), ("e", 70, 80), ("d", 80, 90), ("a", 90, 100)]


def test_what_still_ran_held_nobody_up() -> None:
    made = tree(("a", "", 0, 100), ("b", "a", 0, 70), ("c", "a", 50, 100))
    assert path(made) == [("a", 0, 50), ("c", 50, 100)]


def test_a_step_that_outlives_the_one_above_it_may_determine_the_end() -> None:
    assert path(tree(("a", "", 0, 10), ("b", "a", 5, 30))) == [("a", 0, 5), ("b", 5, 30)]
    after = tree(("a", "", 0, 10), ("b", "a", 5, 30), ("c", "", 12, 40))
    assert path(after) == [("a", 0, 10), ("c", 12, 40)]


def test_time_before_the_step_above_does_not_count() -> None:
    made = tree(("a", "", 50, 100), ("b", "a", 20, 80), ("c", "a", 0, 40))
    assert path(made) == [("b", 50, 80), ("a", 80, 100)]


def test_a_step_without_a_duration_determines_nothing() -> None:
    made = tree(("a", "", 0, 5), ("b", "a", 10, 10), ("c", "", 3, 10))
    assert path(made) == [("c", 3, 10)]


def test_own_time_is_what_no_step_below_covers() -> None:
    made = tree(("a", "", 0, 100), ("b", "a", 10, 40), ("c", "a", 20, 60), ("d", "a", 90, 130), ("e", "d", 0, 5))
    assert self_times(made) == {"a": 40, "d": 40}


def test_folded_noise_is_a_part_of_the_step_that_holds_it() -> None:
    made = tree(("a", "", 0, 100), ("n", "a", 0, 100), ("b", "n", 10, 40), noise="n")
    assert self_times(made) == {"a": 70, "n": 70}


def test_a_very_deep_and_a_very_wide_tree_are_measured() -> None:
    deep = tree(*((str(n), str(n - 1) if n else "", n, 6000 - n) for n in range(3000)))
    assert [one.node.id for one in critical_path(deep)][2999] == "2999"
    wide = tree(("p", "", 0, 20_000), *((f"c{n}", "p", n, n + 1) for n in range(20_000)))
    assert len(critical_path(wide)) == 20_000 and self_times(wide) == {"p": 0}


STEPS = st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=25)


@given(STEPS)
def test_the_path_never_counts_a_moment_twice_and_reaches_the_end(drawn: list[tuple[int, int, int]]) -> None:
    steps = [
        (f"{at}", f"{above % at}" if at and above >= 0 else "", start, start + took)
        for at, (above, start, took) in enumerate(drawn)
    ]
    made = tree(*steps)
    found = critical_path(made)
    for one, following in pairwise(found):
        assert one.end_ns <= following.start_ns
    for one in found:
        assert one.node.start_ns <= one.start_ns < one.end_ns <= one.node.end_ns
    last = max(node.end_ns for node in made.root.children)
    if any(node.end_ns == last and node.duration_ns for node in made.root.children):
        assert found and found[-1].end_ns >= last
    own = self_times(made)
    assert all(0 <= own.get(node.id, 0) <= (node.duration_ns or 0) for _, node in made.walk())
