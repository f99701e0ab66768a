"""`python -m bench [NAME ..]`: prints the tables, all of them or those named."""

from __future__ import annotations

import argparse
import platform
from importlib import import_module

import psutil

_REPORTS = ("startup", "predict", "memory", "exactness", "agreement", "conformance", "trust")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures, and prints each figure as a table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_REPORTS)}; default: all")
    names = parser.parse_args().names or list(_REPORTS)
    if unknown := sorted(set(names) - set(_REPORTS)):
        parser.error(f"unknown {unknown[0]!r}; there are: {', '.join(_REPORTS)}")
    print(f"{psutil.cpu_count()} CPU cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}\n")
    for name in names:
        print(f"### {name}\n\n{import_module(f'bench.{name}').report()}\n", flush=True)


if __name__ == "__main__":
    main()
