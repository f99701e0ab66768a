"""The finished bundle, looked at as the server and an explainer will: it loads, and its twin is compared with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.codecs.instance import Limits
from service.errors import WhyserveError
from service.explain.methods.listing import supported
from service.explain.status import TwinStatus
from service.manifest import Manifest
from service.repository.bundle import Bundle
from service.repository.loaded import Loader
from service.settings import Settings
from service.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Explainable:
    """What an explainer makes of the bundle."""

    methods: tuple[str, ...]
    status: TwinStatus | None = None
    """None where the twin couldn't be looked at; `problem` says why."""
    problem: str = ""


def check_loads(bundle: Bundle) -> None:
    """Loads the bundle as the server does. Raises BadBundle."""
    settings = Settings.model_construct()
    limits = Limits(settings.max_pixels, settings.max_characters, settings.max_instances)
    with ThreadPoolExecutor(1) as executor:
        Loader("cpu", 1, limits, executor, Metrics()).load(bundle)


def explainable(bundle: Bundle, manifest: Manifest, with_twin: bool) -> Explainable:
    """The methods that this model supports, found by building its twin as an explainer does."""
    if not with_twin:
        return Explainable(
            (), problem="torch and captum aren't installed (extra 'explain'), so the twin wasn't built and its parity not measured"
        )
    from service.explain.loading import load  # imports torch, which a server without explanations needn't have

    try:
        status = load(bundle).status
    except (WhyserveError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Whatever a stranger's graph does to the twin, the model is served without one, and this says so.
        return Explainable((), problem=f"the model's twin can't be built: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Explainable(tuple(method.name for method in supported(manifest, status)), status)
