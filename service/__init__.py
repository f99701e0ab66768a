"""whyserve's server: predictions from ONNX bundles, and the reasons for them."""
