"""The command `whyserve bench`: whom it measures, and with which requests."""

from __future__ import annotations

import argparse
import base64
import mimetypes
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from service.client import Refused
from service.errors import NotFound

_DESCRIPTION = """Measure a running server, or a bundle behind a server of its own: latency and throughput against concurrency, the knee,
and percentiles with requests arriving by chance at half of the knee. The load generator needs a core for itself."""


def add(commands: Any) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "bench", help="measure a server or a bundle under load", description=_DESCRIPTION,
        epilog="example: whyserve bench mnist-cnn --picture bench.png",
    )  # fmt: skip
    command.add_argument("target", metavar="URL|NAME", help="a running server, e.g. http://127.0.0.1:8080, or a bundle's name")
    command.add_argument("--model", help="with a URL: the model (default: the first that it serves)")
    command.add_argument("--verb", choices=("predict", "explain"), default="predict")
    command.add_argument("--body", type=Path, metavar="FILE", help="what to send (default: the bundle's golden requests, in turn)")
    command.add_argument("--seconds", type=_seconds, default=2.0, help="for each concurrency (default: 2)")
    command.add_argument("--key", help="API key")
    command.add_argument(
        "--models", type=Path, help="model repository, for bundles and golden requests (default: WHYSERVE_MODELS or models)"
    )
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.add_argument("--picture", type=Path, metavar="PNG", help="draw throughput and latency against concurrency there")
    command.set_defaults(run=_run)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds from 0.05 to 3600, got {text!r}")
    return value


def _run(arguments: argparse.Namespace) -> int:
    from service.benching.measure import Level, measured

    picture: Path | None = arguments.picture
    if picture is not None and picture.suffix.lower() != ".png":
        raise Refused(f"--picture {str(picture)!r}: expected a name that ends in .png")
    models = arguments.models or Path(os.environ.get("WHYSERVE_MODELS") or "models")

    def said(level: Level) -> None:
        print(f"concurrency {level.concurrency}: {level.load.rate:.4g} requests/s", file=sys.stderr)

    with _server(arguments, models) as (url, name):
        address, requests = _address(url), _requests(arguments, models, url, name)
        try:
            found = measured(name, arguments.verb, address, requests, arguments.seconds, said)
        except OSError as error:
            raise Refused(f"no answer from {url}: {error}") from None
    if picture is not None:
        from service.benching.picture import drawn

        try:
            picture.write_bytes(drawn(found))
        except OSError as error:
            raise Refused(f"--picture {str(picture)!r}: {error.strerror}") from None
    print(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode() if arguments.json else found.text())
    return 0


@contextmanager
def _server(arguments: argparse.Namespace, models: Path) -> Iterator[tuple[str, str]]:
    """The server's URL and the model's name; a server for a bundle is started, and stopped at the end."""
    target: str = arguments.target
    if "://" in target:
        url = target.rstrip("/")
        yield url, arguments.model or _first(url, _keyed(arguments.key))
        return
    if arguments.model:
        raise Refused("--model goes with a URL; a bundle is named instead of the URL")
    folder = _folder(models, target)
    command = [sys.executable, "-m", "service.cli", "serve", "--host", "127.0.0.1", "--port", "0", "--models", str(folder)]
    command += ["--model-name", target, "--explainers", str(int(arguments.verb == "explain")), "--grace", "0", "--log-level", "error"]
    open_to_all = {name: value for name, value in os.environ.items() if not name.startswith(("WHYSERVE_API_KEYS", "WHYSERVE_ADMIN_KEYS"))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=open_to_all) as process:  # noqa: S603  # ourselves
        try:
            assert process.stdout is not None
            first = process.stdout.readline().split()
            if len(first) < 3:
                raise Refused(f"the server for {target!r} ended with status {process.wait()}")
            yield first[2], target
        finally:
            process.terminate()


def _folder(models: Path, name: str) -> Path:
    """The highest version's folder. Raises NotFound."""
    from service.repository.bundle import find_bundles

    there = list(find_bundles(models))
    found = [location for location in there if location.name == name]
    if not found:
        others = ", ".join(sorted({location.name for location in there})) or "none"
        raise NotFound(f"no model named {name!r} in {str(models)!r}; there are: {others} (a server's URL begins with http://)")
    return max(found, key=lambda at: at.version).folder


def _keyed(key: str | None) -> dict[str, str]:
    return {"x-api-key": key} if key else {}


def _first(url: str, headers: Mapping[str, str]) -> str:
    names = _asked("GET", f"{url}/v1/models", headers).get("models")
    if not names:
        raise Refused(f"{url} serves no model")
    return str(names[0])


def _asked(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> dict[str, Any]:
    """The JSON of one answer. Raises Refused with the server's own words."""
    import httpx

    try:
        response = httpx.request(method, url, headers=dict(headers), content=body, timeout=120)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Refused(f"no answer from {url}: {error}") from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code != 200 or not isinstance(answer, dict):
        words = answer.get("error") if isinstance(answer, dict) else None
        raise Refused(f"{url} answered with status {response.status_code}{f': {words}' if words else ''}")
    return answer


def _address(url: str) -> Any:
    from service.benching.load import Address

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused(f"expected a URL such as http://127.0.0.1:8080, got {url!r}")
    tls = parts.scheme == "https"
    return Address(parts.hostname, parts.port or (443 if tls else 80), tls)


def _requests(arguments: argparse.Namespace, models: Path, url: str, name: str) -> Sequence[bytes]:
    """The requests as bytes, each asked once before: a wrong key, name or body is said at once, in the server's words."""
    from service.benching.load import http_request

    parts = urlsplit(url)
    made = []
    for body, content_type, query in _bodies(arguments.body, models, name):
        path = f"{parts.path}/v1/models/{quote(name)}:{arguments.verb}" + (f"?{urlencode(query)}" if query else "")
        headers = _keyed(arguments.key)
        _asked("POST", f"{parts.scheme}://{parts.netloc}{path}", {**headers, "content-type": content_type}, body)
        made.append(http_request(path, body, content_type, headers, parts.netloc))
    return made


def _bodies(file: Path | None, models: Path, name: str) -> list[tuple[bytes, str, dict[str, str]]]:
    if file is not None:
        try:
            return [(file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream", {})]
        except OSError as error:
            raise Refused(f"--body {str(file)!r}: {error.strerror}") from None
    from service.manifest import GOLDEN_FILE, Golden

    folder = _folder(models, name)
    if not (folder / GOLDEN_FILE).is_file():
        raise Refused(f"the bundle {name!r} has no golden requests: say with --body FILE what to send")
    cases = [case for case in Golden.read(folder).cases if case.verb == "predict"]
    if not cases:
        raise Refused(f"the bundle {name!r} has no golden request that predicts: say with --body FILE what to send")
    return [(base64.b64decode(case.body_b64), case.content_type, case.query) for case in cases]
