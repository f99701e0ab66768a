"""Export: what ONNX Runtime computes is what torch computes, and what isn't so is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from training.export import ExportError, Graph, check, strip, tiled, to_onnx
from training.networks.mnist_cnn import MnistCnn

IMAGE = {"image": {0: "batch"}}
SEQUENCE = {"sequence": {0: "batch", 1: "time"}}


class Convolution(nn.Module):
    """Works along time at any length, which a convolution over it does."""

    def __init__(self) -> None:
        super().__init__()
        self.along = nn.Conv1d(3, 4, 3, padding=1)

    def forward(self, sequence: Tensor) -> Tensor:
        return self.along(sequence.transpose(1, 2)).mean(-1)  # (N, 4)


class Recurrent(nn.Module):
    """The last state of a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, sequence: Tensor) -> Tensor:
        state: Tensor = self.gru(sequence)[1]
        return state[0]  # (N, 4)


@pytest.fixture(scope="module")
def exported() -> tuple[MnistCnn, onnx.ModelProto]:
    torch.manual_seed(0)
    net = MnistCnn()
    net(torch.rand(64, 1, 28, 28) * 255)  # one batch in training mode: running statistics that aren't 0 and 1
    return net.eval(), to_onnx(Graph(net, IMAGE, ("logits",), tiled(torch.rand(2, 1, 28, 28) * 255, axes=IMAGE)))


@pytest.mark.parametrize("batch", [1, 2, 5, 32])
def test_the_graph_computes_what_the_module_computes(exported: tuple[MnistCnn, onnx.ModelProto], batch: int):
    net, model = exported
    images = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(batch)) * 255
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, net(images).numpy(), rtol=1e-4, atol=1e-5)


def test_the_file_says_nothing_about_the_machine_that_made_it(exported: tuple[MnistCnn, onnx.ModelProto]):
    _, model = exported
    text = str(model.graph.node) + str(model.graph.value_info) + str(model.metadata_props) + str(model.graph.metadata_props)
    for trace in (".py", "site-packages", "stack_trace", "metadata_props", "/home", "/root"):
        assert trace not in text
    assert all(not initializer.HasField("data_location") for initializer in model.graph.initializer)
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 20}


def test_strip_reaches_into_functions_and_branches():
    node = onnx.helper.make_node("Identity", ["x"], ["y"], doc_string="/home/me/net.py")
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/me/net.py")
    branch = onnx.helper.make_graph([node], "branch", [], [onnx.helper.make_tensor_value_info("y", 1, [1])], doc_string="/home/me")
    outer = onnx.helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    function = onnx.helper.make_function("mine", "f", ["x"], ["y"], [node], [onnx.helper.make_opsetid("", 20)])
    model = onnx.helper.make_model(onnx.helper.make_graph([outer], "g", [], []), functions=[function])
    model.doc_string = "/home/me"
    strip(model)
    assert "/home" not in str(model)
    assert "stack_trace" not in str(model)


def test_dynamic_time_serves_every_length():
    torch.manual_seed(0)
    net = Convolution()
    model = to_onnx(Graph(net, SEQUENCE, ("out",), tiled(torch.rand(2, 5, 3), axes=SEQUENCE)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for length in (1, 4, 11, 90):
        sequence = torch.rand(3, length, 3)
        with torch.inference_mode():
            np.testing.assert_allclose(session.run(None, {"sequence": sequence.numpy()})[0], net(sequence).numpy(), atol=1e-5)


def test_what_torch_cannot_export_is_said():
    class Branching(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if image.sum() > 0 else -image

    with pytest.raises(ExportError, match="torch can't export Branching"):
        to_onnx(Graph(Branching(), IMAGE, ("out",), tiled(torch.rand(2, 3), axes=IMAGE)))


def test_a_gru_whose_time_axis_is_fixed_is_refused():
    net = Recurrent().eval()
    # The exporter does this by itself at times, asked for a dynamic axis or not; here it is made to.
    program = torch.onnx.export(
        net,
        (torch.rand(2, 7, 3),),
        dynamo=True,
        input_names=["sequence"],
        output_names=["out"],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    assert program is not None
    with pytest.raises(ExportError, match=r"can't run the exported graph at \{'batch': 1, 'time': 1\}"):
        check(program.model_proto, Graph(net, SEQUENCE, ("out",), tiled(torch.rand(2, 7, 3), axes=SEQUENCE)))


def test_other_weights_than_the_modules_are_refused(exported: tuple[MnistCnn, onnx.ModelProto]):
    _, model = exported
    torch.manual_seed(1)
    graph = Graph(MnistCnn().eval(), IMAGE, ("logits",), tiled(torch.rand(2, 1, 28, 28) * 255, axes=IMAGE))
    with pytest.raises(ExportError, match=r"output 'logits' at \{'batch': 1\} differs from torch by"):
        check(model, graph)


def test_a_graph_with_another_output_is_refused(exported: tuple[MnistCnn, onnx.ModelProto]):
    net, model = exported
    with pytest.raises(ExportError, match=r"expected \['image'\] and the outputs \['scores'\]"):
        check(model, Graph(net, IMAGE, ("scores",), tiled(torch.rand(2, 1, 28, 28), axes=IMAGE)))


def test_examples_are_repeated_or_cut_to_size():
    (tokens,) = tiled(torch.tensor([[1, 2, 3]]), axes={"tokens": {0: "batch", 1: "time"}})({"batch": 2, "time": 5})
    assert tokens.tolist() == [[1, 2, 3, 1, 2]] * 2
