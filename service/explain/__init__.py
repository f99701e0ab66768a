"""Explanations: the twin, the methods, the explainer process and the pool that the server calls it through."""
