"""Deadlines, and rows of several shapes and batches in one request, on models made for it."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from support import is_error, serving

from service.codecs.instance import Limits
from service.engine.precedence import Precedence
from service.explain.methods.request import Limits as ExplainLimits
from service.explanations.cache import Cache
from service.explanations.shared import Shared
from service.parameters import PredictParameters
from service.repository.bundle import Location, read_bundle
from service.repository.loaded import Loader
from service.repository.registry import Registry
from service.serving import Serving
from service.telemetry import Metrics

SLOW = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, K, K] x) => (float[N, K, K] y)
{
    a = MatMul(x, x)
    b = MatMul(a, x)
    y = MatMul(b, x)
}
"""
ROWS_APART = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N, K] x) => (float[N, K] y)
{
    y = Add(x, x)
}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name, graph in (("slow", SLOW), ("double", ROWS_APART)):
        folder = tmp_path / name / "1"
        folder.mkdir(parents=True)
        onnx.save(onnx.parser.parse_model(graph), str(folder / "model.onnx"))
    return tmp_path


async def infer(client: httpx.AsyncClient, array: np.ndarray) -> httpx.Response:
    blob = array.tobytes()
    tensor = {"name": "x", "shape": array.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(blob)}}
    header = json.dumps({"inputs": [tensor], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}).encode()
    return await client.post("/v2/models/slow/infer", content=header + blob, headers={"inference-header-content-length": str(len(header))})


async def test_a_deadline_is_kept_and_others_are_answered_meanwhile(models: Path):
    large = np.zeros((1, 2500, 2500), np.float32)  # 94 billion multiply-adds
    async with serving(models=models, timeout=0.2, threads=1) as client:
        started = time.monotonic()
        answering = asyncio.create_task(infer(client, large))
        await asyncio.sleep(0.1)
        assert (await client.get("/v2/health/live")).status_code == 200
        is_error(await answering, 504, "0.2 s", "WHYSERVE_TIMEOUT")
        assert time.monotonic() - started < 5


async def test_rows_of_several_shapes_come_back_in_their_order(models: Path):
    instances = [[float(k)] * (1 + k % 3) for k in range(10)]
    async with serving(models=models) as client:
        answer = await client.post("/v1/models/double:predict", json={"instances": instances})
        assert [prediction["y"] for prediction in answer.json()["predictions"]] == [[2 * value for value in row] for row in instances]


async def test_more_rows_than_a_batch_takes(models: Path):
    instances = [[float(k), 1.0] for k in range(100)]  # a bare model's batches hold 32
    async with serving(models=models) as client:
        answer = await client.post("/v1/models/double:predict", json={"instances": instances})
        assert [prediction["y"][0] for prediction in answer.json()["predictions"]] == [2.0 * k for k in range(100)]
        assert 'whyserve_batch_size_bucket{le="32.0",model_name="double",model_version="1"} 4.0' in (await client.get("/metrics")).text


async def test_many_requests_at_once_each_get_their_own_answer(models: Path):
    async with serving(models=models) as client:
        bodies = [{"instances": [[float(k), float(-k)]]} for k in range(50)]
        answers = await asyncio.gather(*(client.post("/v1/models/double:predict", json=body) for body in bodies))
        assert [answer.json()["predictions"] for answer in answers] == [[{"y": [2.0 * k, -2.0 * k]}] for k in range(50)]


async def test_what_json_brought_is_gone_while_the_model_runs(models: Path):
    limits = ExplainLimits(timeout=5)
    metrics = Metrics()
    bounds = {"at_once": 1, "decoding_bytes": 1 << 20, "max_instances": 4, "limits": limits, "later": limits}
    with ThreadPoolExecutor(1) as executor:
        loader = Loader("cpu", 1, Limits(max_pixels=1, max_characters=1, max_instances=4), executor, metrics)
        model = loader.load(read_bundle(Location("double", 1, models / "double" / "1")))
        service = Serving(Registry(), None, Shared(Cache(0, metrics), metrics), metrics, Precedence(), **bounds)
        sent = [{"x": [1.0, 2.0]}]
        predicting = asyncio.create_task(service.predict(model, sent, PredictParameters()))
        await asyncio.sleep(0)
        assert sent == []
        assert await predicting == [{"y": [2.0, 4.0]}]
