"""Reference sets: a few typical training instances that a bundle brings along, for explanations that compare with many.

`python -m training.reference [NAME ..]` puts them into bundles that were written without.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from service.manifest import MODEL_FILE, Manifest, sha256_of
from training.datasets import Images, Sentences, Table, load_mnist, load_sst2, load_wine
from training.recordings import Recording, load_fsdd, padded
from training.tokens import encode

REFERENCE_FILE = "reference.npz"
DIGITS, WINES, SENTENCES, DRAWN, SPOKEN = 30, 51, 20, 30, 20
SECOND = 8000
"""Samples of a recording that the network takes."""
LATENT, CLASSES = 64, 10
_SEED = 0

Arrays = Mapping[str, npt.NDArray[Any]]
"""By input name, instances first."""


def stratified(labels: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Rows of `count` instances, drawn by a fixed seed, of each class as many as of the others (one more of the first ones)."""
    rng = np.random.default_rng(_SEED)
    classes = np.unique(labels)
    each = [count // len(classes) + (place < count % len(classes)) for place in range(len(classes))]
    chosen = [rng.choice(np.flatnonzero(labels == k), n, replace=False) for k, n in zip(classes, each, strict=True)]
    return np.sort(np.concatenate(chosen))


def digits(train: Images) -> Arrays:
    """Pictures, uint8 (N, 1, 28, 28)."""
    return {"image": train.pixels[stratified(train.labels, DIGITS)][:, None]}


def labelled_digits(train: Images) -> Arrays:
    """Pictures, uint8 (N, 1, 28, 28), and what they show, uint8 (N,)."""
    rows = stratified(train.labels, DIGITS)
    return {"image": train.pixels[rows][:, None], "class": train.labels[rows].astype(np.uint8)}


def latents() -> Arrays:
    """Standard normal latents, float32 (N, 64), and classes, uint8 (N,), each as often."""
    rng = np.random.default_rng(_SEED)
    return {"latent": rng.standard_normal((DRAWN, LATENT)).astype(np.float32), "class": (np.arange(DRAWN) % CLASSES).astype(np.uint8)}


def wines(train: Table) -> Arrays:
    """Rows, float32 (N, 11)."""
    return {"row": train.values[stratified(train.labels, WINES)]}


def sentences(train: Sentences, tokenizer: Tokenizer) -> Arrays:
    """Tokens, int32 (N, longest), padded."""
    rows = stratified(train.labels, SENTENCES)
    return {"tokens": encode(tokenizer, [train.texts[row] for row in rows]).tokens.astype(np.int32)}


def spoken(train: Sequence[Recording]) -> Arrays:
    """Recordings, float32 (N, 8000)."""
    rows = stratified(np.asarray([recording.digit for recording in train]), SPOKEN)
    return {"sound": padded([train[row] for row in rows], SECOND)}


def packed(arrays: Arrays) -> bytes:
    """The file: the same bytes for the same arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def referring(manifest: Manifest, file: Path) -> Manifest:
    """The manifest with `file` as its reference set."""
    if manifest.explain is None:
        raise ValueError(f"{manifest.name}: no section 'explain' that could name a reference set")
    explain = manifest.explain.model_copy(update={"reference": file.name})
    return manifest.model_copy(update={"explain": explain, "files": {**manifest.files, file.name: sha256_of(file)}})


def attach(folder: Path, arrays: Arrays) -> None:
    """Puts a reference set into a bundle that is there, and its hash into the manifest."""
    (folder / REFERENCE_FILE).write_bytes(packed(arrays))
    referring(Manifest.read(folder), folder / REFERENCE_FILE).write(folder)
    Manifest.read(folder)


SETS: Final[Mapping[str, Callable[[Path], Arrays]]] = {
    "mnist-cnn": lambda _: digits(load_mnist().train),
    "mnist-discriminator": lambda _: labelled_digits(load_mnist().train),
    "mnist-generator": lambda _: latents(),
    "wine-perceptron": lambda _: wines(load_wine().train),
    "wine-mlp": lambda _: wines(load_wine().train),
    "fsdd-cnn": lambda _: spoken(load_fsdd().train),
    "sst2-gru": lambda folder: sentences(load_sst2().train, Tokenizer.from_file(str(folder / "tokenizer.json"))),
}
"""A bundle's name to its set, from its folder."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.reference", description="Puts reference sets into bundles.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)}; default: all that are there")
    parser.add_argument("--models", type=Path, default=Path("models"))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(SETS)):
        parser.error(f"unknown {unknown[0]!r}; there are: {', '.join(SETS)}")
    for name in arguments.names or SETS:
        for model in sorted((arguments.models / name).glob(f"*/{MODEL_FILE}")):
            attach(model.parent, SETS[name](model.parent))
            size = (model.parent / REFERENCE_FILE).stat().st_size
            print(f"{name}/{model.parent.name}: {REFERENCE_FILE}, {size:,} bytes")


if __name__ == "__main__":
    main()
