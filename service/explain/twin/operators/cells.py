"""Recurrent cells written out step by step, for what torch's modules don't compute. Formulas: ONNX's RNN, GRU, LSTM."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]


class Directions(enum.Enum):
    FORWARD = "forward"
    REVERSE = "reverse"
    BIDIRECTIONAL = "bidirectional"

    @property
    def count(self) -> int:
        return 2 if self is Directions.BIDIRECTIONAL else 1

    @property
    def reversed(self) -> tuple[bool, ...]:
        """Of each direction, whether it runs from the end to the beginning."""
        return {Directions.FORWARD: (False,), Directions.REVERSE: (True,), Directions.BIDIRECTIONAL: (False, True)}[self]


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What a recurrent node's attributes say."""

    hidden: int
    directions: Directions
    batch_first: bool
    clip: float
    """Of what goes into the activations; 0 is none."""
    default_activations: bool
    activations: tuple[Activation, ...]
    """Those of the first direction, then those of the second."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One direction's: W (gates * H, I), R (gates * H, H), the two halves of B, and peepholes (3 * H,)."""

    W: Tensor
    R: Tensor
    input_bias: Tensor
    hidden_bias: Tensor
    peepholes: Tensor | None
    f: tuple[Activation, ...]
    clip: float

    def clipped(self, x: Tensor) -> Tensor:
        return x.clamp(-self.clip, self.clip) if self.clip else x


Cell = Callable[[Weights, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""(weights, x (N, I), states (N, H)) to the new states, the output first."""


def rnn(w: Weights, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (h,) = states
    return (w.f[0](w.clipped(F.linear(x, w.W, w.input_bias) + F.linear(h, w.R, w.hidden_bias))),)


def gru_before(w: Weights, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """linear_before_reset = 0: the reset gate is applied to the state before the matrix product."""
    (h,) = states
    xz, xr, xn = F.linear(x, w.W, w.input_bias).chunk(3, -1)
    Rz, Rr, Rn = w.R.chunk(3)
    bz, br, bn = w.hidden_bias.chunk(3)
    z = w.f[0](w.clipped(xz + F.linear(h, Rz, bz)))
    r = w.f[0](w.clipped(xr + F.linear(h, Rr, br)))
    n = w.f[1](w.clipped(xn + F.linear(r * h, Rn, bn)))
    return ((1 - z) * n + z * h,)


def gru_after(w: Weights, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """linear_before_reset = 1, as cuDNN's and torch's cell."""
    (h,) = states
    xz, xr, xn = F.linear(x, w.W, w.input_bias).chunk(3, -1)
    hz, hr, hn = F.linear(h, w.R, w.hidden_bias).chunk(3, -1)
    z, r = w.f[0](w.clipped(xz + hz)), w.f[0](w.clipped(xr + hr))
    n = w.f[1](w.clipped(xn + r * hn))
    return ((1 - z) * n + z * h,)


def lstm(w: Weights, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return _lstm(w, x, states, coupled=False)


def lstm_coupled(w: Weights, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """input_forget = 1: what is forgotten is what isn't taken in."""
    return _lstm(w, x, states, coupled=True)


def _lstm(w: Weights, x: Tensor, states: tuple[Tensor, ...], *, coupled: bool) -> tuple[Tensor, ...]:
    h, c = states
    i, o, f, g = (F.linear(x, w.W, w.input_bias) + F.linear(h, w.R, w.hidden_bias)).chunk(4, -1)
    pi, po, pf = w.peepholes.chunk(3) if w.peepholes is not None else (0, 0, 0)
    i = w.f[0](w.clipped(i + pi * c))
    f = 1 - i if coupled else w.f[0](w.clipped(f + pf * c))
    new = f * c + i * w.f[1](w.clipped(g))
    o = w.f[0](w.clipped(o + po * new))
    return o * w.f[2](new), new


def run(
    spec: Recurrence,
    cell: Cell,
    X: Tensor,
    weights: Sequence[Tensor | None],
    sequence_lens: Tensor | None,
    initial: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """A recurrent node: Y and the last states, laid out as the node's `layout` says. `weights`: W, R, B and perhaps P."""
    x = X.transpose(0, 1) if spec.batch_first else X  # (T, N, I)
    lengths = torch.full((x.shape[1],), x.shape[0], device=x.device) if sequence_lens is None else sequence_lens.to(x.device).long()
    start = [None if s is None else s.transpose(0, 1) if spec.batch_first else s for s in initial]
    zeros = x.new_zeros(x.shape[1], spec.hidden)
    runs = [
        _one_direction(cell, w, x, lengths, tuple(zeros if s is None else s[d] for s in start), backwards)
        for d, (w, backwards) in enumerate(zip(_by_direction(spec, weights), spec.directions.reversed, strict=True))
    ]
    y = torch.stack([outputs for outputs, _ in runs], 1)  # (T, D, N, H)
    return laid_out(spec, y, tuple(torch.stack(states) for states in zip(*(last for _, last in runs), strict=True)))


def laid_out(spec: Recurrence, y: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """y (T, D, N, H) and states (D, N, H), batch first where the node asks for it."""
    if spec.batch_first:
        return y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in states)
    return y, *states


def _by_direction(spec: Recurrence, weights: Sequence[Tensor | None]) -> Iterator[Weights]:
    W, R, B, *rest = weights
    assert W is not None  # required inputs
    assert R is not None
    each = len(spec.activations) // spec.directions.count
    for d in range(spec.directions.count):
        both = W.new_zeros(2 * W.shape[1]) if B is None else B[d]
        peepholes = rest[0][d] if rest and rest[0] is not None else None
        input_bias, hidden_bias = both.chunk(2)
        yield Weights(W[d], R[d], input_bias, hidden_bias, peepholes, spec.activations[d * each : (d + 1) * each], spec.clip)


def _one_direction(
    cell: Cell, w: Weights, x: Tensor, lengths: Tensor, states: tuple[Tensor, ...], backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (T, N, H), zero beyond each row's length, and the states after each row's last step."""
    outputs: list[Tensor] = []
    for t in reversed(range(x.shape[0])) if backwards else range(x.shape[0]):
        valid = (t < lengths).unsqueeze(-1)  # (N, 1); running backwards, a row begins at its own end
        new = cell(w, x[t], states)
        states = tuple(torch.where(valid, n, s) for n, s in zip(new, states, strict=True))
        outputs.append(torch.where(valid, new[0], torch.zeros_like(new[0])))
    return torch.stack(outputs[::-1] if backwards else outputs), states


# ------------------------------------------------------------------------------------------------------- activations
# alpha and beta default as the functions' own operators do.

_WITHOUT: dict[str, Activation] = {
    "Relu": torch.relu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Softsign": F.softsign,
    "Softplus": F.softplus,
}
_WITH_ALPHA: dict[str, tuple[float, Callable[[Tensor, float], Tensor]]] = {
    "LeakyRelu": (0.01, F.leaky_relu),
    "ThresholdedRelu": (1.0, lambda x, alpha: torch.where(x > alpha, x, torch.zeros_like(x))),
    "Elu": (1.0, F.elu),
}
_WITH_BOTH: dict[str, tuple[float, float, Callable[[Tensor, float, float], Tensor]]] = {
    "Affine": (1.0, 0.0, lambda x, alpha, beta: alpha * x + beta),
    "ScaledTanh": (1.0, 1.0, lambda x, alpha, beta: alpha * torch.tanh(beta * x)),
    "HardSigmoid": (0.2, 0.5, lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1)),
}


def activations(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> tuple[Activation, ...]:
    """The functions by name; `alphas` and `betas` are handed out in order to those that take one."""
    alpha, beta = iter(alphas), iter(betas)
    return tuple(_activation(name, alpha, beta) for name in names)


def _activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    by_lower = {n.lower(): n for n in (*_WITHOUT, *_WITH_ALPHA, *_WITH_BOTH)}
    known = by_lower.get(name.lower())
    if known is None:
        raise NotImplementedError(f"recurrent activation {name!r}")
    if known in _WITHOUT:
        return _WITHOUT[known]
    if known in _WITH_ALPHA:
        default, unary = _WITH_ALPHA[known]
        a = next(alphas, default)
        return lambda x: unary(x, a)
    default, second, binary = _WITH_BOTH[known]
    a, b = next(alphas, default), next(betas, second)
    return lambda x: binary(x, a, b)
