"""Offline training: real data to bundles in `models/`."""
