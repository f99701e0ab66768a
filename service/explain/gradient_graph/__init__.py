"""A model's gradient as an ONNX graph, computed by ONNX Runtime: what is small spends more time on being called than on computing, and
ONNX Runtime calls an operator in a fraction of what torch and its autograd take. For graphs whose every operator has a rule in `rules`;
all others have the twin.
"""

from service.explain.gradient_graph.build import differentiated
from service.explain.gradient_graph.run import GradientGraph, gradient_graph, inputs_of

__all__ = ["GradientGraph", "differentiated", "gradient_graph", "inputs_of"]
