"""Recipe `fsdd-cnn`: spoken digits with a small convolutional network over a spectrogram, about ten minutes on one core.

Recordings are moved in time, played faster or slower, louder or softer and noised (augmentation); one learning-rate cycle,
averaged weights. The epoch is chosen on 300 recordings held out of the training set; the official 300 test recordings are
touched once, after that. They are of the same six speakers, so the recipe also trains six more times, each without one of
the speakers, and measures on that one: how well the network hears somebody new.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from service.manifest import AudioPolicy, Baseline, Batching, Explain, Golden, Input, Manifest, Metric, Output, Provenance
from training.augment import RandomSound
from training.batches import Batch, Rows, loader
from training.bundle import multiply_adds, parameter_count, versions, write_bundle
from training.evaluate import Figures, measure
from training.export import Graph, tiled, to_onnx
from training.fit import Fitted, Run, fit, start
from training.golden import b64_instance, classifications, json_case, raw_case
from training.networks.fsdd_cnn import RATE, SAMPLES, FsddCnn
from training.recipes.fsdd_cnn_card import Story, Unheard, card
from training.recordings import FSDD, Recording, SpokenDigits, load_fsdd, padded
from training.reference import Arrays, spoken
from training.session import Session, hyperparameters
from training.supervised import Optimisation, Supervised

NAME = "fsdd-cnn"
VERSION = 1
LABELS = tuple("0123456789")
CURVES = "curves.png"
SAMPLE = "sample.wav"


@dataclass(frozen=True)
class Config:
    epochs: int = field(default=60, metadata={"help": "passes over the training recordings"})
    batch_size: int = field(default=64, metadata={"help": "recordings a step"})
    learning_rate: float = field(default=5e-3, metadata={"help": "highest of the cycle"})
    weight_decay: float = field(default=0.02, metadata={"help": "decoupled (AdamW)"})
    dropout: float = field(default=0.2, metadata={"help": "of the 64 penultimate features"})
    ema: float = field(default=0.99, metadata={"help": "decay of the averaged weights"})
    augment: bool = field(default=True, metadata={"help": "distort training recordings"})
    unheard_epochs: int = field(default=20, metadata={"help": "passes of each training without one speaker; 0 leaves these out"})


@dataclass(frozen=True)
class Result:
    """What a finished training hands to the export."""

    net: FsddCnn
    fitted: Fitted[Supervised]
    config: Config
    session: Session
    validation: Figures
    test: Figures
    unheard: tuple[Unheard, ...]


def train(config: Config, session: Session) -> list[Path]:
    """Trains, measures and exports; returns the bundle's folder."""
    data = load_fsdd(session.data)
    fitted = fit_recordings(config, session, data.train, data.validation)
    net = fitted.task.net
    assert isinstance(net, FsddCnn)
    validation = measure(net, batches(data.validation), len(LABELS), "validation")
    test = measure(net, batches(data.test), len(LABELS), "test")
    print(f"epoch {fitted.epoch + 1} chosen on validation, accuracy {validation.accuracy:.4f} (n={validation.n})")
    print(f"test accuracy {test.accuracy:.4f} (n={test.n})")
    print(f"{parameter_count(net):,} parameters, {multiply_adds(net, sounds(data.test[:1])):,} multiply-adds for one second")
    unheard = tuple(unheard_speakers(config, session, data)) if config.unheard_epochs else ()
    return [export(Result(net, fitted, config, session, validation, test, unheard), data.test, spoken(data.train))]


def fit_recordings(
    config: Config, session: Session, train_set: Sequence[Recording], validation_set: Sequence[Recording]
) -> Fitted[Supervised]:
    """The fitted task, with the weights of the epoch of lowest validation loss."""
    return _fit(Run.of(session, NAME, config, epochs=config.epochs, ema=config.ema), config, train_set, validation_set)


def unheard_speakers(config: Config, session: Session, data: SpokenDigits) -> Iterator[Unheard]:
    """For each speaker a training on the others' recordings alone, judged on all of that speaker's."""
    for speaker in sorted({recording.speaker for recording in data.test}):
        others = [[r for r in part if r.speaker != speaker] for part in (data.train, data.validation)]
        theirs = [r for part in (data.train, data.validation, data.test) for r in part if r.speaker == speaker]
        run = Run.of(session, f"{NAME}-without-{speaker}", config, epochs=config.unheard_epochs, ema=config.ema, quiet=True)
        net = _fit(replace(run, resume=False), config, *others).task.net
        figures = measure(net, batches(theirs), len(LABELS), speaker)
        print(f"trained without {speaker}: accuracy {figures.accuracy:.4f} on that speaker (n={figures.n})")
        yield Unheard(speaker, figures.accuracy, figures.n)


def _fit(run: Run, config: Config, train_set: Sequence[Recording], validation_set: Sequence[Recording]) -> Fitted[Supervised]:
    start(run)
    optimisation = Optimisation(config.learning_rate, config.weight_decay, schedule="onecycle")
    augment = RandomSound(speed=0.12, gain=10.0, noise=1e-3) if config.augment else None
    task = Supervised(FsddCnn(config.dropout), len(LABELS), optimisation, augment)
    return fit(task, batches(train_set, config.batch_size, run.seed), batches(validation_set), run)


def sounds(recordings: Sequence[Recording]) -> torch.Tensor:
    """float32 (N, 8000), -1 to 1: what the graph's input takes."""
    return torch.from_numpy(padded(recordings, SAMPLES))


def batches(recordings: Sequence[Recording], size: int = 300, shuffle_seed: int | None = None) -> DataLoader[Batch]:
    labels = torch.tensor([recording.digit for recording in recordings])
    return loader(Rows(sounds(recordings), labels), size, shuffle_seed=shuffle_seed)


def export(result: Result, recordings: Sequence[Recording], reference: Arrays) -> Path:
    """Writes the bundle, its golden cases and its sample from `recordings`."""
    axes = {"sound": {0: "batch"}}
    model = to_onnx(Graph(result.net, axes, ("logits",), tiled(sounds(recordings[:8]), axes=axes)))
    run = result.fitted.run.path
    chosen = shown(recordings)
    (run / SAMPLE).write_bytes(wav(chosen[0]))
    return write_bundle(
        result.session.out,
        model,
        partial(describe, result),
        golden(result.net, chosen),
        partial(card, story(result, chosen[0])),
        plots={CURVES: run / CURVES, SAMPLE: run / SAMPLE},
        reference=reference,
    )


def story(result: Result, sample: Recording) -> Story:
    """What the card tells."""
    return Story(LABELS, result.test, result.fitted.epoch + 1, result.config.epochs, result.unheard, CURVES, SAMPLE, sample.name)


def shown(recordings: Sequence[Recording]) -> tuple[Recording, Recording, Recording]:
    """Three recordings for the bundle: a seven first, another digit by another speaker each."""
    seven = next(recording for recording in recordings if recording.digit == 7)
    second = next(r for r in recordings if r.digit == 2 and r.speaker != seven.speaker)
    third = next(r for r in recordings if r.digit == 0 and r.speaker not in (seven.speaker, second.speaker))
    return seven, second, third


def wav(recording: Recording) -> bytes:
    """A mono 16-bit PCM file."""
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(recording.samples.astype("<i2").tobytes())
    return file.getvalue()


def golden(net: FsddCnn, recordings: Sequence[Recording]) -> Golden:
    """Two of the bodies that a client sends: a raw WAV file, WAV files in JSON."""
    with torch.inference_mode():
        answers = classifications(net.eval()(sounds(recordings)), LABELS)
    files = [wav(recording) for recording in recordings]
    return Golden(cases=(raw_case("audio/wav", files[0], answers[:1]), json_case([b64_instance(file) for file in files[1:]], answers[1:])))


def describe(result: Result, files: dict[str, str]) -> Manifest:
    """The manifest, from the hashes of the bundle's files."""
    return Manifest(
        name=NAME,
        version=VERSION,
        title="Spoken digits (convolutional network over a spectrogram)",
        description="Says which digit is spoken: one English digit, up to a second long.",
        task="classification",
        licence="Apache-2.0",
        inputs=(
            Input(
                name="sound",
                codec="audio",
                dtype="float32",
                shape=(SAMPLES,),
                range=(-1.0, 1.0),
                audio=AudioPolicy(sample_rate=RATE, channels="mix", max_seconds=SAMPLES / RATE, beyond="truncate", pad_to_max=True),
            ),
        ),
        outputs=(Output(name="logits", kind="classes", dtype="float32", shape=(10,), labels=LABELS, activation="softmax"),),
        batching=Batching(max=32),
        explain=Explain(output="logit", baseline={"sound": Baseline(kind="zero")}),
        metrics=(*result.test.metrics(result.session.seed), *result.validation.metrics(result.session.seed), *unheard_metric(result)),
        data=(FSDD.manifest_entry(),),
        provenance=Provenance(
            recipe=f"whyserve train {NAME}",
            seed=result.session.seed,
            versions=versions(),
            parameters=parameter_count(result.net),
            multiply_adds=multiply_adds(result.net, torch.zeros(1, SAMPLES)),
            hyperparameters=hyperparameters(result.config) | {"epoch_chosen": result.fitted.epoch + 1},
        ),
        files=files,
    )


def unheard_metric(result: Result) -> tuple[Metric, ...]:
    """The mean over the speakers, as the manifest states it."""
    if not result.unheard:
        return ()
    n = sum(each.n for each in result.unheard)
    value = round(sum(each.accuracy * each.n for each in result.unheard) / n, 6)
    note = "six networks, each trained without the speaker that it is measured on; not this bundle's network"
    return (Metric(name="accuracy_on_unheard_speakers", value=value, split="all", n=n, seed=result.session.seed, note=note),)
