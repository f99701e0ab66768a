"""What the command line says about one training session, apart from what is learned: seed, device, folders."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Session:
    """Options that every recipe shares. `data` None: WHYSERVE_DATA, else `data/` of the checkout."""

    seed: int = 0
    device: Device = "auto"
    devices: int = 1
    resume: bool = False
    out: Path = Path("models")
    runs: Path = Path("runs")
    data: Path | None = None


def devices_by_default() -> int:
    """As many processes a machine as torchrun started, else one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def hyperparameters(config: Any) -> dict[str, str | int | float | bool]:
    """A recipe's frozen Config as a manifest takes it; options that are off (None) are left out."""
    return {name: value for name, value in asdict(config).items() if value is not None}
