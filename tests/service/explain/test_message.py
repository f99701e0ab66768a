"""Messages to explainers keep tensors as they came, and say how much time is left when they are sent."""

from __future__ import annotations

import time

import numpy as np
import orjson
import pytest

from service.codecs.v2 import InferRequest, decode_request, encode_request
from service.errors import BadParameter, BadRequest
from service.explain.message import Message, message_from, message_of

PIXELS = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)


def asked(timeout: int | None = None) -> tuple[bytes, int | None]:
    parameters: dict[str, str | int] = {"method": "saliency"} | ({} if timeout is None else {"timeout": timeout})
    return encode_request(InferRequest({"x": PIXELS}, id="a", parameters=dict(parameters), binary_default=True))


def whole(message: Message) -> tuple[bytes, int | None]:
    parts, length = message.encode()
    return b"".join(parts), length


def test_tensors_pass_as_the_bytes_that_came():
    body, length = asked(2_000_000)
    message = message_from(body, length, "explain", "cnn", 1, 60)
    assert (message.method, message.instances) == ("saliency", 3)
    again, again_length = whole(message)
    assert again_length is not None
    assert again_length % 8 == 0
    assert again[again_length:] == PIXELS.tobytes()
    decoded = decode_request(again, again_length)
    np.testing.assert_array_equal(decoded.inputs["x"], PIXELS)
    assert (decoded.id, decoded.binary_default) == ("a", True)


def test_the_timeout_is_what_is_left_when_it_is_sent():
    body, length = asked(2_000_000)
    message = message_from(body, length, "explain", "cnn", 1, 60)
    time.sleep(0.1)
    content, found = whole(message)
    assert 0 < int(decode_request(content, found).parameters["timeout"]) <= 1_900_000
    late = Message("explain", "cnn", 1, time.monotonic() - 5, message.header, message.blobs)
    content, found = whole(late)
    assert decode_request(content, found).parameters["timeout"] == 1


def test_without_a_timeout_it_is_the_longest():
    body, length = asked()
    assert 59 < message_from(body, length, "explain", "cnn", 1, 60).left <= 60
    for refused in (61_000_000, 0, -1):
        body, length = asked(refused)
        with pytest.raises(BadParameter, match="timeout"):
            message_from(body, length, "explain", "cnn", 1, 60)


def test_the_same_question_has_the_same_header_whatever_its_timeout():
    """What has ended two explainers is known by it."""
    questions = [
        message_of("explain", "cnn", 1, 0, InferRequest({"x": PIXELS}, parameters={"method": "saliency", "timeout": timeout}))
        for timeout in (1, 2)
    ]
    assert questions[0].header == questions[1].header


def test_a_study_without_tensors_is_its_parameters():
    message = message_of(
        "study", "cnn", 1, time.monotonic() + 5, InferRequest({}, parameters={"parameters": "{}", "model_sha256": "f"}), "layers"
    )
    body, length = whole(message)
    assert length is None
    assert orjson.loads(body).keys() == {"parameters", "model_sha256", "timeout"}
    passed = message_from(body, None, "study", "cnn", 1, 60, "layers")
    assert passed.path == message.path == "/v2/models/cnn/versions/1/study/layers"
    assert passed.parameters == {"parameters": "{}", "model_sha256": "f"}
    with pytest.raises(BadRequest, match="binary"):
        message_from(b'{"inputs": []}', None, "study", "cnn", 1, 60, "layers")
