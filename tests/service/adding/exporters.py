"""Models of many exporters, made on the spot, each with what its own framework answers: the oracle of these tests."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_iris
from torch import nn

from service.cli import main

FIXTURES = Path(__file__).parents[2] / "fixtures"
IRIS, KINDS = load_iris(return_X_y=True)
IRIS = IRIS.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])
HOLED = np.where(np.arange(IRIS.size).reshape(IRIS.shape) % 7 == 2, np.float32(np.nan), IRIS)

torch.set_num_threads(1)


@dataclass(frozen=True)
class Exported:
    """A file, options for `whyserve add`, instances as JSON has them, and the scores of the explained output, (n, classes)."""

    file: Path
    options: tuple[str, ...]
    instances: list[Any]
    scores: np.ndarray
    kind: str
    """`probabilities`, `logits` or `values`: what `scores` are."""


@dataclass(frozen=True)
class Added:
    models: Path
    exported: dict[str, Exported]
    reports: dict[str, str]


def add(*arguments: str | Path) -> str:
    """The report of `whyserve add`; an error fails the test."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(["add", *map(str, arguments)])
    assert status == 0, said.getvalue()
    return said.getvalue()


def all_exported(folder: Path) -> dict[str, Exported]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _sklearn(folder) | _boosted(folder) | _torch(folder) | _keras()


# ------------------------------------------------------------------------------------------------ scikit-learn and trees


def _sklearn(folder: Path) -> dict[str, Exported]:
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    models = {
        "logistic": LogisticRegression(max_iter=500).fit(IRIS, KINDS),
        "forest": RandomForestClassifier(5, max_depth=3, random_state=0).fit(IRIS, NAMES[KINDS]),
        "boosting": GradientBoostingClassifier(n_estimators=4).fit(IRIS, KINDS),
        "pipeline": make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS, KINDS),
        "svm": SVC(probability=True, random_state=0).fit(IRIS, KINDS),
    }
    made = {}
    for name, model in models.items():
        file = _saved(folder, name, to_onnx(model, IRIS[:1]))
        made[name] = Exported(file, (), IRIS[::40].tolist(), model.predict_proba(IRIS[::40]), "probabilities")
    regressor = GradientBoostingRegressor(n_estimators=4).fit(IRIS[:, :3], IRIS[:, 3])
    file = _saved(folder, "regressor", to_onnx(regressor, IRIS[:1, :3]))
    options = ("--columns", "sepal length,sepal width,petal length")
    return made | {"regressor": Exported(file, options, IRIS[::40, :3].tolist(), regressor.predict(IRIS[::40, :3])[:, None], "values")}


def _boosted(folder: Path) -> dict[str, Exported]:
    import lightgbm
    import xgboost
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, 4]))]
    xgb = xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(HOLED, KINDS)
    gbm = lightgbm.LGBMClassifier(n_estimators=3, max_depth=2, verbose=-1, n_jobs=1).fit(HOLED, KINDS)
    instances = [[None if np.isnan(v) else float(v) for v in row] for row in HOLED[::40]]
    made = {"xgboost": (xgb, convert_xgboost(xgb, initial_types=types)), "lightgbm": (gbm, convert_lightgbm(gbm, initial_types=types))}
    return {
        name: Exported(_saved(folder, name, graph), ("--allow-missing",), instances, model.predict_proba(HOLED[::40]), "probabilities")
        for name, (model, graph) in made.items()
    }


def _saved(folder: Path, name: str, model: Any) -> Path:
    file = folder / f"{name}.onnx"
    file.write_bytes(model.SerializeToString())
    return file


# ----------------------------------------------------------------------------------------------------------------- torch


def picture_net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)]
    return nn.Sequential(*layers).eval()


class Flattening(nn.Module):
    """Its view bakes the batch size into the export."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 2, 5, stride=2), nn.Linear(2 * 6 * 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.linear(torch.relu(self.convolution(x / 255)).view(len(x), -1)), -1)


class Rearranged(nn.Module):
    """uint8, channels last: transposed before it becomes floats."""

    def __init__(self) -> None:
        super().__init__()
        self.net = picture_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x.permute(0, 3, 1, 2).float() / 255)


class Words(nn.Module):
    """Two embeddings and a mask, as BERT takes them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.segments, self.linear = nn.Embedding(9, 8), nn.Embedding(2, 8), nn.Linear(8, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.words(input_ids) + self.segments(token_type_ids)
        scores = hidden @ hidden.transpose(1, 2) + (1.0 - attention_mask.float())[:, None, :] * -1e4
        return self.linear(torch.tanh(torch.softmax(scores, -1) @ hidden).mean(1))


class Batchwise(nn.Module):
    """A row's answer depends on the rows beside it."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x - x.mean(0, keepdim=True) / 2) * x + 2 * y


def exported_old(model: nn.Module, inputs: tuple[torch.Tensor, ...], file: Path, names: tuple[str, ...], axes: dict[str, Any]) -> Path:
    torch.onnx.export(model.eval(), inputs, str(file), dynamo=False, input_names=list(names), output_names=["scores"], dynamic_axes=axes)
    return file


def _torch(folder: Path) -> dict[str, Exported]:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (3, 3, 16, 16)).astype(np.float32)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    net, first = picture_net(), {0: "n"}
    old = exported_old(net, (torch.zeros(2, 3, 16, 16),), folder / "torch-old.onnx", ("image",), {"image": first, "scores": first})
    normalised = _answers(net, (torch.from_numpy(colour) / 255 - mean) / std)
    options = ("--labels", "a,b,c,d,e", "--mean", ".485", ".456", ".406", "--std", ".229", ".224", ".225")
    fixed = exported_old(Flattening(), (torch.zeros(1, 3, 16, 16),), folder / "torch-fixed.onnx", ("image",), {})
    still = np.ascontiguousarray(colour.astype(np.uint8).transpose(0, 2, 3, 1))
    bytes_file = exported_old(
        Rearranged(), (torch.from_numpy(still),), folder / "torch-bytes.onnx", ("image",), {"image": first, "scores": first}
    )
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    both = exported_old(Batchwise(), (x, y), folder / "torch-batchwise.onnx", ("x", "y"), dict.fromkeys(("x", "y", "scores"), first))
    pairs = [{"x": a.tolist(), "y": b.tolist()} for a, b in zip(x, y, strict=True)][:1]
    return {
        "torch-old": Exported(old, options, colour.tolist(), normalised, "logits"),
        "torch-dynamo": _dynamo(net, colour, folder),
        "torch-fixed": Exported(fixed, (), colour.tolist(), _answers(Flattening().eval(), torch.from_numpy(colour)), "probabilities"),
        "torch-bytes": Exported(
            bytes_file, ("--task", "classification"), still.tolist(), _answers(Rearranged(), torch.from_numpy(still)), "logits"
        ),
        "torch-batchwise": Exported(both, ("--task", "regression"), pairs, _answers(Batchwise(), x[:1], y[:1]), "values"),
    }


def _dynamo(net: nn.Module, colour: np.ndarray, folder: Path) -> Exported:
    file = folder / "torch-dynamo.onnx"
    shapes = ({0: torch.export.Dim("n")},)
    torch.onnx.export(net, (torch.zeros(2, 3, 16, 16),), str(file), dynamo=True, dynamic_shapes=shapes, verbose=False)  # weights beside it
    return Exported(
        file, ("--scale", "255", "--activation", "softmax"), colour.tolist(), _answers(net, torch.from_numpy(colour) / 255), "logits"
    )


def _answers(model: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return model(*inputs).numpy()


# ----------------------------------------------------------------------------------------------------------------- Keras


def _keras() -> dict[str, Exported]:
    def of(name: str, *options: str, kind: str) -> Exported:
        with np.load(FIXTURES / f"keras_{name}.npz") as kept:
            return Exported(FIXTURES / f"keras_{name}.onnx", options, kept["x"].tolist(), kept["y"], kind)

    return {
        "keras-cnn": of("cnn", kind="probabilities"),
        "keras-fixed": of("cnn_batch1", "--labels", "cat,dog", kind="probabilities"),
        "keras-lstm": of("lstm", "--task", "classification", kind="logits"),
    }
