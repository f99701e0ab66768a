"""A twin on a device beside the host: what lies there, and what stays with the host, which reads it as Python's numbers.

The same division as ONNX Runtime's on CUDA: shapes, axes and the arithmetic on them stay on the host, since an operator that reads
them from a device waits until that has done all it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from service.explain.twin.module import Twin
from service.explain.twin.operators.reduce import REDUCTIONS
from service.explain.twin.program import Step, Value

SMALL = 64
"""Elements of a constant that lies on both sides, since it may take part in the arithmetic on shapes."""
HOST: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Split", "Tile", "Expand", "Trilu", "CumSum", "CumProd", "TopK"), (1,)),
        **dict.fromkeys(REDUCTIONS, (1,)),
        **dict.fromkeys(("OneHot", "Upsample", "SequenceAt", "SequenceErase", "SplitToSequence"), (1,)),
        **dict.fromkeys(("ConstantOfShape", "If"), (0,)),
        **dict.fromkeys(("Dropout", "Col2Im", "DFT"), (1, 2)),
        **dict.fromkeys(("SequenceInsert", "MaxUnpool"), (2,)),
        **dict.fromkeys(("RNN", "GRU", "LSTM"), (4,)),
        "Loop": (0, 1),
        "STFT": (1, 3),
        "Pad": (1, 2, 3),
        "Resize": (1, 2, 3),
        "Slice": (1, 2, 3, 4),
    }
)
"""Places of inputs that the operator's function reads as numbers, by operator. One that isn't here is read from the device, later."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a run computes. `copies` are the constants on the host that lie on the device as well, by their identity."""

    device: torch.device
    copies: Mapping[int, Tensor] = field(default_factory=dict)

    def given(self, step: Step, values: Sequence[Value]) -> Sequence[Value]:
        """A step's inputs: all on the device where one of them is there or the step has a module, but for those it reads on the host."""
        host = _read_on_host(step)
        if step.module is None and not any(_is_on(self.device, value) for i, value in enumerate(values) if i not in host):
            return values
        return [value if i in host else self.moved(value) for i, value in enumerate(values)]

    def entered(self, value: Value) -> Value:
        """An input of the run: on the device where it is of floats. Others may be sizes; they are moved where they meet such."""
        return self.moved(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    def moved(self, value: Value) -> Value:
        """A value on the device; gradients pass."""
        if isinstance(value, list):
            return [self.moved(each) for each in value]
        if not isinstance(value, Tensor) or _is_on(self.device, value):
            return value
        copy = self.copies.get(id(value))
        return value.to(self.device, non_blocking=True) if copy is None else copy

    def back(self, value: Value) -> Value:
        """A value on the host, once it has been computed; gradients pass."""
        if isinstance(value, list):
            return [self.back(each) for each in value]
        return value.cpu() if isinstance(value, Tensor) else value


def placed(twin: Twin, device: torch.device) -> Twin:
    """A twin that takes and gives tensors of the host and computes on `device`. It takes over the modules of `twin`, which is of no
    use afterwards. Raises RuntimeError where they don't fit there."""
    compiled = twin.compiled
    for module in compiled.modules.values():
        module.to(device)
    read = {step.inputs[i] for step in compiled.steps for i in _read_on_host(step)}
    both = {
        name: value for name, value in compiled.constants.items() if isinstance(value, Tensor) and (name in read or value.numel() <= SMALL)
    }
    rest = {name: value.to(device) for name, value in compiled.constants.items() if isinstance(value, Tensor) and name not in both}
    place = Placement(device, {id(value): value.to(device) for value in both.values()})
    return Twin(replace(compiled, constants={**compiled.constants, **rest}, place=place))


def _read_on_host(step: Step) -> Sequence[int]:
    """Places among the step's inputs. A module has fewer of them than its node."""
    host = HOST.get(step.node.op_type, ())
    if step.module is None:
        return [i for i in host if i < len(step.inputs)]
    names = {step.node.inputs[i] for i in host if i < len(step.node.inputs)}
    return [i for i, name in enumerate(step.inputs) if name in names]


def _is_on(device: torch.device, value: Value) -> bool:
    if isinstance(value, list):
        return any(_is_on(device, each) for each in value)
    return isinstance(value, Tensor) and value.device.type == device.type
