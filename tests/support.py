"""What tests of the running service share: the committed bundles with ONNX Runtime as their oracle, and a server started as users do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
from PIL import Image
from tokenizers import Tokenizer

from service.app import create_app
from service.manifest import Golden, Input, Manifest
from service.settings import Settings

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
DIGITS = np.load(ROOT / "tests" / "data" / "mnist_1000.npz")
SENTENCES = ("A touching, funny film that doesn't miss a beat.", "It is dull, and it is far too long.", "nobody laughed")

Row = dict[str, np.ndarray]
"""Tensors without the batch axis by graph input."""


def png(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def digit(number: int) -> np.ndarray:
    """A real test digit of MNIST, (28, 28) uint8, light on dark."""
    return DIGITS["test_pixels"][number].reshape(28, 28)


@dataclass(frozen=True)
class Bundle:
    """A committed bundle, judged by ONNX Runtime itself."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.parent.name

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    def v1(self) -> str:
        return f"/v1/models/{self.name}"

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.read(self.folder)

    @cached_property
    def golden(self) -> Golden:
        return Golden.read(self.folder)

    @cached_property
    def session(self) -> ort.InferenceSession:
        return ort.InferenceSession(str(self.folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def row(self, number: int = 0) -> Row:
        """The tensors of one real or plausible instance."""
        row: Row = {}
        for declared in self.manifest.inputs:
            row[declared.name] = self._tensor(declared, number)
            if declared.text and declared.text.lengths:
                row[declared.text.lengths] = np.array(len(row[declared.name]), np.int64)
        return row

    def _tensor(self, declared: Input, number: int) -> np.ndarray:
        draw = np.random.default_rng(number)
        if declared.image:
            assert declared.image.channels == 1, "samples are grey so far"
            return digit(number)[None].astype(declared.dtype)  # (1, 28, 28)
        if declared.text:
            tokenizer = Tokenizer.from_file(str(self.folder / declared.text.tokenizer))
            return np.array(tokenizer.encode(SENTENCES[number % len(SENTENCES)]).ids, np.int64)
        if declared.table:
            columns = [(c.mean, c.std) for c in declared.table.columns]
            return np.array([draw.normal(mean, std) for mean, std in columns], declared.dtype)
        if declared.labels:
            return np.array(number % len(declared.labels), declared.dtype)
        return draw.standard_normal(declared.shape).astype(declared.dtype)

    def instance(self, number: int = 0) -> Any:
        """The same instance as V1's JSON has it: tensors as nested lists, a text as a string."""
        row = self.row(number)
        values = {i.name: SENTENCES[number % len(SENTENCES)] if i.text else row[i.name].tolist() for i in self.manifest.inputs}
        return values if len(values) > 1 else next(iter(values.values()))

    def run(self, row: Row) -> dict[str, np.ndarray]:
        """ONNX Runtime's outputs for one row, without the batch axis."""
        answers = self.session.run(None, {name: tensor[None] for name, tensor in row.items()})
        return {info.name: answer[0] for info, answer in zip(self.session.get_outputs(), answers, strict=True)}

    def probabilities(self, row: Row) -> np.ndarray:
        """By the textbook, in float64."""
        output = self.manifest.outputs[0]
        scores = self.run(row)[output.name].astype(np.float64)
        if output.activation == "sigmoid":
            second = 1 / (1 + np.exp(-scores[0]))
            return np.array([1 - second, second])
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    def explained(self, row: Row, target: int | None) -> tuple[float, float]:
        """F(x) and F(b) of an explanation by default, both by ONNX Runtime: the logit of `target`, else the sum of the output."""
        changed, cut = dict(row), {}
        assert self.manifest.explain is not None
        for declared in self.manifest.inputs:
            baseline = self.manifest.explain.baseline.get(declared.name)
            kind, value = (baseline.kind, baseline.value) if baseline else ("zero", None)
            if kind == "mean":
                assert declared.table is not None
                changed[declared.name] = np.array([c.mean for c in declared.table.columns], declared.dtype)
            elif kind == "token":
                changed[declared.name] = np.full_like(row[declared.name], int(value or 0))
            elif declared.name in self.manifest.explain.attribute_at:
                cut[self.manifest.explain.attribute_at[declared.name]] = value or 0.0
            else:
                changed[declared.name] = np.full_like(row[declared.name], value or 0.0)
        return self._scalar(self.run(row), target), self._scalar(self._run_from(changed, cut), target)

    def _scalar(self, outputs: Mapping[str, np.ndarray], target: int | None) -> float:
        output = self.manifest.outputs[0]
        values = outputs[output.name].astype(np.float64)
        if target is None:
            return float(values.sum())
        if output.activation == "sigmoid" and values.size == 1:
            return float(values.item() if target == 1 else -values.item())
        return float(values[target])

    def _run_from(self, row: Row, filled: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The outputs where tensors inside the graph are filled with a constant."""
        if not filled:
            return self.run(row)
        model = onnx.load(self.folder / "model.onnx")
        for name, value in filled.items():
            (node,) = [node for node in model.graph.node if name in node.output]
            model.graph.node.remove(node)
            shape = self._shape_of(name, row)
            constant = onnx.numpy_helper.from_array(np.full(shape, value, np.float32), name)
            model.graph.initializer.append(constant)
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answers = session.run(None, {i.name: row[i.name][None] for i in session.get_inputs()})
        return {info.name: answer[0] for info, answer in zip(session.get_outputs(), answers, strict=True)}

    def _shape_of(self, tensor: str, row: Row) -> tuple[int, ...]:
        model = onnx.load(self.folder / "model.onnx")
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        shape: tuple[int, ...] = session.run([tensor], {name: value[None] for name, value in row.items()})[0].shape
        return shape


BUNDLES = [Bundle(path.parent) for path in sorted(MODELS.glob("*/*/model.yaml"))]


def bundle_named(name: str) -> Bundle:
    return next(bundle for bundle in BUNDLES if bundle.name == name)


# ---------------------------------------------------------------------------------------------------------------- servers


@dataclass(frozen=True)
class Server:
    """`whyserve serve` as a process of its own."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    announcement: str = ""

    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def started(*options: str, environment: Mapping[str, str] | None = None, seconds: float = 60) -> Iterator[Server]:
    """A server that has said where it listens; ended at the end of the block where it still runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WHYSERVE_")}
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out", Path(folder) / "err"
        with out.open("w") as stdout, log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve", "--port", "0", *options],
                cwd=ROOT,
                env=clean | {"OMP_NUM_THREADS": "1"} | dict(environment or {}),
                stdout=stdout,
                stderr=stderr,
                text=True,
            )
            try:
                said = _announced(process, out, log, seconds)
                found = re.search(r"http://\S+", said)
                assert found, said
                yield Server(process, found[0], log, said)
            finally:
                process.kill()
                process.wait()


def _announced(process: subprocess.Popen[str], out: Path, log: Path, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (said := out.read_text()) and "documentation" in said:
            return said
        assert process.poll() is None, f"the server ended with {process.returncode}: {log.read_text()}"
        time.sleep(0.02)
    raise AssertionError(f"no server within {seconds} s: {log.read_text()}")


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The app inside the test, its models loaded, without explainers unless asked for."""
    import asyncio

    ready = asyncio.Event()
    app = create_app(Settings(**{"models": MODELS, "explainers": 0} | settings), on_ready=lambda _: ready.set())
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(ready.wait(), 60)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=70) as client:
            yield client


def is_error(response: httpx.Response, status: int, *words: str) -> None:
    """Asserts the contract's form of an error: status, `{"error", "code"}`, an id, and nothing of the server's insides."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    document = response.json()
    assert document.keys() >= {"error", "code"}
    assert re.fullmatch(r"[a-z_]+", document["code"])
    assert isinstance(document["error"], str)
    assert 5 < len(document["error"]) < 2000
    for inside in ("Traceback", "service/", ".py", str(ROOT), str(Path.home()), "object at 0x"):
        assert inside not in response.text, response.text
    for word in words:
        assert word.lower() in response.text.lower(), f"{word!r} isn't in: {response.text[:500]}"
