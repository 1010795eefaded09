"""Create, read, list, replace and delete campaigns."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign, Content
from control_api.domain.content_rules import new_content, read_submission
from control_api.domain.refusals import FieldError
from control_api.domain.replacement import replace
from control_api.domain.submission import Submission
from control_api.errors import NameTaken, NotFound, Unauthorized
from control_api.handlers.actor import Actor
from control_api.handlers.change import Saved, audit, lock, publish, save
from control_api.handlers.listing import ListQuery, write_cursor
from control_api.handlers.ports import Store, Unit
from schemas.domain_events import DomainEventType
from schemas.ids import new_id
from schemas.reasons import CampaignStatus


class Page(msgspec.Struct, frozen=True):
    """One page of a list, and where the next one begins."""

    items: list[tuple[Campaign, Account | None]]
    next_cursor: str | None


async def create(
    store: Store, actor: Actor, submission: Submission, now: datetime, unread: Sequence[FieldError] = ()
) -> Saved:
    """A new DRAFT with its account. Raises InvalidCampaign or NameTaken.

    `unread` are the fields of the submission that could not be read.
    """

    async def work(unit: Unit) -> Saved:
        campaign_id = new_id()
        organization = await unit.organization(actor.organization_id)
        if organization is None:
            raise Unauthorized("the token names an organization that does not exist")
        content = new_content(submission, organization, now, unread)
        await _require_free_name(unit, actor.organization_id, content.name, campaign_id)
        campaign = draft(content, campaign_id, actor, now)
        await unit.create_campaign(campaign)
        kinds, cause = [DomainEventType.CREATED], actor.cause()
        outbox_id = await publish(unit, campaign, kinds, cause, now)
        await audit(unit, None, campaign, kinds, cause, now)
        account = Account(
            currency=campaign.currency,
            budget=campaign.effective_budget,
            max_impressions=campaign.max_impressions,
        )
        return Saved(campaign=campaign, account=account, outbox_ids=(outbox_id,))

    return await store.in_transaction(work)


async def get(store: Store, actor: Actor, campaign_id: str) -> tuple[Campaign, Account]:
    """A campaign of the actor's organization with its account. Raises NotFound."""
    found = await store.campaign(actor.organization_id, campaign_id)
    if found is None:
        raise NotFound("there is no such campaign")
    return found


async def list_page(store: Store, query: ListQuery) -> Page:
    """One page; it asks for one campaign more, to know whether there is a next page."""
    rows = await store.campaigns(msgspec.structs.replace(query, page_size=query.page_size + 1))
    shown = rows[: query.page_size]
    cursor = None
    if len(rows) > len(shown) and shown:
        last, _, key = shown[-1]
        cursor = write_cursor(sort_text(query), key, last.id)
    return Page([(campaign, account) for campaign, account, _ in shown], cursor)


def sort_text(query: ListQuery) -> str:
    """The order of a list as its parameter says it."""
    return f"{'-' if query.descending else ''}{query.sort}"


async def replace_content(
    store: Store,
    actor: Actor,
    campaign_id: str,
    submission: Submission,
    if_match: int,
    now: datetime,
    unread: Sequence[FieldError] = (),
) -> Saved:
    """PUT: the whole content anew. Raises InvalidCampaign, FieldsNotChangeable, NameTaken."""

    async def work(unit: Unit) -> Saved:
        before, account = await lock(unit, actor.organization_id, campaign_id, if_match)
        organization = await unit.organization(actor.organization_id)
        if organization is None:
            raise NotFound("there is no such organization")
        read = read_submission(submission, before.currency)
        after = replace(before, read, account, organization, now=now, unread=unread)
        if after.name.lower() != before.name.lower() and before.status is not CampaignStatus.CANCELLED:
            await _require_free_name(unit, actor.organization_id, after.name, campaign_id)
        return await save(
            unit,
            before=before,
            after=after,
            account=account,
            kind=DomainEventType.UPDATED,
            cause=actor.cause(),
            now=now,
            updated_by=actor.user_id,
        )

    return await store.in_transaction(work)


def draft(content: Content, campaign_id: str, actor: Actor, now: datetime) -> Campaign:
    """A new campaign of the actor's organization."""
    return draft_by(content, campaign_id, actor.organization_id, actor.user_id, now)


def draft_by(
    content: Content, campaign_id: str, organization_id: str, user_id: str, now: datetime
) -> Campaign:
    """A new campaign of an organization, made by a user of it."""
    fields = {field.name: getattr(content, field.name) for field in msgspec.structs.fields(Content)}
    return Campaign(
        **fields,
        id=campaign_id,
        organization_id=organization_id,
        status=CampaignStatus.DRAFT,
        created_by=user_id,
        created_at=now,
        updated_by=user_id,
        updated_at=now,
    )


async def _require_free_name(unit: Unit, organization_id: str, name: str, campaign_id: str) -> None:
    if await unit.name_is_taken(organization_id, name, campaign_id):
        raise NameTaken("another campaign of the organization has this name")
