"""BentoML: a service class with one API (https://docs.bentoml.com)."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1, traffic={"timeout": 60})
class Mnist:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def predict(self, instances: list) -> dict:
        (scores,) = self.session.run(None, {"image": np.asarray(instances, np.float32)})
        return {"predictions": scores.tolist()}
