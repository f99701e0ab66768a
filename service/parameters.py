"""Parameters of `:predict` and `:generate`, checked. (Those of `:explain` belong to the methods: `service.explain.methods`.)"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BadParameter


class Parameters(BaseModel):
    """Base: an unknown parameter is an error, a value from a query string may come as a string."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


class PredictParameters(Parameters):
    top_k: int = Field(default=5, ge=1, le=1000, description="how many classes to list in `top`")


class GenerateParameters(Parameters):
    n: int = Field(default=1, ge=1, description="how many to generate; ignored where instances are sent")
    label: str | int | None = Field(default=None, alias="class", description="the class of all of them, by label or index; none: drawn")
    seed: int = Field(default=0, ge=0, description="of the drawn inputs")


Model = TypeVar("Model", bound=Parameters)


def check(model: type[Model], sent: Mapping[str, Any]) -> Model:
    """The parameters as that model. Raises BadParameter naming the parameter, what was sent and what exists."""
    try:
        return model.model_validate(sent) if sent else _defaults(model)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else "?"
        if problem["type"] == "extra_forbidden":
            known = [field.alias or key for key, field in model.model_fields.items()]
            raise BadParameter(f"unknown parameter {name!r}; there are: {', '.join(known)}") from None
        raise BadParameter(f"parameter {name!r}: {problem['msg']}, got {problem['input']!r}") from None


@lru_cache
def _defaults(model: type[Model]) -> Model:
    """The parameters where none are sent: frozen, so that one serves all requests."""
    return model()
