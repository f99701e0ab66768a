"""KServe's SDK: a Model whose `predict` runs the session (https://kserve.github.io/website, custom predictor)."""

import sys

import numpy as np
import onnxruntime as ort
from kserve import Model, ModelServer


class Mnist(Model):
    def __init__(self, file: str) -> None:
        super().__init__("mnist-cnn")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        (scores,) = self.session.run(None, {"image": np.asarray(payload["instances"], np.float32)})
        return {"predictions": scores.tolist()}


if __name__ == "__main__":
    port, file = int(sys.argv[1]), sys.argv[2]
    sys.argv[1:] = []  # KServe reads them, too
    ModelServer(http_port=port, workers=1, enable_grpc=False, access_log_format=None).start([Mnist(file)])
