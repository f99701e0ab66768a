"""How long a process could have computed: what tells one that hangs from one that hasn't been let to a processor. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

READY = "R"
"""The state of a thread that runs or waits for a processor; any other one sleeps, is stopped or has ended."""


class Clock:
    """Runs while a process computes, sleeps or is stopped, and stands while it waits for a processor, as one of the idle class
    may for long. Elsewhere than on Linux it never stands.

    It is set by samples. Between two of them a process that is ready to run at the later one has had the time that it computed,
    any other one all the time: right in the long run for one that always does the same, as one that hangs. A process that
    hardly gets to run at all may sleep on and look ready, since every wake-up of an idle thread takes it long: its clock is slow.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._at = time.monotonic()
        self._computed = 0.0
        self._seconds = 0.0

    def seconds(self) -> float:
        """What it shows; it started at 0 when it was made."""
        passed = time.monotonic() - self._at
        ready, computed = self._look()
        had = max(computed - self._computed, 0.0)  # less where a thread has ended
        self._seconds += min(had, passed) if ready else passed
        self._at += passed
        self._computed = computed
        return self._seconds

    def _look(self) -> tuple[bool, float]:
        """Whether one of its threads runs or waits for a processor, and the seconds that they have computed."""
        if sys.platform != "linux":
            return False, 0.0
        ready, ticks = False, 0
        with contextlib.suppress(OSError):  # it has ended
            for task in os.listdir(self._tasks):
                with contextlib.suppress(OSError):  # this thread has
                    state, *counts = (self._tasks / task / "stat").read_text().rpartition(")")[2].split()
                    ready |= state == READY
                    ticks += int(counts[10]) + int(counts[11])  # utime and stime, see proc_pid_stat(5)
        return ready, ticks / os.sysconf("SC_CLK_TCK")
