"""What methods by perturbation leave out: an input's features, by its modality."""

from service.explain.features.choice import KINDS, cells, choose
from service.explain.features.feature import Features, Groups

__all__ = ["KINDS", "Features", "Groups", "cells", "choose"]
