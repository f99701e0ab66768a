"""The clock of a process, beside what the system's own accounts and the wall's clock say of processes that do one thing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from service.explain.clock import Clock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")
SPIN = "while True: pass"
SLEEP = "import time; time.sleep(60)"
POLLED = "import threading, time; threading.Thread(target=lambda: time.sleep(60)).start()\nwhile True: pass"
"""Computes, beside a thread that sleeps."""


@contextmanager
def doing(code: str, core: int | None = None, *, idle: bool = False) -> Iterator[psutil.Process]:
    """A process that has begun."""
    process = subprocess.Popen([sys.executable, "-c", f"print(flush=True)\n{code}"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.read(1)
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        if idle:
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def watched(process: psutil.Process, looks: int = 15) -> tuple[float, float, float]:
    """What passes meanwhile: by its clock, by what the system says that it computed, on the wall."""
    time.sleep(0.1)
    clock = Clock(process.pid)
    begun, computed, shown = time.monotonic(), sum(process.cpu_times()[:2]), clock.seconds()
    for _ in range(looks):
        time.sleep(0.1)
        clock.seconds()
    return clock.seconds() - shown, sum(process.cpu_times()[:2]) - computed, time.monotonic() - begun


@pytest.mark.parametrize("code", [SPIN, POLLED])
def test_one_that_computes_has_what_it_computes(code: str):
    with doing(code) as process:
        shown, computed, _ = watched(process)
    assert shown == pytest.approx(computed, abs=0.2)


def test_one_that_sleeps_has_all_the_time():
    with doing(SLEEP) as process:
        shown, computed, passed = watched(process)
    assert shown == pytest.approx(passed, abs=0.2)
    assert computed < 0.1


def test_one_that_is_stopped_has_all_the_time():
    with doing(SPIN) as process:
        process.suspend()
        shown, computed, passed = watched(process)
    assert shown == pytest.approx(passed, abs=0.2)
    assert computed < 0.1


def test_one_that_waits_for_a_processor_has_none_of_it():
    core = min(os.sched_getaffinity(0))
    with doing(SPIN, core), doing(SPIN, core, idle=True) as process:
        shown, computed, passed = watched(process)
    assert shown == pytest.approx(computed, abs=0.2)
    assert shown < passed / 2


def test_one_that_has_ended_has_all_the_time():
    with doing(SPIN) as process:
        clock = Clock(process.pid)
        clock.seconds()
    begun, shown = time.monotonic(), clock.seconds()
    time.sleep(0.2)
    assert clock.seconds() - shown == pytest.approx(time.monotonic() - begun, abs=0.1)
