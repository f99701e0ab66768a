"""Where explainers compute: the choice, and whole explanations on a device that is played, against those on the processor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from device_played import DEVICE, playing

from service.engine.providers import CUDA, Gpu
from service.engine.session import OutOfMemory
from service.errors import DeviceMissing
from service.explain import device as devices
from service.explain.cancel import Token
from service.explain.case import Case
from service.explain.connection import Answered
from service.explain.device import CPU, Device, choose
from service.explain.endpoint import error_of
from service.explain.explainer import explain
from service.explain.layers.methods import METHODS as LAYER_METHODS
from service.explain.layers.workshop import Workshop
from service.explain.loading import load
from service.explain.methods import available, find, resolve
from service.explain.pool import Pool
from service.explain.subject import DEFAULT_MEMORY, Subject
from service.explain.trial import trial_inputs
from service.explain.worker import _out_of_memory
from service.manifest import MODEL_FILE
from service.repository.bundle import Location, read_bundle

PLAYED = Device(DEVICE, 2**30)
NAMES = ("product", "linear", "activated", "single", "text", "generator", "cnn")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def loaded(bundles: Path, name: str, device: Device) -> Subject:
    return load(read_bundle(Location(name, 1, bundles / name / "1")), device=device)


@pytest.fixture(scope="module")
def elsewhere(bundles: Path) -> Mapping[str, Subject]:
    with playing():
        return {name: loaded(bundles, name, PLAYED) for name in NAMES}


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A GPU, prepared as a process does, and as it was before afterwards."""
    for part in (torch.backends.cudnn, torch.backends.cuda.matmul):
        monkeypatch.setattr(part, "allow_tf32", part.allow_tf32)
    device = choose("cuda", 2**30)
    device.prepare()
    yield device
    torch.cuda.set_per_process_memory_fraction(1.0, device.place)


# ------------------------------------------------------------------------------------------------------------ the choice


def test_the_cpu_is_chosen_where_it_is_asked_for() -> None:
    assert choose("cpu", 2**30) == CPU


@without_gpu
@pytest.mark.parametrize("setting", ["cuda", "cuda:1"])
def test_a_gpu_that_is_asked_for_and_absent_is_an_error(setting: str) -> None:
    with pytest.raises(DeviceMissing, match="WHYSERVE_DEVICE=cpu"):
        choose(setting, 2**30)


@without_gpu
def test_auto_is_the_cpu_without_a_gpu_and_says_so_where_the_server_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("auto", 2**30) == CPU
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA])
    assert choose("auto", 2**30).place == CPU.place
    assert choose("auto", 2**30).note.startswith("ONNX Runtime has CUDA, but")


def test_auto_is_the_gpu_that_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_lacks", lambda index: "" if index < 2 else "there are 2")
    assert choose("auto", 2**30) == Device(torch.device("cuda", 0), 2**30)
    assert choose("cuda:1", 2**30).place == torch.device("cuda", 1)
    with pytest.raises(DeviceMissing, match="there are 2"):
        choose("cuda:2", 2**30)


def test_sessions_are_on_the_gpu_where_onnx_runtime_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(torch.device("cuda", 1), 1024 * 2**20)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert device.served == "cpu"
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA])
    assert (device.served, CPU.served) == ("cuda:1", "cpu")
    assert device.gpu == Gpu(256, tf32=False)


def test_a_pass_has_its_part_of_the_gpus_share() -> None:
    assert Device(torch.device("cuda", 0), 2**30).pass_memory(1) == 2**27
    assert CPU.pass_memory(1) == 1


# ------------------------------------------------------------------------------------------------- explanations elsewhere


@pytest.mark.parametrize("name", NAMES)
def test_every_method_attributes_there_what_it_attributes_here(
    name: str, subjects: Mapping[str, Subject], elsewhere: Mapping[str, Subject]
) -> None:
    here, there = subjects[name], elsewhere[name]
    assert (here.status.device, there.status.device) == ("cpu", str(DEVICE))
    assert there.status == here.status.model_copy(update={"device": str(DEVICE), "parity_error": there.status.parity_error})
    model_inputs = trial_inputs(here.manifest, here.served.inputs, _model(here), 1, seed=3)
    for method in (entry["name"] for entry in available(here.manifest, here.status) if find(entry["name"]).needs_twin):
        fields = find(method).parameters.model_fields
        request = resolve(here.manifest, {"method": method, **({"steps": 8} if "steps" in fields else {})})
        (wanted,) = explain(here, request, model_inputs, Token(60), DEFAULT_MEMORY).explanations
        with playing():
            (got,) = explain(there, request, model_inputs, Token(60), DEFAULT_MEMORY).explanations
        assert (wanted.attributions is None) == (got.attributions is None), method
        for key, array in (wanted.attributions or {}).items():
            assert got.attributions is not None
            np.testing.assert_allclose(got.attributions[key], array, rtol=1e-4, atol=1e-5 * (1 + np.abs(array).max()), err_msg=method)


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_layers_are_attributed_there_as_here(
    method: str, bundles: Path, subjects: Mapping[str, Subject], elsewhere: Mapping[str, Subject], images: np.ndarray
) -> None:
    file, rows = bundles / "cnn" / "1" / MODEL_FILE, {"image": images[:1]}
    asked = {"method": method} | ({"steps": 16} if "baseline" in LAYER_METHODS[method].needs else {})
    wanted = Workshop().run("explain-layer", subjects["cnn"], file, rows, asked, Token(60), DEFAULT_MEMORY)
    with playing():
        got = Workshop().run("explain-layer", elsewhere["cnn"], file, rows, asked, Token(60), DEFAULT_MEMORY)
    np.testing.assert_allclose(got.rows[0]["attributions"], wanted.rows[0]["attributions"], rtol=1e-4, atol=1e-5)


def test_filters_are_shown_and_units_drawn_for_there_too(bundles: Path, elsewhere: Mapping[str, Subject], images: np.ndarray) -> None:
    file = bundles / "cnn" / "1" / MODEL_FILE
    with playing():
        filters = Workshop().run("filters", elsewhere["cnn"], file, {}, {}, Token(60), DEFAULT_MEMORY)
        drawn = Workshop().run(
            "visualise", elsewhere["cnn"], file, {"image": images[:1]}, {"unit": 0, "steps": 2}, Token(60), DEFAULT_MEMORY
        )
    assert np.isfinite(filters.rows[0]["values"]).all()
    assert drawn.rows[0]["parity_error"] < 1e-4


def test_a_model_that_the_device_cannot_compute_is_explained_here_and_says_so(bundles: Path, caplog: pytest.LogCaptureFixture) -> None:
    subject = loaded(bundles, "cnn", PLAYED)  # nobody plays it: torch has no such device
    assert subject.status.usable
    assert subject.status.device == "cpu"
    assert subject.status.device_note.startswith(f"on {DEVICE} ")
    assert subject.device == CPU
    assert "is explained on the CPU" in caplog.text


def test_a_pass_may_be_longer_there(subjects: Mapping[str, Subject], elsewhere: Mapping[str, Subject]) -> None:
    """In bytes too: 8 MiB a row are 16 rows' worth of the GPU's 128 MiB, and half of that with their gradients."""
    request = resolve(elsewhere["linear"].manifest, {"method": "saliency"})
    feeds = {"x": np.zeros((1, 5), np.float32)}
    rows = []
    for subject in (subjects["linear"], elsewhere["linear"]):
        case = Case(replace(subject, chunk=subject.device.passes[-1]), request, feeds, None, Token(), DEFAULT_MEMORY)
        case.__dict__["bytes_a_row"] = 8 * 2**20
        rows.append(case.rows)
    assert rows == [4, 8]
    assert max(subjects["linear"].device.passes) < max(elsewhere["linear"].device.passes)


def _model(subject: Subject) -> onnx.ModelProto:
    return onnx.ModelProto()  # its tables' sizes: two rows are in every one


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OutOfMemory("the model failed on this input: out of memory"),
    ],
)
def test_a_gpu_without_room_is_told_as_a_processor_without_room(error: Exception) -> None:
    assert _out_of_memory(error)
    assert not _out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


# --------------------------------------------------------------------------------------------------- a process without one


@without_gpu
async def test_explainers_that_cannot_have_their_device_say_so_once(bundles: Path, caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(bundles, device="cuda")
    await pool.start()
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*pool._keeping)
        assert pool.device_missing
        with pytest.raises(DeviceMissing) as raised:
            await pool.status("linear", 1)
        assert (raised.value.status, raised.value.code, raised.value.retry_after) == (503, "device_missing", None)
        assert caplog.text.count("no explainer can have its device") == 1
        assert not pool.ready
    finally:
        await pool.stop()


def test_a_predictor_tells_its_client_the_same() -> None:
    """Whose explainer is another server."""
    found = error_of(Answered(503, {}, b'{"error": "no GPU", "code": "device_missing"}'))
    assert (type(found), found.status, found.message) == (DeviceMissing, 503, "no GPU")


@without_gpu
async def test_who_waits_from_before_it_was_known_is_told_too(bundles: Path) -> None:
    pool = Pool(bundles, processes=2, device="cuda")
    await pool.start()
    try:
        assert not pool.device_missing
        with pytest.raises(DeviceMissing):
            await pool.status("linear", 1)
        assert pool.pending == 0
    finally:
        await pool.stop()


# --------------------------------------------------------------------------------------------------------------- on a GPU


@gpu
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_attributions_are_the_processors(name: str, bundles: Path, subjects: Mapping[str, Subject], on_gpu: Device) -> None:
    there = loaded(bundles, name, on_gpu)
    assert (there.status.device, there.status.device_note) == ("cuda:0", "")
    feeds = trial_inputs(there.manifest, there.served.inputs, _model(there), 1, seed=3)
    for method in ("saliency", "integrated_gradients"):
        request = resolve(there.manifest, {"method": method, **({"steps": 8} if method == "integrated_gradients" else {})})
        (wanted,) = explain(subjects[name], request, feeds, Token(60), DEFAULT_MEMORY).explanations
        (got,) = explain(there, request, feeds, Token(60), DEFAULT_MEMORY).explanations
        assert wanted.attributions is not None
        assert got.attributions is not None
        for key, array in wanted.attributions.items():
            np.testing.assert_allclose(got.attributions[key], array, rtol=1e-3, atol=1e-3 * (1 + np.abs(array).max()))


@gpu
def test_on_a_gpu_a_process_has_its_share_and_no_more(on_gpu: Device) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(on_gpu.memory, dtype=torch.uint8, device=on_gpu.place)
    assert not torch.backends.cudnn.allow_tf32
