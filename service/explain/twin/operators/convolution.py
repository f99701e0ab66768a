"""Convolutions and what they share with pooling: how a window's padding is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.explain.twin.registry import Bound, Constant, Dynamic, are_constant, module_form, operator


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over the spatial axes: sizes, steps, dilations, and its padding as the specification puts it."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """All beginnings, then all ends."""
    auto_pad: str

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        strides: Sequence[int] | None,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        auto_pad: str,
    ) -> Window:
        ones = (1,) * len(kernel)
        return cls(tuple(kernel), tuple(strides or ones), tuple(dilations or ones), tuple(pads or (0,) * (2 * len(kernel))), auto_pad)

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def symmetric(self) -> bool:
        """Whether the padding is known beforehand and the same at both ends, as torch wants it."""
        return self.auto_pad in ("NOTSET", "VALID", "") and self.begins == self.ends

    @property
    def begins(self) -> tuple[int, ...]:
        return (0,) * self.rank if self.auto_pad == "VALID" else self.pads[: self.rank]

    @property
    def ends(self) -> tuple[int, ...]:
        return (0,) * self.rank if self.auto_pad == "VALID" else self.pads[self.rank :]

    def padding(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Padding (begin, end) of each spatial axis, for spatial sizes that are now known."""
        if not self.auto_pad.startswith("SAME"):
            return list(zip(self.begins, self.ends, strict=True))
        result = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel, self.strides, self.dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            small, large = total // 2, total - total // 2
            result.append((small, large) if self.auto_pad == "SAME_UPPER" else (large, small))
        return result

    def pad(self, x: Tensor, value: float = 0.0) -> Tensor:
        """x (N, C, spatial..) with its padding written out."""
        return pad(x, self.padding(x.shape[2:]), value)


def pad(x: Tensor, padding: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pads the last axes by (begin, end) each; negative numbers crop."""
    flat = [n for both in reversed(padding) for n in both]  # torch counts axes from the last
    return F.pad(x, flat, value=value) if any(flat) else x


CONV: tuple[Callable[..., nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONV_TRANSPOSE: tuple[Callable[..., nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONV: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE: tuple[Callable[..., Tensor], ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@operator
def Conv(
    X: Tensor,
    W: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    window = Window.of(W.shape[2:], strides, dilations, pads, auto_pad)
    convolve = _CONV[window.rank - 1]
    return convolve(window.pad(X), W, B, window.strides, 0, window.dilations, group)


@module_form(Conv)
def conv(
    X: Constant,
    W: Constant,
    B: Constant = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Bound | None:
    if W is None or isinstance(W, Dynamic) or isinstance(B, Dynamic) or not 3 <= W.dim() <= 5:
        return None
    window = Window.of(W.shape[2:], strides, dilations, pads, auto_pad)
    module = CONV[window.rank - 1](
        W.shape[1] * group,
        W.shape[0],
        window.kernel,
        window.strides,
        window.begins if window.symmetric else 0,
        window.dilations,
        group,
        bias=B is not None,
        device="meta",
    )
    _set(module, W, B)
    return Bound(module) if window.symmetric else Bound(module, lambda m, x: m(window.pad(x)))


@dataclass(frozen=True, slots=True)
class _Transposed:
    """Where a transposed convolution's full result is cut, and what is added at its end, axis by axis."""

    window: Window
    output_padding: tuple[int, ...]
    output_shape: tuple[int, ...]

    def crop(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """(begin, end) to cut from each axis of the result with padding 0 and the output padding added."""
        if not self.output_shape and not self.window.auto_pad.startswith("SAME"):
            return list(zip(self.window.begins, self.window.ends, strict=True))
        wanted = self.output_shape or tuple(n * s for n, s in zip(sizes, self.window.strides, strict=True))
        result = []
        for axis, size in enumerate(sizes):
            kernel, stride, dilation = self.window.kernel[axis], self.window.strides[axis], self.window.dilations[axis]
            total = stride * (size - 1) + self.output_padding[axis] + (kernel - 1) * dilation + 1 - wanted[axis]
            result.append(_halves(total, self.window.auto_pad))
        return result

    @property
    def direct(self) -> bool:
        """Whether torch's own padding says it."""
        window = self.window
        small = all(p < max(s, d) for p, s, d in zip(self.output_padding, window.strides, window.dilations, strict=True))
        return small and not self.output_shape and window.symmetric


def _halves(total: int, auto_pad: str) -> tuple[int, int]:
    """The specification: with SAME_UPPER the odd one is at the end, otherwise at the beginning."""
    half = total // 2
    return (half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half)


def _grow(x: Tensor, transposed: _Transposed, spatial: Sequence[int]) -> Tensor:
    """The full result (padding 0) to the one asked for: output padding on, then padding off."""
    crop = transposed.crop(spatial)
    return pad(x, [(-begin, extra - end) for (begin, end), extra in zip(crop, transposed.output_padding, strict=True)])


@operator
def ConvTranspose(
    X: Tensor,
    W: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    window = Window.of(W.shape[2:], strides, dilations, pads, auto_pad)
    transposed = _Transposed(window, tuple(output_padding or (0,) * window.rank), tuple(output_shape or ()))
    convolve = _CONV_TRANSPOSE[window.rank - 1]
    full = convolve(X, W, None, window.strides, 0, 0, group, window.dilations)
    grown = _grow(full, transposed, X.shape[2:])
    return grown if B is None else grown + B.reshape(-1, *(1,) * window.rank)


@module_form(ConvTranspose)
def conv_transpose(
    X: Constant,
    W: Constant,
    B: Constant = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Bound | None:
    """Only where torch's padding says it: a crop after the module would take the bias of cropped pixels for lost."""
    if W is None or isinstance(W, Dynamic) or isinstance(B, Dynamic) or not are_constant(W, B) or not 3 <= W.dim() <= 5:
        return None
    window = Window.of(W.shape[2:], strides, dilations, pads, auto_pad)
    transposed = _Transposed(window, tuple(output_padding or (0,) * window.rank), tuple(output_shape or ()))
    if not transposed.direct:
        return None
    module = CONV_TRANSPOSE[window.rank - 1](
        W.shape[0],
        W.shape[1] * group,
        window.kernel,
        window.strides,
        window.begins,
        transposed.output_padding,
        group,
        bias=B is not None,
        dilation=window.dilations,
        device="meta",
    )
    _set(module, W, B)
    return Bound(module)


def _set(module: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    # Channels last, where torch has kernels for it: what they then compute is laid out so, too, and rows take half the time.
    layout = torch.channels_last if weight.dim() == 4 else torch.contiguous_format
    module.register_parameter("weight", nn.Parameter(weight.clone(memory_format=layout)))
    module.register_parameter("bias", None if bias is None else nn.Parameter(bias.clone()))
