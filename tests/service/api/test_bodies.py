"""Bodies of every kind become the same instances; what is wrong is said with what was expected."""

import base64
import gzip
import zlib

import pytest

from service.api.bodies import BodyLimits, HungUp, parse_body, read_body
from service.errors import BadInput, BadRequest, TooLarge, UnsupportedMediaType
from service.manifest import ImagePolicy, Input, TextPolicy

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"
IMAGE = Input(name="image", codec="image", dtype="float32", shape=(1, 2, 2), image=ImagePolicy(height=2, width=2, channels=1))
TEXT = Input(name="tokens", codec="text", dtype="int64", shape=(None,), text=TextPolicy(max_length=9))
TENSOR = Input(name="x", codec="tensor", dtype="float32", shape=(2,))
CLASS = Input(name="class", codec="tensor", dtype="int64", shape=(), labels=("a", "b"))
LIMITS = BodyLimits(max_bytes=10_000, max_instances=3)


async def parse(body, content_type, inputs=(TENSOR,), query=None, **options):
    return await parse_body(body, content_type, query or {}, inputs, LIMITS, **options)


async def test_json_instances_and_parameters():
    parsed = await parse(b'{"instances":[[1,2],[3,4]],"parameters":{"top_k":2}}', "application/json", query={"top_k": "9", "seed": "1"})
    assert parsed.instances == [{"x": [1, 2]}, {"x": [3, 4]}]
    assert parsed.parameters == {"top_k": 2, "seed": "1"}


@pytest.mark.parametrize("field", ["instances", "inputs"])
@pytest.mark.parametrize("key", ["b64", "data"])
async def test_json_encoded_values(field: str, key: str):
    body = f'{{"{field}":[{{"{key}":"{base64.b64encode(PNG).decode()}"}}]}}'.encode()
    assert (await parse(body, "application/json; charset=utf-8", (IMAGE,))).instances == [{"image": PNG}]


async def test_json_data_urls_are_understood():
    body = f'{{"instances":[{{"b64":"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}]}}'.encode()
    assert (await parse(body, "application/json", (IMAGE,))).instances == [{"image": PNG}]


async def test_several_inputs_go_by_name():
    body = f'{{"instances":[{{"image":{{"b64":"{base64.b64encode(PNG).decode()}"}},"class":"b"}}]}}'.encode()
    assert (await parse(body, "application/json", (IMAGE, CLASS))).instances == [{"image": PNG, "class": "b"}]
    with pytest.raises(BadInput, match="object with the inputs"):
        await parse(b'{"instances":[3]}', "application/json", (IMAGE, CLASS))


@pytest.mark.parametrize("content_type", ["image/png", "", "application/octet-stream", "application/x-www-form-urlencoded"])
async def test_a_raw_picture_is_one_instance_and_the_query_its_parameters(content_type: str):
    parsed = await parse(PNG, content_type, (IMAGE,), {"top_k": "3"})
    assert (parsed.instances, parsed.parameters) == ([{"image": PNG}], {"top_k": "3"})


async def test_a_raw_body_takes_the_other_inputs_from_the_query():
    parsed = await parse(PNG, "image/png", (IMAGE, CLASS), {"class": "1", "seed": "2"})
    assert (parsed.instances, parsed.parameters) == ([{"image": PNG, "class": 1}], {"seed": "2"})


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=utf-8", "", "application/x-www-form-urlencoded"])
async def test_a_raw_text(content_type: str):
    assert (await parse("Größe".encode(), content_type, (TEXT,))).instances == [{"tokens": "Größe".encode()}]


async def test_json_without_a_type_is_recognised():
    assert (await parse(b' {"instances":[[1,2]]}', "")).instances == [{"x": [1, 2]}]


def multipart(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    body = b""
    for name, filename, content in parts:
        file = f'; filename="{filename}"' if filename else ""
        body += f'--B\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--B--\r\n", "multipart/form-data; boundary=B"


async def test_multipart_files_are_instances_and_fields_parameters():
    body, kind = multipart(("a", "a.png", PNG), ("b", "b.png", PNG + b"2"), ("top_k", None, b"2"))
    parsed = await parse(body, kind, (IMAGE,))
    assert parsed.instances == [{"image": PNG}, {"image": PNG + b"2"}]
    assert parsed.parameters == {"top_k": "2"}


async def test_multipart_parts_named_as_inputs_are_the_inputs_of_one_instance():
    body, kind = multipart(("image", "a.png", PNG), ("class", None, b"b"), ("seed", None, b"1"))
    parsed = await parse(body, kind, (IMAGE, CLASS))
    assert (parsed.instances, parsed.parameters) == ([{"image": PNG, "class": "b"}], {"seed": "1"})


async def test_a_text_field_stays_a_text():
    body, kind = multipart(("tokens", None, b"7"))
    assert (await parse(body, kind, (TEXT,))).instances == [{"tokens": "7"}]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters":{"n":2}}', b'{"instances":[]}'])
async def test_generate_needs_no_instance(body: bytes):
    parsed = await parse(body, "application/json" if body else "", (TENSOR,), may_be_none=True)
    assert parsed.instances == []


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", "application/json", "empty"),
        (b"{", "application/json", "no valid JSON"),
        (b'{"instances":[[NaN,1]]}', "application/json", "NaN"),
        (b"[1]", "application/json", "got a list"),
        (b"{}", "application/json", '"instances"'),
        (b'{"instances":[]}', "application/json", "at least one"),
        (b'{"instances":7}', "application/json", "got a number"),
        (b'{"instances":[[1,2]],"inputs":[[1,2]]}', "application/json", "either"),
        (b'{"instances":[[1,2]],"parameters":[1]}', "application/json", "parameters"),
        (b'{"instances":[[1,2]],"params":{}}', "application/json", "'params'"),
        (b'{"instances":[{"b64":"%%%"}]}', "application/json", "base64"),
        (b"x", "multipart/form-data", "boundary"),
        (b"--B\r\nrubbish", "multipart/form-data; boundary=B", "expected a file"),
    ],
)
async def test_bad_bodies_are_told_what_was_expected(body: bytes, content_type: str, words: str):
    with pytest.raises(BadRequest) as caught:
        await parse(body, content_type)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("body", "content_type", "inputs"),
    [
        (b"<a/>", "application/xml", (TENSOR,)),
        (b"rubbish", "", (IMAGE,)),
        (b"hello", "text/plain", (IMAGE,)),
        (PNG, "image/png", (TEXT,)),
    ],
)
async def test_media_types_that_are_not_served(body: bytes, content_type: str, inputs):
    with pytest.raises(UnsupportedMediaType, match="expected"):
        await parse(body, content_type, inputs)


async def test_too_many_instances():
    with pytest.raises(TooLarge, match="WHYSERVE_MAX_INSTANCES"):
        await parse(b'{"instances":[[1,2],[1,2],[1,2],[1,2]]}', "application/json")
    for count in (4, 9):
        body, kind = multipart(*[("f", "f.png", PNG)] * count)
        with pytest.raises(TooLarge, match="WHYSERVE_MAX_INSTANCES"):
            await parse(body, kind, (IMAGE,))


# ---------------------------------------------------------------------------------------------------------------- reading


def receive_of(*messages: dict):
    rest = iter(messages)

    async def receive():
        return next(rest)

    return receive


async def test_a_body_in_pieces_is_joined():
    receive = receive_of(
        {"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"cd", "more_body": False}
    )
    assert await read_body({}, receive, 4) == b"abcd"


@pytest.mark.parametrize("headers", [{b"content-length": b"5"}, {}])
async def test_a_body_above_the_limit_is_refused(headers):
    receive = receive_of(
        {"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.request", "body": b"de", "more_body": False}
    )
    with pytest.raises(TooLarge, match="WHYSERVE_MAX_BODY_MIB"):
        await read_body(headers, receive, 4)


async def test_a_client_that_goes_away_is_no_error_of_the_servers():
    receive = receive_of({"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.disconnect"})
    with pytest.raises(HungUp):
        await read_body({}, receive, 100)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_and_their_limit(encoding: str, compress):
    headers = {b"content-encoding": encoding.encode()}
    assert await read_body(headers, receive_of({"type": "http.request", "body": compress(b"a" * 100)}), 100) == b"a" * 100
    bomb = compress(b"a" * 10_000_000)
    with pytest.raises(TooLarge):
        await read_body(headers, receive_of({"type": "http.request", "body": bomb}), 100_000)
    with pytest.raises(BadRequest, match="no valid"):
        await read_body(headers, receive_of({"type": "http.request", "body": b"rubbish"}), 100)
    with pytest.raises(BadRequest, match="too early"):
        await read_body(headers, receive_of({"type": "http.request", "body": compress(b"a" * 100)[:-6]}), 1000)


async def test_an_unknown_content_encoding():
    with pytest.raises(UnsupportedMediaType, match="gzip"):
        await read_body({b"content-encoding": b"br"}, receive_of({"type": "http.request", "body": b"x"}), 100)
