"""A reader that stands still before the end of its log is told from one that has nothing to read."""

from ingest.domain.progress import Progress


def test_a_reader_at_the_end_of_its_log_is_not_stalled() -> None:
    progress: Progress[str] = Progress()
    assert progress.stalled({"a": 5}, {"a": 5}) == []
    assert progress.stalled({"a": 5}, {"a": 5}) == []


def test_a_reader_that_goes_on_is_not_stalled_however_far_behind_it_is() -> None:
    progress: Progress[str] = Progress()
    assert progress.stalled({"a": 5}, {"a": 900}) == []
    assert progress.stalled({"a": 6}, {"a": 950}) == []


def test_what_has_just_come_is_given_the_time_until_the_next_look() -> None:
    progress: Progress[str] = Progress()
    assert progress.stalled({"a": 5, "b": 0}, {"a": 5, "b": 0}) == []
    assert progress.stalled({"a": 5, "b": 0}, {"a": 6, "b": 0}) == []
    assert progress.stalled({"a": 5, "b": 0}, {"a": 7, "b": 0}) == ["a"]


def test_a_partition_that_went_on_once_is_looked_at_anew() -> None:
    progress: Progress[str] = Progress()
    progress.stalled({"a": 5}, {"a": 9})
    assert progress.stalled({"a": 9}, {"a": 9}) == []
    assert progress.stalled({"a": 9}, {"a": 10}) == []
