"""Every error a client can meet: one class a cause, each with its HTTP status and a stable code word.

Messages say what was wrong and what was expected, and never name a path or an internal of the server.
"""

from __future__ import annotations

from collections.abc import Iterable


class WhyserveError(Exception):
    """Base: `status` is the HTTP status, `code` the stable word of the answer, `retry_after` seconds or None."""

    status = 500
    code = "internal"
    retry_after: int | None = None

    @property
    def message(self) -> str:
        return str(self)


# ------------------------------------------------------------------------------------------------- what the client sent


class BadRequest(WhyserveError):
    """The body, a parameter or a value in it is wrong."""

    status = 400
    code = "bad_request"


class BadInput(BadRequest):
    """An instance doesn't fit the model's input: shape, dtype, encoding, NaN."""

    code = "bad_input"


class BadParameter(BadRequest):
    """A parameter is unknown, malformed or out of range."""

    code = "bad_parameter"


class UnknownChoice(BadParameter):
    """A name that is none of those that exist; the message lists them."""

    def __init__(self, what: str, got: object, known: Iterable[object]) -> None:
        super().__init__(f"unknown {what} {got!r}; there are: {', '.join(map(str, known)) or 'none'}")


class ParityRefused(BadRequest):
    """A gradient method was asked of a model whose twin doesn't compute what the served model computes."""

    code = "parity"


class NotExplainable(BadRequest):
    """This model, or this model with this method, can't be explained; the message says why."""

    code = "not_explainable"


class Unauthorized(WhyserveError):
    status = 401
    code = "unauthorized"


class Forbidden(WhyserveError):
    status = 403
    code = "forbidden"


class NotFound(WhyserveError):
    status = 404
    code = "not_found"


class NotAcceptable(WhyserveError):
    """No form of the answer fits the request's Accept header."""

    status = 406
    code = "not_acceptable"


class TooLarge(WhyserveError):
    """Beyond a limit; the message names the limit's setting."""

    status = 413
    code = "too_large"


class UnsupportedMediaType(WhyserveError):
    status = 415
    code = "unsupported_media_type"


# ---------------------------------------------------------------------------------------------------- what the server met


class BadBundle(WhyserveError):
    """This bundle can't be served; the message says why, without paths of the machine."""

    code = "bad_bundle"


class ModelFailed(WhyserveError):
    """The model itself failed on inputs that fit its declared shapes."""

    status = 500
    code = "model_failed"


class Unavailable(WhyserveError):
    """Not ready, queue full or explainer lost: try again after `retry_after` seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeviceMissing(WhyserveError):
    """The device that was asked for isn't there: never fall back to another one silently. Trying again doesn't help."""

    status = 503
    code = "device_missing"


class Overloaded(Unavailable):
    """The line of explanations is full; `reason` says of what, as the metrics name it."""

    def __init__(self, message: str, retry_after: int = 1, reason: str = "queue_full") -> None:
        super().__init__(message, retry_after)
        self.reason = reason


class ShareUsedUp(WhyserveError):
    """This key's part of the line is in use: try again after `retry_after` seconds."""

    status = 429
    code = "share_used_up"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(WhyserveError):
    status = 504
    code = "deadline_exceeded"
