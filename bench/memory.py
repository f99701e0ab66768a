"""Memory: after default explanations of every bundle, at the peak of every method, and of one explanation of a large network."""

from __future__ import annotations

import base64
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import httpx
import psutil

from bench.samples import explain_body, explain_path
from bench.servers import MODELS, Running, copied_models, serving
from bench.table import markdown
from service.manifest import Golden, Manifest
from service.settings import Settings

_EXPLANATIONS = 100
_MIB = 2**20
_SENTENCE = "the film is a slow , quiet and oddly moving story that never quite finds its ending ."
_LARGEST = 12
_BUDGET = int(Settings.model_fields["explainer_memory_mib"].default)
_CAPTUM_STEPS = 50


def report() -> str:
    """Three tables, MiB."""
    with serving(explainers=1) as server, httpx.Client(base_url=server.url, timeout=120) as client:
        resident = _resident_table(server, client)
        peaks = _peak_table(server, client)
    return "\n\n".join((resident, peaks, _large_table()))


def _resident_table(server: Running, client: httpx.Client) -> str:
    rows: list[tuple[object, ...]] = [("started", _resident(server.process), "not yet started")]
    for manifest in _manifests():
        for number in range(_EXPLANATIONS):
            _explain(client, manifest, number)
        (explainer,) = server.explainers()
        rows.append((f"{_EXPLANATIONS} x {manifest.name}", _resident(server.process), _resident(explainer)))
    return "Resident memory, MiB, after .. (texts of 15 to 400 tokens)\n\n" + markdown(("after", "serving process", "explainer"), rows)


def _peak_table(server: Running, client: httpx.Client) -> str:
    """The explainer's highest resident memory during one explanation by each method of each bundle."""
    found: list[tuple[int, str, str]] = []
    for manifest in _manifests():
        for method in client.get(f"/v1/models/{manifest.name}/methods").json()["methods"]:
            (explainer,) = server.explainers()
            _forget_peak(explainer)
            _explain(client, manifest, _EXPLANATIONS - 1, method=method["name"])  # the longest text
            found.append((peak(explainer.pid), manifest.name, method["name"]))
    found.sort(reverse=True)
    within = sum(mib <= _BUDGET for mib, _, _ in found)
    return (
        f"Peak resident memory of the explainer, MiB, in one explanation by each method of each bundle at its defaults: {within} of "
        f"{len(found)} within the budget of {_BUDGET}; the {_LARGEST} largest\n\n"
        + markdown(("model", "method", "peak"), [(model, method, mib) for mib, model, method in found[:_LARGEST]])
    )


def _large_table() -> str:
    """One explanation of the network like ResNet-18: a fresh explainer's peak in all, and a process that asks Captum."""
    from bench import resnet

    picture = resnet.pictures(1, seed=100)
    body, headers = explain_body({"image": picture})
    with tempfile.TemporaryDirectory() as root:
        models = copied_models(Path(root))
        resnet.write_bundle(models)
        with serving(explainers=1, models=models) as server:
            response = httpx.post(server.url + explain_path(resnet.NAME), content=body, headers=headers, timeout=300)
            if response.status_code != 200:
                raise RuntimeError(f"{resnet.NAME}: {response.text[:300]}")
            (explainer,) = server.explainers()
            ours = peak(explainer.pid)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        theirs = alone.submit(_captum_peak).result()
    rows = [("the explainer process, tolerance 0.01", ours), (f"a process with Captum, {_CAPTUM_STEPS} steps", theirs)]
    return f"One explanation of {resnet.NAME}, 3 x 224 x 224, peak resident memory of the process in all, MiB\n\n" + markdown(
        ("process", "peak"), rows
    )


def _captum_peak() -> int:
    import torch
    from captum.attr import IntegratedGradients

    from bench import resnet

    torch.set_num_threads(1)
    point = torch.from_numpy(resnet.pictures(1, seed=100))
    IntegratedGradients(resnet.network()).attribute(point, torch.zeros_like(point), 0, n_steps=_CAPTUM_STEPS)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(pid: int) -> int:
    """A process's highest resident memory so far, MiB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def _forget_peak(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _resident(process: psutil.Process) -> int:
    return round(process.memory_info().rss / _MIB)


def _manifests() -> list[Manifest]:
    return [Manifest.read(path.parent) for path in sorted(MODELS.glob("*/*/model.yaml"))]


def _explain(client: httpx.Client, manifest: Manifest, number: int, **parameters: str) -> None:
    body, content_type, query = _request(manifest, number)
    response = client.post(
        f"/v1/models/{manifest.name}:explain", content=body, headers={"content-type": content_type}, params={**query, **parameters}
    )
    if response.status_code != 200:
        raise RuntimeError(f"{manifest.name}, {parameters}: {response.text[:300]}")


def _request(manifest: Manifest, number: int) -> tuple[bytes, str, dict[str, str]]:
    """The bundle's golden requests in turn; texts of every length up to 400 tokens."""
    if manifest.inputs[0].codec == "text":
        words = (_SENTENCE.split() * 30)[: 15 + 385 * number // (_EXPLANATIONS - 1)]
        return " ".join(words).encode(), "text/plain", {}
    cases = [case for case in Golden.read(MODELS / manifest.name / str(manifest.version)).cases if case.verb == "predict"]
    case = cases[number % len(cases)]
    return base64.b64decode(case.body_b64), case.content_type, case.query
