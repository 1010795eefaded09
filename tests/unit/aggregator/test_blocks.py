"""Positions and their hash."""

from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.domain.blocks import position, position_hash
from schemas.events import INDEX_BITS

# SELECT intHash64(…) of ClickHouse 26.9.
HASHES = {12345: 16722121143744093920, 99999999999: 4097874280869353727}

coordinates = st.tuples(st.integers(0, 2**52), st.integers(0, 2**INDEX_BITS - 1))
positions = st.lists(st.integers(0, 2**63 - 1), max_size=50)


def signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def test_the_hash_is_clickhouses() -> None:
    for value, expected in HASHES.items():
        assert position_hash([value]) == signed(expected)
    assert position_hash(HASHES) == signed(sum(HASHES.values()))


def test_the_hash_of_nothing_is_zero() -> None:
    assert position_hash([]) == 0


@settings(deadline=None)
@given(positions, positions)
def test_hashes_of_two_blocks_add_up_to_that_of_both(one: list[int], other: list[int]) -> None:
    assert position_hash(one + other) == signed(position_hash(one) + position_hash(other))
    assert position_hash(one[::-1]) == position_hash(one)
    assert -(2**63) <= position_hash(one) < 2**63


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=50, unique=True), st.data())
def test_a_row_too_few_or_twice_changes_the_hash(block: list[int], data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(block))
    if position_hash([one]) != 0:
        assert position_hash([p for p in block if p != one]) != position_hash(block)
        assert position_hash([*block, one]) != position_hash(block)


@settings(deadline=None)
@given(coordinates, coordinates)
def test_positions_sort_as_coordinates_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (position(*one) < position(*other)) == (one < other)
    assert (position(*one) >> INDEX_BITS, position(*one) & (2**INDEX_BITS - 1)) == one
