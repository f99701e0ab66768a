"""whyserve's server: predictions from ONNX bundles, and the reasons for them."""

__version__ = "0.1.0"
