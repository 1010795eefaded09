"""The partitions that this process owns: claimed on assignment, settled, handed over."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import structlog

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.dead_letters import DeadLetters
from aggregator.domain.batch import LogRecord
from aggregator.domain.lineage import Incarnation
from aggregator.errors import FencedError, StoreError, StoreUnavailable
from aggregator.event_store import EventStore
from aggregator.incarnations import Incarnations
from aggregator.joint_bills import JointBills
from aggregator.joint_inserts import JointInserts
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.log_retention import LogRetention
from aggregator.old_events import OldEvents
from aggregator.postgres import RETRYABLE, Claim
from aggregator.retry import TRANSIENT, tries
from aggregator.seen_recovery import SeenRecovery
from aggregator.settings import Settings
from aggregator.settle import PartitionSettler
from aggregator.store import PartitionStore
from aggregator.store_limits import RowBudget, StoreLimits

log = structlog.get_logger(__name__)

_DRAIN_SECONDS = 4.0
_CLAIM_TRIES = 15
"""About a minute."""


GoOn = Callable[[int, int], Awaitable[None]]


async def _stay(_: int, __: int) -> None:
    """For whoever asks where each partition stands."""


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
        recovery_reader: LogReader,
        incarnations: Incarnations,
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
        self._incarnations = incarnations
        self._dead_letters = dead_letters
        self._old_events = OldEvents(blocks, events, log_reader, settings.seen_window_seconds * 1000)
        self._retention = LogRetention(
            settings.kafka,
            blocks,
            log_reader,
            keep_seconds=settings.log_retention_seconds,
            every_seconds=settings.retention_every_seconds,
            clock_ms=clock_ms,
        )
        self._seen = SeenRecovery(
            settings.state / "seen",
            settings.seen_window_seconds * 1000,
            settings.owner,
            ledger,
            recovery_reader,
            events,
            clock_ms,
        )
        self._clock_ms = clock_ms
        self._on_crossing = on_crossing
        self._on_failure = on_failure
        self._settlers: dict[int, PartitionSettler] = {}
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}
        self._bills = JointBills(ledger)
        self._inserts = JointInserts(events)
        self._rows = RowBudget(settings.pending_max_rows, settings.pending_max_bytes)
        self._assigning = asyncio.Lock()

    @property
    def partitions(self) -> set[int]:
        """The partitions owned now."""
        return set(self._settlers)

    async def assign(self, partitions: Iterable[int], go_on: GoOn = _stay) -> dict[int, int]:
        """Claims the partitions, all at a time, and lets go of all others; `go_on` is called for each once it
        is claimed, with the offset to go on at. Returns all of these.

        Waits a minute for Postgres, then raises what it last met: Faust waits no longer for a seek, and a
        process that ends is started again.
        """

        async def take(partition: int) -> None:
            await self._take(partition)
            metrics.partitions_owned.set(len(self._settlers))
            await go_on(partition, self._settlers[partition].next_offset)

        wanted = set(partitions)
        async with self._assigning:  # Faust may ask twice at a time: one partition must not be opened twice
            for partition in self.partitions - wanted:
                await self._release(partition)
            metrics.partitions_owned.set(len(self._settlers))
            try:
                async with asyncio.TaskGroup() as claims:
                    for partition in sorted(wanted):
                        claims.create_task(take(partition))
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from None
            return {partition: self._settlers[partition].next_offset for partition in wanted}

    async def settle(self, partition: int, records: Sequence[LogRecord]) -> int | None:
        """Takes charge of records, billed or set aside, and returns the partition; None when another process
        owns it."""
        settler = self._settlers.get(partition)
        if settler is None:
            log.info("settlement.not_owned", partition=partition, records=len(records))
            return None
        await settler.settle(records)
        return partition

    async def compare_logs(self) -> None:
        """Returns when the log of each partition is known to be the one that was billed; LogGapError when it
        is not. Called after Kafka was connected anew."""
        await asyncio.gather(*(settler.require_billed_log() for settler in self._settlers.values()))

    async def quiesce(self) -> None:
        """Returns when no batch is being billed: partitions can be handed over."""
        await asyncio.gather(*(settler.quiesce() for settler in self._settlers.values()))

    async def stop(self) -> None:
        """Stores what can be stored in a few seconds, seals the seen ids, and lets go of everything."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self.quiesce()  # may be waiting for Postgres: who goes on after us asks it as well
                await asyncio.gather(*(settler.store.drain() for settler in self._settlers.values()))
        await asyncio.gather(*(self._release(partition) for partition in self.partitions))
        await self._inserts.close()

    async def _take(self, partition: int) -> None:
        async for number in tries():
            try:
                claim = await self._ledger.claim(partition, self._settings.owner)
                existing = self._settlers.get(partition)
                if (
                    existing is not None
                    and (existing.claim.epoch, existing.next_offset) == (claim.epoch, claim.next_offset)
                    and await existing.is_billed_log()
                ):
                    return
                if existing is not None:
                    await self._release(partition)  # may have waited for what was being billed
                    claim = await self._ledger.claim(partition, self._settings.owner)
                settler = self._settlers[partition] = await self._open(claim)
                claim = settler.claim
            except TRANSIENT as error:
                # For ClickHouse it waits as long as it takes: the other partitions are billed meanwhile.
                if number >= _CLAIM_TRIES and not isinstance(error, StoreError | StoreUnavailable):
                    raise
                log.warning("settlement.claim_waits", partition=partition, tries=number, error=str(error))
            else:
                log.info(
                    "settlement.claimed",
                    partition=partition,
                    incarnation=claim.incarnation,
                    epoch=claim.epoch,
                    offset=claim.next_offset,
                )
                return

    async def _open(self, claim: Claim) -> PartitionSettler:
        claim, history = await self._incarnations.agreed(claim, self._close_incarnation)
        last = None
        if claim.next_offset:
            last = await self._log_reader.record_at(claim.partition, claim.next_offset - 1)
        seen = await self._seen.open(claim, history, last)
        seen.follow(self._clock_ms)
        store = self._store_of(claim, history)
        settler = PartitionSettler(
            claim,
            self._ledger,
            self._bills,
            seen,
            self._dead_letters,
            store,
            self._log_reader,
            self._old_events,
            max_bytes=self._settings.bill_max_bytes,
            on_crossing=self._on_crossing,
        )
        work = (
            store.run(),
            store.verify(),
            settler.bill_aside(),
            settler.watch_log(),
            self._retention.run(claim.partition),
        )
        self._tasks[claim.partition] = [asyncio.create_task(self._watch(claim, each)) for each in work]
        return settler

    def _store_of(self, claim: Claim, history: Sequence[Incarnation]) -> PartitionStore:
        return PartitionStore(
            claim,
            self._ledger,
            self._blocks,
            self._events,
            self._inserts,
            self._log_reader,
            StoreLimits(
                self._settings.store_linger_seconds,
                self._settings.store_interval_seconds,
                self._settings.store_max_rows,
                self._settings.store_max_bytes,
                self._settings.verify_after_seconds,
                self._settings.compare_all_every_seconds,
            ),
            self._rows,
            owner=self._settings.owner,
            history=history,
        )

    async def _close_incarnation(self, claim: Claim, held: tuple[int, int]) -> Claim:
        await self._store_of(claim, []).close(held)
        return await self._ledger.claim(claim.partition, self._settings.owner)

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
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # also when a rebalance does not wait for it
            if settler is not None:
                _let_go(settler)


def _let_go(settler: PartitionSettler) -> None:
    partition = settler.claim.partition
    settler.store.discard()
    try:
        settler.seen.seal()
    except OSError as error:  # who takes the partition next reads the log again for them
        log.warning("settlement.seen_ids_not_written", partition=partition, error=str(error))
    log.info("settlement.released", partition=partition)
