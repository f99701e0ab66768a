"""Recipes: one readable module a model, from data to network to fit to figures to bundle.

A recipe module has `Config`, a frozen dataclass whose fields become options of the command line, and
`train(config, session)`, which returns the bundle folders it wrote.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A recipe that the command can run; the module is imported when it does, since it imports torch."""

    name: str
    module: str
    summary: str
    minutes: str
    """On two CPU cores."""


# In the order of `--all`: mnist-gan is judged by the bundle of mnist-cnn.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("wine-perceptron", "training.recipes.wine_perceptron", "one layer: wine quality from eleven laboratory figures", "< 1"),
        Recipe("wine-mlp", "training.recipes.wine_mlp", "several layers on the same table; what depth, dropout, L1 and L2 do", "3"),
        Recipe("mnist-cnn", "training.recipes.mnist_cnn", "handwritten digits, convolutions", "10"),
        Recipe("sst2-gru", "training.recipes.sst2_gru", "sentiment of film reviews, bidirectional GRU", "2"),
        Recipe("fsdd-cnn", "training.recipes.fsdd_cnn", "spoken digits: convolutions over a spectrogram", "12"),
        Recipe("mnist-gan", "training.recipes.mnist_gan", "draws handwritten digits: conditional DCGAN, two bundles", "40"),
    )
}
