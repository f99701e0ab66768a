"""TorchServe: a handler class (https://docs.pytorch.org/serve/custom_service.html)."""

from pathlib import Path

import numpy as np
import onnxruntime as ort


class Mnist:
    def initialize(self, context):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        folder = Path(context.system_properties["model_dir"])
        self.session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def handle(self, requests, context):
        answers = []
        for request in requests:
            rows = np.asarray(request["body"]["instances"], np.float32)
            answers.append({"predictions": self.session.run(None, {"image": rows})[0].tolist()})
        return answers
