"""How near an explanation comes to what its rows must cost: a row of gradients two forward rows of ONNX Runtime, a forward row one.

`python -m bench.efficiency --digits 10 --pictures 1` for a quick look.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np

from bench.contestants import Contestant, contestants
from bench.table import markdown
from bench.timing import in_turns, one_core
from service.explain.methods import ExplainRequest

_ROUNDS = 3


def report(digits: int = 30, pictures: int = 3) -> str:
    """A table: rows, the forward time of one in the same chunk, and the share of an explanation's time that they account for."""
    with one_core(), contestants(digits, pictures) as pair:
        table = [_row(one, request) for one in pair for by, request in one.requests.items() if by.startswith("default")]
    columns = ("network", "precision", "n", "gradient rows", "forward rows", "rows a pass", "ONNX Runtime ms a row", "explanation ms")
    header = (*columns, "efficiency", "least", "most")
    return (
        "(2 x gradient rows + forward rows) x ONNX Runtime's forward time a row in the same chunk / explanation time, one core, one "
        "thread, tolerance 0.01; medians\n\n" + markdown(header, table)
    )


def _row(one: Contestant, request: ExplainRequest) -> tuple[object, ...]:
    gradient, forward, each, seconds, shares = [], [], [], [], []
    for i in range(len(one.x)):
        chunk = np.repeat(one.x[i : i + 1], one.chunk(i), 0)
        fields = one.ours(i, request).fields
        works: list[Callable[[], object]] = [partial(one.logits, chunk), partial(one.ours, i, request)]
        alone, ours = in_turns(works, _ROUNDS)
        gradient.append(fields["rows"])
        forward.append(fields["forward_rows"])
        each.append(alone.seconds / len(chunk))
        seconds.append(ours.seconds)
        shares.append((2 * gradient[-1] + forward[-1]) * each[-1] / seconds[-1])
    counts = (median(gradient), median(forward), one.chunk(0))
    return (
        one.name,
        fields["precision"],
        len(one.x),
        *counts,
        median(each) * 1e3,
        median(seconds) * 1e3,
        median(shares),
        min(shares),
        max(shares),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.efficiency", description=__doc__)
    parser.add_argument("--digits", type=int, default=30)
    parser.add_argument("--pictures", type=int, default=3)
    arguments = parser.parse_args()
    print(report(arguments.digits, arguments.pictures))
