"""`python -m bench [NAME ..]`: prints the tables, all of them or those named."""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib import import_module

import psutil

_REPORTS = (
    "startup",
    "predict",
    "tensors",
    "captum",
    "ablation",
    "efficiency",
    "sharing",
    "interference",
    "memory",
    "exactness",
    "agreement",
    "conformance",
    "trust",
)
_NAMED_ONLY = ("peers", "soak")
"""Run where they are asked for by name: they take long, or install other servers."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures, and prints each figure as a table.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(_REPORTS)} (default: all of these), {', '.join(_NAMED_ONLY)}"
    )
    names = parser.parse_args().names or list(_REPORTS)
    if unknown := sorted(set(names) - {*_REPORTS, *_NAMED_ONLY}):
        parser.error(f"unknown {unknown[0]!r}; there are: {', '.join((*_REPORTS, *_NAMED_ONLY))}")
    print(f"{psutil.cpu_count()} CPU cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}\n")
    started, allowed = time.perf_counter(), os.sched_getaffinity(0)
    for name in names:
        os.sched_setaffinity(0, allowed)  # a measurement may have kept to one core
        print(f"### {name}\n\n{import_module(f'bench.{name}').report()}\n", flush=True)
    print(f"{(time.perf_counter() - started) / 60:.0f} minutes in all")


if __name__ == "__main__":
    main()
