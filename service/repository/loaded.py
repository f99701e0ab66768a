"""One model version, loaded: everything that serving it needs, in one value."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b

from service.codecs.instance import InstanceDecoder, Limits, graph_inputs
from service.engine.batcher import Batcher, BatchReport
from service.engine.providers import Gpu
from service.engine.running import TensorInfo
from service.engine.session import Session
from service.manifest import Input, Manifest, Output
from service.repository.bare import bare_manifest
from service.repository.bundle import BadBundle, Bundle
from service.repository.warming import warm_up
from service.telemetry import OPERATIONS, Metrics, ModelSeries

_INLINE_SECONDS = 0.001
"""A run that is shorter than this costs the event loop less than a hop to a thread and back."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    bundle: Bundle
    manifest: Manifest
    session: Session
    decoder: InstanceDecoder
    batcher: Batcher
    series: ModelSeries
    fingerprint: bytes
    """Of all that its explanations depend on: `fingerprint_of`."""
    inflight: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATIONS, 0))
    """Requests being worked on, by operation; the metrics read it."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def graph_inputs(self) -> tuple[Input, ...]:
        return graph_inputs(self.manifest)


@dataclass(frozen=True, slots=True)
class Loader:
    """What loading needs, the same for every model."""

    device: str
    threads: int
    limits: Limits
    executor: Executor
    metrics: Metrics
    gpu: Gpu | None = None

    def load(self, bundle: Bundle) -> LoadedModel:
        """Reads the model into ONNX Runtime, holds its declaration against the manifest, and warms it up.

        Raises BadBundle where they differ or a file of the bundle is unusable, DeviceMissing.
        """
        session = Session(bundle.model_file, self.device, self.threads, self.gpu)
        manifest = bundle.manifest or bare_manifest(bundle, session)
        if (manifest.name, manifest.version) != (bundle.location.name, bundle.location.version) and bundle.manifest:
            # The folder decides: a bundle may be mounted under another name, or copied to a new version.
            manifest = manifest.model_copy(update={"name": bundle.location.name, "version": bundle.location.version})
        _check_declared("input", graph_inputs(manifest), session.inputs)
        _check_declared("output", manifest.outputs, session.outputs, subset=True)
        series = self.metrics.series(manifest.name, manifest.version)
        warmth = warm_up(manifest, session)
        batcher = Batcher(
            session,
            max_rows=warmth.largest_batch(manifest, session),
            mix=manifest.batching.rows_independent,
            executor=None if warmth.seconds < _INLINE_SECONDS else self.executor,
            report=partial(_observe, series),
        )
        decoder = InstanceDecoder(manifest, bundle.location.folder, self.limits)
        model = LoadedModel(bundle, manifest, session, decoder, batcher, series, fingerprint_of(manifest, bundle.model_sha256))
        self.metrics.watch(manifest.name, manifest.version, model.inflight)
        return model


def fingerprint_of(manifest: Manifest, model_sha256: str) -> bytes:
    """A BLAKE2b hash of 32 bytes over the model's file and its manifest (name, version, the hashes of its other files)."""
    digest = blake2b(model_sha256.encode(), digest_size=32)
    digest.update(manifest.model_dump_json().encode())
    return digest.digest()


def _check_declared(
    what: str, declared: tuple[Input, ...] | tuple[Output, ...], found: tuple[TensorInfo, ...], subset: bool = False
) -> None:
    graph = {info.name: info for info in found}
    names = {tensor.name for tensor in declared}
    if names - set(graph) or (not subset and set(graph) - names):
        raise BadBundle(f"the manifest's {what}s are {sorted(names)}, the graph's {sorted(graph)}")
    for tensor in declared:
        info = graph[tensor.name]
        fits = len(info.shape) == len(tensor.shape) + 1 and all(
            want is None or got is None or want == got for want, got in zip(tensor.shape, info.shape[1:], strict=True)
        )
        if tensor.dtype != info.dtype or not fits:
            raise BadBundle(
                f"{what} {tensor.name!r}: the manifest says {tensor.dtype} {list(tensor.shape)} a row, the graph "
                f"{info.dtype} {list(info.shape)} with the batch axis"
            )


def _observe(series: ModelSeries, report: BatchReport) -> None:
    series.queue.observe(report.waited)
    series.batch_size.observe(report.rows)
