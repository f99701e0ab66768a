"""Whole answers drawn: the renderer that the manifest calls for, sizes by the contract."""

from __future__ import annotations

import io
import wave
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from service.codecs.audio import AudioLimits, decode_sound
from service.codecs.image import decode_image, encode_png
from service.codecs.instance import Instance
from service.codecs.picture import ImageLimits
from service.codecs.text import DecodedText, Token
from service.errors import NotExplainable
from service.explain.agreement import agreement
from service.explain.answer import Explanation
from service.explain.render.answer import draw_page, draw_picture, drawable
from service.explain.render.facts import caption, facts, heading, percentage
from service.manifest import AudioPolicy, Column, ImagePolicy, Input, Manifest, Output, TablePolicy, TextPolicy

rng = np.random.default_rng(0)
FIELDS = {
    "method": "integrated_gradients",
    "target": {"label": "7", "index": 7},
    "explained": "logit",
    "instance_output": 11.25,
    "baseline_output": -0.3,
    "convergence_delta": 0.001,
    "completeness_error": 0.0043,
    "converged": True,
    "parity_error": 2.3e-7,
    "steps": 16,
    "rows": 33,
    "parameters": {"baseline": {"kind": "zero"}, "tolerance": 0.01},
    "precision": "float32",
    "warnings": [],
    "seconds": 0.02,
}
PREDICTION = {"label": "7", "index": 7, "probability": 0.998, "top": []}
IMAGE = Input(
    name="image", codec="image", dtype="float32", shape=(3, 20, 20), image=ImagePolicy(height=20, width=20, channels=3, fit="contain")
)
TEXT = Input(name="tokens", codec="text", dtype="int64", shape=(None,), text=TextPolicy(max_length=9))
TABLE = Input(
    name="row", codec="table", dtype="float32", shape=(2,), table=TablePolicy(columns=(Column(name="alcohol"), Column(name="sugar")))
)
LATENT = Input(name="latent", codec="tensor", dtype="float32", shape=(4,), sample="normal")
CLASS = Input(name="class", codec="tensor", dtype="int64", shape=(), labels=tuple("0123456789"), sample="label")
SCORES = Output(name="y", kind="classes", dtype="float32", shape=(10,), labels=tuple("0123456789"), activation="softmax")
PICTURE = Output(name="image", kind="image", dtype="float32", shape=(1, 28, 28), range=(0, 255), layout="NCHW")


def manifest(*inputs, output=SCORES):
    files = {"model.onnx": "0" * 64, "tokenizer.json": "0" * 64}
    return Manifest(name="m", version=3, title="A <model>", task="other", inputs=inputs, outputs=(output,), files=files)


def explained(*cases):
    instances, predictions, explanations = zip(*cases, strict=True)
    found = [each if isinstance(each, tuple) else (each,) for each in explanations]
    agreements = [agreement(each) for each in found] if len(found[0]) > 1 else None
    return SimpleNamespace(instances=list(instances), predictions=list(predictions), explanations=found, agreements=agreements)


def photo(width=50, height=30, **fields):
    data = encode_png(rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
    decoded = decode_image(data, IMAGE.image, IMAGE.dtype, ImageLimits())
    instance = Instance({"image": decoded.tensor}, {"image": decoded}, {"image": data}, {})
    return instance, PREDICTION, Explanation({"image": rng.normal(size=(3, 20, 20))}, FIELDS | fields)


def size_of(png):
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        return image.size


def test_one_picture_is_drawn_at_the_sent_size_several_in_a_grid():
    assert size_of(draw_picture(manifest(IMAGE), explained(photo()))) == (50, 30)
    width, height = size_of(draw_picture(manifest(IMAGE), explained(photo(), photo(), photo())))
    assert width > 2 * 460
    assert height > 2 * 150


def test_a_picture_that_came_as_a_tensor_is_drawn_too():
    instance, prediction, explanation = photo()
    tensor = Instance(instance.tensors, {}, {}, {})
    assert min(size_of(draw_picture(manifest(IMAGE), explained((tensor, prediction, explanation))))) > 200
    assert draw_page(manifest(IMAGE), explained((tensor, prediction, explanation))).count("data:image/png") == 3


def test_a_page_of_pictures():
    page = draw_page(manifest(IMAGE), explained(photo(), photo(warnings=["not <reached>"], converged=False)))
    assert page.count("<section>") == 2
    assert page.count("data:image/png") == 6
    assert "A &lt;model&gt;" in page
    assert "not &lt;reached&gt;" in page
    assert "0.43%" in page


def test_a_text_has_a_page_and_no_picture():
    assert drawable(manifest(TEXT)) == ("application/json", "text/html")
    assert drawable(manifest(IMAGE)) == ("application/json", "image/png", "text/html")
    text = DecodedText(np.array([1, 2]), (Token("good", 0, 4), Token("film", 5, 9)), 9, "good film indeed")
    instance = Instance({"tokens": text.ids}, {}, {}, {"tokens": text}, ("the text was cut",))
    page = draw_page(manifest(TEXT), explained((instance, PREDICTION, Explanation({"tokens": np.array([1.5, -0.5])}, FIELDS))))
    assert 'title="+1.5">good<' in page
    assert "the text was cut" in page
    assert "> indeed<" in page


def test_a_table():
    instance = Instance({"row": np.array([11.0, 2.0], np.float32)}, {}, {}, {})
    case = (instance, {"value": 5.5}, Explanation({"row": np.array([0.5, -1.0])}, FIELDS | {"target": {"index": 0}}))
    page = draw_page(manifest(TABLE), explained(case))
    assert page.index("sugar = 2") < page.index("alcohol = 11")
    assert "Why 5.5" in page
    assert size_of(draw_picture(manifest(TABLE), explained(case)))[0] > 600


def test_a_generator():
    instance = Instance({"latent": rng.normal(size=4), "class": np.array(7)}, {}, {}, {})
    prediction = {"image": np.full((1, 28, 28), 255.0).tolist()}
    explanation = Explanation(
        {"latent": np.array([1.0, -1.0, 0.5, 0.5]), "class": np.array(1.0)}, FIELDS | {"target": {"region": [0, 0, 9, 9]}}
    )
    model = manifest(LATENT, CLASS, output=PICTURE)
    page = draw_page(model, explained((instance, prediction, explanation)))
    assert "class = 7" in page
    assert "25.0% of all that moved the picture" in page
    assert "What moved the pixels from (0, 0) to (9, 9)" in page
    assert size_of(draw_picture(model, explained((instance, prediction, explanation))))[0] > 640


def test_a_picture_and_a_class_as_the_discriminator_takes_them():
    instance, prediction, explanation = photo()
    instance.tensors["class"] = np.array(3)
    both = Explanation({**explanation.attributions, "class": np.array(-0.75)}, explanation.fields)
    page = draw_page(manifest(IMAGE, CLASS), explained((instance, prediction, both)))
    assert page.count("data:image/png") == 3
    assert "class = 3: -0.75" in page
    assert size_of(draw_picture(manifest(IMAGE, CLASS), explained((instance, prediction, both)))) == (50, 30)


def test_without_attributions_a_page_warns_and_a_picture_is_refused():
    instance, prediction, _ = photo()
    distrusted = Explanation(None, FIELDS | {"warnings": ["the twin differs"], "converged": False, "completeness_error": None})
    page = draw_page(manifest(IMAGE), explained((instance, prediction, distrusted)))
    assert "the twin differs" in page
    assert "data:image" not in page
    with pytest.raises(NotExplainable, match="the twin differs"):
        draw_picture(manifest(IMAGE), explained((instance, prediction, distrusted)))


MAGNITUDES = {"method": "saliency", "signed": False, "completeness_error": None, "parameters": {}}


def compared(case, **fields):
    """The same case with a second method, whose attributions are the first one's magnitudes."""
    instance, prediction, first = case
    magnitudes = {name: np.abs(array) for name, array in first.attributions.items()}
    signed = Explanation(first.attributions, {**first.fields, "signed": True})
    return instance, prediction, (signed, Explanation(magnitudes, {**first.fields, **MAGNITUDES, **fields}))


def test_several_methods_of_a_picture_stand_side_by_side_with_their_agreement():
    case = compared(photo(), warnings=["no <sign>"])
    page = draw_page(manifest(IMAGE), explained(case))
    assert page.count("<section>") == 1
    assert page.count("data:image/png") == 5  # sent, two overlays, two legends
    assert "<figcaption>integrated gradients<" in page
    assert "1. integrated gradients" in page
    assert "2. saliency" in page
    assert "saliency: no &lt;sign&gt;" in page
    alone, together = (size_of(draw_picture(manifest(IMAGE), explained(each))) for each in ((*case[:2], case[2][:1]), case))
    assert alone == (50, 30)
    assert together[0] >= 3 * 250


def test_several_methods_of_a_text_a_paragraph_each():
    text = DecodedText(np.array([1, 2]), (Token("good", 0, 4), Token("film", 5, 9)), None, "good film")
    instance = Instance({"tokens": text.ids}, {}, {}, {"tokens": text})
    page = draw_page(manifest(TEXT), explained(compared((instance, PREDICTION, Explanation({"tokens": np.array([1.5, -0.5])}, FIELDS)))))
    assert 'title="-0.5">film<' in page
    assert 'title="+0.5">film<' in page
    assert page.index("<h3>integrated gradients<") < page.index("<h3>saliency<")
    assert "against 7" in page
    assert "no influence" in page


def test_several_methods_of_a_table_a_column_each():
    instance = Instance({"row": np.array([11.0, 2.0], np.float32)}, {}, {}, {})
    case = compared((instance, PREDICTION, Explanation({"row": np.array([0.5, -1.0])}, FIELDS)))
    page = draw_page(manifest(TABLE), explained(case))
    assert "sugar = 2, integrated gradients: -1<" in page
    assert "sugar = 2, saliency: 1<" in page
    assert size_of(draw_picture(manifest(TABLE), explained(case)))[0] > 700


def test_a_method_without_attributions_among_others_leaves_them_standing():
    instance, prediction, (first, _) = compared(photo())
    distrusted = Explanation(None, first.fields | {"method": "saliency", "warnings": ["the twin differs"]})
    page = draw_page(manifest(IMAGE), explained((instance, prediction, (first, distrusted))))
    assert "saliency: the twin differs" in page
    assert page.count("data:image/png") == 3
    assert min(size_of(draw_picture(manifest(IMAGE), explained((instance, prediction, (first, distrusted)))))) > 150


def test_an_input_that_only_one_method_reaches():
    """A method by gradients reaches the picture, one by perturbation the class beside it too."""
    instance, prediction, first = photo()
    instance.tensors["class"] = np.array(3)
    gradient = Explanation(first.attributions, FIELDS | {"signed": True})
    ablation = Explanation({**first.attributions, "class": np.array(-0.75)}, FIELDS | {"signed": True, "method": "feature_ablation"})
    page = draw_page(manifest(IMAGE, CLASS), explained((instance, prediction, (gradient, ablation))))
    assert "class = 3, feature ablation: -0.75<" in page
    assert "class = 3, integrated gradients" not in page


def test_a_sound_with_its_padding():
    sound = Input(name="sound", codec="audio", dtype="float32", shape=(1, 800), audio=AudioPolicy(sample_rate=8000, max_seconds=0.1))
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 8000, 400, "NONE", ""))
        file.writeframes((rng.normal(size=400) * 5000).astype("<i2").tobytes())
    decoded = decode_sound(data.getvalue(), sound, AudioLimits())
    instance = Instance({"sound": decoded.tensor}, {}, {}, {}, sounds={"sound": decoded})
    case = (instance, PREDICTION, Explanation({"sound": rng.normal(size=(1, 800))}, FIELDS))
    assert draw_page(manifest(sound), explained(case)).count("data:image/png") == 1
    width, height = size_of(draw_picture(manifest(sound), explained(case)))
    assert width > 640
    assert size_of(draw_picture(manifest(sound), explained(compared(case))))[1] > height + 100


def test_the_verdict_comes_first_and_the_figures_last():
    curve = {"area": 0.2, "random_area": 0.5, "curve": [1.0, 0.1], "random_curve": [1.0, 0.5], "fractions": [0.0, 1.0]}
    page = draw_page(manifest(IMAGE), explained(photo(quality={"deletion": curve}, verdict="Trust <it>.", warnings=["slow"])))
    assert page.index("Trust &lt;it&gt;.") < page.index("slow") < page.index("data:image/png") < page.index("<polyline")


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.999997, "> 99.9%"), (0.9995, "> 99.9%"), (0.9994, "99.9%"), (1.0, "100.0%"), (0.0, "0.0%"), (0.0002, "< 0.1%"), (0.0006, "0.1%")],
)
def test_what_is_almost_certain_is_not_shown_as_certain(share: float, words: str):
    assert percentage(share) == words


def test_words():
    assert heading(PREDICTION, FIELDS) == "Why 7 (99.8%)"
    assert heading(PREDICTION, FIELDS | {"target": {"label": "1", "index": 1}}) == "For and against 1 (predicted: 7 (99.8%))"
    assert heading({"image": []}, FIELDS | {"target": {}}) == "What moved the output"
    assert caption(PREDICTION, [FIELDS]).lines == (
        "integrated gradients of the logit, baseline zero",
        "completeness error 0.43%, parity error 2.3e-07",
    )
    assert {name for name, _ in facts([FIELDS | {"completeness_error": None}])} == {
        "method",
        "explained",
        "output for this input",
        "output for the baseline",
        "parity error",
        "steps",
        "seconds",
        "converged",
    }
