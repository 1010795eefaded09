"""Approvals: asked for by one, decided by another one."""

from datetime import datetime

import msgspec

from control_api.domain.approval import Approval, ApprovalState, Comment, approve, reject, to_ask
from control_api.domain.campaign import Campaign
from control_api.domain.lifecycle import refusal
from control_api.domain.refusals import ApprovalAsked, ApprovalDecided
from control_api.errors import Forbidden, NotFound
from control_api.handlers.actor import Actor
from control_api.handlers.change import announce_approval, lock, save
from control_api.handlers.ports import Store, Unit
from control_api.handlers.transitions import organization_of
from schemas.domain_events import DomainEventType
from schemas.ids import new_id

_KINDS = {
    ApprovalState.APPROVED: DomainEventType.APPROVAL_APPROVED,
    ApprovalState.REJECTED: DomainEventType.APPROVAL_REJECTED,
}


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for approval: an optional word to whoever decides."""

    comment: Comment | None = None


class Deciding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of approve and reject: an optional reason."""

    comment: Comment | None = None


class ApprovalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of an organization's approvals, or of a campaign's, from the newest on, after the id `after`."""

    organization_id: str
    campaign_id: str | None = None
    states: list[str] | None
    after: str | None
    page_size: int


async def ask(
    store: Store, actor: Actor, campaign_id: str, asking: Asking, if_match: int | None, now: datetime
) -> Approval:
    """Asks for the budget that waits now. Raises ApprovalNotNeeded, ApprovalAsked."""

    async def work(unit: Unit) -> Approval:
        campaign, _ = await lock(unit, actor.organization_id, campaign_id, if_match)
        approval = Approval(
            id=new_id(),
            organization_id=actor.organization_id,
            campaign_id=campaign.id,
            asked=to_ask(campaign, await organization_of(unit, actor)),
            asked_by=actor.user_id,
            asked_at=now,
            ask_comment=asking.comment,
        )
        if not await unit.approvals.add(approval):
            raise refusal(ApprovalAsked, campaign, "the approval was asked for already")
        kind, cause = DomainEventType.APPROVAL_REQUESTED, actor.cause(asking.comment)
        await unit.audit(await announce_approval(unit, kind, campaign, approval, cause, now))
        return approval

    return await store.in_transaction(work)


async def page(store: Store, query: ApprovalQuery) -> tuple[list[Approval], str | None]:
    """A page of approvals, and the id after which the next one begins. Raises NotFound for the campaign."""

    async def work(unit: Unit) -> list[Approval]:
        most, campaign_id = query.page_size + 1, query.campaign_id
        if campaign_id is None:
            return await unit.approvals.page(query.organization_id, query.states, query.after, most)
        if await unit.copies.source(query.organization_id, campaign_id) is None:
            raise NotFound("there is no such campaign")
        return await unit.approvals.of_campaign(campaign_id, query.states, query.after, most)

    found = await store.in_transaction(work)
    shown = found[: query.page_size]
    return shown, shown[-1].id if len(found) > len(shown) else None


async def decide(
    store: Store,
    actor: Actor,
    campaign_id: str,
    approval_id: str,
    state: ApprovalState,
    deciding: Deciding,
    if_match: int | None,
    now: datetime,
) -> Approval:
    """APPROVED or REJECTED, by somebody else than who asked or changed the budget last.

    What is pending is about the campaign's budget as it is: a change of it withdraws the approval in its own
    transaction. Raises Forbidden, ApprovalDecided, and FieldsNotChangeable (domain.approval.approve).
    """

    async def work(unit: Unit) -> Approval:
        campaign, account = await lock(unit, actor.organization_id, campaign_id, if_match)
        approval = await unit.approvals.get(actor.organization_id, campaign_id, approval_id)
        if approval is None:
            raise NotFound("there is no such approval")
        if approval.state is not ApprovalState.PENDING:
            raise ApprovalDecided(f"the approval is {approval.state} already")
        _require_another_person(actor, approval, campaign)
        organization = await organization_of(unit, actor)
        is_approved = state is ApprovalState.APPROVED
        after = approve(campaign, account, organization) if is_approved else reject(campaign)
        decided = msgspec.structs.replace(
            approval, state=state, decided_by=actor.user_id, decided_at=now, decide_comment=deciding.comment
        )
        await unit.approvals.decide(decided)
        cause = actor.cause(deciding.comment)
        entry = await announce_approval(unit, _KINDS[state], campaign, decided, cause, now)
        if after != campaign:
            await save(
                unit,
                before=campaign,
                after=after,
                account=account,
                kind=DomainEventType.UPDATED,
                cause=cause,
                now=now,
                updated_by=actor.user_id,
            )
        await unit.audit(entry)
        return decided

    return await store.in_transaction(work)


def _require_another_person(actor: Actor, approval: Approval, campaign: Campaign) -> None:
    if actor.user_id in (approval.asked_by, campaign.budget_changed_by or campaign.created_by):
        raise Forbidden("whoever asked for a budget, or changed it last, does not decide on it")
