"""What the world is told of a billed batch: gates to close, and each campaign's activity."""

from collections.abc import Mapping, Sequence

from aggregator.domain.batch import Batch
from aggregator.domain.billing import Account, Delta
from aggregator.domain.crossing import Crossing, crossed_after
from schemas.budget_gates import BudgetGate
from schemas.campaign_activity import Activity, BatchActivity
from schemas.reasons import Threshold

MOST_CAMPAIGNS = 2_000
"""Of one record of activity: about half of what Kafka takes as one (1 MiB). A larger one would be refused for
ever, and no gate behind it in the outbox would reach a door."""


def gates_of(
    crossings: Sequence[Crossing],
    accounts: Mapping[str, Account],
    crossed: Mapping[str, frozenset[Threshold]],
) -> list[BudgetGate]:
    """One gate a campaign, with all that its budget version has crossed by now."""
    newest = {crossing.campaign_id: crossing for crossing in crossings}
    thresholds = crossed_after(crossed, crossings)
    gates = []
    for campaign_id, last in newest.items():
        account = accounts[campaign_id]
        gates.append(
            BudgetGate(
                campaign_id=campaign_id,
                organization_id=account.organization_id,
                version=account.gate_version + 1,
                budget_version=account.budget_version,
                thresholds=tuple(t for t in Threshold if t in thresholds[campaign_id]),
                billed=last.billed,
                at=last.received_at,
                cause=last.cause,
            )
        )
    return gates


def activity_of(batch: Batch, deltas: Mapping[str, Delta]) -> list[BatchActivity]:
    """What the batch added to each campaign; several records, each with campaigns of its own, when they are
    too many for one."""
    campaigns = [_activity(delta) for delta in deltas.values()]
    at = max((delta.last_received_at for delta in deltas.values()), default=0)
    return [
        BatchActivity(
            incarnation=batch.incarnation,
            partition=batch.partition,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            at=at,
            campaigns=tuple(campaigns[start : start + MOST_CAMPAIGNS]),
        )
        for start in range(0, max(len(campaigns), 1), MOST_CAMPAIGNS)
    ]


def _activity(delta: Delta) -> Activity:
    return Activity(
        campaign_id=delta.campaign_id,
        organization_id=delta.organization_id,
        impressions=delta.impressions,
        clicks=delta.clicks,
        conversions=delta.conversions,
        billed=delta.billed,
        revenue=delta.revenue,
    )
