"""The V2 wire codec, judged by tritonclient's own encoder and decoder and by bytes written out by hand after the specification."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.http._utils import _get_inference_request

from service.codecs.v2 import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from service.errors import BadInput, BadParameter, BadRequest, UnknownChoice, WhyserveError
from service.manifest import Input

EXAMPLES = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([[0.5, -65504]], np.float16),
    "FP32": np.array([[[1.5, -3.4028235e38], [1e-45, 0.1]]], np.float32),
    "FP64": np.array([0.1, 1.7976931348623157e308], np.float64),
    "BYTES": np.array([[b"caf\xc3\xa9", b""]], dtype=object),
}


def triton_body(inputs, outputs=None, parameters=None, request_id="42"):
    return _get_inference_request(inputs, request_id, outputs, 0, False, False, 0, None, parameters)


def triton_input(name, datatype, array, *, binary):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", EXAMPLES)
def test_reads_what_tritonclient_sends(datatype, binary):
    array = EXAMPLES[datatype]
    second = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = [triton_input("a", datatype, array, binary=binary), triton_input("b", "FP32", second, binary=True)]
    request = decode_request(*triton_body(inputs, parameters={"method": "saliency", "n": 3, "on": True, "t": 0.5}))
    assert request.inputs["a"].dtype == array.dtype
    np.testing.assert_array_equal(request.inputs["a"], array)
    np.testing.assert_array_equal(request.inputs["b"], second)
    assert request.id == "42"
    assert request.parameters == {"method": "saliency", "n": 3, "on": True, "t": 0.5}
    assert request.binary_default


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", EXAMPLES)
def test_tritonclient_reads_what_is_answered(datatype, binary):
    array = EXAMPLES[datatype]
    outputs = (Tensor("y", array), Tensor("z", np.array([1.5], np.float32)))
    response = InferResponse("m", outputs, model_version="3", id="42", parameters={"explanations": "[]"})
    body, header_length = encode_response(response, [RequestedOutput("z", True), RequestedOutput("y", binary)])
    result = triton.InferResult.from_response_body(body, header_length=header_length)
    got = result.as_numpy("y")
    expected = array if binary or datatype != "BYTES" else np.array([[element.decode() for element in array[0]]], dtype=object)
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(result.as_numpy("z"), [1.5])
    answer = result.get_response()
    assert [output["name"] for output in answer["outputs"]] == ["z", "y"]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("m", "3", "42")
    assert answer["parameters"] == {"explanations": "[]"}


@pytest.mark.parametrize("binary", [True, False])
def test_round_trip_of_requests_and_responses(binary):
    request = InferRequest(
        inputs=dict(EXAMPLES), id="7", parameters={"steps": 50}, outputs=(RequestedOutput("y", True), RequestedOutput("z", False))
    )
    again = decode_request(*encode_request(request, binary=binary))
    assert (again.id, again.parameters, again.outputs, again.binary_default) == ("7", {"steps": 50}, request.outputs, False)
    response = InferResponse("m", tuple(Tensor(name, array) for name, array in EXAMPLES.items()))
    answer = decode_response(*encode_response(response, [RequestedOutput(name, binary) for name in EXAMPLES]))
    for name, array in EXAMPLES.items():
        for got in (again.inputs[name], answer.array(name)):
            assert (got.dtype, got.shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(got, array)


def test_own_binary_bodies_are_read_in_place():
    array = np.arange(5, dtype=np.float64)
    body, header_length = encode_request(InferRequest({"x": array}))
    assert header_length is not None
    assert header_length % 8 == 0
    got = decode_request(body, header_length).inputs["x"]
    assert np.shares_memory(got, np.frombuffer(body, np.uint8))
    assert not got.flags.writeable


def test_an_unaligned_blob_is_copied_to_an_aligned_place():
    header = json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}).encode()
    for pad in range(4):
        body = header + b" " * pad + struct.pack("<ff", 1.5, -2.0)
        got = decode_request(body, len(header) + pad).inputs["x"]
        assert got.flags.aligned
        assert got.tolist() == [1.5, -2.0]


def test_the_specifications_own_example_of_binary_data():
    """Triton's extension_binary_data.md: three BYTES elements? No: a UINT32 and a BOOL tensor beside JSON data."""
    header = json.dumps(
        {
            "model_name": "mymodel",
            "inputs": [
                {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "parameters": {"binary_data_size": 16}},
                {"name": "input1", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}},
            ],
            "outputs": [{"name": "output0", "parameters": {"binary_data": True}}, {"name": "output1"}],
        }
    ).encode()
    body = header + bytes.fromhex("01000000 02000000 03000000 04000000") + bytes.fromhex("00 01 00")
    with pytest.raises(BadRequest, match="model_name"):
        decode_request(body, len(header))  # the model is in the path; a member that says otherwise would be passed over silently
    header = header.replace(b'"model_name": "mymodel", ', b"")
    request = decode_request(header + body[-19:], len(header))
    assert request.inputs["input0"].tolist() == [[1, 2], [3, 4]]
    assert request.inputs["input1"].tolist() == [False, True, False]
    assert request.outputs == (RequestedOutput("output0", True), RequestedOutput("output1", False))


def test_bytes_elements_are_length_prefixed():
    header = b'{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":11}}]}'
    body = header + b"\x03\x00\x00\x00abc\x00\x00\x00\x00"
    assert decode_request(body, len(header)).inputs["x"].tolist() == [b"abc", b""]


def test_bf16_is_read_as_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([1.5, -2.0, 3.140625, np.inf], ml_dtypes.bfloat16)
    request = decode_request(*triton_body([triton_input("x", "BF16", values, binary=True)]))
    np.testing.assert_array_equal(request.inputs["x"], values.astype(np.float32))


def test_nan_and_infinity_travel_in_both_forms():
    array = np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)
    request = decode_request(*triton_body([triton_input("x", "FP32", array, binary=True)]))
    np.testing.assert_array_equal(request.inputs["x"], array)
    body, length = encode_response(InferResponse("m", (Tensor("y", array),)), [RequestedOutput("y", False)])
    assert length is None
    assert json.loads(body, parse_constant=pytest.fail)["outputs"][0]["data"] == [1.5, "NaN", "Infinity", "-Infinity"]
    np.testing.assert_array_equal(triton.InferResult.from_response_body(body).as_numpy("y"), array)
    np.testing.assert_array_equal(decode_response(body, None).array("y"), array)


def test_requested_outputs_decide_order_and_form():
    x = triton_input("x", "FP32", np.zeros((1, 1), np.float32), binary=True)
    asked = [triton.InferRequestedOutput("b", binary_data=True), triton.InferRequestedOutput("a", binary_data=False)]
    request = decode_request(*triton_body([x], asked))
    assert request.select(["a", "b", "c"]) == (RequestedOutput("b", True), RequestedOutput("a", False))
    assert decode_request(*triton_body([x])).select(["a", "b"]) == (RequestedOutput("a", True), RequestedOutput("b", True))
    with pytest.raises(UnknownChoice, match=r"unknown output 'a'; there are: q"):
        request.select(["q", "b"])


def test_the_output_flag_wins_over_the_request_flag():
    body = {
        "inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    }
    request = decode_request(json.dumps(body).encode(), None)
    assert request.outputs == (RequestedOutput("a", True), RequestedOutput("b", False))
    assert request.parameters == {}


RAW = {
    "fixed": (Input(name="x", codec="tensor", dtype="float32", shape=(2, 2)), np.arange(4, dtype=np.float32).reshape(1, 2, 2)),
    "variable": (Input(name="x", codec="tensor", dtype="int16", shape=(3, None)), np.arange(12, dtype=np.int16).reshape(1, 3, 4)),
    "element": (Input(name="x", codec="tensor", dtype="string", shape=(1,)), np.array([[b"\x89PNG"]], dtype=object)),
}


@pytest.mark.parametrize("form", RAW)
def test_raw_form(form):
    raw_input, expected = RAW[form]
    body = b"\x89PNG" if raw_input.dtype == "string" else expected.tobytes()
    request = decode_request(body, 0, raw_input)
    np.testing.assert_array_equal(request.inputs["x"], expected)
    assert request.inputs["x"].dtype == expected.dtype
    assert request.select(["y"]) == (RequestedOutput("y", True),)


@pytest.mark.parametrize(
    ("raw_input", "body", "message"),
    [
        (None, b"1234", "one input only"),
        (Input(name="x", codec="tensor", dtype="float32", shape=(2,)), b"1234", r"shape \[1, 2\] of FP32 is 8 bytes, got 4"),
        (Input(name="x", codec="tensor", dtype="float32", shape=(2, None)), b"123456789", "is 8 bytes, got 9"),
        (Input(name="x", codec="tensor", dtype="float32", shape=(None, None)), b"1234", "leaves the shape open"),
        (Input(name="x", codec="tensor", dtype="string", shape=(2,)), b"1234", "one element"),
    ],
)
def test_raw_form_refused(raw_input, body, message):
    with pytest.raises(BadRequest, match=message):
        decode_request(body, 0, raw_input)


def tensor(**changes):
    return {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes


def without_data(**changes):
    return {key: value for key, value in tensor(**changes).items() if key != "data"}


FAULTS = {
    "not json": (b"{", None, BadRequest, "isn't valid JSON"),
    "a bare NaN": (
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}',
        None,
        BadRequest,
        "NaN and Infinity are no JSON",
    ),
    "too deep": (b"[" * 5000, None, BadRequest, "isn't valid JSON"),
    "not utf-8": (b'{"id":"\xff"}', None, BadRequest, "isn't valid JSON"),
    "no object": (b"[]", None, BadRequest, "doesn't fit the protocol"),
    "empty": (b"", None, BadRequest, "isn't valid JSON"),
    "header beyond body": (b"{}", 3, BadRequest, "Inference-Header-Content-Length is 3, the body has 2 bytes"),
    "negative header": (b"{}", -1, BadRequest, "is -1"),
    "no inputs": ({}, 0, BadRequest, "inputs: Field required"),
    "empty inputs": ({"inputs": []}, 0, BadRequest, "inputs: List should have at least 1 item"),
    "unknown member": ({"inputs": [tensor()], "model": "m"}, 0, BadRequest, "model: Extra inputs"),
    "id is no string": ({"inputs": [tensor()], "id": 3}, 0, BadRequest, "id: "),
    "nested parameter": ({"inputs": [tensor()], "parameters": {"steps": [1]}}, 0, BadRequest, "parameters.steps"),
    "flag is no flag": ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, 0, BadParameter, "expected true or false"),
    "shared memory": (
        {"inputs": [without_data(parameters={"shared_memory_region": "r"})]},
        0,
        BadRequest,
        "inputs.0.parameters.shared_memory_region",
    ),
    "same name twice": ({"inputs": [tensor(), tensor()]}, 0, BadRequest, "input 'x' is given twice"),
    "same output twice": ({"inputs": [tensor()], "outputs": [{"name": "y"}, {"name": "y"}]}, 0, BadRequest, "output 'y' is given twice"),
    "unknown datatype": ({"inputs": [tensor(datatype="FP8")]}, 0, UnknownChoice, "unknown datatype of input 'x' 'FP8'; there are: BOOL,"),
    "negative size": ({"inputs": [tensor(shape=[-1])]}, 0, BadRequest, "inputs.0.shape.0"),
    "fractional size": ({"inputs": [tensor(shape=[2.0])]}, 0, BadRequest, "inputs.0.shape.0"),
    "neither form": ({"inputs": [without_data()]}, 0, BadInput, "either data or the parameter binary_data_size, got neither"),
    "both forms": ({"inputs": [tensor(parameters={"binary_data_size": 8})]}, 8, BadInput, "got both"),
    "data too short": ({"inputs": [tensor(data=[1])]}, 0, BadInput, r"got data of shape \[1\], expected \[2\]"),
    "data of another shape": ({"inputs": [tensor(shape=[4], data=[[1, 2], [3, 4]])]}, 0, BadInput, r"got data of shape \[2, 2\]"),
    "data no list": ({"inputs": [tensor(data=3)]}, 0, BadInput, "data must be a list"),
    "ragged": ({"inputs": [tensor(data=[[1], [1, 2]])]}, 0, BadInput, "ragged"),
    "null in data": ({"inputs": [tensor(data=[1, None])]}, 0, BadInput, "int and null, expected numbers"),
    "string in data": ({"inputs": [tensor(data=[1, "2"])]}, 0, BadInput, "got the string '2'"),
    "string of an int type": ({"inputs": [tensor(datatype="INT8", data=[1, "NaN"])]}, 0, BadInput, "got strings"),
    "fraction of an int type": ({"inputs": [tensor(datatype="INT8", data=[1, 1.5])]}, 0, BadInput, "fraction"),
    "int out of range": ({"inputs": [tensor(datatype="UINT8", data=[1, 256])]}, 0, BadInput, "expected 0 to 255"),
    "huge int": ({"inputs": [tensor(datatype="INT64", data=[1, 2**70])]}, 0, BadInput, "expected -9223372036854775808"),
    "float out of range": ({"inputs": [tensor(data=[1, 1e300])]}, 0, BadInput, "beyond the range of float32"),
    "half out of range": ({"inputs": [tensor(datatype="FP16", data=[1, 65536])]}, 0, BadInput, "beyond the range of float16"),
    "bool of 2": ({"inputs": [tensor(datatype="BOOL", data=[1, 2])]}, 0, BadInput, "true or false"),
    "bytes of numbers": ({"inputs": [tensor(datatype="BYTES")]}, 0, BadInput, "must be strings"),
    "bytes of null": ({"inputs": [tensor(datatype="BYTES", data=["a", None])]}, 0, BadInput, "must be strings"),
    "bf16 as json": ({"inputs": [tensor(datatype="BF16")]}, 0, BadInput, "BF16 has no JSON form"),
    "blob shorter than said": (
        {"inputs": [without_data(parameters={"binary_data_size": 8})]},
        4,
        BadInput,
        "binary_data_size is 8, 4 bytes are left",
    ),
    "blob longer than said": (
        {"inputs": [without_data(parameters={"binary_data_size": 8})]},
        9,
        BadInput,
        "9 bytes follow the JSON header",
    ),
    "blob of another shape": (
        {"inputs": [without_data(parameters={"binary_data_size": 4})]},
        4,
        BadInput,
        r"shape \[2\] of FP32 is 8 bytes, got 4",
    ),
    "huge shape": (
        {"inputs": [without_data(shape=[2**40, 2**40], parameters={"binary_data_size": 4})]},
        4,
        BadInput,
        "bytes, got 4",
    ),
    "huge shape of bytes": (
        {"inputs": [without_data(shape=[2**40], datatype="BYTES", parameters={"binary_data_size": 4})]},
        4,
        BadInput,
        "need at least",
    ),
    "element beyond the blob": (
        {"inputs": [without_data(shape=[1], datatype="BYTES", parameters={"binary_data_size": 5})]},
        b"\x09\x00\x00\x00a",
        BadInput,
        "element 0 says 9 bytes, 1 are left",
    ),
    "rest behind the elements": (
        {"inputs": [without_data(shape=[1], datatype="BYTES", parameters={"binary_data_size": 6})]},
        b"\x01\x00\x00\x00ab",
        BadInput,
        "1 bytes are left behind",
    ),
    "length cut off": (
        {"inputs": [without_data(shape=[2], datatype="BYTES", parameters={"binary_data_size": 8})]},
        b"\x02\x00\x00\x00abcd",
        BadInput,
        "end within the length of element 1 of 2",
    ),
    "bool byte of 2": (
        {"inputs": [without_data(datatype="BOOL", parameters={"binary_data_size": 2})]},
        b"\x01\x02",
        BadInput,
        "a BOOL byte is 2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_requests_say_what_was_expected(fault):
    document, blob, error, message = FAULTS[fault]
    if isinstance(document, bytes):
        body, header_length = document, blob
    else:
        header = json.dumps(document).encode()
        blob = bytes(blob) if isinstance(blob, int) else blob
        body, header_length = header + blob, len(header) if blob else None
    with pytest.raises(error, match=message):
        decode_request(body, header_length)


def test_every_cut_of_a_binary_body_is_an_error():
    """Truncation anywhere is told apart from a whole request: no traceback but the project's errors."""
    inputs = [triton_input("a", "BYTES", EXAMPLES["BYTES"], binary=True), triton_input("b", "FP32", EXAMPLES["FP32"], binary=True)]
    body, header_length = triton_body(inputs)
    for length in range(1, len(body)):
        with pytest.raises(WhyserveError):
            decode_request(body[:length], header_length)


def test_output_bytes_that_are_no_text_need_the_binary_form():
    response = InferResponse("m", (Tensor("y", np.array([b"\xff"], dtype=object)),))
    with pytest.raises(BadInput, match="binary_data_output"):
        encode_response(response, [RequestedOutput("y", False)])


def test_a_response_may_hold_what_is_not_known_here():
    body = {"model_name": "m", "new": 1, "outputs": [{"name": "y", "shape": [1], "datatype": "INT8", "data": [3], "parameters": {"z": 1}}]}
    assert decode_response(json.dumps(body).encode(), None).array("y").tolist() == [3]
