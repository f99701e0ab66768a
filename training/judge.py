"""A served classifier as a judge of images: its predictions, and its penultimate features as a space to measure in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from service.manifest import MODEL_FILE, sha256_of
from training.fit import FitError

CHUNK = 1000
"""Rows judged at once: bounds the memory."""


class JudgeError(FitError):
    """There is no classifier to judge with, or it has no features to measure in."""


@dataclass(frozen=True)
class Seen:
    """What the judge sees in a set of images: `features` float32 (N, F); `predicted` and `labels`, asked for, int64 (N,)."""

    features: Tensor
    predicted: Tensor
    labels: Tensor

    def first(self, rows: int) -> Seen:
        return Seen(self.features[:rows], self.predicted[:rows], self.labels[:rows])


class Judge:
    """The classifier of a bundle, run in ONNX Runtime: what judges is the very model that is served.

    Its penultimate features are what enters the last matrix product, the one that makes the logits. Raises JudgeError
    where there is no such bundle or the graph doesn't end in a Gemm.
    """

    def __init__(self, bundle: Path) -> None:
        path = bundle / MODEL_FILE
        if not path.exists():
            raise JudgeError(f"{path} doesn't exist: train the classifier that judges first (whyserve train {bundle.parent.name})")
        self.sha256 = sha256_of(path)
        model = onnx.load(path)
        logits = model.graph.output[0].name
        last = next((node for node in model.graph.node if logits in node.output), None)
        if last is None or last.op_type != "Gemm":
            raise JudgeError(f"{path}: expected a Gemm as its last node, found {last.op_type if last else 'none'}")
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(last.input[0]))
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.names = [logits, last.input[0]]

    def see(self, images: Tensor, labels: Tensor) -> Seen:
        """Judges `images` float32 (N, 1, 28, 28), pixels 0 to 255, made for the classes `labels` int64 (N,)."""
        feed = self.session.get_inputs()[0].name
        pixels = images.detach().cpu().float().numpy()
        chunks = [self.session.run(self.names, {feed: chunk}) for chunk in np.split(pixels, range(CHUNK, len(pixels), CHUNK))]
        logits, features = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*chunks, strict=True))
        return Seen(features, logits.argmax(dim=1), labels.cpu())
