"""The GRU that handles lengths, against torch's own on single rows, in torch and in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from training.export import to_onnx
from training.networks.sst2_gru import EMBEDDED, BidirectionalGru, ExportableGru, Sst2Gru
from training.recipes.sst2_gru_bundle import graph

VOCABULARY = 60


def network() -> Sst2Gru:
    torch.manual_seed(0)
    vectors = torch.randn(VOCABULARY, 12)
    vectors[0] = 0
    return Sst2Gru(vectors, 10, unknown=1, word_dropout=0.3, embedding_dropout=0.3, dropout=0.3).eval()


@pytest.fixture(scope="module")
def net() -> Sst2Gru:
    return network()


@pytest.fixture(scope="module")
def model(net: Sst2Gru) -> onnx.ModelProto:
    return to_onnx(graph(net, VOCABULARY))


@pytest.fixture(scope="module")
def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, tokens: Tensor, lengths: Tensor) -> Tensor:
    return torch.from_numpy(session.run(["logits"], {"tokens": tokens.numpy(), "lengths": lengths.numpy()})[0])


def rows(batch: int, time: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch * 1000 + time)
    lengths = torch.randint(1, time + 1, (batch,), generator=generator)
    lengths[0] = time
    tokens = torch.randint(1, VOCABULARY, (batch, time), generator=generator)
    return tokens.masked_fill(torch.arange(time) >= lengths[:, None], 0), lengths


@torch.inference_mode()
def obvious(net: Sst2Gru, tokens: Tensor) -> Tensor:
    """Logits (2,) of one row without padding: nn.GRU as it comes, no packing, no masks."""
    assert isinstance(net.gru, BidirectionalGru)
    states = net.gru.gru(net.embedding(tokens)[None])[0][0]  # (T, 2 * hidden)
    logits: Tensor = net.classes(torch.cat([states.amax(0), states.mean(0)]))
    return logits


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("time", [1, 2, 7, 53, 400])
def test_padded_rows_answer_as_each_row_alone(net: Sst2Gru, session: onnxruntime.InferenceSession, batch: int, time: int) -> None:
    tokens, lengths = rows(batch, time)
    expected = torch.stack([obvious(net, row[:length]) for row, length in zip(tokens, lengths, strict=True)])
    with torch.inference_mode():
        torch.testing.assert_close(net(tokens, lengths), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(run(session, tokens, lengths), expected, rtol=1e-5, atol=1e-6)


def test_padding_to_any_width_changes_nothing(session: onnxruntime.InferenceSession) -> None:
    tokens, lengths = rows(3, 20)
    wide = torch.nn.functional.pad(tokens, (0, 33))
    torch.testing.assert_close(run(session, wide, lengths), run(session, tokens, lengths), rtol=0, atol=1e-6)
    filled = torch.where(torch.arange(53) < lengths[:, None], wide, 7)
    torch.testing.assert_close(run(session, filled, lengths), run(session, tokens, lengths), rtol=0, atol=1e-6)


def test_nothing_but_padding_is_finite(session: onnxruntime.InferenceSession) -> None:
    """The baseline that explanations start from, and an empty row."""
    tokens = torch.zeros(2, 9, dtype=torch.int64)
    assert run(session, tokens, torch.tensor([9, 9])).isfinite().all()
    assert run(session, tokens, torch.tensor([9, 0])).isfinite().all()


def test_graph_is_one_gru_with_lengths_and_ordinary_operators(model: onnx.ModelProto) -> None:
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
    assert not model.functions
    (gru,) = (node for node in model.graph.node if node.op_type == "GRU")
    constant = {tensor.name for tensor in model.graph.initializer}
    assert set(gru.input[1:4]) <= constant  # a twin can make an nn.GRU of it
    assert gru.input[4]  # sequence_lens
    producer = {name: node.op_type for node in model.graph.node for name in node.output}
    assert producer[EMBEDDED] == "Gather"


def test_padding_embeds_to_zero(model: onnx.ModelProto) -> None:
    gather = next(node for node in model.graph.node if EMBEDDED in node.output)
    table = next(onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == gather.input[0])
    assert table.shape == (VOCABULARY, 12)
    assert not np.any(table[0])


def test_exportable_copy_leaves_the_original_alone(net: Sst2Gru) -> None:
    copy = net.exportable()
    assert isinstance(copy.gru, ExportableGru)
    assert isinstance(net.gru, BidirectionalGru)
    tokens, lengths = rows(2, 5)
    with torch.inference_mode():
        assert torch.equal(copy(tokens, lengths), net(tokens, lengths))


def test_word_dropout_hits_words_not_padding_and_only_in_training() -> None:
    net = network()
    net.embedding_dropout, net.dropout = nn.Dropout(0), nn.Dropout(0)
    net.word_dropout = 1.0
    tokens, lengths = rows(3, 8)
    unknown = torch.where(tokens > 0, 1, 0)
    with torch.inference_mode():
        kept = net(tokens, lengths)
        torch.testing.assert_close(net.train()(tokens, lengths), net.eval()(unknown, lengths))
        torch.testing.assert_close(net(tokens, lengths), kept)
