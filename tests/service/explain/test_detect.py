"""What a graph tells about itself, on graphs small enough to see it."""

from __future__ import annotations

import onnx
import pytest

from service.explain.detect import Ending, Entry, attribute_at, ending, ends_in_log_softmax, entries

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
TABLE = "<float[5, 2] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}>"


def parsed(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + graph)


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ("g (float[N, 3] x) => (float[N, 3] y) { a = Neg (x)  y = Softmax (a) }", Ending("softmax", "a")),
        ("g (float[N, 3] x) => (float[N, 3] y) { a = Neg (x)  y = Sigmoid (a) }", Ending("sigmoid", "a")),
        ("g (float[N, 3] x) => (float[N, 3] y) { a = Softmax (x)  b = Identity (a)  y = Identity (b) }", Ending("softmax", "x")),
        ("g (float[N, 3] x) => (float[N, 3] y) { a = Softmax (x)  y = Neg (a) }", None),
        ("g (float[N, 3] x) => (float[N, 3] y) { y = LogSoftmax (x) }", None),
    ],
)
def test_the_activation_at_the_end(graph: str, found: Ending | None):
    assert ending(parsed(graph).graph, "y") == found
    assert ends_in_log_softmax(parsed(graph).graph, "y") == ("LogSoftmax" in graph)


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        # a lookup, and what only chooses among other floats
        (f"g (int64[N, T] i) => (float[N, T, 2] y) {TABLE} {{ y = Gather (table, i) }}", (Entry("y", "Gather", 5),)),
        ("g (int64[N, T] i) => (float[N, T] y) { y = Cast <to = 1> (i) }", (Entry("y", "Cast", None),)),
        ("g (uint8[N, T] i, float[N, T] a, float[N, T] b) => (float[N, T] y) { c = Cast <to = 9> (i)  y = Where (c, a, b) }", ()),
        ("g (int64[N] i, float[N, T] x) => (float[N, T] y) { y = Gather (x, i) }", ()),
        # a mask made of the ids beside the lookup is no second place
        (
            f"g (int64[N, T] i) => (float[N, T, 2] y) {TABLE} <int64 zero = {{0}}, int64[1] last = {{2}}>".replace("> <", ", ")
            + " { e = Gather (table, i)  m = Equal (i, zero)  f = Cast <to = 1> (m)  u = Unsqueeze (f, last)  y = Mul (e, u) }",
            (Entry("e", "Gather", 5),),
        ),
        # shifted ids are still ids, but no longer the table's own rows
        (
            f"g (int64[N, T] i) => (float[N, T, 2] y) {TABLE} <int64 one = {{1}}>".replace("> <", ", ")
            + " { j = Add (i, one)  y = Gather (table, j) }",
            (Entry("y", "Gather", None),),
        ),
        # moved: another order than the input's
        (
            f"g (int64[N, T] i) => (float[T, N, 2] y) {TABLE} {{ t = Transpose <perm = [1, 0]> (i)  y = Gather (table, t) }}",
            (Entry("y", "Gather", 5, in_place=False),),
        ),
    ],
)
def test_where_a_discrete_input_becomes_floats(graph: str, found: tuple[Entry, ...]):
    assert entries(parsed(graph), "i") == found
    wanted = {"i": found[0].tensor} if len(found) == 1 and found[0].in_place else {}
    assert attribute_at(parsed(graph)) == wanted
