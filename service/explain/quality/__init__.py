"""How far to trust an explanation: figures of the served model in ONNX Runtime, and a verdict in plain words."""

from service.explain.quality.judge import UNTRUSTED, Judgement, judge

__all__ = ["UNTRUSTED", "Judgement", "judge"]
