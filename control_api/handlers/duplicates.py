"""Duplicate: a new DRAFT with the content of a campaign, and a name that nobody has."""

from datetime import datetime
from itertools import islice

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.domain.content_rules import new_content
from control_api.domain.duplication import Duplication, copy_of, names_of_copies
from control_api.domain.snapshot import Cause
from control_api.errors import NotFound
from control_api.handlers.actor import Actor
from control_api.handlers.campaigns import draft
from control_api.handlers.change import Saved, audit, publish
from control_api.handlers.ports import Store, Unit
from control_api.handlers.transitions import organization_of
from schemas.domain_events import DomainEventType
from schemas.ids import new_id

_LOOKED_AT = 50
"""Names of copies that are looked up at once."""


async def duplicate(
    store: Store,
    actor: Actor,
    campaign_id: str,
    asked: Duplication,
    now: datetime,
    *,
    dry_run: bool = False,
) -> Saved:
    """Without metrics. Raises NotFound, and InvalidCampaign when the copy breaks rules of creation.

    Of several that copy at once, each gets a name of its own: to take one waits for who is taking it.
    """

    async def work(unit: Unit) -> Saved:
        source = await unit.copies.source(actor.organization_id, campaign_id)
        if source is None:
            raise NotFound("there is no such campaign")
        organization = await organization_of(unit, actor)
        names = names_of_copies(source.name)
        while True:
            looked_at = list(islice(names, _LOOKED_AT))
            taken = await unit.copies.taken(actor.organization_id, looked_at)
            for name in (name for name in looked_at if name not in taken):
                content = new_content(copy_of(source, name, organization, asked, now), organization, now)
                copy = draft(content, new_id(), actor, now)
                if dry_run:
                    return _saved(copy)
                if await unit.copies.create(copy):
                    return await _told(unit, copy, actor.cause(f"copy of {source.id}"), now)

    return await store.in_transaction(work)


async def _told(unit: Unit, copy: Campaign, cause: Cause, now: datetime) -> Saved:
    kinds = [DomainEventType.CREATED]
    outbox_id = await publish(unit, copy, kinds, cause, now)
    await audit(unit, None, copy, kinds, cause, now)
    return _saved(copy, outbox_id)


def _saved(copy: Campaign, *outbox_ids: int) -> Saved:
    account = Account(
        currency=copy.currency, budget=copy.effective_budget, max_impressions=copy.max_impressions
    )
    return Saved(campaign=copy, account=account, outbox_ids=outbox_ids)
