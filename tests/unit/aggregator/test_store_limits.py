"""The moments at which the blocks of all partitions are due."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.store_limits import moment_after

seconds = st.floats(0, 1e7, allow_nan=False)
lingers = st.sampled_from([0.05, 0.25, 0.5, 1.0, 30.0])


@given(seconds, lingers)
def test_the_next_moment_is_no_further_away_than_they_lie_apart(at: float, every: float) -> None:
    assert at <= moment_after(at, every) <= at + every * (1 + 1e-6)


@given(st.integers(0, 10**8), lingers, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_partitions_that_ask_between_two_moments_meet(
    number: int, every: float, one: float, other: float
) -> None:
    first, second = (moment_after((number + part) * every, every) for part in (one, other))
    assert first == second == pytest.approx((number + 1) * every)


@given(seconds)
def test_without_a_distance_it_is_now_and_after_nothing_it_has_been(at: float) -> None:
    assert moment_after(at, 0.0) == at
    assert moment_after(-math.inf, 0.25) == -math.inf
