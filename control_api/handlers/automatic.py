"""What changes a campaign without a person: crossings of its budget, and the end of its time."""

from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter

from control_api.domain.lifecycle import apply_crossings, complete_if_due
from control_api.domain.snapshot import Cause
from control_api.handlers.change import KIND_OF_STATUS, announce_crossings, save
from control_api.handlers.ports import Store, Unit
from schemas.budget_gates import BudgetGate
from schemas.domain_events import DomainEventType

BUDGET = Cause("flightline:budget")
END_DATE = Cause("flightline:end-date")
_BATCH = 200


async def apply_gate(store: Store, gate: BudgetGate, now: datetime) -> bool:
    """Applies the crossings of a gate to the campaign's status; whether that changed anything.

    Safe to repeat: a status that has followed already stays. A gate of an old budget version changes no
    status; that it was crossed is announced all the same.
    """

    async def work(unit: Unit) -> bool:
        found = await unit.lock_campaign(gate.organization_id, gate.campaign_id)
        if found is None:
            return False
        campaign, account = found
        crossed, at = frozenset(gate.thresholds), datetime.fromtimestamp(gate.at / 1000, UTC)
        changed = campaign
        if gate.budget_version == campaign.budget_version:
            changed = apply_crossings(campaign, crossed, at=at)
        await announce_crossings(unit, changed, gate.budget_version, crossed, gate.billed, BUDGET, now)
        if changed is campaign:
            return False
        kind = KIND_OF_STATUS[changed.status]
        await save(unit, before=campaign, after=changed, account=account, kind=kind, cause=BUDGET, now=now)
        return True

    return await store.in_transaction(work)


async def complete_due(store: Store, now: datetime) -> int:
    """Completes campaigns whose endDate has come, some at a time; returns how many were looked at."""

    async def work(unit: Unit) -> int:
        # The end of each organization's audit log is locked until the commit: in one order for all replicas,
        # whichever campaigns they have. The accounts are locked by now.
        due = sorted(await unit.lock_due_accounts(now, _BATCH))
        batch, kind = unit.batch, DomainEventType.COMPLETED
        for organization_id, of_one in groupby(due, key=itemgetter(0)):
            found = await batch.lock(organization_id, [campaign_id for _, campaign_id in of_one])
            for campaign, account in found.values():
                after = complete_if_due(campaign, now=now)
                if after is not campaign:
                    await save(
                        batch,
                        before=campaign,
                        after=after,
                        account=account,
                        kind=kind,
                        cause=END_DATE,
                        now=now,
                    )
            await batch.flush()
        return len(due)

    return await store.in_transaction(work)
