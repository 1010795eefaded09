"""Reads `budget-gates` and lets the status of campaigns follow their crossings.

The doors close from the topic directly; this consumer may be hours behind without a cent being lost.
"""

import asyncio

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from control_api import metrics
from control_api.errors import Unavailable
from control_api.handlers.automatic import apply_gate
from control_api.handlers.ports import Clock, Store
from schemas import budget_gates
from schemas.budget_gates import BudgetGate
from schemas.ids import canonical_uuid
from sql.consumers import end_consumer

log = structlog.get_logger(__name__)

GROUP = "control-api"
_RETRY_SECONDS = 0.5
_POLL_MS = 500
_SESSION_MS = 6_000
_TRIES = 3
_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999."""
_gate = msgspec.json.Decoder(BudgetGate)


class BudgetGateConsumer:
    """Runs until cancelled; commits an offset to Kafka after Postgres has what it says, so a crash in between
    applies a gate twice, which changes nothing. A record that can't be applied stops nobody: it is logged and
    counted. A crossing behind it is found in the ledger (jobs/crossings.py)."""

    def __init__(self, bootstrap_servers: str, store: Store, clock: Clock) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Reads, and begins anew whenever Kafka was away."""
        while True:
            try:
                await self._consume()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("gates.kafka_unavailable", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _consume(self) -> None:
        consumer = AIOKafkaConsumer(
            budget_gates.TOPIC,
            bootstrap_servers=self._bootstrap_servers,
            group_id=GROUP,
            client_id="control_api",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=_SESSION_MS,
        )
        try:
            await consumer.start()
            log.info("gates.reading")
            while True:
                batches = await consumer.getmany(timeout_ms=_POLL_MS)
                for records in batches.values():
                    for record in records:
                        await self._apply(record)
                if batches:
                    await consumer.commit()
        finally:
            await end_consumer(consumer)

    async def _apply(self, record: ConsumerRecord[bytes, bytes]) -> None:
        if record.value is None:  # a tombstone: the campaign is long gone
            return
        try:
            gate = read_gate(record.value)
            changed = await self._until_saved(gate)
        except Exception as error:  # noqa: BLE001  whatever it is, the records behind it are others'
            metrics.UNREADABLE_GATES.inc()
            log.error(  # noqa: TRY400  the sentence says it all
                "gates.unreadable", partition=record.partition, offset=record.offset, error=repr(error)
            )
            return
        metrics.GATES.labels("changed" if changed else "none").inc()
        log.info("gates.applied", campaign=gate.campaign_id, thresholds=gate.thresholds, changed=changed)

    async def _until_saved(self, gate: BudgetGate) -> bool:
        """Waits for Postgres as long as it takes; any other error is tried a few times and then raised."""
        tries = 0
        while True:
            try:
                return await apply_gate(self._store, gate, self._clock())
            except Unavailable as error:
                log.warning("gates.postgres_unavailable", error=str(error))
            except Exception:
                tries += 1
                if tries == _TRIES:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)


def read_gate(value: bytes) -> BudgetGate:
    """A gate whose fields Postgres and the calendar can take. Raises ValueError, or RecursionError."""
    gate = _gate.decode(value)
    if not (canonical_uuid(gate.campaign_id) and canonical_uuid(gate.organization_id)):
        raise ValueError("campaignId and organizationId must be UUIDs")
    if not 0 <= gate.at <= _LATEST_MS:
        raise ValueError("at is no time of this calendar")
    if not 0 < gate.budget_version < 1 << 31:
        raise ValueError("budgetVersion is no number of a version")
    return gate
