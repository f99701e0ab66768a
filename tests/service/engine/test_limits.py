"""The largest batch by hand-made timings: declared, cheapest a row, and within the bound."""

import pytest

from service.engine.limits import UNMEASURED, largest_batch

LINEAR = {1: 0.010, 2: 0.020, 4: 0.040, 8: 0.080}
SLOW = {1: 0.100, 2: 0.200, 4: 0.400}
SHRINKING = {1: 0.010, 2: 0.012, 4: 0.016, 8: 0.0318}


@pytest.mark.parametrize(
    ("declared", "taken", "bound", "rows"),
    [
        (64, LINEAR, 10.0, 64),
        (64, LINEAR, 0.1, 10),  # 10 ms a row
        (64, LINEAR, 0.050, 4),
        (2, LINEAR, 10.0, 2),
        (64, LINEAR, 0.001, 1),  # one row takes what it takes
        (None, SLOW, 10.0, 1),  # no batch makes a row cheaper
        (None, LINEAR, 10.0, 2),  # the server's own part of a run is then shared by two
        (None, SHRINKING, 10.0, 4),  # 8 rows make it cheaper by 0.6 % only
        (None, SHRINKING, 0.013, 2),
        (48, {}, 0.001, 48),
        (None, {}, 0.001, UNMEASURED),
    ],
)
def test_the_largest_batch(declared, taken, bound, rows):
    assert largest_batch(declared, taken, bound) == rows
