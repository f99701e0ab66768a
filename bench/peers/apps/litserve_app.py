"""LitServe: a LitAPI, one worker (https://lightning.ai/docs/litserve)."""

import sys

import litserve as ls
import numpy as np
import onnxruntime as ort


class Mnist(ls.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.asarray(request["instances"], np.float32)

    def predict(self, rows):
        return self.session.run(None, {"image": rows})[0]

    def encode_response(self, scores):
        return {"predictions": scores.tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Mnist(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", generate_client_file=False)
