"""Bad input against the live server: each row of the contract's error table; and clients that hang up."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from support import BUNDLES, Bundle, Server, bundle_named, digit, is_error, png

PICTURES = bundle_named("mnist-cnn")
TABLES = bundle_named("wine-perceptron")
TEXTS = bundle_named("sst2-gru")
JSON = {"content-type": "application/json"}
ROW = TABLES.instance()
MIB = 2**20


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def image_bomb(side: int = 30_000) -> bytes:
    """A valid PNG (ISO/IEC 15948) of side x side grey zeros: 900 million pixels in under 1 MB."""
    deflate = zlib.compressobj(9)
    line = bytes(side + 1)
    packed = b"".join(deflate.compress(line) for _ in range(side)) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


BOMB = image_bomb()


def post(client: httpx.Client, bundle: Bundle, verb: str = "predict", body: Any = None, **options: Any) -> httpx.Response:
    if body is not None:
        options |= {"content": body if isinstance(body, bytes) else json.dumps(body).encode(), "headers": JSON | options.get("headers", {})}
    return client.post(f"{bundle.v1}:{verb}", **options)


def raw(client: httpx.Client, bundle: Bundle, body: bytes, content_type: str, verb: str = "predict", **options: Any) -> httpx.Response:
    return client.post(f"{bundle.v1}:{verb}", content=body, headers={"content-type": content_type} | options.pop("headers", {}), **options)


# ----------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("kept", [4, 20, 33, 100, -40])
def test_a_truncated_png(client: httpx.Client, kept: int):
    is_error(raw(client, PICTURES, png(digit(0))[:kept], "image/png"), 400, "picture")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_other_truncated_pictures(client: httpx.Client, kind: str):
    whole = png(Image.fromarray(digit(0)).resize((100, 100)), kind)
    is_error(raw(client, PICTURES, whole[: len(whole) // 2], f"image/{kind.lower()}"), 400, "damaged or truncated")


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_an_image_bomb_is_refused_by_its_header(client: httpx.Client, server: Server, verb: str):
    assert len(BOMB) < MIB
    before = psutil.Process(server.process.pid).memory_info().rss
    started = time.monotonic()
    is_error(raw(client, PICTURES, BOMB, "image/png", verb), 413, "30000 x 30000", "WHYSERVE_MAX_PIXELS")
    is_error(post(client, PICTURES, verb, {"instances": [{"b64": base64.b64encode(BOMB).decode()}]}), 413, "MAX_PIXELS")
    assert time.monotonic() - started < 5
    assert psutil.Process(server.process.pid).memory_info().rss - before < 30 * MIB


def test_no_picture_at_all(client: httpx.Client):
    is_error(raw(client, PICTURES, b"<svg/>", "image/svg+xml"), 400, "PNG, JPEG")
    is_error(post(client, PICTURES, body={"instances": [{"b64": "aGVsbG8="}]}), 400, "PNG, JPEG")
    is_error(post(client, PICTURES, body={"instances": [{"b64": "%%%"}]}), 400, "base64")
    is_error(post(client, PICTURES, body={"instances": ["hello"]}), 400, "image")


def test_a_tensor_of_another_channel_count(client: httpx.Client):
    is_error(post(client, PICTURES, body={"instances": [np.zeros((3, 28, 28)).tolist()]}), 400, "[3, 28, 28]", "[1, 28, 28]")
    is_error(post(client, PICTURES, body={"instances": [np.zeros((28, 28)).tolist()]}), 400, "[28, 28]", "[1, 28, 28]")
    is_error(post(client, PICTURES, body={"instances": [np.zeros((1, 28, 27)).tolist()]}), 400, "[1, 28, 27]")


# -------------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_an_empty_text(client: httpx.Client, verb: str):
    is_error(raw(client, TEXTS, b"", "text/plain", verb), 400, "empty")
    is_error(raw(client, TEXTS, b" \n\t ", "text/plain", verb), 400, "empty")
    for text in ("", "   ", "\u200b"):
        response = post(client, TEXTS, verb, {"instances": [text]})
        assert response.status_code in (400, 200) if text == "\u200b" else response.status_code == 400, response.text


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_text_of_100_000_words(client: httpx.Client, verb: str):
    text = "word " * 100_000
    is_error(raw(client, TEXTS, text.encode(), "text/plain", verb), 413, "WHYSERVE_MAX_CHARACTERS", "100000")
    is_error(post(client, TEXTS, verb, {"instances": [text]}), 413, "WHYSERVE_MAX_CHARACTERS")


def test_bytes_that_are_no_text(client: httpx.Client):
    is_error(raw(client, TEXTS, b"\xff\xfe\xfd", "text/plain"), 400, "UTF-8", "byte 0")
    is_error(post(client, TEXTS, body=b'{"instances":["\\ud800"]}'), 400)
    is_error(post(client, TEXTS, body={"instances": [17.5]}), 400)
    is_error(post(client, TEXTS, body={"instances": [None]}), 400)


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize("wrong", [9_999_999, -1])
def test_token_ids_that_the_vocabulary_lacks(client: httpx.Client, verb: str, wrong: int):
    is_error(post(client, TEXTS, verb, {"instances": [[5, wrong]]}), 400, str(wrong), "expected 0 to")


# ------------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_no_number_in_json(client: httpx.Client, word: str):
    body = json.dumps({"instances": [ROW]}).replace(json.dumps(ROW[0]), word, 1).encode()
    is_error(post(client, TABLES, body=body), 400, "JSON")


@pytest.mark.parametrize("value", ["NaN", "Infinity", None, True, "hello", {}, [], [1.0], 1e39])
def test_a_value_that_is_no_float32(client: httpx.Client, value: Any):
    is_error(post(client, TABLES, body={"instances": [[value, *ROW[1:]]]}), 400)


def test_ragged_lists_and_wrong_shapes(client: httpx.Client):
    is_error(post(client, PICTURES, body={"instances": [[[[1, 2], [3]]]]}), 400, "ragged")
    is_error(post(client, TABLES, body={"instances": [ROW, ROW[:-1]]}), 400, "11")
    is_error(post(client, TABLES, body={"instances": [[ROW]]}), 400, "11")
    is_error(post(client, TABLES, body={"instances": [7]}), 400)
    is_error(post(client, TABLES, body={"instances": [{"alcohol": 3}]}), 400, "fixed acidity")
    is_error(post(client, TABLES, body={"instances": [dict.fromkeys(["nope", "alcohol"], 1)]}), 400)
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    for bundle in BUNDLES:
        is_error(post(client, bundle, body={"instances": [deep]}), 400)
    is_error(post(client, TABLES, body=b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 400, "JSON")


# --------------------------------------------------------------------------------------------------------- bodies and forms


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON"),
        (b"null", "object"),
        (b'{"instances":[]}', "at least one"),
        (b'{"instances":3}', "list"),
        (b"{}", "instances"),
        (b'{"instances":[1],"inputs":[1]}', "either"),
        (b'{"instances":[1],"nope":1}', "nope"),
        (b'{"instances":[1],"parameters":[1]}', "parameters"),
        (b"\xff\xff", "JSON"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_json_that_is_no_request(client: httpx.Client, verb: str, body: bytes, words: str):
    is_error(post(client, TABLES, verb, body), 400, words)


def test_an_empty_body(client: httpx.Client):
    for bundle in BUNDLES:
        for verb in ("predict", "explain"):
            for content_type in ("application/json", "", "image/png", "text/plain"):
                is_error(raw(client, bundle, b"", content_type, verb), 400, "empty")


def test_media_types_that_are_not_served(client: httpx.Client):
    is_error(raw(client, TABLES, b"<a/>", "application/xml"), 415, "application/json")
    is_error(raw(client, TABLES, png(digit(0)), "image/png"), 415)
    is_error(raw(client, TEXTS, png(digit(0)), "image/png"), 415, "text")
    is_error(raw(client, PICTURES, b"hello", "text/plain"), 415, "picture")
    is_error(raw(client, PICTURES, b"hello", ""), 415, "picture")
    is_error(raw(client, PICTURES, b"RIFF0000WAVEfmt ", "audio/wav"), 415)
    is_error(raw(client, TABLES, b"x", "application/json", headers={"content-encoding": "br"}), 415, "gzip")


def test_answers_that_cannot_be_produced(client: httpx.Client):
    body = {"instances": [ROW]}
    is_error(post(client, TABLES, body=body, headers={"accept": "image/png"}), 406, "application/json")
    is_error(post(client, TABLES, "explain", body, headers={"accept": "application/pdf"}), 406, "text/html")
    is_error(post(client, TEXTS, "explain", {"instances": ["fun"]}, headers={"accept": "image/png"}), 406, "text/html")
    is_error(post(client, TABLES, body=body, headers={"accept": "application/json;q=0"}), 406)
    assert post(client, TABLES, body=body, headers={"accept": "text/html;q=0.9, application/*;q=0.2"}).status_code == 200


def test_multipart_that_is_none(client: httpx.Client):
    is_error(raw(client, PICTURES, b"rubbish", "multipart/form-data"), 400, "boundary")
    is_error(raw(client, PICTURES, b"--B\r\nrubbish", "multipart/form-data; boundary=B"), 400)
    is_error(client.post(f"{PICTURES.v1}:predict", files={"a": ("a.png", b"", "image/png")}), 400)
    is_error(client.post(f"{PICTURES.v1}:predict", files={"a": ("a.png", png(digit(0)), "image/png")}, data={"nope": "1"}), 400, "nope")


# --------------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("verb", "parameters", "words"),
    [
        ("predict", {"nope": 1}, ("nope", "top_k")),
        ("predict", {"top_k": 0}, ("top_k",)),
        ("predict", {"top_k": "many"}, ("top_k", "many")),
        ("explain", {"nope": 1}, ("nope", "tolerance", "seed")),
        ("explain", {"method": "magic"}, ("magic", "integrated_gradients")),
        ("explain", {"target": "excellent"}, ("excellent", "very good")),
        ("explain", {"target": 3}, ("3", "0 to 2")),
        ("explain", {"target": -4}, ("-4",)),
        ("explain", {"target": [0, 0]}, ("target",)),
        ("explain", {"target": {"nope": 1}}, ("target",)),
        ("explain", {"target": 0, "targets": [0]}, ("exclude",)),
        ("explain", {"targets": [0, 1]}, ("2 targets",)),
        ("explain", {"targets": []}, ("target",)),
        ("explain", {"steps": 10, "tolerance": 0.1}, ("exclude",)),
        ("explain", {"steps": 0}, ("steps",)),
        ("explain", {"steps": 1001}, ("steps", "1000")),
        ("explain", {"steps": 2.5}, ("steps",)),
        ("explain", {"tolerance": 0}, ("tolerance",)),
        ("explain", {"tolerance": -1}, ("tolerance",)),
        ("explain", {"timeout": 0}, ("timeout",)),
        ("explain", {"timeout": 3600}, ("timeout", "WHYSERVE_TIMEOUT")),
        ("explain", {"seed": -1}, ("seed",)),
        ("explain", {"output": "nope"}, ("nope", "logits")),
        ("explain", {"explained": "nope"}, ("explained",)),
        ("explain", {"explained": "value"}, ("logit", "probability")),
        ("explain", {"baseline": "nope"}, ("nope", "zero")),
        ("explain", {"baseline": [1, 2]}, ("baseline",)),
        ("explain", {"baseline": {"nope": 1}}, ("nope",)),
        ("explain", {"coordinates": "nope"}, ("coordinates",)),
        ("explain", {"method": "saliency", "steps": 5}, ("steps",)),
    ],
)
def test_parameters_that_do_not_exist_or_fit(client: httpx.Client, verb: str, parameters: dict[str, Any], words: tuple[str, ...]):
    is_error(post(client, TABLES, verb, {"instances": [ROW], "parameters": parameters}), 400, *words)


@pytest.mark.parametrize("baseline", [1e308, -1e308, "NaN", "inf", "1e400", [0] * 3, [9_999_999] * 12])
def test_baselines_that_are_none(client: httpx.Client, baseline: Any):
    for bundle in (TEXTS, TABLES):
        body = {"instances": [bundle.instance()], "parameters": {"baseline": baseline}}
        is_error(post(client, bundle, "explain", body), 400)


def test_the_same_from_a_query(client: httpx.Client):
    is_error(raw(client, TEXTS, b"fun", "text/plain", "explain", params={"target": "grand"}), 400, "grand", "positive")
    is_error(raw(client, TEXTS, b"fun", "text/plain", "explain", params={"steps": "ten"}), 400, "steps", "ten")
    is_error(raw(client, TEXTS, b"fun", "text/plain", "explain", params={"baseline": "[1,"}), 400, "baseline")
    is_error(raw(client, TEXTS, b"fun", "text/plain", params={"colour": "red"}), 400, "colour")


# ------------------------------------------------------------------------------------------------------------ names, methods


@pytest.mark.parametrize("verb", ["predict", "explain", "generate"])
def test_an_unknown_model_or_version(client: httpx.Client, verb: str):
    body = {"instances": [ROW]}
    is_error(client.post(f"/v1/models/nope:{verb}", json=body), 404, "nope", "wine-perceptron")
    for version in ("9", "0", "-1", "x", "1.0", "01", "9" * 5000):
        is_error(client.post(f"{TABLES.v1}/versions/{version}:{verb}", json=body), 404, "there are: 1")
    is_error(client.post(f"/v1/models/..%2f..%2fetc:{verb}", json=body), 404)


def test_paths_that_do_not_exist(client: httpx.Client):
    for path in ("/", "/nope", "/v1", "/v1/models/nope", "/v1/models/nope/methods", f"{TABLES.v1}/versions/7", "/v2/models/nope"):
        is_error(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{TABLES.v1}:predict"),
        ("GET", f"{TABLES.v1}:explain"),
        ("GET", f"{TABLES.v1}/versions/1:predict"),
        ("DELETE", f"{TABLES.v1}:predict"),
        ("PATCH", f"{TABLES.v1}:generate"),
        ("POST", "/v1/models"),
        ("GET", f"/v2/models/{TABLES.name}/infer"),
        ("PUT", f"/v2/models/{TABLES.name}/infer"),
        ("GET", "/v2/repository/index"),
        ("GET", f"/predictions/{TABLES.name}"),
        ("POST", "/metrics"),
        ("DELETE", "/v2/health/ready"),
    ],
)
def test_methods_that_are_not_allowed(client: httpx.Client, method: str, path: str):
    response = client.request(method, path)
    is_error(response, 405, method)
    assert response.headers["allow"]


# ------------------------------------------------------------------------------------------------------------------- limits


def test_too_many_instances(client: httpx.Client):
    is_error(post(client, TABLES, body={"instances": [ROW] * 257}), 413, "257", "256", "WHYSERVE_MAX_INSTANCES")
    assert len(post(client, TABLES, body={"instances": [ROW] * 256}).json()["predictions"]) == 256
    files = [("f", ("a.png", png(digit(0)), "image/png"))] * 257
    is_error(client.post(f"{PICTURES.v1}:predict", files=files), 413, "WHYSERVE_MAX_INSTANCES")


def request_head(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_body_above_the_limit_by_its_declared_length(server: Server):
    """Answered from the header alone: nothing of the body was sent."""
    with socket.create_connection(("127.0.0.1", server.port()), 10) as connection:
        connection.sendall(request_head(f"{TABLES.v1}:predict", 64 * MIB + 1))
        answer = b""
        while b"}" not in answer:
            received = connection.recv(65536)
            assert received, answer
            answer += received
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"WHYSERVE_MAX_BODY_MIB" in answer


def test_a_body_above_the_limit_once_it_is_unpacked(client: httpx.Client, server: Server):
    bomb = gzip.compress(bytes(65 * MIB), 9)
    assert len(bomb) < MIB
    # Once a large block was freed, by whatever request came before, glibc keeps up to 64 MiB for the next one: filled here first.
    is_error(raw(client, TABLES, bomb, "application/json", headers={"content-encoding": "gzip"}), 413, "WHYSERVE_MAX_BODY_MIB")
    before = psutil.Process(server.process.pid).memory_info().rss
    is_error(raw(client, TABLES, bomb, "application/json", headers={"content-encoding": "gzip"}), 413, "WHYSERVE_MAX_BODY_MIB")
    is_error(raw(client, TABLES, b"rubbish", "application/json", headers={"content-encoding": "gzip"}), 400, "gzip")
    time.sleep(0.2)
    assert psutil.Process(server.process.pid).memory_info().rss - before < 30 * MIB


def test_the_process_stays_up_and_its_memory_flat(client: httpx.Client, server: Server):
    """200 bad requests of every kind above, after a first round that fills the allocator's pools."""
    text = ("word " * 100_000).encode()
    kinds: list[Callable[[], httpx.Response]] = [
        lambda: raw(client, PICTURES, png(digit(0))[:60], "image/png"),
        lambda: raw(client, PICTURES, BOMB, "image/png"),
        lambda: raw(client, PICTURES, png(Image.new("L", (2000, 2000)))[:-30], "image/png"),
        lambda: post(client, PICTURES, body={"instances": [np.zeros((3, 28, 28)).tolist()]}),
        lambda: raw(client, TEXTS, text, "text/plain"),
        lambda: raw(client, TEXTS, b"", "text/plain"),
        lambda: post(client, TABLES, body=b'{"instances":[[NaN]]}'),
        lambda: post(client, TABLES, body={"instances": [[1], [1, [2]]]}),
        lambda: post(client, TABLES, "explain", {"instances": [ROW], "parameters": {"target": "nope"}}),
        lambda: raw(client, TABLES, b"<a/>", "application/xml"),
        lambda: client.post("/v1/models/nope:predict", json={"instances": [ROW]}),
        lambda: raw(client, TABLES, b"\x1f\x8b rubbish", "application/json", headers={"content-encoding": "gzip"}),
    ]
    for kind in kinds:
        assert 400 <= kind().status_code < 500
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    for number in range(200):
        assert 400 <= kinds[number % len(kinds)]().status_code < 500
    assert process.memory_info().rss - before < 30 * MIB
    assert post(client, TABLES, body={"instances": [ROW]}).status_code == 200
    assert "Traceback" not in server.log.read_text()


# ------------------------------------------------------------------------------------------------------------------ hang-up


def counted(client: httpx.Client, name: str, **labels: str) -> float:
    """A series of the metrics page, 0 where it isn't there yet."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + "{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_a_client_that_hangs_up_cancels_its_explanation(client: httpx.Client, server: Server):
    assert post(client, TEXTS, "explain", {"instances": ["fun"]}).status_code == 200  # the explainer is there
    labels = {"model_name": TEXTS.name, "operation": "explain", "outcome": "cancelled"}
    before = counted(client, "whyserve_requests_total", **labels)
    body = json.dumps({"instances": [f"{number} a very long film " * 20 for number in range(200)], "parameters": {"steps": 1000}}).encode()
    head = request_head(f"{TEXTS.v1}:explain", len(body))
    connection = socket.create_connection(("127.0.0.1", server.port()), 10)
    connection.sendall(head + body)
    wait_for(lambda: counted(client, "whyserve_pending_requests", model_name=TEXTS.name, operation="explain") == 1)
    connection.close()
    wait_for(lambda: counted(client, "whyserve_requests_total", **labels) == before + 1)
    # Nobody computes for no one: the explainer, which would be busy for minutes, answers the next one.
    started = time.monotonic()
    assert post(client, TEXTS, "explain", {"instances": ["fun"]}).status_code == 200
    assert time.monotonic() - started < 15


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.05)


def test_outcomes_are_counted(client: httpx.Client):
    labels = {"model_name": TABLES.name, "model_version": "1", "operation": "predict"}
    ok, bad = (counted(client, "whyserve_requests_total", **labels, outcome=outcome) for outcome in ("ok", "client_error"))
    post(client, TABLES, body={"instances": [ROW]})
    post(client, TABLES, body={"instances": [3]})
    assert counted(client, "whyserve_requests_total", **labels, outcome="ok") == ok + 1
    assert counted(client, "whyserve_requests_total", **labels, outcome="client_error") == bad + 1
    assert counted(client, "whyserve_pending_requests", **{k: v for k, v in labels.items() if k != "model_version"}) == 0
