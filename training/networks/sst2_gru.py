"""A bidirectional GRU over words that ends, and begins backwards, at each sentence's own last word."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

EMBEDDED = "embedding"
"""The exported graph's name of the embedded words, float32 (N, T, D): torch's name for the one embedding there is."""


class BidirectionalGru(nn.Module):
    """States of both directions (Cho et al. 2014, arXiv:1406.1078), each row run over its own length only."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """States (N, T, 2 * hidden), forward then backward, zero beyond each length, of `x` (N, T, inputs), `lengths` (N,) >= 1."""
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        return states


class ExportableGru(nn.Module):
    """A trained `BidirectionalGru` that becomes one ONNX GRU with `sequence_lens`, since packed sequences don't export.

    Run in torch it is still the original. ONNX orders the gates update, reset, new, where torch has reset, update, new, and
    torch applies the reset gate after the recurrent product (`linear_before_reset`).
    """

    def __init__(self, original: BidirectionalGru) -> None:
        super().__init__()
        self.original = original
        gru = original.gru
        self.hidden = gru.hidden_size
        w, r, wb, rb = (torch.stack(both) for both in zip(*(map(_reorder, weights) for weights in gru.all_weights), strict=True))
        self.W = nn.Buffer(w)  # (2, 3 * hidden, inputs)
        self.R = nn.Buffer(r)  # (2, 3 * hidden, hidden)
        self.B = nn.Buffer(torch.cat([wb, rb], 1))  # (2, 6 * hidden)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """As `BidirectionalGru.forward`, and in ONNX also for lengths of 0."""
        if not torch.compiler.is_exporting():
            states: Tensor = self.original(x, lengths)
            return states
        rows, time, _ = x.shape
        states, _ = torch.onnx.ops.symbolic_multi_out(
            "GRU",
            [x.transpose(0, 1), self.W, self.R, self.B, lengths.to(torch.int32)],
            {"direction": "bidirectional", "hidden_size": self.hidden, "linear_before_reset": 1},
            dtypes=[x.dtype, x.dtype],
            shapes=[[time, 2, rows, self.hidden], [2, rows, self.hidden]],
            version=14,
        )
        return states.permute(2, 0, 1, 3).flatten(2)  # (T, 2, N, hidden) to (N, T, 2 * hidden)


class Sst2Gru(nn.Module):
    """Logits of negative and positive from words: embedding, bidirectional GRU, largest and mean state, one linear layer.

    `vectors` (V, D) start the embedding; row 0, the padding, stays as it is. In training whole words are replaced by the
    unknown one (`word_dropout`), and numbers of the embedding and of the pooled states are dropped.
    """

    def __init__(self, vectors: Tensor, hidden: int, unknown: int, word_dropout: float, embedding_dropout: float, dropout: float) -> None:
        super().__init__()
        words, size = vectors.shape
        self.embedding = nn.Embedding(words, size, padding_idx=0, _weight=vectors.clone())
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.gru: nn.Module = BidirectionalGru(size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(4 * hidden, 2)
        self.unknown = unknown
        self.word_dropout = word_dropout

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Logits (N, 2) of `tokens` int64 (N, T), of which the first `lengths` int64 (N,) of each row count."""
        inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]  # (N, T)
        if self.training and self.word_dropout:
            dropped = inside & (torch.rand(tokens.shape, device=tokens.device) < self.word_dropout)
            tokens = tokens.masked_fill(dropped, self.unknown)
        embedded = self.embedding_dropout(self.embedding(tokens))  # (N, T, D)
        states = self.gru(embedded, lengths)  # (N, T, 2 * hidden)
        # A GRU's states lie in (-1, 1): -1 never is the largest unless nothing is inside.
        largest = torch.where(inside[:, :, None], states, -1.0).amax(1)  # (N, 2 * hidden)
        mean = states.sum(1) / lengths.clamp(min=1)[:, None]  # states are zero beyond the length
        logits: Tensor = self.classes(self.dropout(torch.cat([largest, mean], 1)))
        return logits

    def exportable(self) -> Sst2Gru:
        """A copy in evaluation mode that torch.onnx.export can translate and that computes the same."""
        twin = copy.deepcopy(self).eval()
        assert isinstance(twin.gru, BidirectionalGru)
        twin.gru = ExportableGru(twin.gru)
        return twin


def _reorder(weight: Tensor) -> Tensor:
    """torch's gates (reset, update, new) as ONNX has them (update, reset, new), along axis 0."""
    reset, update, new = weight.detach().chunk(3)
    return torch.cat([update, reset, new])
