"""A bound on the memory of `whyserve add`: a file of a few bytes may claim gigabytes."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from service.adding.refused import NotAdded
from service.engine.session import bound_memory
from service.explain.isolation import limit_memory
from service.settings import Settings

_BASE = 3 * 2**30
_TIMES = 16
"""Copies of the weights: the file, the session, the cut session, the twin, and some in passing."""


@contextlib.contextmanager
def bounded(file: Path) -> Iterator[None]:
    """Inside, memory is 3 GiB and sixteen times the file at most. Raises NotAdded where more is asked for."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    size = file.stat().st_size if file.is_file() else 0
    limit_memory(_BASE + _TIMES * size)
    bound_memory(Settings.model_fields["model_memory_mib"].default)  # what the server will have
    try:
        yield
    except MemoryError:
        raise NotAdded(f"trying the model needs more than {(_BASE + _TIMES * size) / 2**30:.0f} GiB of memory") from None
    finally:
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_DATA, before)
