"""Control flow as written: If, Loop and Scan run their subgraphs, which read the graph around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from service.explain.twin.registry import operator

Body = Callable[[Sequence[Any], Any], list[Any]]


@operator
def If(cond: Tensor, *, then_branch: Body, else_branch: Body, scope: Any) -> tuple[Any, ...]:
    return tuple((then_branch if bool(cond) else else_branch)((), scope))


@operator
def Loop(M: Tensor | None, cond: Tensor | None = None, *v_initial: Any, body: Body, scope: Any, outputs: int) -> tuple[Any, ...]:
    limit = None if M is None else int(M)
    going = cond is None or bool(cond)
    carried = list(v_initial)
    scanned: list[list[Tensor]] = [[] for _ in range(outputs - len(carried))]
    iteration = 0
    while going and (limit is None or iteration < limit):
        keep, *results = body([torch.tensor(iteration), torch.tensor(going), *carried], scope)
        carried = results[: len(carried)]
        for column, value in zip(scanned, results[len(carried) :], strict=True):
            column.append(value)
        going = bool(keep)
        iteration += 1
    return *carried, *(torch.stack(column) if column else torch.zeros(0) for column in scanned)


@operator
def Scan_9(
    *initial_state_and_scan_inputs: Tensor,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
    scope: Any,
    outputs: int,
) -> tuple[Tensor, ...]:
    states = list(initial_state_and_scan_inputs[:-num_scan_inputs])
    scanned = initial_state_and_scan_inputs[-num_scan_inputs:]
    made = outputs - len(states)
    in_axes, in_turned = scan_input_axes or [0] * num_scan_inputs, scan_input_directions or [0] * num_scan_inputs
    out_axes, out_turned = scan_output_axes or [0] * made, scan_output_directions or [0] * made
    columns = [torch.unbind(x.flip(a) if t else x, a) for x, a, t in zip(scanned, in_axes, in_turned, strict=True)]
    results: list[list[Tensor]] = [[] for _ in range(made)]
    for step in zip(*columns, strict=True):
        values = body([*states, *step], scope)
        states = values[: len(states)]
        for column, value in zip(results, values[len(states) :], strict=True):
            column.append(value)
    stacked = (torch.stack(c[::-1] if t else c, a) for c, a, t in zip(results, out_axes, out_turned, strict=True))
    return *states, *stacked


@operator
def Scan(
    sequence_lens: Tensor | None,
    *initial_state_and_scan_inputs: Tensor,
    body: Body,
    num_scan_inputs: int,
    directions: Sequence[int] | None = None,
    scope: Any,
    outputs: int,
) -> tuple[Tensor, ...]:
    """Until opset 8: row by row of a batch (axis 0), each row's sequence as long as `sequence_lens` says."""
    states = len(initial_state_and_scan_inputs) - num_scan_inputs
    rows = []
    for row in range(initial_state_and_scan_inputs[0].shape[0]):
        values = [x[row] for x in initial_state_and_scan_inputs]
        if sequence_lens is not None:
            values = [*values[:states], *(x[: int(sequence_lens[row])] for x in values[states:])]
        rows.append(
            Scan_9(
                *values,
                body=body,
                num_scan_inputs=num_scan_inputs,
                scan_input_directions=directions,
                scope=scope,
                outputs=outputs,
            )
        )
    columns = list(zip(*rows, strict=True))
    padded = [torch.nn.utils.rnn.pad_sequence(list(c), batch_first=True) for c in columns[states:]]
    return *(torch.stack(c) for c in columns[:states]), *padded
