"""A log that is not the one that was billed: where it differs, a new incarnation of the partition begins.

A power cut, a copy of Kafka's files, a topic made anew, another cluster: what is in the log at offsets that
are billed would never be counted. What was billed of the former log stays billed: it was promised, and the
seen ids know it when it is sent again.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from aggregator import metrics
from aggregator.domain.batch import hash_of
from aggregator.domain.lineage import Incarnation, billed
from aggregator.errors import LogGapError
from aggregator.incarnation_ledger import Beginning, IncarnationLedger, Landmark
from aggregator.log_reader import LogReader
from aggregator.postgres import Claim

log = structlog.get_logger(__name__)

Close = Callable[[Claim, tuple[int, int]], Awaitable[Claim]]
"""Fixes all that was billed under a claim as blocks; the log holds what lies within the range. Returns the
claim as it is then."""


class Incarnations:
    """Compares the log with the ledger when a partition is claimed."""

    def __init__(self, ledger: IncarnationLedger, log_reader: LogReader) -> None:
        self._ledger = ledger
        self._log_reader = log_reader

    async def agreed(self, claim: Claim, close: Close) -> tuple[Claim, list[Incarnation]]:
        """The claim, and the partition's incarnations so far; on a new one when the log is another one."""
        history = await self._ledger.history(claim.partition)
        known = claim.partition, claim.next_offset, claim.last_record_hash
        if not await self._log_reader.is_surely_another(*known):
            return claim, history
        beginning = await self._beginning(claim, history)
        log.error("incarnations.log_differs", **_told(claim, beginning))
        lost_from = billed(history, claim.incarnation, claim.next_offset)[-1].first_offset
        if beginning.base == claim.incarnation:
            lost_from = beginning.first_offset
        claim = await close(claim, (beginning.log_first, lost_from))
        begun, lost = await self._ledger.begin(claim, beginning, lost_from)
        metrics.incarnations.inc()
        metrics.records_lost.labels(str(claim.partition)).inc(lost.next_offset - lost.first_offset)
        log.error(
            "incarnations.began",
            **_told(begun, beginning),
            lost_from=lost.first_offset,
            lost_to=lost.next_offset,
            lost_rows=lost.event_rows,
            lost_billed=lost.billed,
        )
        return begun, await self._ledger.history(claim.partition)

    async def _beginning(self, claim: Claim, history: Sequence[Incarnation]) -> Beginning:
        """The first offset that no incarnation has billed from this log, as far as the ledger can tell."""
        first, end = await self._log_reader.bounds(claim.partition)
        found = Beginning(None, first, None, first, end)
        for stretch in billed(history, claim.incarnation, claim.next_offset):
            low, high = max(first, stretch.first_offset), min(end, stretch.next_offset)
            mark = await self._last_common(claim.partition, stretch.incarnation, low, high)
            if mark is not None and mark.next_offset >= found.first_offset:
                found = Beginning(stretch.incarnation, mark.next_offset, mark.last_record_hash, first, end)
        return found

    async def _last_common(self, partition: int, incarnation: int, low: int, high: int) -> Landmark | None:
        """The last batch of an incarnation between two offsets that the log holds, and so all before it."""
        common: Landmark | None = None
        while low < high:
            middle = (low + high + 1) // 2
            mark = await self._ledger.last_landmark(partition, incarnation, low, middle)
            if mark is None:
                mark = await self._ledger.first_landmark(partition, incarnation, low, high)
            if mark is None:
                break
            if await self._holds(partition, mark):
                common, low = mark, mark.next_offset
            else:
                high = mark.next_offset - 1
        return common

    async def _holds(self, partition: int, mark: Landmark) -> bool:
        try:
            record = await self._log_reader.record_at(partition, mark.next_offset - 1)
        except LogGapError:
            return False
        return record is not None and hash_of(record) == mark.last_record_hash


def _told(claim: Claim, beginning: Beginning) -> dict[str, object]:
    return {
        "partition": claim.partition,
        "incarnation": claim.incarnation,
        "next_offset": claim.next_offset,
        **{f"new_{name}": value for name, value in msgspec.structs.asdict(beginning).items()
           if name != "last_record_hash"},
    }  # fmt: skip
