"""A device that is played: its tensors say that they are elsewhere and are computed on the processor.

As on CUDA, operators refuse inputs from two devices (but a single number of the host), and nothing but a copy leads from one to the
other. What runs here mixes no devices; whether CUDA has a kernel for it, and how fast it is, isn't said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)
"""One that every build of torch knows by name and none has."""
_ACROSS = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
"""What leads from one device to the other."""
_PACK = torch.ops.aten._pack_padded_sequence.default
_MIXED = (_PACK, torch.ops.aten._pack_padded_sequence_backward.default, torch.ops.aten._pad_packed_sequence.default)
"""What takes tensors of both: torch wants lengths of rows on the host, and gives those of steps there."""


class Elsewhere(Tensor):
    """A tensor on DEVICE; `value` is the processor's."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype, device=DEVICE
        )
        made.value = value
        return made

    def tolist(self) -> Any:
        """On CUDA a copy that is waited for."""
        return self.value.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.value.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _computed(func, args, dict(kwargs or {}))


class _Made(TorchFunctionMode):
    """`torch.tensor` fills memory of the device behind the dispatcher's back."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = dict(kwargs or {})
        if func is torch.tensor and given.get("device") == DEVICE:
            return torch.tensor(*args, **{**given, "device": "cpu"}).to(DEVICE)
        return func(*args, **given)


class _Playing(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        return _computed(func, args, dict(kwargs or {}))


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(t, Elsewhere) for t in tensors)
    asked = kwargs.get("device")
    if asked is not None and asked.type == DEVICE.type:
        kwargs["device"] = torch.device("cpu")
    if func in _ACROSS:
        there = isinstance(args[0], Elsewhere) if asked is None else asked.type == DEVICE.type
    elif there and func not in _MIXED and any(not isinstance(t, Elsewhere) and t.dim() for t in tensors):
        raise RuntimeError(f"expected all tensors of {func} to be on the same device")
    elif asked is not None:
        there = asked.type == DEVICE.type
    found = func(*tree_map(_bare, args), **tree_map(_bare, kwargs))
    if not there:
        return found
    given = {id(t.value): t for t in tensors if isinstance(t, Elsewhere)}
    if func is _PACK:
        return _wrapped(found[0], given), found[1]
    return tree_map(lambda out: _wrapped(out, given), found)


def _bare(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Elsewhere) else leaf


@contextmanager
def playing() -> Iterator[None]:
    """DEVICE can be computed on inside the block."""
    overwriting = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # into a parameter of ours torch can't write another's data
    try:
        with _Made(), _Playing():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwriting)


def _wrapped(out: Any, given: Mapping[int, Elsewhere]) -> Any:
    """What an operator changed in place is the tensor that it was."""
    if not isinstance(out, Tensor):
        return out
    return given[id(out)] if id(out) in given else Elsewhere(out)
