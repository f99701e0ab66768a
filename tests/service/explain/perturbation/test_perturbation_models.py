"""Models that no gradient explains: trees, strings, missing values, classes, ids; each against the framework or the arithmetic."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import onnxmltools
import pytest
import xgboost
from onnx import TensorProto as T
from onnx import helper
from onnxmltools.convert.common.data_types import FloatTensorType
from perturbed import ask, graph, outputs_of, shapley_by_enumeration, subject_of
from skl2onnx import convert_sklearn, to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from service.errors import BadParameter
from service.explain.subject import Subject
from service.manifest import Baseline, Column, Explain, Input, Output, TablePolicy, TextPolicy

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
COLUMNS = tuple(Column(name=name, mean=float(X[:, i].mean())) for i, name in enumerate(("sl", "sw", "pl", "pw")))
LABEL = Output(name="label", kind="tensor", dtype="int64", shape=())


def _classes(*labels: str) -> tuple[Output, ...]:
    """What scikit-learn's classifiers give: label and probabilities."""
    shown = Output(
        name="probabilities",
        kind="classes",
        dtype="float32",
        shape=(len(labels),),
        labels=labels,
        activation="softmax",
        activated=True,
    )
    return (shown, LABEL)


def _explain(baseline: str) -> Explain:
    return Explain(output="probability", method="shapley_value_sampling", baseline={"X": Baseline(kind=baseline)})  # type: ignore[arg-type]


def _iris(**more: Any) -> Input:
    return Input(name="X", codec="table", dtype="float32", shape=(4,), table=TablePolicy(columns=COLUMNS), **more)


def test_a_forest_of_scikit_learn(tmp_path) -> None:
    forest = RandomForestClassifier(8, max_depth=4, random_state=0).fit(X, Y)
    model = to_onnx(forest, X[:1], options={"zipmap": False})
    subject = subject_of(tmp_path / "1", model, [_iris()], _classes("a", "b", "c"), _explain("mean"))
    assert not subject.status.usable
    x, mean = X[75], np.asarray([c.mean for c in COLUMNS], np.float32)

    def value(present: np.ndarray) -> float:
        return float(forest.predict_proba(np.where(present, x, mean)[None])[0, 1])

    expected = shapley_by_enumeration(value, 4)
    for method in ("shapley_value_sampling", "kernel_shap"):
        (found,) = ask(subject, {"X": x[None]}, method=method, target="b")
        np.testing.assert_allclose(found.attributions["X"], expected, atol=1e-5)
        assert found.fields["parity_error"] is None
        assert found.fields["explained"] == "probability"
        assert found.fields["output"] == "probabilities"


def test_a_missing_value_is_an_input_of_xgboost_and_a_baseline(tmp_path) -> None:
    holed = X.copy()
    holed[::5, 2] = np.nan
    holed[::7, 0] = np.nan
    trees = xgboost.XGBClassifier(n_estimators=6, max_depth=3).fit(holed, Y)
    model = onnxmltools.convert_xgboost(trees, initial_types=[("X", FloatTensorType([None, 4]))], target_opset=15)
    subject = subject_of(tmp_path / "1", model, [_iris(allow_missing=True)], _classes("a", "b", "c"), _explain("missing"))
    for row in (holed[0], holed[75], holed[140]):
        target = int(trees.predict(row[None])[0])

        def value(present: np.ndarray, row: np.ndarray = row, target: int = target) -> float:
            return float(trees.predict_proba(np.where(present, row, np.nan)[None])[0, target])

        (found,) = ask(subject, {"X": row[None]}, method="kernel_shap")
        assert found.fields["target_index"] == target
        np.testing.assert_allclose(found.attributions["X"], shapley_by_enumeration(value, 4), atol=1e-4)
        assert found.attributions["X"][np.isnan(row)] == pytest.approx(0, abs=1e-6)  # missing already
        assert found.fields["parameters"]["baseline"] == "missing"


def test_a_regression_of_lightgbm(tmp_path) -> None:
    trees = lightgbm.LGBMRegressor(n_estimators=10, verbose=-1, min_child_samples=3).fit(X, Y.astype(float))
    model = onnxmltools.convert_lightgbm(trees, initial_types=[("X", FloatTensorType([None, 4]))], target_opset=15)
    output = Output(name="variable", kind="value", dtype="float32", shape=(1,))
    subject = subject_of(tmp_path / "1", model, [_iris(allow_missing=True)], [output], Explain(output="value"))
    (found,) = ask(subject, {"X": X[60:61]}, method="feature_ablation", baseline="mean")
    mean = np.asarray([c.mean for c in COLUMNS], np.float32)
    rows = np.where(np.eye(4, dtype=bool), mean, X[60])
    np.testing.assert_allclose(found.attributions["X"], trees.predict(X[60:61]) - trees.predict(rows), atol=1e-5)


CITIES = np.asarray([["ulm"], ["bonn"], ["jena"]] * 20, object)


def _by_city(tmp_path, **options: Any) -> Subject:
    pipe = make_pipeline(OneHotEncoder(**options), LogisticRegression()).fit(CITIES, CITIES[:, 0] == "ulm")
    model = convert_sklearn(pipe, initial_types=[("city", StringTensorType([None, 1]))], options={"zipmap": False})
    city = Input(name="city", codec="tensor", dtype="string", shape=(1,))
    return subject_of(tmp_path / "1", model, [city], _classes("no", "yes"), Explain(output="probability", method="feature_ablation"))


def test_strings_alone(tmp_path) -> None:
    subject = _by_city(tmp_path, handle_unknown="ignore")
    ulm = np.asarray([["ulm"]], object)

    def yes(city: str) -> float:
        return float(outputs_of(tmp_path / "1", {"city": np.asarray([[city]], object)}, "probabilities")[0, 1])

    for baseline, city, described in ((None, "", "empty"), ("bonn", "bonn", "bonn"), (["jena"], "jena", "instance")):
        (found,) = ask(subject, {"city": ulm}, target="yes", baseline=baseline)
        assert found.attributions["city"][0] == pytest.approx(yes("ulm") - yes(city), abs=1e-6)
        assert found.fields["parameters"]["baseline"] == described
    with pytest.raises(BadParameter, match="expected a string"):
        ask(subject, {"city": ulm}, baseline=3.0)


def test_an_output_of_text_has_nothing_to_explain(tmp_path) -> None:
    pipe = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(CITIES, CITIES[:, 0])
    model = convert_sklearn(pipe, initial_types=[("city", StringTensorType([None, 1]))], options={"zipmap": False})
    city = Input(name="city", codec="tensor", dtype="string", shape=(1,))
    outputs = (_classes("bonn", "jena", "ulm")[0], LABEL.model_copy(update={"dtype": "string"}))
    subject = subject_of(tmp_path / "1", model, [city], outputs, Explain(output="probability"))
    with pytest.raises(BadParameter, match="'label' is text, of which nothing can be explained; outputs of numbers: probabilities"):
        ask(subject, {"city": CITIES[:1]}, method="occlusion", output="label")


def test_a_baseline_that_the_model_refuses_is_said(tmp_path) -> None:
    subject = _by_city(tmp_path)  # its encoder knows three cities and nothing else
    with pytest.raises(BadParameter, match=r"baseline.*expected a baseline that the model takes"):
        ask(subject, {"city": np.asarray([["ulm"]], object)})
    (found,) = ask(subject, {"city": np.asarray([["ulm"]], object)}, baseline="bonn")
    assert found.attributions["city"][0] > 0


# ------------------------------------------------------------------------------------------------------ classes and ids

TABLE = np.asarray([[3.0], [5.0], [-2.0], [10.0]], np.float32)


def _lookup(tmp_path, **described: Any) -> Subject:
    model = graph([helper.make_node("Gather", ["table", "x"], ["y"])], [("x", T.INT64, ["n"])], [("y", T.FLOAT, ["n", 1])], table=TABLE)
    return subject_of(tmp_path / "1", model, [Input(name="x", codec="tensor", dtype="int64", shape=(), **described)])


def test_a_class_is_compared_with_each_other_class(tmp_path) -> None:
    subject = _lookup(tmp_path, labels=("a", "b", "c", "d"))
    (found,) = ask(subject, {"x": np.asarray([1])}, method="shapley_value_sampling")
    assert found.attributions["x"] == pytest.approx(5 - (3 - 2 + 10) / 3)
    assert found.attributions["x"].shape == ()
    assert found.fields["parameters"]["baseline"] == "the other classes"
    (named,) = ask(subject, {"x": np.asarray([1])}, method="occlusion", baseline={"x": 2})
    assert named.attributions["x"] == pytest.approx(7)
    with pytest.raises(BadParameter, match="baseline"):
        ask(subject, {"x": np.asarray([1])}, method="occlusion", baseline=9)


def test_an_integer_that_nobody_described_needs_a_baseline(tmp_path) -> None:
    subject = _lookup(tmp_path)
    with pytest.raises(BadParameter, match=r"input 'x' holds integers.*\{\"x\": 0\}"):
        ask(subject, {"x": np.asarray([1])})
    (found,) = ask(subject, {"x": np.asarray([1])}, baseline=3)
    assert found.attributions["x"] == pytest.approx(-5)


def test_a_tables_category_is_compared_with_the_other_categories(tmp_path) -> None:
    """y = 2 x0 + table[x1]; a category's number is no amount, so neither its zero nor its mean stands for nothing."""
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Cast", ["b"], ["c"], to=T.INT64),
        helper.make_node("Squeeze", ["c", "axis"], ["i"]),
        helper.make_node("Gather", ["table", "i"], ["t"]),
        helper.make_node("Mul", ["a", "two"], ["d"]),
        helper.make_node("Add", ["d", "t"], ["y"]),
    ]
    constants = {"sizes": np.asarray([1, 1]), "axis": np.asarray([1]), "table": TABLE, "two": np.float32(2)}
    model = graph(nodes, [("x", T.FLOAT, ["n", 2])], [("y", T.FLOAT, ["n", 1])], **constants)
    columns = (Column(name="size", mean=1.5), Column(name="kind", categories=("a", "b", "c", "d"), mean=1.0))
    entry = Input(name="x", codec="table", dtype="float32", shape=(2,), table=TablePolicy(columns=columns))
    subject = subject_of(tmp_path / "1", model, [entry], explain=Explain(output="value", baseline={"x": Baseline(kind="mean")}))
    (found,) = ask(subject, {"x": np.asarray([[4.0, 3.0]], np.float32)}, method="feature_ablation")
    np.testing.assert_allclose(found.attributions["x"], [2 * (4 - 1.5), 10 - (3 + 5 - 2) / 3], rtol=1e-5)
    assert found.fields["parameters"]["baseline"] == {"numbers": "mean", "categories": "the other categories"}


def test_columns_of_a_group_are_one_feature(tmp_path) -> None:
    w = np.asarray([[1.0], [5.0], [-3.0]], np.float32)
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", T.FLOAT, ["n", 3])], [("y", T.FLOAT, ["n", 1])], w=w)
    columns = (Column(name="red", group="colour"), Column(name="age"), Column(name="blue", group="colour"))
    entry = Input(name="x", codec="table", dtype="float32", shape=(3,), table=TablePolicy(columns=columns))
    subject = subject_of(tmp_path / "1", model, [entry])
    (found,) = ask(subject, {"x": np.asarray([[1.0, 1.0, 1.0]], np.float32)}, method="feature_ablation")
    np.testing.assert_allclose(found.attributions["x"], [-1, 5, -1], rtol=1e-6)  # (1 - 3) / 2 each
    assert found.fields["parameters"]["features"] == {"kind": "columns", "count": 2}


def test_ids_without_a_manifests_baseline_are_compared_with_the_padding(tmp_path) -> None:
    """y = the sum of the tokens' values."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["t"]), helper.make_node("ReduceSum", ["t", "axis"], ["y"], keepdims=0)]
    model = graph(nodes, [("ids", T.INT64, ["n", "t"])], [("y", T.FLOAT, ["n", 1])], table=TABLE, axis=np.asarray([1]))
    entry = Input(name="ids", codec="text", dtype="int64", shape=(None,), text=TextPolicy(max_length=9, pad_id=2, tokenizer="model.onnx"))
    subject = subject_of(tmp_path / "1", model, [entry])
    ids = np.asarray([[0, 3, 1, 0]])
    (found,) = ask(subject, {"ids": ids}, method="shapley_value_sampling")
    np.testing.assert_allclose(found.attributions["ids"], TABLE[ids[0], 0] + 2, rtol=1e-5)
    assert found.fields["parameters"]["baseline"] == {"token": 2}
    (words,) = ask(subject, {"ids": ids, "features.ids": np.asarray([[7, 7, -1, 3]])}, method="feature_ablation", features="words")
    np.testing.assert_allclose(words.attributions["ids"], [8.5, 8.5, 7, 5], rtol=1e-5)
    assert words.fields["parameters"]["features"] == {"kind": "words", "count": 3}
    with pytest.raises(BadParameter, match="the text itself"):
        ask(subject, {"ids": ids}, method="feature_ablation", features="words")
    for wrong in (np.asarray([[1, 2]]), np.asarray([[0.5, 1, 2, 3]]), np.zeros((0, 4), int)):
        with pytest.raises(BadParameter, match=r"features\.ids"):
            ask(subject, {"ids": ids, "features.ids": wrong}, method="feature_ablation")


def test_one_input_left_out_as_an_id_and_one_at_its_float_tensor(tmp_path) -> None:
    """y = t[a] * t[b]: a is filled with 0 behind its lookup, b becomes the id 3."""
    nodes = [
        helper.make_node("Gather", ["table", "a"], ["ta"]),
        helper.make_node("Gather", ["table", "b"], ["tb"]),
        helper.make_node("Mul", ["ta", "tb"], ["y"]),
    ]
    model = graph(nodes, [("a", T.INT64, ["n"]), ("b", T.INT64, ["n"])], [("y", T.FLOAT, ["n", 1])], table=TABLE)
    baseline = {"a": Baseline(kind="zero"), "b": Baseline(kind="token", value=3)}
    explain = Explain(output="value", attribute_at={"a": "ta", "b": "tb"}, baseline=baseline)
    inputs = [Input(name=name, codec="tensor", dtype="int64", shape=()) for name in "ab"]
    subject = subject_of(tmp_path / "1", model, inputs, explain=explain)
    (found,) = ask(subject, {"a": np.asarray([0]), "b": np.asarray([1])}, method="shapley_value_sampling")
    # F: both 3 * 5, without a 0, without b 3 * 10, without either 0
    assert found.attributions["a"] == pytest.approx((15 - 0 + 30 - 0) / 2)
    assert found.attributions["b"] == pytest.approx((15 - 30 + 0 - 0) / 2)
    assert found.fields["baseline_output"] == 0


def test_a_discrete_inputs_number_is_taken_at_its_float_tensor(subjects, bundles) -> None:
    """The bundle `generator`: (latent @ wl) * (onehot @ wc); its class has a third of each class as its baseline."""
    rng = np.random.default_rng(3)
    latent = rng.standard_normal((1, 4)).astype(np.float32)
    wl, wc = (np.random.default_rng(seed).uniform(-1, 1, (rows, 24)) for seed, rows in ((6, 4), (7, 3)))
    (found,) = ask(subjects["generator"], {"latent": latent, "class": np.asarray([2])}, method="feature_ablation", target=[0, 1, 2])
    pixel = 8
    there = latent[0] @ wl[:, pixel]
    assert found.attributions["class"] == pytest.approx(there * (wc[2, pixel] - wc[:, pixel].mean()), rel=1e-4)
    np.testing.assert_allclose(found.attributions["latent"], latent[0] * wl[:, pixel] * wc[2, pixel], rtol=1e-4)
    assert found.fields["parameters"]["baseline"] == {"latent": "zero", "class": pytest.approx(1 / 3)}
