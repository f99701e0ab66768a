"""The commands that ask a server: `models`, `predict`, `explain`. Without `--url` the server runs inside the command."""

from __future__ import annotations

import argparse
import asyncio
import mimetypes
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from service.errors import WhyserveError
from service.settings import Settings, load_settings

if TYPE_CHECKING:
    import httpx


_FORMS = {".png": "image/png", ".html": "text/html", ".json": "application/json"}
"""What `explain --output` writes, by the file's suffix."""


class Refused(WhyserveError):
    """The server's own words."""

    code = "refused"


def add(commands: Any) -> None:
    """Adds the three commands."""
    models = commands.add_parser("models", help="list the models and their states", epilog="example: whyserve models --models models")
    predict = commands.add_parser("predict", help="predict one instance", epilog="example: whyserve predict mnist-cnn digit.png")
    explain = commands.add_parser(
        "explain", help="predict one instance and say why", epilog="example: whyserve explain mnist-cnn digit.png --output why.png"
    )
    for command in (predict, explain):
        command.add_argument("model", help="name, or name/version")
        command.add_argument("instance", help="a file (picture, sound, text, JSON request), - for standard input, or the text itself")
        command.add_argument(
            "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="e.g. target=7 (may be given several times)"
        )
    explain.add_argument(
        "-o", "--output", type=Path, help="write the picture (.png), the page (.html) or the JSON (.json) of the answer there"
    )
    for command, run in ((models, _models), (predict, _predict), (explain, _explain)):
        command.add_argument("--url", help="ask this server, e.g. http://127.0.0.1:8080 (default: serve --models inside this command)")
        command.add_argument("--models", type=Path, help="model repository (default: WHYSERVE_MODELS or models)")
        command.add_argument("--key", help="API key for --url")
        command.set_defaults(run=run)


def _models(arguments: argparse.Namespace) -> int:
    async def ask(client: httpx.AsyncClient) -> None:
        index = _checked(await client.post("/v2/repository/index")).json()
        for entry in index:
            print(f"{entry['name']}  version {entry['version']}  {entry['state']}{'  ' + entry['reason'] if entry['reason'] else ''}")

    return asyncio.run(_with_server(arguments, ask, explainers=0))


def _predict(arguments: argparse.Namespace) -> int:
    async def ask(client: httpx.AsyncClient) -> None:
        answer = _checked(await _send(client, arguments, "predict", "application/json")).json()
        for prediction in answer["predictions"]:
            print(orjson.dumps(prediction, option=orjson.OPT_INDENT_2).decode())

    return asyncio.run(_with_server(arguments, ask, explainers=0))


def _explain(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    answer: list[httpx.Response] = []
    accept = _FORMS[_suffix(output)] if output else "application/json"

    async def ask(client: httpx.AsyncClient) -> None:
        answer.append(_checked(await _send(client, arguments, "explain", accept)))

    status = asyncio.run(_with_server(arguments, ask, explainers=1))
    if output:
        _write(output, answer[0].content)
        print(f"wrote {output}")
    elif sys.stdout.isatty() and (text := _as_terminal_text(answer[0].json(), arguments.instance)):
        print(text)
    else:
        print(orjson.dumps(answer[0].json(), option=orjson.OPT_INDENT_2).decode())
    return status


def _suffix(output: Path) -> str:
    suffix = output.suffix.lower()
    if suffix not in _FORMS:
        raise Refused(f"--output {str(output)!r}: expected a name that ends in {', '.join(_FORMS)}")
    return suffix


def _write(output: Path, content: bytes) -> None:
    try:
        output.write_bytes(content)
    except OSError as error:
        raise Refused(f"--output {str(output)!r}: {error.strerror}") from None


def _as_terminal_text(answer: dict[str, Any], instance: str) -> str:
    """The explanation coloured for the terminal; empty where there are several instances."""
    from service.explain.render.terminal import render_terminal

    body, content_type = _read(instance) if instance != "-" else (b"", "")
    return render_terminal(body.decode("utf-8", "replace") if content_type == "text/plain" else "", answer)


async def _send(client: httpx.AsyncClient, arguments: argparse.Namespace, verb: str, accept: str) -> httpx.Response:
    name, _, version = arguments.model.partition("/")
    body, content_type = _read(arguments.instance)
    pairs = [parameter.partition("=") for parameter in arguments.parameter]
    path = f"/v1/models/{name}" + (f"/versions/{version}" if version else "") + f":{verb}"
    headers = {"content-type": content_type, "accept": accept} | ({"x-api-key": arguments.key} if arguments.key else {})
    return await client.post(path, content=body, params={key: value for key, _, value in pairs}, headers=headers)


def _read(instance: str) -> tuple[bytes, str]:
    """Body and Content-Type of what the user named: standard input, a file, or else the text itself."""
    if instance == "-":
        return sys.stdin.buffer.read(), "application/octet-stream"
    path = Path(instance)
    if _is_file(path):
        try:
            return path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        except OSError as error:
            raise Refused(f"file {instance!r}: {error.strerror}") from None
    if len(instance) < 256 and path.suffix and " " not in instance:
        raise Refused(f"no file {instance!r}")
    return instance.encode(errors="surrogateescape"), "text/plain"  # the bytes as the shell passed them on


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text is longer than names may be
        return False


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code != 200:
        try:
            raise Refused(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            raise Refused(f"the server answered with status {response.status_code}") from None
    return response


async def _with_server(arguments: argparse.Namespace, ask: Any, explainers: int) -> int:
    import httpx

    if arguments.url:
        try:
            async with httpx.AsyncClient(base_url=arguments.url, timeout=120) as client:
                await ask(client)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Refused(f"no answer from {arguments.url}: {error}") from None
        return 0
    options = {"models": arguments.models} if arguments.models else {}
    async with _server_inside(load_settings(**options, explainers=explainers, api_keys=(), api_keys_file=None)) as client:
        await ask(client)
    return 0


@asynccontextmanager
async def _server_inside(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The app without a port, its models loaded."""
    import httpx

    from service.app import create_app

    ready = asyncio.Event()
    app = create_app(settings, on_ready=lambda _: ready.set())
    async with app.router.lifespan_context(app):
        await ready.wait()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=settings.timeout + 5) as client:
            yield client
