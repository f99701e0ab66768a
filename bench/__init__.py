"""The measurements behind every figure of speed, memory and exactness: `python -m bench`."""
