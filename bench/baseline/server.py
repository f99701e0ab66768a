"""`mnist-cnn` behind one `async def` route: raw body, Pillow or JSON, one ONNX Runtime call a request, nothing else."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image


def create_app(model: str) -> FastAPI:
    """The service of a `model.onnx` that takes (N, 1, 28, 28) float32 and gives ten scores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # it has one core
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        if request.headers["content-type"].startswith("image/"):
            picture = Image.open(BytesIO(await request.body())).convert("L").resize((28, 28))
            rows = np.asarray(picture, np.float32)[None, None]
        else:
            rows = np.asarray((await request.json())["instances"], np.float32)
        (scores,) = session.run(None, {"image": rows})
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return {"predictions": [{"label": str(row.argmax()), "probability": float(row.max())} for row in shares]}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
