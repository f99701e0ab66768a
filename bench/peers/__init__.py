"""The servers that people use, each with the small app that its documentation writes first: measured beside the service, and never
part of it."""

from bench.peers.comparison import report

__all__ = ["report"]
