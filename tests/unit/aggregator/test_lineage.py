"""Which log each offset was billed from."""

from aggregator.domain.lineage import Incarnation, Stretch, billed, ends_of, gone, lineage

CUT = Incarnation(1, base=0, first_offset=6, former_next_offset=10)
ELSEWHERE = Incarnation(1, base=None, first_offset=0, former_next_offset=10)
BACK = Incarnation(2, base=0, first_offset=10, former_next_offset=3)


def test_one_log_is_all_there_is() -> None:
    assert lineage([], 0, 5) == billed([], 0, 5) == [Stretch(0, 0, 5)]
    assert gone([], 0, 5) == []


def test_a_log_that_was_cut_goes_on_where_it_was_cut() -> None:
    assert lineage([CUT], 1, 8) == [Stretch(0, 0, 6), Stretch(1, 6, 8)]
    assert gone([CUT], 1, 8) == [Stretch(0, 6, 10)]
    assert billed([CUT], 1, 8) == [Stretch(0, 0, 10), Stretch(1, 6, 8)]


def test_of_another_log_nothing_before_is_left() -> None:
    assert lineage([ELSEWHERE], 1, 3) == [Stretch(1, 0, 3)]
    assert gone([ELSEWHERE], 1, 3) == [Stretch(0, 0, 10)]


def test_a_log_that_came_back_is_whole_again() -> None:
    history = [ELSEWHERE, BACK]
    assert lineage(history, 2, 12) == [Stretch(0, 0, 10), Stretch(2, 10, 12)]
    assert gone(history, 2, 12) == [Stretch(1, 0, 3)]
    assert ends_of(history) == {0: 10, 1: 3}


def test_a_cut_below_the_beginning_of_an_incarnation_leaves_nothing_of_it() -> None:
    deeper = Incarnation(2, base=0, first_offset=4, former_next_offset=9)
    assert lineage([CUT, deeper], 2, 4) == [Stretch(0, 0, 4)]
    assert gone([CUT, deeper], 2, 7) == [Stretch(0, 4, 10), Stretch(1, 6, 9)]
