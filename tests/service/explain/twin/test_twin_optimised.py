"""Networks as ONNX Runtime's optimiser and quantiser save them: the twin against ONNX Runtime, its gradients against the
float model's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch import Tensor, nn

from service.explain.parity import limit, parity_error
from service.explain.twin import build


class Block(nn.Module):
    """A transformer's: attention, then two linear layers, each with its residual and LayerNorm."""

    def __init__(self, size: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
        self.first, self.second = nn.LayerNorm(size), nn.LayerNorm(size)
        self.wide, self.narrow = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)  # (N, H, T, T)
        x = self.first(x + self.out((weights @ v).transpose(1, 2).flatten(2)))
        return self.second(x + self.narrow(nn.functional.gelu(self.wide(x))))


class Transformer(nn.Module):
    """Of vectors, so that gradients have an input to reach."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(Block(), Block()), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x)[:, 0])


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {"cnn": (cnn, (3, 8, 8)), "transformer": (Transformer, (6, 16))}


def rows(name: str, count: int = 3) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, (count, *NETWORKS[name][1])).astype(np.float32)


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / f"{request.param}.onnx"
    network = NETWORKS[request.param][0]().eval()
    example = torch.from_numpy(rows(request.param))
    torch.onnx.export(
        network, (example,), path, dynamo=True, dynamic_shapes=[{0: "n"}], opset_version=18, verbose=False, external_data=False
    )
    return request.param, path


class Calibration(CalibrationDataReader):
    def __init__(self, name: str, path: Path) -> None:
        (entry,) = onnx.load(path).graph.input
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{entry.name: rows(name, count)} for count in (3, 4, 5)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def optimised(path: Path) -> Path:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return path.with_suffix(".optimised.onnx")


def dynamic(name: str, path: Path) -> Path:
    made = path.with_suffix(".dynamic.onnx")
    quantize_dynamic(path, made)
    return made


def static(name: str, path: Path, form: QuantFormat) -> Path:
    made = path.with_suffix(f".{form.name}.onnx")
    quantize_static(path, made, Calibration(name, path), quant_format=form)
    return made


def as_written(model: onnx.ModelProto) -> ort.InferenceSession:
    """Without the fusions that ONNX Runtime makes on loading: with them a quantised transformer's own answers move by some
    quanta, so that they'd say nothing of the twin."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


FORMS: dict[str, Callable[[str, Path], Path]] = {
    "optimised": lambda name, path: optimised(path),
    "dynamic": dynamic,
    "dynamic, optimised": lambda name, path: optimised(dynamic(name, path)),
    "QDQ": lambda name, path: static(name, path, QuantFormat.QDQ),
    "QDQ, optimised": lambda name, path: optimised(static(name, path, QuantFormat.QDQ)),
    "QOperator": lambda name, path: static(name, path, QuantFormat.QOperator),
}


@pytest.mark.parametrize("form", FORMS)
def test_twin_agrees_with_onnx_runtime(form: str, exported: tuple[str, Path]) -> None:
    name, path = exported
    model, float_model = onnx.load(FORMS[form](name, path)), onnx.load(path)
    twin = build(model, numpy=False)
    assert not twin.unsupported
    assert bool(twin.straight_through) == (form != "optimised")
    x = rows(name)
    (expected,) = as_written(model).run(None, {twin.input_names[0]: x})
    leaf = torch.from_numpy(x).requires_grad_()
    (got,) = twin(leaf)
    # ONNX Runtime's own QLinearSoftmax is a quantum off here and there, which grows on its way to the output.
    quanta = 4 if (name, form) == ("transformer", "QDQ, optimised") else 1
    assert parity_error({"y": got.detach().numpy()}, {"y": expected}) <= quanta * limit(model)
    # The float model's gradient, which quantisation disturbs but doesn't turn.
    other = torch.from_numpy(x).requires_grad_()
    mine = torch.autograd.grad(got[:, 0].sum(), leaf)[0].flatten()
    theirs = torch.autograd.grad(build(float_model)(other)[0][:, 0].sum(), other)[0].flatten()
    assert float(torch.cosine_similarity(mine, theirs, dim=0)) > (0.999 if form == "optimised" else 0.8)
