"""One ONNX model in ONNX Runtime: providers chosen, errors mapped, nothing about HTTP or bundles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from service.engine.providers import CUDA, Gpu, choose_providers, device_index
from service.engine.refusal import in_words, is_out_of_memory, out_of_range
from service.engine.running import Direct, Place, Running, TensorInfo, on_device
from service.errors import BadBundle, BadInput, DeviceMissing, ModelFailed

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
    "string": "string",
}
MAX_FOLDED_BYTES = 64 * 2**20
"""A constant that the graph computes is computed at load where it is no larger than this, else at each run."""


class OutOfMemory(ModelFailed):
    """A run asked for more memory than models have."""


class Session:
    """An ONNX Runtime session over a model file.

    `threads` are those of one run (0: ONNX Runtime's own choice); `gpu` and `buffers` count where the model is on one: without
    buffers nothing is kept for batch sizes that have been, as suits runs of a different size each time. Raises DeviceMissing where
    `device` names CUDA and there is none, BadBundle where the file is no model that ONNX Runtime can run.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int = 1, gpu: Gpu | None = None, *, buffers: bool = True) -> None:
        def opened(graphs: bool) -> ort.InferenceSession:
            return ort.InferenceSession(str(path), _options(threads), providers=choose_providers(device, gpu, graphs))

        try:
            session = opened(graphs=False)
        except DeviceMissing:
            raise
        except Exception as error:  # ONNX Runtime raises many unrelated classes, all of them mean: no usable model
            raise BadBundle(f"ONNX Runtime refuses {path.name}: {in_words(error, path)}") from None
        chosen = session.get_providers()[0]
        if device.startswith("cuda") and chosen != CUDA:
            raise DeviceMissing(f"device {device!r} was asked for, but ONNX Runtime fell back to {chosen}")
        self.provider: str = chosen
        self.inputs = tuple(_info(value) for value in session.get_inputs())
        self.outputs = tuple(_info(value) for value in session.get_outputs())
        self.output_names = [output.name for output in self.outputs]
        self._running: Running = Direct(session)
        if chosen == CUDA and buffers:
            self._running = on_device(session, lambda: opened(graphs=True), self.inputs, self.outputs, Place("cuda", device_index(device)))

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the graph's order, each with the batch axis. Raises ModelFailed with the reason, BadInput for an index that
        the model has no row for."""
        try:
            return self._running.run(feeds)
        except Exception as error:
            if words := out_of_range(error):
                raise BadInput(words) from None
            kind = OutOfMemory if is_out_of_memory(error) else ModelFailed
            raise kind(f"the model failed on this input: {in_words(error)}") from None


def bound_memory(mebibytes: int) -> None:
    """What all CPU runs of this process may hold together at most; a run beyond it fails with OutOfMemory. Before any session."""
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # 1: grow by what is asked for; the default doubles, and would hold twice of what the largest run needed.
    ort.create_and_register_allocator(where, ort.OrtArenaCfg({"max_mem": mebibytes * 2**20, "arena_extend_strategy": 1}))


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin would take the core that HTTP and the explainers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A few bytes of a file can claim a constant of gigabytes, which would be computed at load.
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(MAX_FOLDED_BYTES))
    # One arena for all sessions of the process, which `bound_memory` limits; weights lie outside it.
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


def _info(value: ort.NodeArg) -> TensorInfo:
    element = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorInfo(value.name, _DTYPES.get(element, element), shape)
