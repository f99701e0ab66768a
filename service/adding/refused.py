"""The error of `whyserve add`: what was wrong with the file or an option, and what was expected."""

from __future__ import annotations

from service.errors import WhyserveError


class NotAdded(WhyserveError):
    """No bundle was made; the message says why."""

    code = "not_added"
