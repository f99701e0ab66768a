"""A bundle on disk: model, manifest, golden cases, card and plots, written whole or not at all."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from service.manifest import GOLDEN_FILE, MODEL_FILE, Golden, Manifest, sha256_of
from training.reference import REFERENCE_FILE, Arrays, packed, referring

CARD_FILE = "README.md"
PACKAGES = ("torch", "lightning", "torchmetrics", "onnx", "onnxscript", "numpy")


def write_bundle(
    root: Path,
    model: onnx.ModelProto,
    describe: Callable[[dict[str, str]], Manifest],
    golden: Golden,
    card: Callable[[Manifest], str],
    read_by_service: Mapping[str, bytes] | None = None,
    plots: Mapping[str, Path] | None = None,
    reference: Arrays | None = None,
) -> Path:
    """Writes `root/NAME/VERSION/` and returns it. `describe` makes the manifest from the hashes of the files, `card`
    the README from the manifest.

    `read_by_service` are further files that the service reads (a tokenizer), hashed like the model; `plots` are copied beside
    the card by the name they get there; `reference` are typical training instances, by input. An older bundle of that version
    is replaced only once the new one is complete.
    """
    partial = root / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    golden.write(partial)
    for name, content in (read_by_service or {}).items():
        (partial / name).write_bytes(content)
    manifest = describe({name: sha256_of(partial / name) for name in (MODEL_FILE, GOLDEN_FILE, *(read_by_service or {}))})
    if reference is not None:
        (partial / REFERENCE_FILE).write_bytes(packed(reference))
        manifest = referring(manifest, partial / REFERENCE_FILE)
    manifest.write(partial)
    Manifest.read(partial)
    (partial / CARD_FILE).write_text(card(manifest), "utf-8")
    for name, plot in (plots or {}).items():
        shutil.copyfile(plot, partial / name)
    folder = root / manifest.name / str(manifest.version)
    folder.parent.mkdir(exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder


def versions() -> dict[str, str]:
    """Of Python and of the packages that make a bundle."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def parameter_count(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiply_adds(module: nn.Module, *row: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for `row`, inputs of batch size 1."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module.eval()(*row)
    return int(counter.get_total_flops()) // 2
