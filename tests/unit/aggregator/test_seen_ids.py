"""Seen ids: what is a duplicate, what survives a restart, and what memory it takes."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.seen_filter import FilterBank
from aggregator.seen_ids import SeenIds, key_of
from aggregator.seen_segment import Ids
from aggregator.seen_segments import halves
from schemas.events import INDEX_BITS

WINDOW = 1_000
NOW = 1_800_000_000_000

Open = Callable[..., SeenIds]


@pytest.fixture
def open_seen(tmp_path: Path) -> Open:
    """Opens partition 3 of incarnation 0 with a window of 1,000 ms and segments of 100 ids."""

    def open_it(next_offset: int = 0, epoch: int = 1, incarnation: int = 0, **options: Any) -> SeenIds:
        settings = {"window_ms": WINDOW, "seal_ids": 100, "seal_ms": 300, **options}
        settings.setdefault("segment_ids", settings["seal_ids"])
        return SeenIds.open(tmp_path, 3, incarnation, epoch, next_offset, NOW, **settings)

    return open_it


def keys(*names: object) -> list[bytes]:
    return [key_of("organization", str(name)) for name in names]


def at(offset: int, index: int = 0) -> int:
    return offset << INDEX_BITS | index


def positions(first_offset: int, count: int) -> list[int]:
    return [at(first_offset + n) for n in range(count)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("3/*.seen"))


def fill(seen: SeenIds, first_offset: int, count: int, now: int) -> None:
    """Counts ids named by their offsets and seals them into a segment of their own."""
    names = range(first_offset, first_offset + count)
    assert seen.mark(keys(*names), positions(first_offset, count), now) == []
    seen.seal()


def restore(seen: SeenIds, offsets: Sequence[int], now: int) -> None:
    seen.restore(keys(*offsets), [at(offset) for offset in offsets], now)


def segment(ats: dict[int, int]) -> Ids:
    """Ids named by their offsets, and when they were received."""
    offsets = np.array(list(ats), np.uint64)
    return Ids(*halves(keys(*ats)), offsets << INDEX_BITS, np.array(list(ats.values()), np.uint64))


def test_an_id_counts_once_in_a_batch_and_across_batches(open_seen: Open) -> None:
    seen = open_seen()
    assert seen.mark(keys("a", "b", "a"), positions(0, 3), 10) == [2]
    assert seen.mark(keys("c", "b"), positions(3, 2), 20) == [1]


def test_the_same_id_of_another_organization_is_another_id() -> None:
    assert key_of("one", "e") != key_of("two", "e")
    assert key_of("a", "b\0c") != key_of("a\0b", "d")
    assert key_of("o", "ü") == hashlib.sha256("o\0ü".encode()).digest()[:16]


def test_an_event_id_that_no_encoding_can_hold_has_a_key_too() -> None:
    assert len(key_of("o", "\ud800")) == 16


@pytest.mark.parametrize("sealed", [False, True])
def test_marking_a_batch_again_gives_the_same_answer(open_seen: Open, sealed: bool) -> None:
    seen = open_seen()
    batch = keys("a", "b", "a", "c"), positions(0, 4), 10
    assert seen.mark(*batch) == [2]
    if sealed:
        seen.seal()
    assert seen.mark(*batch) == [2]
    assert seen.mark(keys("c"), [at(4)], 10) == [0]


@pytest.mark.parametrize("sealed", [False, True])
def test_an_id_is_new_again_after_the_window_and_not_before(open_seen: Open, sealed: bool) -> None:
    seen = open_seen(seal_ms=10 * WINDOW)
    seen.mark(keys("a", "b"), positions(0, 2), 100)
    if sealed:
        seen.seal()
    assert seen.mark(keys("a"), [at(2)], 100 + WINDOW) == [0]
    assert seen.mark(keys("b"), [at(3)], 101 + WINDOW) == []
    assert seen.mark(keys("b"), [at(4)], 102 + WINDOW) == [0]


def test_time_never_runs_backwards(open_seen: Open) -> None:
    seen = open_seen()
    seen.mark(keys("a"), [at(0)], 500)
    seen.mark(keys("b"), [at(1)], 5)
    assert seen.mark(keys("b"), [at(2)], 500 + WINDOW) == [0]


def test_a_full_table_is_sealed_and_its_ids_stay_known(open_seen: Open, tmp_path: Path) -> None:
    seen = open_seen()
    names = list(range(1_000))
    for first in range(0, 1_000, 50):
        assert seen.mark(keys(*names[first : first + 50]), positions(first, 50), 10) == []
    assert len(files(tmp_path)) == 10
    assert seen.mark(keys(*names), positions(1_000, 1_000), 20) == list(range(1_000))


def test_small_segments_are_merged_so_that_restarts_pile_up_no_files(open_seen: Open, tmp_path: Path) -> None:
    for offset in range(0, 90, 3):
        fill(open_seen(offset, epoch=offset), offset, 3, 10)
    assert len(files(tmp_path)) == 1
    assert open_seen(90).mark(keys(*range(90)), positions(90, 90), 20) == list(range(90))


def test_after_a_graceful_stop_nothing_has_to_be_rebuilt(open_seen: Open) -> None:
    seen = open_seen()
    fill(seen, 0, 5, 10)
    again = open_seen(5)
    assert again.rebuild_from() is None
    assert again.mark(keys(4, 5), positions(5, 2), 20) == [0]


def test_after_a_crash_what_was_not_sealed_is_rebuilt_from_the_log(open_seen: Open) -> None:
    seen = open_seen()
    fill(seen, 0, 5, 10)
    seen.mark(keys(5, 6), positions(5, 2), 20)
    again = open_seen(7)
    assert again.rebuild_from() == 5
    restore(again, [5, 6], 20)
    assert again.mark(keys(6, 7), positions(7, 2), 30) == [0]


def test_state_ahead_of_the_ledger_does_no_harm(open_seen: Open) -> None:
    seen = open_seen()
    seen.mark(keys("a", "b"), positions(0, 2), 10)
    seen.mark(keys("c", "a"), positions(2, 2), 20)
    seen.seal()
    again = open_seen(2)
    assert again.rebuild_from() is None
    assert again.mark(keys("c", "a"), positions(2, 2), 20) == [1]
    assert again.mark(keys("c"), [at(4)], 20) == [0]


def test_an_empty_folder_beside_a_ledger_means_a_full_rebuild(open_seen: Open) -> None:
    seen = open_seen(50)
    assert seen.rebuild_from() == 0
    restore(seen, range(40, 50), 10)
    seen.seal()
    again = open_seen(50)
    assert again.rebuild_from() is None
    assert again.mark(keys(45), [at(50)], 20) == [0]


def test_tables_become_one_segment_as_far_as_they_fit(open_seen: Open, tmp_path: Path) -> None:
    seen = open_seen(seal_ids=4, segment_ids=10)
    for first in range(0, 20, 4):
        fill(seen, first, 4, 10)
    assert [file.name.split("-")[1:3] for file in files(tmp_path)] == [["0", "8"], ["16", "20"], ["8", "16"]]
    assert seen.mark(keys(*range(21)), positions(20, 21), 20) == list(range(20))
    again = open_seen(20, epoch=2)
    assert again.rebuild_from() is None
    assert again.mark(keys(*range(21)), positions(20, 21), 20) == list(range(20))


def test_what_is_restored_is_sealed_a_whole_segment_at_a_time(open_seen: Open, tmp_path: Path) -> None:
    seen = open_seen(20, seal_ids=4, segment_ids=10)
    for first in range(0, 20, 5):
        restore(seen, range(first, first + 5), 10)
    assert [file.name.split("-")[1:3] for file in files(tmp_path)] == [["0", "10"], ["10", "20"]]
    assert seen.mark(keys(*range(20)), positions(20, 20), 20) == list(range(20))


def test_expired_segments_are_deleted_and_not_missed(open_seen: Open, tmp_path: Path) -> None:
    seen = open_seen(seal_ids=4)
    fill(seen, 0, 4, 10)
    fill(seen, 4, 4, 400)
    fill(seen, 8, 4, 1_500)
    fill(seen, 12, 4, 1_800)
    assert sorted(int(file.name.split("-")[1]) for file in files(tmp_path)) == [8, 12]
    assert open_seen(16).rebuild_from() is None


def test_an_expired_segment_waits_until_the_window_and_a_margin_have_passed(
    open_seen: Open, tmp_path: Path
) -> None:
    seen = open_seen(seal_ids=4)
    fill(seen, 0, 4, 10)
    fill(seen, 4, 4, 10 + WINDOW)
    assert len(files(tmp_path)) == 2


def damage_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "one bit": damage_middle,
    "empty": lambda path: path.write_bytes(b""),
    "head cut off": lambda path: path.write_bytes(path.read_bytes()[:10]),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "another program's": lambda path: path.write_bytes(b"x" * 500),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize(("which", "rebuild_from"), [(0, 0), (1, 4), (2, 8)])
def test_a_damaged_segment_is_put_aside_and_rebuilt(
    open_seen: Open, tmp_path: Path, damage: Callable[[Path], Any], which: int, rebuild_from: int
) -> None:
    seen = open_seen(seal_ids=4)
    for first in (0, 4, 8):
        fill(seen, first, 4, 10)
    damaged = files(tmp_path)[which]
    damage(damaged)

    again = open_seen(12, epoch=2, seal_ids=4)
    assert again.rebuild_from() == rebuild_from
    assert not damaged.exists()
    restore(again, range(rebuild_from, 12), 10)
    again.seal()
    assert again.mark(keys(*range(12)), positions(12, 12), 20) == list(range(12))

    third = open_seen(12, epoch=3, seal_ids=4)
    assert third.rebuild_from() is None
    assert third.mark(keys(*range(12)), positions(12, 12), 20) == list(range(12))


def test_a_hole_before_a_pause_longer_than_the_window_is_not_rebuilt(open_seen: Open, tmp_path: Path) -> None:
    seen = open_seen(seal_ids=4, seal_ms=WINDOW)
    fill(seen, 0, 4, 10)
    fill(seen, 4, 4, 900)
    fill(seen, 8, 4, 1_000)
    files(tmp_path)[0].unlink()
    assert open_seen(12).rebuild_from() == 0
    seen.mark(keys("later"), [at(12)], 1_300)
    fill(seen, 13, 4, 2_310)
    assert open_seen(17).rebuild_from() is None


def test_a_zombie_can_neither_block_nor_spoil_the_new_owner(open_seen: Open, tmp_path: Path) -> None:
    zombie = open_seen(0, epoch=1)
    fill(zombie, 0, 5, 10)
    owner = open_seen(5, epoch=2)
    zombie.mark(keys(5, 6), positions(5, 2), 20)
    owner.mark(keys(5, 6, 7), positions(5, 3), 20)
    owner.seal()
    zombie.seal()  # merges with a file that the owner has merged and removed already
    for epoch in (2, 3):
        assert open_seen(8, epoch=epoch).rebuild_from() is None
    assert owner.mark(keys(*range(8)), positions(8, 8), 30) == list(range(8))
    assert open_seen(8, epoch=3).mark(keys(*range(8)), positions(8, 8), 30) == list(range(8))
    assert len(files(tmp_path)) == 1


def test_another_incarnation_of_the_log_knows_nothing_of_the_first(tmp_path: Path) -> None:
    first = SeenIds.open(tmp_path, 3, 0, 1, 0, NOW)
    first.mark(keys("a"), [at(0)], 10)
    first.seal()
    second = SeenIds.open(tmp_path, 3, 1, 2, 0, NOW)
    assert second.mark(keys("a"), [at(0)], 10) == []


def test_what_earlier_incarnations_and_crashes_left_is_removed_in_the_end(tmp_path: Path) -> None:
    first = SeenIds.open(tmp_path, 3, 0, 1, 0, 10, window_ms=WINDOW)
    first.mark(keys("a"), [at(0)], 10)
    first.seal()
    SeenIds.open(tmp_path, 3, 1, 2, 0, 10, window_ms=WINDOW)
    assert len(files(tmp_path)) == 1
    SeenIds.open(tmp_path, 3, 1, 2, 0, NOW, window_ms=WINDOW)
    assert files(tmp_path) == []


def test_a_window_that_a_segment_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="window"):
        SeenIds.open(tmp_path, 3, 0, 1, 0, NOW, window_ms=50 * 24 * 3600 * 1000)


def test_an_absent_id_seldom_passes_a_full_filter() -> None:
    random = np.random.default_rng(7)
    ids, segments, asked = 1 << 14, 20, 20_000
    bank = FilterBank(ids)
    held = random.integers(0, 2**64, (segments, ids), np.uint64)
    slots = [bank.add(each) for each in held]
    for slot, each in zip(slots, held, strict=True):
        indexes, candidates = bank.candidates(each[:100])
        assert set(indexes[candidates == slot]) == set(range(100))
    passed, _ = bank.candidates(random.integers(0, 2**64, asked, np.uint64))
    assert len(passed) / (segments * asked) < 1 / 700
    assert bank.memory <= 32 * ids * 2


def test_filters_widen_with_their_segments_and_keep_what_they_hold() -> None:
    random = np.random.default_rng(8)
    ids = 1 << 10
    bank, held, memory = FilterBank(ids), random.integers(0, 2**64, (70, ids), np.uint64), []
    slots = []
    for each in held:
        slots.append(bank.add(each))
        memory.append(bank.memory // ids)
    assert slots == list(range(70))
    assert [memory[n - 1] for n in (1, 8, 9, 16, 17, 32, 33, 40, 41, 64, 65)] == [
        16,
        16,
        32,
        32,
        64,
        64,
        80,
        80,
        96,
        128,
        144,
    ]
    bank.remove(slots[9])
    for slot, each in zip(slots, held, strict=True):
        indexes, candidates = bank.candidates(each[:50])
        assert set(indexes[candidates == slot]) == (set() if slot == slots[9] else set(range(50)))
    assert bank.add(held[9]) == slots[9]


def test_a_removed_filter_lets_nothing_pass() -> None:
    bank = FilterBank(64)
    held = np.arange(1, 60, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bank.remove(bank.add(held))
    assert len(bank.candidates(held)[0]) == 0


def test_what_an_earlier_incarnation_counted_is_a_duplicate_at_any_offset(open_seen: Open) -> None:
    seen = open_seen()
    assert seen.mark(keys(*range(10)), positions(0, 10), NOW) == []
    seen.seal()
    later = open_seen(6, epoch=2, incarnation=1, first_offset=6, ends={0: 10})
    assert later.rebuild_from() is None
    assert later.mark(keys(9, 3, "new", "new"), positions(6, 4), NOW) == [0, 1, 3]


def test_what_an_earlier_incarnation_never_billed_is_no_duplicate(open_seen: Open) -> None:
    seen = open_seen()
    assert seen.mark(keys(*range(10)), positions(0, 10), NOW) == []
    seen.seal()
    later = open_seen(6, epoch=2, incarnation=1, first_offset=6, ends={0: 8})
    assert later.mark(keys(7, 8, 9), positions(6, 3), NOW) == [0]


def test_an_incarnation_is_rebuilt_from_its_first_offset(open_seen: Open) -> None:
    assert open_seen(6, incarnation=1, first_offset=6).rebuild_from() is None
    assert open_seen(9, incarnation=1, first_offset=6).rebuild_from() == 6
    seen = open_seen(9, incarnation=1, first_offset=6)
    seen.restore(keys(*range(6, 9)), positions(6, 3), NOW)
    seen.seal()
    assert open_seen(9, incarnation=1, first_offset=6).rebuild_from() is None
    assert open_seen(9, incarnation=2, first_offset=9).mark(keys(7), [at(9)], NOW) == [0]


def test_files_of_incarnations_stay_apart(open_seen: Open, tmp_path: Path) -> None:
    fill(open_seen(), 0, 10, NOW)
    fill(open_seen(10, incarnation=1, first_offset=10), 10, 5, NOW)
    fill(open_seen(15, incarnation=1, first_offset=10), 15, 5, NOW)
    assert [path.name.split("-")[:3] for path in files(tmp_path)] == [["0", "0", "10"], ["1", "10", "20"]]
    later = open_seen(20, incarnation=1, first_offset=10)
    assert later.mark(keys(*range(20)), positions(20, 20), NOW) == list(range(20))


def test_offsets_that_held_nothing_to_count_are_covered_when_that_is_said(open_seen: Open) -> None:
    seen = open_seen(20)
    seen.restore(keys(*range(5)), positions(0, 5), NOW)
    seen.cover(20)
    seen.seal()
    assert open_seen(20).rebuild_from() is None


def test_a_restored_segment_is_known_and_on_the_disk(open_seen: Open) -> None:
    seen = open_seen(6)
    restore(seen, range(2), NOW)
    seen.restore_segment(segment({2: NOW, 3: NOW, 5: NOW}))
    again = open_seen(6, epoch=2)
    for each in (seen, again):
        assert each.mark(keys(*range(6)), positions(6, 6), NOW) == [0, 1, 2, 3, 5]
    assert again.rebuild_from() is None


def test_a_restored_segment_of_an_incarnation_is_before_what_is_counted_in_it_later(open_seen: Open) -> None:
    seen = open_seen(9, incarnation=1, first_offset=6)
    seen.restore_segment(segment({6: NOW, 7: NOW, 8: NOW}))
    assert seen.mark(keys(7, "new"), positions(9, 2), NOW) == [0]


def test_what_was_forgotten_is_not_restored(open_seen: Open) -> None:
    seen = open_seen(4)
    seen.restore_segment(segment({0: NOW - WINDOW - 1, 1: NOW - WINDOW, 3: NOW}))
    assert seen.mark(keys(0, 1, 3), positions(4, 3), NOW) == [1, 2]
    seen.restore_segment(segment({9: NOW - 5 * WINDOW}))
    assert seen.mark(keys(9), positions(10, 1), NOW) == []


def test_an_id_that_waited_in_a_spool_is_remembered_from_when_it_was_counted(open_seen: Open) -> None:
    seen = open_seen(2)
    seen.restore_segment(segment({0: NOW - 10, 1: NOW - WINDOW}))
    assert seen.mark(keys(1), positions(2, 1), NOW + WINDOW - 20) == [0]


def test_of_an_id_that_was_counted_twice_the_last_time_counts(open_seen: Open) -> None:
    seen = open_seen(3)
    ids = segment({0: NOW - WINDOW, 1: NOW - 1, 2: NOW})
    prefixes, suffixes = halves(keys(0, 1, 0))
    seen.restore_segment(Ids(prefixes, suffixes, ids.positions, ids.ats))
    assert seen.mark(keys(0), positions(3, 1), NOW + 10) == [0]


def test_a_time_far_ahead_of_our_clock_makes_nothing_forgotten(open_seen: Open) -> None:
    day = 24 * 3600 * 1000
    seen = open_seen(2, window_ms=day)
    seen.restore_segment(segment({0: NOW, 1: NOW + 50 * day}))
    assert seen.mark(keys(0, 1), positions(2, 2), NOW + 1) == [0, 1]
