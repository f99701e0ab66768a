"""The explainer process: yields to the server that has started it, then loads torch and answers on a Unix socket.

`python -m service.explain.process --socket PATH --models DIR`. Started by `keeper`; this is where torch and Captum live.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from service.errors import DeviceMissing
from service.explain.isolation import NO_DEVICE, limit_memory, yield_to_server

log = logging.getLogger("whyserve.explainer")
PASS_SHARE = 16
"""A pass may hold this part of the process's memory budget: the rest is the models' and the allocator's."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m service.explain.process", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to answer on")
    parser.add_argument("--models", type=Path, required=True, help="model repository, or the folder of one bundle")
    parser.add_argument("--model-name", help="name for a single bundle")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; ONNX Runtime always has one")
    parser.add_argument("--memory-mib", type=int, default=2048, help="memory budget")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--gpu-memory-mib", type=int, default=4096, help="share of a GPU's memory")
    parser.add_argument("--max-models", type=int, default=16, help="models held at once")
    parser.add_argument("--max-timeout", type=float, default=60.0, help="seconds of a request that names none")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process to die with")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    yield_to_server(arguments.parent)
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="whyserve-mpl-"))  # Captum imports matplotlib
    _serve(arguments)


def _serve(arguments: argparse.Namespace) -> None:
    # Imported here: it takes seconds of computing, and starts threads, which is for after the process has yielded.
    import torch
    import uvicorn

    from service.explain.device import choose
    from service.explain.lane import Lane
    from service.explain.loading import load
    from service.explain.shelf import Shelf
    from service.explain.worker import Worker
    from service.joined import JoinedProtocol

    class Server(uvicorn.Server):
        """Leaves signals alone: SIGTERM ends the process, SIGINT is the server's."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    torch.set_num_threads(arguments.threads)
    budget = arguments.memory_mib * 2**20
    try:
        device = choose(arguments.device, arguments.gpu_memory_mib * 2**20)
        device.prepare()
    except DeviceMissing as error:
        log.error("no explanations: %s", error)
        sys.exit(NO_DEVICE)
    if device.on_gpu:
        log.info("explanations are computed on %s", device.place)
    if device.note:
        log.warning("explanations are computed on the CPU: %s", device.note)
    limit_memory(budget)
    lane = Lane()
    loading = partial(load, threads=1, memory=budget // PASS_SHARE, lane=lane, device=device)
    shelf = Shelf(arguments.models, arguments.model_name, loading, arguments.max_models)
    worker = Worker(shelf, lane, budget // PASS_SHARE, arguments.max_timeout)
    worker.warm_up()
    config = uvicorn.Config(
        worker.app(), uds=str(arguments.socket), http=JoinedProtocol, lifespan="off", log_level="warning", access_log=False
    )
    Server(config).run()


if __name__ == "__main__":
    main()
