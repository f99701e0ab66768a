"""Methods by perturbation: features of the input are left out, and the served model itself says what that changes.

They need no twin, so they explain any model that ONNX Runtime runs: trees, strings, missing values. A feature that is left out is
replaced by the baseline's (a class's by each other class in turn), a feature's attribution is divided among its elements.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from service.explain.methods.method import Method, Need
from service.explain.methods.parameters import BaselineParameters, CommonParameters, ReferenceParameters, _from_json

FeaturesSpec = Annotated[str | dict[str, str] | None, BeforeValidator(_from_json)]
Sizes = Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=1)]]
WindowSpec = Annotated[Sizes | dict[str, Sizes] | None, BeforeValidator(_from_json)]
PERMUTATIONS, COALITIONS, DRAWS = 25, 500, 25


class FeatureParameters(CommonParameters):
    """Of a method that leaves out features."""

    features: FeaturesSpec = Field(
        default=None,
        description="what is left out together: superpixels, grid or pixels of a picture (default: superpixels), tokens or words of a text"
        " (tokens), columns of a table, patches of time and frequency or a grid of stretches of a sound (patches), elements or a grid of"
        " blocks of a tensor (elements where they are few); an object of these by input",
    )
    n_features: int | None = Field(default=None, ge=1, le=4096, description="about how many superpixels, patches or grid cells")


class AblationParameters(FeatureParameters, BaselineParameters):
    pass


class OcclusionParameters(BaselineParameters):
    window: WindowSpec = Field(
        default=None,
        description="size of what is covered, in pixels, tokens, columns, samples or elements: a number, one an axis, or an object of these"
        " by input; default: an eighth of a picture's sides, a token, a column, a 32nd of a sound",
    )
    stride: WindowSpec = Field(default=None, description="how far the window moves, likewise; default: half the window")


class PermutationParameters(FeatureParameters, ReferenceParameters):
    n_samples: int = Field(default=DRAWS, ge=1, description="at most so many instances of the reference set, drawn by the seed")


class ShapleyParameters(AblationParameters):
    n_samples: int = Field(default=PERMUTATIONS, ge=1, description="orders in which features come in; a row a feature each")


class KernelShapParameters(AblationParameters):
    n_samples: int = Field(default=COALITIONS, ge=4, description="sets of features; where there are no more than these, each once")


class LimeParameters(AblationParameters):
    n_samples: int = Field(default=COALITIONS, ge=4, description="sets of features that the linear model is fitted to")
    kernel_width: float = Field(default=0.25, gt=0, description="how fast a sample's weight falls with its distance from the instance")
    distance: Literal["cosine", "euclidean"] = Field(default="cosine", description="of the samples' 0-1 vectors from all ones")
    alpha: float = Field(default=0.01, ge=0, description="strength of the ridge penalty")


_PERTURBATION: Final[frozenset[Need]] = frozenset({"perturbation", "baseline"})


def _of_features(parameters: Any) -> int:
    return int(parameters.n_features or 50)


ENTRIES = (
    Method(
        name="occlusion",
        title="Occlusion",
        captum="captum.attr.Occlusion",
        family="perturbation",
        parameters=OcclusionParameters,
        paper="https://arxiv.org/abs/1311.2901",
        rows=lambda _: 225,
        needs=_PERTURBATION,
        measures=lambda _: "score",  # of an element the mean over the windows that cover it: sums count windows several times
    ),
    Method(
        name="feature_ablation",
        title="Feature ablation",
        captum="captum.attr.FeatureAblation",
        family="perturbation",
        parameters=AblationParameters,
        paper="https://captum.ai/api/feature_ablation.html",
        rows=_of_features,
        needs=_PERTURBATION,
    ),
    Method(
        name="feature_permutation",
        title="Feature permutation",
        captum="captum.attr.FeaturePermutation",
        family="perturbation",
        parameters=PermutationParameters,
        paper="https://arxiv.org/abs/1801.01489",
        rows=lambda p: p.n_samples * _of_features(p),
        needs=frozenset({"perturbation", "reference"}),
    ),
    Method(
        name="shapley_value_sampling",
        title="Shapley values by sampling",
        captum="captum.attr.ShapleyValueSampling",
        family="perturbation",
        parameters=ShapleyParameters,
        paper="https://doi.org/10.1016/j.cor.2008.04.004",
        rows=lambda p: p.n_samples * _of_features(p),
        needs=_PERTURBATION,
        promises=frozenset({"completeness"}),
    ),
    Method(
        name="kernel_shap",
        title="KernelSHAP",
        captum="captum.attr.KernelShap",
        family="perturbation",
        parameters=KernelShapParameters,
        paper="https://arxiv.org/abs/1705.07874",
        rows=lambda p: p.n_samples,
        needs=_PERTURBATION,
        promises=frozenset({"completeness"}),
    ),
    Method(
        name="lime",
        title="LIME",
        captum="captum.attr.Lime",
        family="perturbation",
        parameters=LimeParameters,
        paper="https://arxiv.org/abs/1602.04938",
        rows=lambda p: p.n_samples,
        needs=_PERTURBATION,
    ),
)
