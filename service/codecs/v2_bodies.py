"""The Open Inference Protocol V2's JSON objects as pydantic models: what a header must look like, for checking and for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Parameter = StrictBool | StrictInt | StrictFloat | StrictStr
Size = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BinaryInput(_Strict):
    binary_data_size: Size | None = None


class BinaryOutput(_Strict):
    binary_data: bool | None = None


class InputBody(_Strict):
    """`$request_input`: with `data`, or with the size of its blob."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: BinaryInput = BinaryInput()
    data: Any = None


class OutputBody(_Strict):
    """`$request_output`."""

    name: str
    parameters: BinaryOutput = BinaryOutput()


class RequestBody(_Strict):
    """`$inference_request`."""

    id: str = ""
    parameters: dict[str, Parameter] = {}
    inputs: Annotated[list[InputBody], Field(min_length=1)]
    outputs: list[OutputBody] | None = None


class _Lenient(BaseModel):
    """A response is written by a server, perhaps a newer one: what isn't known is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class OutputSize(_Lenient):
    binary_data_size: Size | None = None


class ResponseOutputBody(_Lenient):
    """`$response_output`."""

    name: str
    shape: list[Size]
    datatype: str
    parameters: OutputSize = OutputSize()
    data: Any = None


class ResponseBody(_Lenient):
    """`$inference_response`."""

    model_name: str
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Parameter] = {}
    outputs: list[ResponseOutputBody]
