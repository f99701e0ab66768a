"""The two bundles of the recipe `mnist-gan`: graphs, golden cases and manifests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from service.manifest import Baseline, Batching, Data, Explain, Golden, ImagePolicy, Input, Manifest, Metric, Output, Provenance
from training.bundle import multiply_adds, parameter_count, versions, write_bundle
from training.datasets import MNIST, Images
from training.export import Graph, check, tiled, to_onnx
from training.golden import b64_instance, classifications, json_case, png, raw_case
from training.networks.mnist_gan import CLASSES, LATENT, Generator
from training.recipes.mnist_gan_cards import (
    CURVES,
    LABELS,
    ONEHOT,
    SAMPLES,
    by_class,
    card_discriminator,
    card_generator,
    extremes,
    fewer_colours,
    grid,
)
from training.recipes.mnist_gan_figures import Figures, Result, pixels, verdicts
from training.reference import labelled_digits, latents

NAME = "mnist-gan"
VERSION = 1
GENERATOR = "mnist-generator"
DISCRIMINATOR = "mnist-discriminator"
VERDICTS = ("fake", "real")

CLASS_BASELINE = Baseline(kind="constant", value=1 / CLASSES)
"""No class preferred."""


def export(result: Result, train: Images) -> list[Path]:
    """Writes both bundles and returns their folders."""
    pictures = result.fitted.run.path
    (pictures / CURVES).write_bytes(fewer_colours(pictures / CURVES))
    (pictures / f"{GENERATOR}.png").write_bytes(png(grid(by_class(result))))
    (pictures / f"{DISCRIMINATOR}.png").write_bytes(png(grid(extremes(result))))
    return [export_generator(result, pictures), export_discriminator(result, train, pictures)]


def export_generator(result: Result, pictures: Path) -> Path:
    latent = torch.randn(8, LATENT, generator=torch.Generator().manual_seed(0)).round(decimals=4)
    inputs = {"latent": latent, "class": torch.tensor([7, 0, 3, 1, 9, 4, 2, 5])}
    return write_bundle(
        result.session.out,
        graph_of(result.generator, inputs, "image"),
        partial(describe_generator, result),
        golden_generator(result.generator, latent[:2], inputs["class"][:2]),
        partial(card_generator, result),
        plots={CURVES: pictures / CURVES, SAMPLES: pictures / f"{GENERATOR}.png"},
        reference=latents(),
    )


def export_discriminator(result: Result, train: Images, pictures: Path) -> Path:
    inputs = {"image": pixels(result.test)[:8].float(), "class": torch.from_numpy(result.test.labels[:8])}
    return write_bundle(
        result.session.out,
        graph_of(result.discriminator, inputs, "logit"),
        partial(describe_discriminator, result),
        golden_discriminator(result),
        partial(card_discriminator, result),
        plots={CURVES: pictures / CURVES, SAMPLES: pictures / f"{DISCRIMINATOR}.png"},
        reference=labelled_digits(train),
    )


# ---------------------------------------------------------------------------------------------------------------- graphs


def graph_of(network: nn.Module, inputs: Mapping[str, Tensor], output: str) -> onnx.ModelProto:
    """The checked ONNX graph of `network`, with the one-hot class under its name. Raises ExportError."""
    axes = {name: {0: "batch"} for name in inputs}
    graph = Graph(network, axes, (output,), tiled(*inputs.values(), axes=axes))
    model = to_onnx(graph)
    (lookup,) = (node for node in model.graph.node if "class" in node.input)
    rename(model, lookup.output[0], ONEHOT)
    check(model, graph)
    return model


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Gives a tensor of the graph, one that is neither input nor output, another name."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in model.graph.value_info:
        if value.name == old:
            value.name = new


# ---------------------------------------------------------------------------------------------------------------- golden


def golden_generator(generator: Generator, latent: Tensor, label: Tensor) -> Golden:
    """Latents and classes in JSON, with the pixels they give, to 0.05 of 255: far less than anybody sees."""
    with torch.inference_mode():
        images = generator.eval()(latent, label)  # (N, 1, 28, 28)
    rows = [np.round(row.double().numpy(), 4).tolist() for row in latent]
    instances = [{"latent": row, "class": k} for row, k in zip(rows, label.tolist(), strict=True)]
    expected = [{"image": np.round(image.double().numpy(), 4).tolist()} for image in images]
    return Golden(cases=(json_case(instances, expected, tolerance=0.05),))


def golden_discriminator(result: Result) -> Golden:
    """A real digit as a raw PNG with the class in the query; a real one, and the same said to be another, in JSON."""
    digits, labels = result.test.pixels[:2], result.test.labels[:2].tolist()
    wrong = (labels[1] + 1) % CLASSES
    asked = torch.tensor([labels[0], labels[1], wrong])
    images = torch.from_numpy(digits[[0, 1, 1]]).unsqueeze(1)
    answers = classifications(verdicts(result.discriminator, images, asked)[:, None], VERDICTS, "sigmoid")
    second = b64_instance(png(digits[1]))
    return Golden(
        cases=(
            raw_case("image/png", png(digits[0]), answers[:1], query={"class": str(labels[0])}),
            json_case([{"image": second, "class": labels[1]}, {"image": second, "class": LABELS[wrong]}], answers[1:]),
        )
    )


# ------------------------------------------------------------------------------------------------------------- manifests


def describe_generator(result: Result, files: dict[str, str]) -> Manifest:
    latent = Input(name="latent", codec="tensor", dtype="float32", shape=(LATENT,), sample="normal")
    return Manifest(
        name=GENERATOR,
        version=VERSION,
        title="Handwritten digits, drawn (generator of a conditional DCGAN)",
        description="Draws the digit asked for, 28x28 grey pixels, light ink on black; the 64 numbers of the latent decide its hand.",
        task="generation",
        licence="Apache-2.0",
        inputs=(latent, class_input()),
        outputs=(Output(name="image", kind="image", dtype="float32", shape=(1, 28, 28), range=(0.0, 255.0), layout="NCHW"),),
        batching=Batching(max=64),
        explain=Explain(
            output="value", attribute_at={"class": ONEHOT}, baseline={"latent": Baseline(kind="zero"), "class": CLASS_BASELINE}
        ),
        metrics=generator_metrics(result.figures, result.session.seed),
        data=data(),
        provenance=provenance(result, result.generator, torch.zeros(1, LATENT)),
        files=files,
    )


def describe_discriminator(result: Result, files: dict[str, str]) -> Manifest:
    image = Input(
        name="image",
        codec="image",
        dtype="float32",
        shape=(1, 28, 28),
        range=(0.0, 255.0),
        image=ImagePolicy(height=28, width=28, channels=1, fit="contain", filter="bilinear", polarity="auto"),
    )
    return Manifest(
        name=DISCRIMINATOR,
        version=VERSION,
        title="Real or drawn digits (discriminator of a conditional DCGAN)",
        description="Says whether a picture of the digit named beside it comes from a hand or from the generator mnist-generator.",
        task="classification",
        licence="Apache-2.0",
        inputs=(image, class_input()),
        outputs=(Output(name="logit", kind="classes", dtype="float32", shape=(1,), labels=VERDICTS, activation="sigmoid"),),
        batching=Batching(max=64),
        explain=Explain(output="logit", attribute_at={"class": ONEHOT}, baseline={"image": Baseline(kind="zero"), "class": CLASS_BASELINE}),
        metrics=discriminator_metrics(result.figures, result.session.seed),
        data=data(),
        provenance=provenance(result, result.discriminator, torch.zeros(1, 1, 28, 28)),
        files=files,
    )


def class_input() -> Input:
    return Input(name="class", codec="tensor", dtype="int64", shape=(), labels=LABELS, sample="label")


def data() -> tuple[Data, ...]:
    return (MNIST.manifest_entry(),)


def provenance(result: Result, network: nn.Module, first: Tensor) -> Provenance:
    return Provenance(
        recipe=f"whyserve train {NAME}",
        seed=result.session.seed,
        versions=versions(),
        parameters=parameter_count(network),
        multiply_adds=multiply_adds(network, first, torch.zeros(1, dtype=torch.int64)),
        hyperparameters=result.hyperparameters | {"epoch_chosen": result.fitted.epoch + 1},
    )


def generator_metrics(figures: Figures, seed: int) -> tuple[Metric, ...]:
    metric = partial(figure, split="test", n=figures.digits, seed=seed)
    like, space = figures.likeness, "in the penultimate features of mnist-cnn"
    return (
        metric("recognised", like.recognised, note="share of the drawn digits that mnist-cnn takes for the class asked for"),
        metric("recognised_worst_class", like.recognised_worst),
        metric("variance_ratio_smallest", like.variance_ratio, note=f"of the classes' variances over the real digits', {space}"),
        *(metric(f"variance_ratio_{label}", ratio) for label, ratio in zip(LABELS, like.variance_ratios, strict=True)),
        metric("frechet_distance", like.frechet, note=f"drawn to test digits, {space}, as many of each"),
        metric("frechet_distance_real_halves", figures.frechet_of_real_halves, split="train", note="two disjoint sets of that size each"),
        metric("frechet_distance_test_training", figures.frechet_of_test_and_training, note="test digits to as many training digits"),
    )


def discriminator_metrics(figures: Figures, seed: int) -> tuple[Metric, ...]:
    metric = partial(figure, split="test", n=figures.digits, seed=seed)
    return (
        metric("accuracy", figures.discriminator_accuracy, n=2 * figures.digits, note="test digits and as many drawn ones; 0.5 is chance"),
        metric("real_taken_for_real", figures.real_taken_for_real),
        metric("drawn_taken_for_drawn", figures.drawn_taken_for_drawn, note="digits of mnist-generator"),
        metric("wrong_class_refused", figures.real_of_another_class_refused, note="real digits with a wrong class named, taken for drawn"),
    )


def figure(name: str, value: float, *, split: str, n: int, seed: int, note: str = "") -> Metric:
    return Metric(name=name, value=round(value, 6), split=split, n=n, seed=seed, note=note)
