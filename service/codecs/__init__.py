"""Bytes and JSON values to tensors and back, one module a modality. No HTTP and no state in here."""
