"""The table of methods and the checking of parameters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service.errors import BadParameter, NotExplainable, ParityRefused, UnknownChoice
from service.explain.methods import METHODS, available, find, require, resolve, to_wire
from service.explain.methods.request import Limits
from service.explain.status import TwinStatus
from service.manifest import Explain, Input, Manifest, Output


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="m",
        version=1,
        task="classification",
        inputs=(Input(name="x", codec="tensor", dtype="float32", shape=(2,)),),
        outputs=(Output(name="y", kind="classes", dtype="float32", shape=(2,)),),
        explain=Explain(output="logit", method="saliency"),
        files={"model.onnx": "0" * 64},
    )


GOOD = TwinStatus(parity_error=1e-7, parity_limit=1e-4)


def test_needs_no_torch() -> None:
    code = (
        "import sys, service.explain.methods, service.explain.pool; sys.exit(bool({'torch', 'captum', 'onnx', 'httpx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_class_of_captum_exists() -> None:
    import captum.attr

    for method in METHODS.values():
        module, _, name = method.captum.rpartition(".")
        assert module == "captum.attr"
        assert hasattr(captum.attr, name)


def test_the_default_is_the_manifests(manifest) -> None:
    assert resolve(manifest, {}).method.name == "saliency"
    assert resolve(manifest.model_copy(update={"explain": None}), {}).method.name == "integrated_gradients"


def test_values_may_be_text(manifest) -> None:
    sent = {
        "method": "integrated_gradients",
        "tolerance": "0.05",
        "max_steps": "64",
        "target": "[1]",
        "baseline": '{"x": 2}',
        "timeout": "3",
        "seed": "7",
    }
    request = resolve(manifest, sent)
    found = request.parameters
    assert (found.tolerance, found.max_steps, found.target, found.baseline, request.timeout, found.seed) == (
        0.05,
        64,
        [1],
        {"x": 2},
        3.0,
        7,
    )
    assert resolve(manifest, {"target": '{"index": 2, "region": [0, 0, 4, 4]}'}).parameters.target.region == (0, 0, 4, 4)
    assert resolve(manifest, {"targets": '["a", 1, null]'}).parameters.targets == ["a", 1, None]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"method": "integrated"}, "integrated_gradients, saliency"),
        ({"step": 5}, "unknown parameter of method 'saliency' 'step'"),
        ({"steps": 5}, "there are: method, target"),
        ({"method": "integrated_gradients", "steps": 5, "tolerance": 0.1}, "exclude each other"),
        ({"method": "integrated_gradients", "steps": 5, "integration_tolerance": 0.1}, "'integration_tolerance' exclude each other"),
        ({"method": "integrated_gradients", "integration_tolerance": 0}, "'integration_tolerance'"),
        ({"method": "integrated_gradients", "steps": 0}, "'steps'"),
        ({"method": "integrated_gradients", "tolerance": "many"}, "'tolerance'"),
        ({"method": "integrated_gradients", "baseline": True}, "'baseline'"),
        ({"target": 1, "targets": [1]}, "exclude each other"),
        ({"target": "{1"}, "'target'"),
        ({"target": {"colour": 1}}, "'target'"),
        ({"output": "z"}, "unknown output 'z'; there are: y"),
        ({"explained": "loss"}, "'explained'"),
        ({"timeout": 61}, "at most 60"),
        ({"timeout": -1}, "'timeout'"),
        ({"coordinates": "polar"}, "'coordinates'"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named_with_what_exists(manifest, sent, message) -> None:
    with pytest.raises(BadParameter) as caught:
        resolve(manifest, sent)
    assert message in str(caught.value)


def test_what_goes_over_the_wire_comes_back_the_same(manifest) -> None:
    sent = {
        "method": "integrated_gradients",
        "target": {"index": "a", "region": [1, 2, 3, 4]},
        "baseline": [0.5, 1],
        "steps": 20,
        "top_k": 3,
    }
    request = resolve(manifest, sent)
    wire = to_wire(request)
    assert all(isinstance(value, str | int | float | bool) for value in wire.values())
    assert wire.pop("timeout") == 60_000_000
    again = resolve(manifest, wire).parameters
    assert again == request.parameters.model_copy(update={"top_k": 5})  # the server's own affair


def test_each_instance_keeps_its_target(manifest) -> None:
    request = resolve(manifest, {"targets": [0, 1, 0, 1]})
    assert request.of_instances([1, 2]).parameters.targets == [1, 0]
    assert resolve(manifest, {}).of_instances([5]).parameters.targets is None
    with pytest.raises(BadParameter, match="4 targets"):
        request.of_instances([4])


def test_the_list_has_schemas_and_the_default(manifest) -> None:
    listed = {entry["name"]: entry for entry in available(manifest, GOOD)}
    assert list(listed) == [m.name for m in METHODS.values() if not {"reference", "picture"} & m.needs]  # this model has neither
    assert [name for name, entry in listed.items() if entry["default"]] == ["saliency"]
    properties = listed["integrated_gradients"]["parameters"]["properties"]
    assert properties["steps"]["anyOf"][0] == {"minimum": 1, "type": "integer"}
    assert listed["integrated_gradients"]["promises"] == ["completeness"]


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        ({"parity_error": 0.5}, ParityRefused, "parity error 0.5, limit 0.0001"),
        ({"parity_error": float("nan")}, ParityRefused, "nan"),
        ({"unsupported": ("Mystery",)}, NotExplainable, "Mystery"),
        ({"problem": "no float input", "parity_error": None}, NotExplainable, "no float input"),
    ],
)
def test_without_a_twin_no_gradient_method(manifest, update, error, message) -> None:
    status = GOOD.model_copy(update=update)
    listed = available(manifest, status)
    assert {"occlusion", "shapley_value_sampling", "kernel_shap", "lime"} <= {entry["name"] for entry in listed}
    assert all("gradients" not in entry["needs"] and "modules" not in entry["needs"] for entry in listed)
    with pytest.raises(error, match=message):
        require(find("saliency"), status)
    require(find("saliency"), GOOD)


def test_an_unknown_method_lists_all() -> None:
    with pytest.raises(UnknownChoice, match="integrated_gradients, saliency, input_x_gradient"):
        find("magic")


@pytest.mark.parametrize("name", ["steps", "max_steps"])
def test_more_steps_than_the_setting_allows_are_refused_by_its_name(name: str, manifest: Manifest) -> None:
    assert resolve(manifest, {"method": "integrated_gradients", name: 700}, Limits(steps=700))
    with pytest.raises(BadParameter, match="WHYSERVE_MAX_STEPS"):
        resolve(manifest, {"method": "integrated_gradients", name: 701}, Limits(steps=700))
