"""Twins on another device: nothing mixes it with the host, and what comes back is what the host computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import pytest
import torch
from device_played import DEVICE, Elsewhere, playing
from onnx import TensorProto, helper
from support import MODELS

from bench.conformance.cases import Case
from bench.conformance.versions import Version, models, versions
from service.explain.twin import build, fold, mixed
from service.explain.twin.placed import placed

BUNDLES = sorted(path.parent.parent.name for path in MODELS.glob("*/*/model.onnx"))
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def trial(model: onnx.ModelProto) -> list[torch.Tensor]:
    """Two rows of each input, of the length 7 where that is open."""
    tensors = []
    for value in model.graph.input:
        kind = value.type.tensor_type
        open_sizes = (2, *(7,) * len(kind.shape.dim))
        shape = [d.dim_value if d.HasField("dim_value") else open_sizes[i] for i, d in enumerate(kind.shape.dim)]
        drawn = torch.from_numpy(np.random.default_rng(0).integers(1, 3, shape).astype(helper.tensor_dtype_to_np_dtype(kind.elem_type)))
        tensors.append(drawn.requires_grad_() if drawn.is_floating_point() else drawn)
    return tensors


def with_gradients(twin: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    outputs = twin(*inputs)
    leaves = [x for x in inputs if x.requires_grad]
    found = torch.autograd.grad(sum(o.sum() for o in outputs), leaves) if leaves else ()
    return [*(o.detach() for o in outputs), *found]


@pytest.mark.parametrize("name", BUNDLES)
def test_every_form_of_a_bundle_computes_there_what_it_computes_here(name: str) -> None:
    model = onnx.load(next(MODELS.glob(f"{name}/*/model.onnx")))
    inputs = trial(model)
    wanted = with_gradients(build(model), inputs)
    with playing():
        faithful = placed(build(model), DEVICE)
        folded = fold(faithful)
        forms = [(faithful, 1e-6), (folded, 1e-5), *(((form, 5e-2),) if (form := mixed(folded)) else ())]
        for twin, tolerance in forms:
            assert all(isinstance(parameter.data, Elsewhere) for parameter in twin.parameters())
            for got, here in zip(with_gradients(twin, inputs), wanted, strict=True):
                assert not isinstance(got, Elsewhere)
                assert float((got - here).abs().max()) <= tolerance * max(1.0, float(here.abs().max()))


@pytest.mark.parametrize("version", [pytest.param(v, id=f"{v.op_type}-{v.since}") for v in versions()])
def test_no_operator_mixes_devices(version: Version, suite_by_operator: Mapping[tuple[str, str], Sequence[Case]]) -> None:
    tried = 0
    for case in models(version, suite_by_operator, most=2):
        twin = build(case.model, numpy=False)
        if twin.unsupported:
            continue
        inputs = case.data[0][0]
        wanted = twin(*inputs)
        with playing():
            got = placed(build(case.model, numpy=False), DEVICE)(*inputs)
        tried += 1
        if version.op_type not in ("Dropout", "Bernoulli", "Multinomial") and not version.op_type.startswith("Random"):
            for one, other in zip(got, wanted, strict=True):
                torch.testing.assert_close(one, other, equal_nan=True)
    if not tried:
        pytest.skip("computed in numpy, or no model of it is at hand")


def test_the_arithmetic_on_shapes_stays_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows as they come, flattened by their own shape, as exporters write `x.view(x.size(0), -1)`."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["flat"]),
        helper.make_node("Mul", ["flat", "two"], ["y"]),
    ]
    constants = {"first": np.asarray([0]), "rest": np.asarray([-1]), "two": np.asarray([2], np.float32)}
    graph = helper.make_graph(
        nodes,
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 6])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def waits(_: Elsewhere) -> None:
        raise AssertionError("a number is read from the device")

    monkeypatch.setattr(Elsewhere, "tolist", waits)
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    with playing():
        (y,) = placed(build(model), DEVICE)(x)
    np.testing.assert_array_equal(y.numpy(), 2 * x.reshape(2, 6))


def test_what_numpy_computes_comes_back_to_the_device(one_node: Callable[..., onnx.ModelProto]) -> None:
    x = np.asarray([0.5, -1.0, 2.0], np.float32)
    model = one_node("Binarizer", [x], {"threshold": 0.0, "domain": "ai.onnx.ml"})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    with playing():
        (y,) = placed(build(model), DEVICE)(x)
    np.testing.assert_array_equal(y.numpy(), [1, 0, 1])


@gpu
@pytest.mark.parametrize("name", BUNDLES)
def test_on_a_gpu_outputs_and_gradients_are_the_processors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = onnx.load(next(MODELS.glob(f"{name}/*/model.onnx")))
    inputs = trial(model)
    found = with_gradients(placed(build(model), torch.device("cuda", 0)), inputs)
    for got, here in zip(found, with_gradients(build(model), inputs), strict=True):
        assert got.device.type == "cpu"
        assert float((got - here).abs().max()) <= 1e-4 * max(1.0, float(here.abs().max()))
