"""What seen ids cost: `python tests/bench/seen_ids.py [IDS]`; 10 million (280 MB of files) without IDS.

CPU time of one core, ids made beforehand. "new" is the look-up in all filters and the recording with sealing.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aggregator.seen_ids import KEY_SIZE, SeenIds, key_of
from schemas.events import INDEX_BITS, MAX_EVENTS_PER_RECORD

BATCH = 5_000
RECORDS = BATCH // MAX_EVENTS_PER_RECORD
AT = 1_800_000_000_000


class Stopwatch:
    """CPU seconds of what ran under it: in all, and the longest run."""

    def __init__(self) -> None:
        self.total = 0.0
        self.longest = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started = time.process_time()
        yield
        took = time.process_time() - started
        self.total += took
        self.longest = max(self.longest, took)


def batch_of(first_offset: int) -> tuple[list[bytes], list[int]]:
    """Random keys at consecutive positions."""
    raw = os.urandom(KEY_SIZE * BATCH)
    keys = [raw[n : n + KEY_SIZE] for n in range(0, len(raw), KEY_SIZE)]
    offsets = range(first_offset, first_offset + RECORDS)
    return keys, [offset << INDEX_BITS | n for offset in offsets for n in range(MAX_EVENTS_PER_RECORD)]


def say(what: str, value: float, unit: str) -> None:
    """One line of the result."""
    print(f"{what:<46}{value:>10.2f} {unit}")  # noqa: T201 - the output is what this is for


def main(ids: int) -> None:
    """Fills a folder with ids as a partition does, and measures on the way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seen = SeenIds.open(folder, 0, 0, 1, 0, AT)
        first = batch_of(0)
        seen.mark(*first, AT)
        new, next_offset = Stopwatch(), RECORDS
        for _ in range(BATCH, ids, BATCH):
            batch = batch_of(next_offset)
            with new.running():
                assert seen.mark(*batch, AT) == []
            next_offset += RECORDS
        say("new id", new.total / (ids - BATCH) * 1e6, "us")
        say(f"longest batch of {BATCH:,} (it sealed a table)", new.longest * 1e3, "ms")
        last = batch_of(next_offset)
        plain = Stopwatch()
        with plain.running():
            seen.mark(*last, AT)
        say("new id, in a batch that seals nothing", plain.total / BATCH * 1e6, "us")
        duplicate = Stopwatch()
        with duplicate.running():
            assert len(seen.mark(first[0], batch_of(next_offset + RECORDS)[1], AT)) == BATCH
        say("duplicate of a sealed id", duplicate.total / BATCH * 1e6, "us")
        say("filters", seen.memory() / 1e6, "MB")
        say(
            "largest resident size of the process",
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "MB",
        )
        seen.seal()
        say("files", sum(each.stat().st_size for each in folder.rglob("*.seen")) / 1e6, "MB")
        opening = Stopwatch()
        with opening.running():
            SeenIds.open(folder, 0, 0, 2, next_offset, AT)
        say("opening them, filters rebuilt", opening.total, "s")
        hashing = Stopwatch()
        with hashing.running():
            for n in range(BATCH):
                key_of("018f0000-0000-7000-8000-000000000001", str(n))
        say("key of an id", hashing.total / BATCH * 1e6, "us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
