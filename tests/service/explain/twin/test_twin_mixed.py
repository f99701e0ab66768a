"""Mixed precision: outputs to the bit, gradients as near to torch's own as bfloat16 allows."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from service.explain.twin import build, fold, mixed
from service.explain.twin.mixed import Mixed

LAYERS = [
    (nn.Conv2d(16, 24, 3, 1, 1), (16, 9, 11)),
    (nn.Conv2d(16, 24, 3, 2, 1), (16, 9, 12)),
    (nn.Conv2d(16, 16, 3, 1, 2, dilation=2, groups=4), (16, 9, 11)),
    (nn.Conv1d(8, 12, 5, 2, 2), (8, 31)),
    (nn.Conv3d(4, 6, 3, 1, 1), (4, 5, 6, 7)),
    (nn.Linear(32, 20), (32,)),
    (nn.Linear(32, 20), (5, 32)),
]
ROUNDING = 2**-8
"""Of bfloat16, relative: each product of a sum may be twice so far off, of the gradient and of the weight."""


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[str(layer) for layer, _ in LAYERS])
def test_output_is_the_layers_and_gradient_is_within_rounding(layer, shape) -> None:
    x = torch.randn(3, *shape, requires_grad=True)
    wanted = layer(x)
    upstream = torch.randn_like(wanted)
    (gradient,) = torch.autograd.grad(wanted, x, upstream)
    got = Mixed(layer)(x)
    (found,) = torch.autograd.grad(got, x, upstream)
    assert torch.equal(got, wanted)
    assert found.dtype == torch.float32
    assert found.shape == x.shape
    assert 0 < (found - gradient).norm() < 2 * ROUNDING * gradient.norm()


def test_a_network_keeps_its_outputs_and_its_open_units() -> None:
    twin = fold(build(onnx.load("models/mnist-cnn/1/model.onnx")))
    rounded = mixed(twin)
    assert rounded is not None
    assert not any(isinstance(module, Mixed) for module in twin.modules())
    x = 255 * torch.rand(4, 1, 28, 28)
    gradients, outputs = [], []
    for form in (twin, rounded):
        leaf = x.clone().requires_grad_()
        outputs.append(form(leaf)[0])
        gradients.append(torch.autograd.grad(outputs[-1][:, 3].sum(), leaf)[0].flatten(1))
    assert torch.equal(*outputs)
    off = (gradients[1] - gradients[0]).norm(dim=1) / gradients[0].norm(dim=1)
    assert off.max() < 0.01  # with units that open and close it would be a tenth


def test_there_is_none_without_layers() -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Tanh", ["x"], ["y"])], "tanh", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    assert mixed(fold(build(model))) is None
