"""A V2 request of more rows than the model's largest batch is run in pieces and answered as one."""

import time

import numpy as np
import onnxruntime as ort
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings


def test_rows_beyond_the_largest_batch_come_back_whole_and_in_order():
    images = np.random.default_rng(0).uniform(0, 255, (150, 1, 28, 28)).astype(np.float32)
    session = ort.InferenceSession("models/mnist-cnn/1/model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": images})
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [150, 1, 28, 28], "data": images.ravel().tolist()}]}
    with TestClient(create_app(Settings(explainers=0, max_instances=200)), base_url="http://127.0.0.1") as client:
        end = time.monotonic() + 30
        while client.get("/v2/health/ready").status_code != 200 and time.monotonic() < end:
            time.sleep(0.05)
        before = _runs(client.get("/metrics").text)  # the bundle's golden requests
        answer = client.post("/v2/models/mnist-cnn/infer", json=body)
        counted = client.get("/metrics").text
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert output["shape"] == [150, 10]
    np.testing.assert_allclose(np.array(output["data"]).reshape(150, 10), expected, rtol=1e-4, atol=1e-4)
    assert _runs(counted) - before == 3  # 64, 64 and 22: its manifest says 64


def _runs(metrics: str) -> float:
    label = 'whyserve_batch_size_count{model_name="mnist-cnn",model_version="1"} '
    return next(float(line.removeprefix(label)) for line in metrics.splitlines() if line.startswith(label))
