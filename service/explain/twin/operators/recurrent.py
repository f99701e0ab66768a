"""RNN, GRU and LSTM of the ONNX specification, with lengths, both directions and every activation.

Where torch has the same cell it is an `nn` module (lengths by packing); what torch has no form for (GRU with
linear_before_reset = 0, clips, peepholes, other activations) is the written-out cell of `cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from service.explain.twin.operators import cells
from service.explain.twin.operators.cells import Directions, Recurrence
from service.explain.twin.operators.layout import reverse_by_length
from service.explain.twin.registry import Bound, Constant, Dynamic, are_constant, module_form, operator

DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


def _spec(
    kind: str,
    hidden_size: int,
    direction: str,
    layout: int,
    clip: float,
    activations: Sequence[str] | None,
    activation_alpha: Sequence[float] | None,
    activation_beta: Sequence[float] | None,
) -> Recurrence:
    count = 2 if direction == "bidirectional" else 1
    names = tuple(activations or DEFAULTS[kind] * count)
    functions = cells.activations(names, activation_alpha or (), activation_beta or ())
    return Recurrence(hidden_size, Directions(direction), bool(layout), clip, names == DEFAULTS[kind] * count, functions)


@operator
def RNN(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    spec = _spec("RNN", R.shape[-1], direction, layout, clip, activations, activation_alpha, activation_beta)
    return cells.run(spec, cells.rnn, X, (W, R, B), sequence_lens, (initial_h,))


@operator
def GRU(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    spec = _spec("GRU", R.shape[-1], direction, layout, clip, activations, activation_alpha, activation_beta)
    return cells.run(spec, cells.gru_after if linear_before_reset else cells.gru_before, X, (W, R, B), sequence_lens, (initial_h,))


@operator
def LSTM(
    X: Tensor,
    W: Tensor,
    R: Tensor,
    B: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    P: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    spec = _spec("LSTM", R.shape[-1], direction, layout, clip, activations, activation_alpha, activation_beta)
    cell = cells.lstm_coupled if input_forget else cells.lstm
    return cells.run(spec, cell, X, (W, R, B, P), sequence_lens, (initial_h, initial_c))


# ------------------------------------------------------------------------------------------------------- as nn modules


@dataclass(frozen=True, slots=True)
class _Call:
    """Calls an `nn.RNNBase` as the ONNX node is called; its module takes time first."""

    spec: Recurrence
    has_cell: bool

    def __call__(
        self,
        module: nn.Module,
        X: Tensor,
        sequence_lens: Tensor | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        x = X.transpose(0, 1) if self.spec.batch_first else X  # (T, N, I)
        time, rows = x.shape[:2]
        # Rows that all fill the time axis need no packing, which costs time and memory.
        lengths = None if sequence_lens is None or bool((sequence_lens == time).all()) else sequence_lens.long()
        if lengths is not None and bool((lengths <= 0).any()):
            raise ValueError("sequence_lens must be at least 1")
        if self.spec.directions is Directions.REVERSE:
            x = x.flip(0) if lengths is None else reverse_by_length(x, lengths.to(x.device))
        state = self._state(x, initial_h, initial_c)
        with _differentiable(x):
            if lengths is None:
                y, last = module(x, state)
            else:
                packed, last = module(pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False), state)
                y, _ = pad_packed_sequence(packed, total_length=time)
        if self.spec.directions is Directions.REVERSE:
            y = y.flip(0) if lengths is None else reverse_by_length(y, lengths.to(y.device))
        y = y.reshape(time, rows, self.spec.directions.count, -1).transpose(1, 2)  # (T, D, N, H)
        states = last if self.has_cell else (last,)
        return cells.laid_out(self.spec, y, states)

    def _state(self, x: Tensor, initial_h: Tensor | None, initial_c: Tensor | None) -> Tensor | tuple[Tensor, Tensor] | None:
        if initial_h is None and initial_c is None:
            return None
        zeros = x.new_zeros(self.spec.directions.count, x.shape[1], self.spec.hidden)
        h, c = (zeros if s is None else s.transpose(0, 1) if self.spec.batch_first else s for s in (initial_h, initial_c))
        return (h, c) if self.has_cell else h


def _differentiable(x: Tensor) -> AbstractContextManager[None]:
    """cuDNN's recurrent kernels have no pass backward in evaluation mode: on CUDA torch's own compute it."""
    return torch.backends.cudnn.flags(enabled=False) if x.is_cuda else nullcontext()


def _module(
    kind: type[nn.RNN] | type[nn.GRU] | type[nn.LSTM], order: Sequence[int], spec: Recurrence, W: Constant, R: Constant, B: Constant
) -> nn.Module | None:
    """The module with ONNX's weights; `order[i]` is ONNX's place of torch's i-th gate. None where torch has no such cell."""
    if not are_constant(W, R, B) or not isinstance(W, Tensor) or not isinstance(R, Tensor) or spec.clip or not spec.default_activations:
        return None
    hidden = spec.hidden
    module = kind(W.shape[-1], hidden, bidirectional=spec.directions is Directions.BIDIRECTIONAL)
    biases = torch.zeros(W.shape[0], 2 * W.shape[1]) if not isinstance(B, Tensor) else B
    with torch.no_grad():
        for d, suffix in enumerate(("", "_reverse")[: W.shape[0]]):
            input_bias, hidden_bias = biases[d].chunk(2)
            for name, value in (("weight_ih", W[d]), ("weight_hh", R[d]), ("bias_ih", input_bias), ("bias_hh", hidden_bias)):
                gates = value.chunk(value.shape[0] // hidden)
                getattr(module, f"{name}_l0{suffix}").copy_(torch.cat([gates[i] for i in order]))
    return module.to(W.dtype)


@module_form(RNN)
def rnn(
    X: Constant,
    W: Constant,
    R: Constant,
    B: Constant = None,
    sequence_lens: Constant = None,
    initial_h: Constant = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
) -> Bound | None:
    if not isinstance(R, Tensor):
        return None
    spec = _spec("RNN", R.shape[-1], direction, layout, clip, activations, activation_alpha, activation_beta)
    module = _module(nn.RNN, (0,), spec, W, R, B)
    return None if module is None else Bound(module, _Call(spec, False), takes=(0, 4, 5))


@module_form(GRU)
def gru(
    X: Constant,
    W: Constant,
    R: Constant,
    B: Constant = None,
    sequence_lens: Constant = None,
    initial_h: Constant = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> Bound | None:
    if not isinstance(R, Tensor) or not linear_before_reset:
        return None  # torch's reset gate acts after the matrix product
    spec = _spec("GRU", R.shape[-1], direction, layout, clip, activations, activation_alpha, activation_beta)
    module = _module(nn.GRU, (1, 0, 2), spec, W, R, B)  # ONNX: z r h; torch: r z n
    return None if module is None else Bound(module, _Call(spec, False), takes=(0, 4, 5))


@module_form(LSTM)
def lstm(
    X: Constant,
    W: Constant,
    R: Constant,
    B: Constant = None,
    sequence_lens: Constant = None,
    initial_h: Constant = None,
    initial_c: Constant = None,
    P: Constant = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
) -> Bound | None:
    if not isinstance(R, Tensor) or isinstance(P, Dynamic) or input_forget or (P is not None and bool(P.any())):
        return None
    spec = _spec("LSTM", R.shape[-1], direction, layout, clip, activations, activation_alpha, activation_beta)
    module = _module(nn.LSTM, (0, 2, 3, 1), spec, W, R, B)  # ONNX: i o f c; torch: i f g o
    return None if module is None else Bound(module, _Call(spec, True), takes=(0, 4, 5, 6))
