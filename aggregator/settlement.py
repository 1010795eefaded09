"""The partitions that this process owns: claimed on assignment, settled, handed over."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import structlog

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.dead_letters import DeadLetters
from aggregator.domain.batch import LogRecord, decode_batch, hash_of
from aggregator.errors import FencedError, LogGapError, LogUnavailable
from aggregator.event_store import EventStore
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import RETRYABLE, Claim
from aggregator.retry import tries
from aggregator.seen_ids import SeenIds, key_of
from aggregator.settings import Settings
from aggregator.settle import PartitionSettler
from aggregator.store import PartitionStore, RowBudget, StoreLimits

log = structlog.get_logger(__name__)

_DRAIN_SECONDS = 4.0
_CLAIM_TRIES = 15
"""About a minute."""
_TOPIC_ID_UNKNOWN = ""


class Settlement:
    """Builds a settler for each partition that is assigned, and keeps it while the epoch stays its own.

    After a rebalance that gives a partition back to its owner the claim has the same epoch: nobody else has
    billed in between, and what is in memory is still true.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        blocks: BlockLedger,
        events: EventStore,
        log_reader: LogReader,
        dead_letters: DeadLetters,
        *,
        clock_ms: Callable[[], int],
        on_crossing: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._blocks = blocks
        self._events = events
        self._log_reader = log_reader
        self._dead_letters = dead_letters
        self._clock_ms = clock_ms
        self._on_crossing = on_crossing
        self._on_failure = on_failure
        self._settlers: dict[int, PartitionSettler] = {}
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}
        self._rows = RowBudget(settings.pending_max_rows)
        self._assigning = asyncio.Lock()

    @property
    def partitions(self) -> set[int]:
        """The partitions owned now."""
        return set(self._settlers)

    async def assign(self, partitions: Iterable[int]) -> dict[int, int]:
        """Claims the partitions and lets go of all others; returns the offset to go on at for each.

        Waits a minute for Postgres, then raises what it last met: Faust waits no longer for a seek, and a
        process that ends is started again.
        """
        wanted = set(partitions)
        async with self._assigning:  # Faust may ask twice at a time: one partition must not be opened twice
            for partition in self.partitions - wanted:
                await self._release(partition)
            for partition in sorted(wanted):
                await self._take(partition)
            metrics.partitions_owned.set(len(self._settlers))
            return {partition: self._settlers[partition].next_offset for partition in wanted}

    async def settle(self, partition: int, records: Sequence[LogRecord]) -> int | None:
        """Bills records and returns the partition; None, and nothing done, when another process owns it."""
        settler = self._settlers.get(partition)
        if settler is None:
            log.info("settlement.not_owned", partition=partition, records=len(records))
            return None
        await settler.settle(records)
        return partition

    async def quiesce(self) -> None:
        """Returns when no batch is being billed: partitions can be handed over."""
        await asyncio.gather(*(settler.quiesce() for settler in self._settlers.values()))

    async def stop(self) -> None:
        """Stores what can be stored in a few seconds, seals the seen ids, and lets go of everything."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self.quiesce()  # may be waiting for Postgres: who goes on after us asks it as well
                await asyncio.gather(*(settler.store.drain() for settler in self._settlers.values()))
        for partition in self.partitions:
            await self._release(partition)

    async def _take(self, partition: int) -> None:
        async for number in tries():
            try:
                claim = await self._ledger.claim(partition, _TOPIC_ID_UNKNOWN, self._settings.owner)
                existing = self._settlers.get(partition)
                if existing is not None and existing.claim.epoch == claim.epoch:
                    return
                await self._release(partition)
                self._settlers[partition] = await self._open(claim)
            except (LogUnavailable, *RETRYABLE) as error:
                if number >= _CLAIM_TRIES:
                    raise
                log.warning(
                    "settlement.ledger_unavailable", partition=partition, tries=number, error=str(error)
                )
            else:
                log.info(
                    "settlement.claimed", partition=partition, epoch=claim.epoch, offset=claim.next_offset
                )
                return

    async def _open(self, claim: Claim) -> PartitionSettler:
        last = await self._last_billed(claim)
        seen = await self._open_seen_ids(claim, last)
        store = PartitionStore(
            claim,
            self._ledger,
            self._blocks,
            self._events,
            self._log_reader,
            StoreLimits(
                self._settings.store_linger_seconds,
                self._settings.store_max_rows,
                self._settings.verify_after_seconds,
            ),
            self._rows,
            self._settings.owner,
        )
        self._tasks[claim.partition] = [
            asyncio.create_task(self._watch(claim, store.run())),
            asyncio.create_task(self._watch(claim, store.verify())),
        ]
        return PartitionSettler(
            claim,
            self._ledger,
            seen,
            self._dead_letters,
            store,
            max_bytes=self._settings.bill_max_bytes,
            on_crossing=self._on_crossing,
        )

    async def _last_billed(self, claim: Claim) -> LogRecord | None:
        """The record before the claim's offset; None when there is none any more, or none yet.

        LogGapError when the log is not the one that was billed: what came into another one at offsets that
        are billed would never be counted.
        """
        if claim.next_offset == 0:
            return None
        record = await self._log_reader.record_at(claim.partition, claim.next_offset - 1)
        if record is not None and claim.last_record_hash not in {None, hash_of(record)}:
            raise LogGapError(
                f"partition {claim.partition}: the record at {record.offset} is not the one that was billed"
            )
        return record

    async def _open_seen_ids(self, claim: Claim, last: LogRecord | None) -> SeenIds:
        """The partition's seen ids from their files; what those do not cover is read from the log."""
        now = self._clock_ms()
        window_ms = self._settings.seen_window_seconds * 1000
        seen = SeenIds.open(
            self._settings.state / "seen",
            claim.partition,
            claim.incarnation,
            claim.epoch,
            next_offset=claim.next_offset,
            now=now,
            window_ms=window_ms,
        )
        missing_from = seen.rebuild_from()
        if missing_from is not None:
            # The window ends where billing stands, not now: what waits in the log may be long past.
            oldest = claim.next_offset
            if last is not None:
                oldest = await self._log_reader.offset_at(claim.partition, last.at - window_ms)
            await self._rebuild(seen, claim, max(missing_from, oldest))
        return seen

    async def _rebuild(self, seen: SeenIds, claim: Claim, start: int) -> None:
        log.info(
            "settlement.rebuilding_seen_ids", partition=claim.partition, start=start, end=claim.next_offset
        )
        dropped = await self._ledger.duplicates_from(claim.partition, claim.incarnation, start)
        async for records in self._log_reader.read(claim.partition, start, claim.next_offset):
            batch = decode_batch(claim.partition, claim.incarnation, records)
            counted = [
                (key_of(event.organization_id, event.event_id), position)
                for position, event in zip(batch.positions, batch.events, strict=True)
                if position not in dropped
            ]
            if counted:
                keys, positions = zip(*counted, strict=True)
                seen.restore(keys, positions, batch.newest_at)

    async def _watch(self, claim: Claim, work: Coroutine[Any, Any, None]) -> None:
        """Runs a partition's background work; a fault that is not its handover ends the process."""
        try:
            await work
        except FencedError as error:
            log.info("settlement.fenced", partition=claim.partition, epoch=claim.epoch, reason=str(error))
            await self._require_handover(claim, error)
        except Exception as error:
            log.exception("settlement.failed", partition=claim.partition)
            self._on_failure(error)

    async def _require_handover(self, claim: Claim, error: FencedError) -> None:
        """Ends the process when nobody else owns the partition: by a fence of ClickHouse that is older than
        the ledger, for example. Billing that goes on without storing would be noticed late."""
        async for _ in tries():
            try:
                if await self._ledger.owns(claim):
                    log.error("settlement.fenced_as_owner", partition=claim.partition, epoch=claim.epoch)
                    self._on_failure(error)
            except RETRYABLE as unavailable:
                log.warning(
                    "settlement.ledger_unavailable", partition=claim.partition, error=str(unavailable)
                )
            else:
                return

    async def _release(self, partition: int) -> None:
        settler = self._settlers.pop(partition, None)
        tasks = self._tasks.pop(partition, [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if settler is not None:
            settler.store.discard()
            settler.seen.seal()
            log.info("settlement.released", partition=partition)
