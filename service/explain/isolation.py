"""What an explainer process does to itself so that it never stands in the way of the server that started it (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
NO_DEVICE = 69
"""Exit status of a process that can't have the device it is to compute on: sysexits.h's EX_UNAVAILABLE."""


def yield_to_server(parent: int) -> None:
    """A processor when the server leaves one idle, first victim when memory runs out, dead when the parent dies, deaf to
    Ctrl-C (the server stops it). Threads take after the one that starts them: to be called before there are others. Leaves with
    status 1 where the parent is gone already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _compute_when_idle()
    with contextlib.suppress(OSError):  # not every container allows it
        Path("/proc/self/oom_score_adj").write_text("1000")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def _compute_when_idle() -> None:
    """The idle class, which runs when nobody else wants to: the lowest priority of the normal one still takes a processor's
    tenth from the server, in slices that its answers wait for. That one is left where the idle class can't be had."""
    with contextlib.suppress(OSError):  # not every container allows it
        if sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    with contextlib.suppress(OSError):
        os.nice(10)


def limit_memory(budget: int) -> None:
    """At most `budget` bytes of data beyond what the process holds now: an allocation fails here, instead of the kernel
    killing the whole container. To be called once CUDA's context exists: its libraries and tables are then part of what is held,
    and a GPU's memory is none of it."""
    if sys.platform != "linux":
        return
    held = psutil.Process().memory_info().data
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + budget
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
