"""A model on its way to a bundle: the graph as it is by now, and what was done and noticed, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from service.engine.session import Session
from service.manifest import MODEL_FILE, Input


@dataclass(frozen=True, slots=True)
class Draft:
    model: onnx.ModelProto
    inputs: tuple[Input, ...] = ()
    changes: tuple[str, ...] = ()
    """What was changed in the graph."""
    notes: tuple[str, ...] = ()
    """What the user should know beside that."""

    def changed(self, model: onnx.ModelProto, words: str) -> Draft:
        return replace(self, model=model, changes=(*self.changes, words))

    def noted(self, *words: str) -> Draft:
        return replace(self, notes=(*self.notes, *words))

    def with_inputs(self, *inputs: Input) -> Draft:
        return replace(self, inputs=(*self.inputs, *inputs))


@contextmanager
def session(model: onnx.ModelProto) -> Iterator[Session]:
    """The model in ONNX Runtime. Raises BadBundle where that refuses it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE
        onnx.save_model(model, path)
        yield Session(path, device="cpu")
