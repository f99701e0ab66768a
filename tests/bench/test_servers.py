"""The server under measurement: where it ends at once, its own end is what is reported."""

from __future__ import annotations

import pytest

from bench.servers import cores, process_on, serving


def test_a_server_that_ends_at_once_is_said_to_have_ended() -> None:
    core, module = cores()[0], "bench.no_such_module"
    with pytest.raises(RuntimeError, match="ended with status 1"), serving(core=core, module=module):
        pass
    with pytest.raises(RuntimeError, match="ended with status 1"), process_on(core, module):
        pass
