"""The twin against the served model on any number of rows, and plausible rows to try it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch
from numpy.typing import NDArray

from service.errors import WhyserveError
from service.explain.parity import parity_error
from service.explain.subject import Subject, attributed
from service.explain.trial import trial_inputs
from service.repository.bundle import Bundle


def plausible(bundle: Bundle, subject: Subject, rows: int) -> dict[str, NDArray[Any]]:
    """Random rows (N, ..) by graph input, within what the manifest tells of them."""
    return trial_inputs(subject.manifest, subject.served.inputs, onnx.load(bundle.model_file), rows)


def parity_at(subject: Subject, feeds: Mapping[str, NDArray[Any]]) -> float | None:
    """The parity error of rows (N, ..) by graph input; None where the served model doesn't take them."""
    try:
        ran = subject.served.run(feeds)
    except WhyserveError:
        return None
    segment = subject.segment(subject.outputs)
    with torch.no_grad():
        outputs = segment(*attributed(subject, feeds, ran), *(feeds[name] for name in subject.others))
    got = {name: output.detach().numpy() for name, output in zip(segment.output_names, outputs, strict=True)}
    return parity_error(got, {name: ran[name] for name in subject.outputs})
