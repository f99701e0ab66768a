"""How much of ONNX the twin computes, measured by tests that others wrote and by ONNX Runtime."""

from __future__ import annotations


def report() -> str:
    """The backend test suite, then each operator in each of its versions."""
    from bench.conformance import suite, versions

    return f"{suite.report()}\n\n{versions.report()}"
