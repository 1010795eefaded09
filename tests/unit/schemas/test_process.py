"""How many files a process asks the system for."""

import resource
from collections.abc import Iterator

import pytest

from schemas.process import allow_connections, allow_open_files


@pytest.fixture(autouse=True)
def few_files() -> Iterator[int]:
    """A process that may have few files at first, and more if it asks."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield 512
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_is_raised_to_what_is_wanted() -> None:
    assert allow_open_files(700) == 700
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 700


def test_a_limit_that_is_high_enough_stays(few_files: int) -> None:
    assert allow_open_files(100) == 100
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few_files


def test_no_more_than_the_system_allows() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this system allows any number")
    assert allow_open_files(hard + 1) == hard


def test_connections_leave_room_for_other_files() -> None:
    assert allow_connections(600, 100) == 600
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 700
