"""Runs the method that a case asks for: one module a family of methods, each with `run(case) -> Found`.

A module is imported when its family is first asked for: segmentation and linear models bring libraries of their own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from service.explain.attribution.found import Found, require_parity
from service.explain.case import Case

__all__ = ["Found", "attribute"]
CHECKS_ITSELF = ("path",)
"""Families whose first pass holds the instance anyway, which tells the twin's parity without a pass of its own."""


def attribute(case: Case) -> Found:
    """The attributions of one case. Raises NotExplainable, BadParameter, Untrusted, TimeUp, Cancelled."""
    module = importlib.import_module(f"{__name__}.{case.request.method.family}")
    if case.request.method.needs_twin and case.request.method.family not in CHECKS_ITSELF:
        require_parity(case)
    run = cast(Callable[[Case], Found], module.run)
    return run(case)
