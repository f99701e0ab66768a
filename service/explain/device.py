"""Where an explainer process computes: on the processor, or on a GPU within a share of its memory.

On a GPU all of it runs on the default stream, which is this process's own, as every process's is. CUDA's stream priorities order
the work of one process and have none below the default, so they can't let the server's predictions go first: the GPU gives slices of
time to each process that has work. Where NVIDIA's MPS lets processes run side by side it knows a priority, `CUDA_MPS_CLIENT_PRIORITY`,
which `keeper` sets below the server's.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnxruntime as ort
import torch

from service.engine.providers import CUDA, Gpu, device_index
from service.errors import DeviceMissing

TWIN_SHARE, SESSION_SHARE, PASS_SHARE = 2, 4, 8
"""Of the memory on a GPU torch may hold one half, weights of all twins among it, and a quarter of that half a pass; the runs of a session
of ONNX Runtime one quarter. A model has one session, or two where it is cut behind its inputs."""
CPU_SHORT, GPU_SHORT = 16 * 2**20, 256 * 2**20
"""Bytes that a pass of many rows keeps at most, so that others, and who hangs up, needn't wait long for its end."""
CPU_PASSES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Rows of gradients that a pass may have: of one explanation, or of several where a small network's calls cost more than its rows."""
GPU_PASSES = (*CPU_PASSES, 256, 512, 1024)
"""There a call costs more rows."""


@dataclass(frozen=True, slots=True)
class Device:
    """`memory` bytes on the GPU are the process's share. `note` says why it isn't what one would expect."""

    place: torch.device
    memory: int = 0
    note: str = ""

    @property
    def on_gpu(self) -> bool:
        return self.place.type != "cpu"

    @property
    def passes(self) -> tuple[int, ...]:
        """Rows that a pass of gradients may have."""
        return GPU_PASSES if self.on_gpu else CPU_PASSES

    @property
    def short(self) -> int:
        """Bytes that a pass of many rows keeps at most."""
        return GPU_SHORT if self.on_gpu else CPU_SHORT

    @property
    def served(self) -> str:
        """The device setting of sessions in ONNX Runtime: the same GPU where it knows CUDA."""
        return str(self.place) if self.on_gpu and CUDA in ort.get_available_providers() else "cpu"

    @property
    def gpu(self) -> Gpu:
        """What a session may have of it. Without TF32: it is what twins are held against."""
        return Gpu(self.memory // SESSION_SHARE >> 20, tf32=False)

    def pass_memory(self, on_host: int) -> int:
        """Bytes that a pass of a twin may hold, where it may hold `on_host` on the CPU."""
        return self.memory // PASS_SHARE if self.on_gpu else on_host

    def prepare(self) -> None:
        """What a process does to itself, once, before it computes on a GPU. It takes its share and loads CUDA's libraries, since what
        they map counts towards the limit of memory that is set behind it. Raises DeviceMissing where the GPU can't be had after all."""
        if not self.on_gpu:
            return
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False  # each shape would be searched for anew, and passes have many
        try:
            torch.cuda.set_device(self.place)
            whole = torch.cuda.get_device_properties(self.place).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self.memory / TWIN_SHARE / whole), self.place)
            picture = torch.ones(1, 4, 8, 8, device=self.place, requires_grad=True)
            made = torch.nn.functional.conv2d(picture, torch.ones(4, 4, 3, 3, device=self.place)).flatten(1)
            torch.autograd.grad((made @ made.T).sum(), picture)[0].cpu()
        except RuntimeError as error:
            raise DeviceMissing(f"{self.place} can't be used: {str(error).splitlines()[0]}") from None


CPU = Device(torch.device("cpu"))


def choose(setting: str, memory: int) -> Device:
    """The device for a device setting (auto, cpu, cuda, cuda:N) with so many bytes of a GPU; `auto` is the GPU where torch has one.
    Raises DeviceMissing where CUDA is asked for and torch hasn't it."""
    if setting == "cpu":
        return CPU
    lacks = _lacks(device_index(setting))
    if not lacks:
        return Device(torch.device("cuda", device_index(setting)), memory)
    if setting == "auto":
        served = CUDA in ort.get_available_providers()
        return Device(CPU.place, note=f"ONNX Runtime has CUDA, but {lacks}" if served else "")
    raise DeviceMissing(f"device {setting!r} was asked for, but {lacks}; install PyTorch with CUDA, or set WHYSERVE_DEVICE=cpu")


def _lacks(index: int) -> str:
    """What stands in the way of torch's computing on this GPU; empty where nothing does."""
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) is built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU"
    count = torch.cuda.device_count()
    return "" if index < count else f"PyTorch finds {count} GPUs, numbered from 0"
