"""What the values of an attributed tensor span: the measure of noise that is added to it."""

from __future__ import annotations

import torch
from torch import Tensor

from service.explain.case import Case, Tensors


def spans(case: Case) -> Tensors:
    """For each attributed tensor what broadcasts to its row: the manifest's range or columns' where the input is attributed
    itself, otherwise largest minus smallest of its own values (Smilkov et al. 2017)."""
    inputs = {entry.name: entry for entry in case.subject.manifest.inputs}
    found = []
    for (name, tensor), x in zip(case.subject.at.items(), case.point, strict=True):
        entry = inputs[name]
        columns = entry.table.columns if entry.table else ()
        if tensor == name and entry.range is not None:
            found.append(torch.tensor(entry.range[1] - entry.range[0], dtype=x.dtype))
        elif tensor == name and columns and all(c.minimum is not None and c.maximum is not None for c in columns):
            found.append(torch.tensor([float(c.maximum or 0) - float(c.minimum or 0) for c in columns], dtype=x.dtype))
        else:
            found.append(_own(x))
    return tuple(found)


def _own(x: Tensor) -> Tensor:
    return x.max() - x.min() if x.numel() else x.new_zeros(())
