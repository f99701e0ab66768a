"""Each operator in each of its versions from opset 7 on, as the conformance measurement tries it: the twin against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bench.conformance.cases import Case
from bench.conformance.runs import PASSED, native_twin, outcome, twin
from bench.conformance.versions import Version, models, versions

NUMPY = {
    "ArrayFeatureExtractor": "an index",
    "Binarizer": "piecewise constant",
    "DeformConv": "not written in torch yet",
    "LabelEncoder": "a table of strings or numbers",
    "MelWeightMatrix": "a constant of integers",
    "NonMaxSuppression": "gives indices",
    "OneHotEncoder": "piecewise constant",
    "RegexFullMatch": "strings",
    "StringConcat": "strings",
    "StringNormalizer": "strings",
    "StringSplit": "strings",
    "TfIdfVectorizer": "counts",
    "TreeEnsemble": "piecewise constant",
}
"""Operators that the twin computes in numpy, with no gradient, and why."""


@pytest.mark.parametrize("version", [pytest.param(v, id=f"{v.op_type}-{v.since}") for v in versions()])
def test_agrees_with_onnx_runtime(version: Version, suite_by_operator: Mapping[tuple[str, str], Sequence[Case]]) -> None:
    found = models(version, suite_by_operator, most=2)
    if not found:
        pytest.skip("ONNX Runtime doesn't run it, or no model of it is at hand")
    prepare = twin if version.op_type in NUMPY else native_twin
    assert {case.name: outcome(case, prepare) for case in found} == {case.name: PASSED for case in found}
