"""ONNX Runtime sessions and the batcher. Nothing here, nor anything on the predict path, imports torch."""
