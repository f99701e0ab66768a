"""Networks: one module each, plain `torch.nn`, with the arithmetic of their input (scaling, normalising) inside."""
