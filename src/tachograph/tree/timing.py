"""Where the time of a tree went: the time of each step that is its own, and the steps that determined the end."""

from __future__ import annotations

from typing import NamedTuple

from tachograph.tree.nodes import Node, Tree, significant


class Stretch(NamedTuple):
    """A time in which one step alone kept the whole from ending sooner."""

    node: Node
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """Its length."""
        return self.end_ns - self.start_ns


def self_times(tree: Tree) -> dict[str, int]:
    """Node id -> nanoseconds of a step in which none of the steps below it ran, for steps that have some below.

    Folded noise is a part of the step that holds it; the noise itself is told apart by what is right below it.
    """
    found: dict[str, int] = {}
    for _, node in tree.walk():
        if node.children:
            inside = node.children if node.is_noise else significant(node)
            if inside:
                found[node.id] = (node.duration_ns or 0) - _covered(node, inside)
    return found


def _covered(node: Node, inside: list[Node]) -> int:
    """How much of a step's time is covered by these, which come in order of their start."""
    covered, at = 0, node.start_ns
    for one in inside:
        begin, end = max(one.start_ns, at), min(one.end_ns, node.end_ns)
        if end > begin:
            covered += end - begin
            at = end
    return covered


def critical_path(tree: Tree) -> list[Stretch]:
    """The stretches that add up to the time from the start to the end, in time; gaps in which nothing ran are left out.

    Seen from its end, a step waited for the one below it that ended last; before that one began, for the one that
    ended last until then; between them it worked itself. What still ran at such a moment held nobody up. A step that
    outlives the one above it may determine the end all the same. Times before the step above began do not count.
    """
    ends = _ends(tree)
    found: list[Stretch] = []
    stack = [(tree.root, tree.root.start_ns, ends[tree.root.id])]
    while stack:
        node, since, until = stack.pop()
        if not node.children:
            _add(found, node, since, until)
            continue
        at = until
        for child, begin, end in _waited_for(node, since, until, ends):
            _add(found, node, end, at)
            stack.append((child, begin, end))
            at = begin
        _add(found, node, since, at)
    found.sort(key=lambda stretch: (stretch.start_ns, stretch.end_ns))
    return [stretch for stretch in found if stretch.node is not tree.root]


def _ends(tree: Tree) -> dict[str, int]:
    """Node id -> when the last of it and everything below it ended; what took no time determines nothing."""
    walked = [node for _, node in tree.walk()]
    ends = {node.id: node.end_ns if node.end_ns > node.start_ns else 0 for node in walked}
    ends[tree.root.id] = 0
    for node in reversed(walked):
        if ends[node.id] > ends[node.parent]:
            ends[node.parent] = ends[node.id]
    return ends


def _waited_for(node: Node, since: int, until: int, ends: dict[str, int]) -> list[tuple[Node, int, int]]:
    """The children that a step waited for, the last one first, each with the part of its time that counts.

    A child may count with all below it, or, where that outlived the moment, with its own end.
    """
    moments = [(ends[child.id], child) for child in node.children]
    moments += [(child.end_ns, child) for child in node.children if child.end_ns < ends[child.id]]
    moments.sort(key=lambda moment: (moment[0], moment[1].start_ns, moment[1].id), reverse=True)
    found: list[tuple[Node, int, int]] = []
    used: set[str] = set()
    at = until
    for end, child in moments:
        begin = max(child.start_ns, since)
        if end <= at and begin < end and child.start_ns and child.id not in used:
            used.add(child.id)
            found.append((child, begin, end))
            at = begin
    return found


def _add(found: list[Stretch], node: Node, start_ns: int, end_ns: int) -> None:
    end_ns = min(end_ns, node.end_ns)
    if end_ns > start_ns:
        found.append(Stretch(node, start_ns, end_ns))
