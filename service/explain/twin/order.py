"""Nodes in an order in which each finds its inputs made, or what is wrong with the graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar


class BadGraph(ValueError):
    """A graph that nothing can compute: a tensor that is made twice, by nobody, or by way of itself."""


class Reads(Protocol):
    """What is ordered: the tensors that a node reads and makes."""

    @property
    def onnx_name(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def reads(self) -> frozenset[str]: ...


N = TypeVar("N", bound=Reads)


def ordered(nodes: Sequence[N], given: Iterable[str], outputs: Sequence[str], *, closed: bool) -> tuple[N, ...]:
    """The nodes, as they stand where that is an order already (as ONNX asks for; some files don't keep to it).

    `given` are inputs and constants. A graph that isn't `closed` also reads the one around it. Raises BadGraph.
    """
    known = set(given)
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.outputs:
            if name and (name in producer or name in known):
                raise BadGraph(f"the tensor {name!r} is made twice")
            producer[name] = index
    needs = [{producer[n] for n in node.reads if n in producer} for node in nodes]
    if closed:
        _all_there(nodes, {*known, *producer}, outputs)
    if all(max(sources, default=-1) < index for index, sources in enumerate(needs)):
        return tuple(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for index, sources in enumerate(needs):
        for source in sources:
            readers[source].append(index)
    waiting = [len(sources) for sources in needs]
    ready, done = deque(i for i, count in enumerate(waiting) if not count), []
    while ready:
        index = ready.popleft()
        done.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(done) < len(nodes):
        stuck = [shown(nodes[i]) for i, count in enumerate(waiting) if count]
        raise BadGraph(f"the graph has a cycle: among the nodes {', '.join(stuck[:5])} each waits for another one's result")
    return tuple(nodes[i] for i in done)


def _all_there(nodes: Sequence[N], made: set[str], outputs: Sequence[str]) -> None:
    for node in nodes:
        if missing := sorted(node.reads - made):
            raise BadGraph(f"the node {shown(node)} reads the tensor {missing[0]!r}, which nothing in the graph makes")
    for name in outputs:
        if name not in made:
            raise BadGraph(f"nothing in the graph makes its output {name!r}")


def shown(node: Reads) -> str:
    """A node in words: its name, or what it makes."""
    return f"{node.onnx_name!r} ({node.operator})" if node.onnx_name else f"{' and '.join(map(repr, node.outputs))} ({node.operator})"
