"""Seen ids on a disk that refuses, and under clocks that are wrong."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aggregator.seen_ids import SeenIds, key_of
from schemas.events import INDEX_BITS

WINDOW = 24 * 3600 * 1000
NOW = 1_800_000_000_000
HOUR = 3600 * 1000
MINUTE = 60 * 1000


def opened(folder: Path, next_offset: int = 0, epoch: int = 1, seal_ids: int = 10, now: int = NOW) -> SeenIds:
    return SeenIds.open(
        folder,
        3,
        0,
        epoch,
        next_offset,
        now,
        window_ms=WINDOW,
        seal_ids=seal_ids,
        segment_ids=seal_ids,
    )


def keys(*names: object) -> list[bytes]:
    return [key_of("organization", str(name)) for name in names]


def count(seen: SeenIds, first: int, many: int, at: int = NOW) -> list[int]:
    """Marks ids that are named by their offsets."""
    offsets = range(first, first + many)
    return seen.mark(keys(*offsets), [offset << INDEX_BITS for offset in offsets], at)


def asked(seen: SeenIds, first: int, many: int, at: int = NOW) -> list[int]:
    """What of these ids is known when they are sent again, at larger offsets."""
    names = range(first, first + many)
    found = seen.mark(keys(*names), [name + 1_000_000 << INDEX_BITS for name in names], at)
    return [first + index for index in found]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("3/*"))


@contextmanager
def no_folder(folder: Path) -> Iterator[None]:
    """A disk that refuses every new file, and loses none that is there."""
    aside = folder / "aside"
    (folder / "3").rename(aside)
    yield
    if (folder / "3").exists():
        shutil.rmtree(folder / "3")
    aside.rename(folder / "3")


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """A disk that takes so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_the_disk_refuses_is_known_all_the_same_and_is_written_when_there_is_room(
    tmp_path: Path,
) -> None:
    seen = opened(tmp_path)
    with no_folder(tmp_path):
        assert count(seen, 0, 10) == []
        assert count(seen, 10, 10) == []
        assert seen.mark(keys("new", 3, 12), [20 << INDEX_BITS | n for n in range(3)], NOW) == [1, 2]
    assert count(seen, 21, 1, NOW + 2 * MINUTE) == []
    assert [name.split("-")[1:3] for name in files(tmp_path)] == [["0", "10"], ["10", "20"]]
    again = opened(tmp_path, 20, epoch=2, now=NOW + HOUR)
    assert again.rebuild_from() is None
    assert asked(again, 0, 20) == list(range(20))


def test_a_crash_before_the_disk_takes_them_leaves_what_was_there_and_asks_for_the_rest(
    tmp_path: Path,
) -> None:
    seen = opened(tmp_path)
    count(seen, 0, 4)
    seen.seal()
    with no_folder(tmp_path):
        count(seen, 4, 3)
        with pytest.raises(OSError, match="No such file"):
            seen.seal()  # merges with the file that is there
        assert asked(seen, 0, 7) == list(range(7))
    again = opened(tmp_path, 7, epoch=2)
    assert again.rebuild_from() == 4
    assert asked(again, 0, 4) == list(range(4))


def test_a_file_is_replaced_only_by_one_that_is_on_the_disk(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    count(seen, 0, 4)
    seen.seal()
    count(seen, 4, 3)
    with no_folder(tmp_path), pytest.raises(OSError, match="No such file"):
        seen.seal()
    assert [name.split("-")[1:3] for name in files(tmp_path)] == [["0", "4"]]
    seen.seal()
    assert [name.split("-")[1:3] for name in files(tmp_path)] == [["0", "7"]]


def test_a_file_that_is_written_anew_under_its_name_stays(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    count(seen, 0, 4)
    seen.seal()
    (name,) = files(tmp_path)
    seen.restore(keys("forgotten"), [2 << INDEX_BITS | 1], NOW)
    seen.seal()
    assert files(tmp_path) == [name]
    assert opened(tmp_path, 4, epoch=2).mark(keys("forgotten"), [4 << INDEX_BITS], NOW) == [0]


def test_half_a_file_does_not_take_the_room_that_a_full_disk_lacks(tmp_path: Path) -> None:
    seen = opened(tmp_path, seal_ids=1_000)
    with no_room(4_096):
        assert count(seen, 0, 1_000) == []
        assert files(tmp_path) == []
    seen.seal()
    assert len(files(tmp_path)) == 1


def test_memory_is_bounded_while_the_disk_refuses(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    with no_folder(tmp_path):
        for segment in range(32):
            count(seen, 10 * segment, 10)
        assert asked(seen, 0, 10) == list(range(10))
        with pytest.raises(OSError, match="No such file"):
            count(seen, 320, 10)


def test_one_record_from_far_ahead_makes_nothing_forgotten(tmp_path: Path) -> None:
    seen = opened(tmp_path)
    count(seen, 0, 10)
    count(seen, 10, 5, NOW + 3 * WINDOW)
    assert seen.forgotten_before(NOW + 3 * WINDOW) <= NOW - WINDOW + HOUR
    assert seen.forgotten_before(NOW) <= NOW - WINDOW + HOUR
    assert asked(seen, 0, 15, NOW + MINUTE) == list(range(15))
    seen.seal()
    again = opened(tmp_path, 15, epoch=2, now=NOW + MINUTE)
    assert asked(again, 0, 15, NOW + MINUTE) == list(range(15))


def test_time_goes_on_with_our_own_clock(tmp_path: Path) -> None:
    now = NOW
    seen = opened(tmp_path)
    seen.follow(lambda: now)
    count(seen, 0, 5)
    now += WINDOW + HOUR
    count(seen, 5, 5, now)
    assert seen.forgotten_before(now) == NOW + HOUR
    assert asked(seen, 0, 10, now) == list(range(5, 10))


def test_while_our_own_clock_is_behind_ids_are_remembered_longer(tmp_path: Path) -> None:
    """They keep the time of the log, so that nothing is forgotten at once when the clock is set right."""
    behind = WINDOW - HOUR
    now = NOW - behind
    seen = opened(tmp_path, now=now)
    seen.follow(lambda: now)
    count(seen, 0, 5)
    seen.seal()
    now = NOW + HOUR
    assert asked(seen, 0, 5, now) == list(range(5))
    assert seen.forgotten_before(now) <= NOW + HOUR - WINDOW
