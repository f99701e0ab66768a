"""`whyserve add`: a bundle of anybody's ONNX file, checked, and what can be explained of it in words."""
