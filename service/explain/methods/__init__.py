"""The attribution methods as data: what exists, what each takes, needs and promises. Imports neither torch nor Captum.

The server answers `GET /methods` and validates parameters from it; the explainer process looks up Captum's class by its
dotted name and the runner by the method's family. Adding a method is adding an entry to the module of its family.
"""

from service.explain.methods.listing import available, refusal, require
from service.explain.methods.request import ExplainRequest, resolve, resolve_all, to_wire
from service.explain.methods.table import DEFAULT, METHODS, find

__all__ = ["DEFAULT", "METHODS", "ExplainRequest", "available", "find", "refusal", "require", "resolve", "resolve_all", "to_wire"]
