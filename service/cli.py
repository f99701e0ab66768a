"""The command `whyserve`: serve, models, predict, explain, add, verify, bench; other packages join by the group `whyserve.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from service import client
from service.adding import command
from service.benching import command as benching
from service.errors import WhyserveError
from service.settings import Settings, load_settings
from service.verifying import command as verifying

Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; an error of the user's is one line on stderr and status 2."""
    parser = argparse.ArgumentParser(
        prog="whyserve",
        description="Serve ONNX models, and say why they predict what they predict.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    client.add(commands)
    command.add(commands)
    verifying.add(commands)
    benching.add(commands)
    for entry in sorted(entry_points(group="whyserve.commands"), key=lambda e: e.name):
        entry.load()(commands)
    parsed = parser.parse_args(arguments)
    run: Run = parsed.run
    try:
        return run(parsed)
    except WhyserveError as error:
        print(f"whyserve: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


_EXAMPLES = """examples:
  whyserve serve --models models --port 8080
  whyserve models
  whyserve predict mnist-cnn digit.png
  whyserve explain mnist-cnn digit.png --output why.png
  whyserve explain sst2-gru "a film that doesn't disappoint"
  whyserve add resnet18.onnx --name photos --labels imagenet.txt
  whyserve verify mnist-cnn
  whyserve bench mnist-cnn --picture bench.png
  whyserve train mnist-cnn
"""


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the models of a repository over HTTP",
        description="Serve the models of a repository over HTTP. Every option is also a variable WHYSERVE_<OPTION>.",
        epilog="example: whyserve serve --models models --port 8080",
    )
    for name, field in Settings.model_fields.items():
        flags = dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"])  # KServe writes --model_name
        serve.add_argument(*flags, dest=name, default=None, help=f"{field.description} (default: {field.default})", metavar="VALUE")
    serve.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from service.server import run  # the other commands shall not wait for the server's imports

    options = {name: value for name in Settings.model_fields if (value := getattr(arguments, name)) is not None}
    return run(load_settings(**options))


if __name__ == "__main__":
    sys.exit(main())
