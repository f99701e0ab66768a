"""Which providers a device setting means, and the options of CUDA."""

import onnxruntime
import pytest

from service.engine.providers import Gpu, choose_providers, cuda_options
from service.errors import DeviceMissing


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_cuda_asked_for_and_absent_fails_loudly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for device in ("cuda", "cuda:1"):
        with pytest.raises(DeviceMissing, match="extra 'gpu'"):
            choose_providers(device)
    assert choose_providers("auto") == ["CPUExecutionProvider"]


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(("device", "index"), [("auto", "0"), ("cuda", "0"), ("cuda:1", "1")])
def test_cuda_is_chosen_where_it_is_there(device: str, index: str):
    (name, options), after = choose_providers(device)
    assert (name, options["device_id"], after) == ("CUDAExecutionProvider", index, "CPUExecutionProvider")


@pytest.mark.usefixtures("with_cuda")
def test_the_cpu_can_be_chosen_beside_cuda():
    assert choose_providers("cpu") == ["CPUExecutionProvider"]


def test_options_are_strings_under_onnx_runtimes_names():
    assert cuda_options(2, Gpu(memory_mib=3, tf32=True), graphs=True) == {
        "device_id": "2",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "1",
        "enable_cuda_graph": "1",
        "gpu_mem_limit": "3145728",
    }


def test_by_default_products_are_exact_and_memory_is_unbounded():
    options = cuda_options(0, Gpu(), graphs=False)
    assert (options["use_tf32"], options["enable_cuda_graph"]) == ("0", "0")
    assert "gpu_mem_limit" not in options
