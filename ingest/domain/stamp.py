"""What the log carries of an event: all that depends on the moment is decided and written down here."""

from ingest.domain.gate import Verdict
from ingest.domain.incoming import IncomingEvent
from ingest.domain.validate import Checked, Sender
from schemas.campaign_state import CampaignState, Pricing
from schemas.events import TrackingEvent
from schemas.ids import new_id
from schemas.reasons import EventType, PricingModel, Unbilled

_PER_THOUSAND = 1_000


def stamp(
    event: IncomingEvent,
    checked: Checked,
    *,
    sender: Sender,
    campaign: CampaignState,
    verdict: Verdict,
    is_bot: bool,
    now: int,
) -> TrackingEvent:
    """The event as it goes to the log, received at `now` (epoch ms)."""
    reason = unbilled_reason(verdict, is_bot=is_bot, backfill=checked.backfill)
    cost, flat = (0, False) if reason else cost_of(campaign.pricing, event.type, checked.cost)
    return TrackingEvent(
        event_id=event.event_id or new_id(),
        organization_id=campaign.organization_id,
        campaign_id=campaign.campaign_id,
        type=event.type,
        received_at=now,
        occurred_at=checked.occurred_at,
        currency=campaign.currency,
        budget_version=campaign.budget_version,
        billable=reason is None,
        cost=cost,
        flat=flat,
        reason=reason,
        visitor_id="" if sender.private else event.visitor_id or "",
        customer_id="" if sender.private else event.customer_id or "",
        click_id=event.click_id or "",
        variant=event.variant or "",
        channel=event.channel or "",
        placement=event.placement or "",
        country=country_of(event, sender),
        url=_url(event.url, sender),
        referrer=_url(event.referrer, sender),
        user_agent=user_agent_of(event, sender),
        revenue=checked.revenue,
        revenue_verified=sender.is_server and event.revenue is not None,
        data=checked.data,
    )


def unbilled_reason(verdict: Verdict, *, is_bot: bool, backfill: bool) -> Unbilled | None:
    """Why the event costs nothing; None when it is billable. A bot is one whatever its campaign does."""
    if is_bot:
        return Unbilled.BOT
    if backfill:
        return Unbilled.BACKFILL
    return verdict.reason


def cost_of(pricing: Pricing, event_type: EventType, own_cost: int) -> tuple[int, bool]:
    """The cost of a billable event in micros, and whether it is the flat fee (billed once by the ledger)."""
    match pricing.model, event_type:
        case PricingModel.CPM, EventType.IMPRESSION:
            return pricing.price // _PER_THOUSAND, False
        case (PricingModel.CPC, EventType.CLICK) | (PricingModel.CPA, EventType.CONVERSION):
            return pricing.price, False
        case PricingModel.FLAT, _:
            return pricing.price, True
        case PricingModel.EVENT, _:
            return own_cost, False
    return 0, False


def user_agent_of(event: IncomingEvent, sender: Sender) -> str:
    """The user agent of the person: a server's own header says nothing about them."""
    return (event.user_agent or "") if sender.is_server else sender.user_agent


def country_of(event: IncomingEvent, sender: Sender) -> str:
    """The country that a server names, or that a trusted proxy found; never what a browser says."""
    return (event.country or "").upper() if sender.is_server else sender.country


def _url(url: str | None, sender: Sender) -> str:
    if not url:
        return ""
    return url.partition("#")[0].partition("?")[0] if sender.private else url
