"""A network as the service has it: exported to ONNX, bundled, loaded."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from bench.agreement.networks import Network
from service.explain.loading import load
from service.explain.subject import Subject
from service.manifest import MODEL_FILE, Explain, Input, Manifest, Output, sha256_of
from service.repository.bundle import Location, read_bundle
from training.export import quiet

Exporter = Literal["dynamo", "torchscript"]


def exported(module: nn.Module, network: Network, exporter: Exporter = "dynamo") -> Subject:
    """`module` by one of PyTorch's two exporters."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "network" / "1"
        folder.mkdir(parents=True)
        file = folder / MODEL_FILE
        with quiet():
            _export(module, torch.randn(2, *network.shape), file, exporter)
        classes = isinstance(network.target, int)
        with torch.no_grad():
            shape = tuple(module(torch.zeros(1, *network.shape)).shape[1:])
        Manifest(
            name="network",
            version=1,
            task="classification" if classes else "other",
            inputs=(Input(name="x", codec="tensor", dtype="float32", shape=network.shape),),
            outputs=(Output(name="y", kind="classes" if classes else "tensor", dtype="float32", shape=shape),),
            explain=Explain(output="logit" if classes else "value"),
            files={MODEL_FILE: sha256_of(file)},
        ).write(folder)
        return load(read_bundle(Location("network", 1, folder)))


def _export(module: nn.Module, example: torch.Tensor, file: Path, exporter: Exporter) -> None:
    if exporter == "dynamo":
        program = torch.onnx.export(
            module, (example,), dynamo=True, dynamic_shapes=({0: "n"},), input_names=["x"], output_names=["y"], verbose=False
        )
        assert program is not None
        program.save(file)
    else:
        torch.onnx.export(
            module, (example,), str(file), dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}
        )
