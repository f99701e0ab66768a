"""What an explainer has found out about a model's twin, as it travels to the server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TwinStatus(BaseModel):
    """Whether gradients can be had of a model, and if not why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parity_error: float | None
    """The larger of batch 1 and 3, on trial inputs; None where none could be run."""
    parity_limit: float
    unsupported: tuple[str, ...] = ()
    """Operators without a torch form and without a numpy one."""
    gradient_gaps: tuple[str, ...] = ()
    """Operators computed in numpy: no gradient passes them."""
    no_gradient: tuple[str, ...] = ()
    """Inputs that no gradient of the output reaches."""
    problem: str = ""
    """Why there is no twin at all."""
    one_row: bool = False
    """Whether it runs one row at a time only: the graph fixes its batch in a way that can't be undone."""
    refused: dict[str, str] = {}
    """Methods that this twin can't carry although it passes gradients, with the reason: layers that its graph has lost."""
    straight_through: tuple[str, ...] = ()
    """Operators that round, whose gradient is taken as if they didn't."""
    device: str = "cpu"
    """Where the twin computes."""
    device_note: str = ""
    """Why it doesn't on the GPU, where that was to be expected."""

    @property
    def usable(self) -> bool:
        return not self.reason

    @property
    def reason(self) -> str:
        """Why methods that need gradients can't be had; empty where they can."""
        if self.problem:
            return self.problem
        if self.unsupported:
            return f"the model has operators that can't be rebuilt in torch: {', '.join(self.unsupported)}"
        if self.beyond_parity:
            return f"the model's twin differs from the served model: parity error {self.parity_error:.2g}, limit {self.parity_limit:.2g}"
        return ""

    @property
    def beyond_parity(self) -> bool:
        """Whether there is a twin that doesn't agree with the served model."""
        tried = not self.problem and not self.unsupported and self.parity_error is not None
        return tried and not self.parity_error <= self.parity_limit  # type: ignore[operator]  # NaN is beyond every limit
