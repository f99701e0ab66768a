"""Where a model runs: ONNX Runtime's execution providers and their options.

Options as ONNX Runtime's `CUDA-ExecutionProvider.md` names them; all of them are strings there.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnxruntime as ort

from service.errors import DeviceMissing

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Provider = str | tuple[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a model may have of a GPU. `memory_mib` bounds what its runs hold, without its weights; 0: no bound.

    `tf32` rounds the factors of float32 products to 10 bits: faster, and answers differ from the CPU's in the third digit.
    """

    memory_mib: int = 0
    tf32: bool = False


def choose_providers(device: str, gpu: Gpu | None = None, graphs: bool = False) -> list[Provider]:
    """ONNX Runtime's providers for a device setting (auto, cpu, cuda, cuda:N). Raises DeviceMissing where CUDA is asked for and
    not installed."""
    there = CUDA in ort.get_available_providers()
    if device == "cpu" or (device == "auto" and not there):
        return [CPU]
    if not there:
        raise DeviceMissing(
            f"device {device!r} was asked for, but this ONNX Runtime has no CUDA provider (it has: "
            f"{', '.join(ort.get_available_providers())}); install the extra 'gpu', or set WHYSERVE_DEVICE=cpu"
        )
    return [(CUDA, cuda_options(device_index(device), gpu or Gpu(), graphs)), CPU]


def device_index(device: str) -> int:
    """The GPU's number in a device setting, 0 where it names none."""
    return int(device.partition(":")[2] or "0")


def cuda_options(index: int, gpu: Gpu, graphs: bool) -> dict[str, str]:
    """`graphs`: runs on bound buffers are captured and replayed as CUDA graphs."""
    options = {
        "device_id": str(index),
        # Grow by what is asked for; the default doubles, and would hold twice of what the largest run needed.
        "arena_extend_strategy": "kSameAsRequested",
        # The exhaustive search, the default, would start anew in the middle of service at each batch size not seen before.
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": str(int(gpu.tf32)),
        "enable_cuda_graph": str(int(graphs)),
    }
    return options | ({"gpu_mem_limit": str(gpu.memory_mib * 2**20)} if gpu.memory_mib else {})
