"""FastAPI and ONNX Runtime, nothing else: a plain `def` route, which FastAPI runs on its thread pool. What the others are multiples of."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    instances: list[Any]


def create_app(model: str) -> FastAPI:
    """The service of a `model.onnx` that takes (N, 1, 28, 28) float32 and gives ten scores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/predict")
    def predict(body: Body) -> dict[str, Any]:
        (scores,) = session.run(None, {"image": np.asarray(body.instances, np.float32)})
        return {"predictions": scores.tolist()}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
