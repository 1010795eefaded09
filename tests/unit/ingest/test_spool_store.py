"""A spool's file that is damaged, or whose disk refuses, while its records are on their way to Kafka."""

import asyncio
import os
import threading
from functools import partial
from pathlib import Path, PosixPath

import pytest

from ingest.errors import SpoolRefused
from ingest.spool import Spool
from ingest.spool_slots import Slot, claim
from ingest.spool_store import SpoolStore
from tests.integration.broken import full_disk

_PAGE = 4096
_TABLE_LEAF = 13
_WITHIN_S = 10


@pytest.fixture
def store(tmp_path: Path) -> SpoolStore:
    return SpoolStore(partial(claim, tmp_path))


def spoil_page_with(file: Path, text: bytes) -> None:
    """Writes rubbish over the head of the page that holds the text."""
    content = file.read_bytes()
    pages = range(0, len(content), _PAGE)
    (page,) = (at for at in pages if content[at] == _TABLE_LEAF and text in content[at : at + _PAGE])
    with file.open("r+b") as opened:
        opened.seek(page)
        opened.write(b"\xff" * 8)


def test_a_file_that_is_put_aside_while_its_records_are_sent_takes_nothing_of_the_next(
    store: SpoolStore, tmp_path: Path
) -> None:
    for number in range(40):
        store.write([(1, b"old %03d" % number + b"x" * 3_000)])
    assert store._file is not None  # noqa: SLF001  the page goes bad while the file is open
    connection = store._file._connection  # noqa: SLF001
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    spoil_page_with(tmp_path / "spool" / "0.sqlite", b"old 039")
    connection.execute("PRAGMA shrink_memory")
    sent = store.oldest(20_000)
    assert sent
    store.write([(1, b"promised")])
    store.forget(sent)
    store.write([(1, b"promised as well")])
    assert [record.lines for record in store.oldest(20_000)] == [b"promised", b"promised as well"]
    assert store.totals.records == 2
    assert len(list((tmp_path / "spool").glob("0.corrupt-*.sqlite"))) == 1


def test_damaged_records_are_kept_when_the_disk_is_full(store: SpoolStore, tmp_path: Path) -> None:
    store.write([(1, b"damaged"), (1, b"good")])
    store.close()
    file = tmp_path / "spool" / "0.sqlite"
    file.write_bytes(file.read_bytes().replace(b"damaged", b"DAMAGED"))
    assert [record.lines for record in store.oldest(20_000)] == [b"good"]
    store.forget(store.oldest(20_000))
    assert store.oldest(20_000) == []
    store.write([(1, b"last" * 50_000)])
    sent = store.oldest(20_000)
    with full_disk(os.getpid(), 100_000):
        store.forget(sent)
    store.close()
    (kept,) = (tmp_path / "spool").glob("0.corrupt-*.sqlite")
    assert b"DAMAGED" in kept.read_bytes()


async def test_what_a_disk_that_hangs_has_not_taken_yet_is_withdrawn_and_the_next_refused_at_once(
    tmp_path: Path,
) -> None:
    moves = threading.Event()

    def claim_late() -> Slot:
        moves.wait(_WITHIN_S)
        return claim(tmp_path)

    spool = Spool(claim_late, max_bytes=1_000_000, commit_seconds=0.1)
    running = asyncio.create_task(spool.run())
    first = asyncio.create_task(spool.append(1, b"on its way"))
    await asyncio.sleep(0.02)
    with pytest.raises(SpoolRefused, match="does not answer"):
        await spool.append(1, b"queued")
    with pytest.raises(SpoolRefused, match="does not answer"):
        await first
    assert "does not answer" in spool.refusal
    refused = asyncio.create_task(spool.append(1, b"too late"))
    await asyncio.sleep(0)  # once: it does not wait for anything
    assert isinstance(refused.exception(), SpoolRefused)
    moves.set()
    async with asyncio.timeout(_WITHIN_S):
        while spool.refusal:
            await asyncio.sleep(0.01)
    await spool.append(1, b"taken again")
    assert [record.lines for record in await spool.oldest(1_000)] == [b"on its way", b"taken again"]
    running.cancel()
    await asyncio.wait({running})
    await spool.close()


class SlowToOpen(PosixPath):
    """A file on a disk that hangs until `moves`."""

    moves = threading.Event()

    def __fspath__(self) -> str:
        self.moves.wait(_WITHIN_S)
        return super().__fspath__()


async def test_a_spool_whose_disk_hangs_does_not_find_out_whether_kafka_is_back(tmp_path: Path) -> None:
    def claim_slow() -> Slot:
        slot = claim(tmp_path)
        slot.path = SlowToOpen(slot.path)
        return slot

    SlowToOpen.moves.set()
    spool = Spool(claim_slow, max_bytes=1_000_000, commit_seconds=0.1)
    running = asyncio.create_task(spool.run())
    await spool.append(1, b"held")
    assert spool.drains
    with full_disk(os.getpid(), 100_000), pytest.raises(SpoolRefused, match="cannot be written"):
        await spool.append(1, b"refused" * 50_000)  # after which the file is opened anew
    assert spool.drains
    SlowToOpen.moves.clear()
    draining = asyncio.create_task(spool.oldest(1_000))
    async with asyncio.timeout(_WITHIN_S):
        while spool.drains:
            await asyncio.sleep(0.01)
    SlowToOpen.moves.set()
    assert [record.lines for record in await draining] == [b"held"]
    assert spool.drains
    running.cancel()
    await asyncio.wait({running})
    await spool.close()
