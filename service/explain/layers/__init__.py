"""What a model has learned, layer by layer: its layers, their activations, filters and attributions, and what a unit looks for.

`layer`, `parameters`, `studied` and `operations` are for server and explainer alike; all else imports torch.
"""
