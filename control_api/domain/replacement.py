"""What PUT may change in which status."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from control_api.domain.account import Account
from control_api.domain.budget import keep_budget, needs_approval
from control_api.domain.campaign import Campaign, Content, Settings
from control_api.domain.content_rules import DESCRIPTION, END, NAME, START, Read, refuse, start_in_future
from control_api.domain.money_rules import BUDGET, BUDGET_LIMIT, over_limit
from control_api.domain.names import camel_case
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError, FieldsNotChangeable
from control_api.domain.sizes import SETTINGS, too_long
from control_api.domain.targeting import POINTER as RULES
from schemas.reasons import CampaignStatus

_PRICING = "/settings/pricing"
_ALWAYS = frozenset({"/name", "/description"})
_RUNNING = frozenset({*_ALWAYS, END, BUDGET})
_FIXED_SETTINGS = frozenset({_PRICING})
_KEPT = frozenset(
    {
        NAME,
        DESCRIPTION,
        START,
        RULES,
        "/settings/channels",
        "/settings/targetAudience",
        "/settings/personalization",
        "/settings/abTestSettings",
    }
)
"""What is not refused where it stays as it was, whatever the rules say of it by now."""
_MAX_IMPRESSIONS = "/settings/maxImpressions"


def replace(
    campaign: Campaign,
    read: Read,
    account: Account,
    organization: Organization,
    *,
    now: datetime,
    unread: Sequence[FieldError] = (),
) -> Campaign:
    """The campaign with new content, still under its old budget version.

    Raises InvalidCampaign for values that no campaign may have, FieldsNotChangeable for those that differ and
    may not in this status. Values that do not differ are never refused. `unread` are the fields that could
    not be read at all.
    """
    if unread:
        refuse(read.errors, unread)
    differing = differences(campaign, read.content)
    locked = [
        FieldError(pointer, "cannot be changed any more")
        for pointer in differing
        if not _changeable(campaign, pointer, now)
    ]
    if locked:
        raise FieldsNotChangeable(campaign.status, locked)
    errors = [error for error in read.errors if not _touches_only_kept(error.pointer, differing)]
    if any(pointer == RULES or pointer.startswith(SETTINGS) for pointer in differing):
        errors.extend(too_long(read.content))
    if START in differing:
        errors.extend(start_in_future(read.content.start_date, now))
    if differing & {BUDGET, f"{BUDGET}/currency", BUDGET_LIMIT}:
        errors.extend(over_limit(read.amounts, organization))
    if END in differing and campaign.status is not CampaignStatus.DRAFT:
        errors.extend(_end_in_future(read.content.end_date, now))
    refuse(errors)
    wanted = _with_content(campaign, read.content)
    spent = list(_below_spent(wanted, account, differing))
    if spent:
        raise FieldsNotChangeable(campaign.status, spent)
    return _with_approval(wanted, campaign, organization)


def differences(campaign: Content, content: Content) -> frozenset[str]:
    """JSON pointers of the fields that differ; settings are compared one by one."""
    fields = (
        field for field in msgspec.structs.fields(Content) if field.name not in ("settings", "currency")
    )
    pointers = {f"/{camel_case(field.name)}" for field in fields if _differs(campaign, content, field.name)}
    for setting in msgspec.structs.fields(Settings):
        if _differs(campaign.settings, content.settings, setting.name):
            pointers.add(f"/settings/{setting.encode_name}")
    if campaign.currency != content.currency:
        pointers.add(f"{BUDGET}/currency")
    return frozenset(pointers)


def _differs(before: Any, after: Any, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))


def _changeable(campaign: Campaign, pointer: str, now: datetime) -> bool:
    match campaign.status:
        case CampaignStatus.DRAFT:
            return True
        case CampaignStatus.COMPLETED | CampaignStatus.CANCELLED:
            return pointer in _ALWAYS
    if pointer == START:
        return now < campaign.start_date
    if pointer == "/targetingRules":
        return campaign.status is not CampaignStatus.ACTIVE
    return pointer in _RUNNING or (pointer.startswith("/settings/") and pointer not in _FIXED_SETTINGS)


def _touches_only_kept(pointer: str, differing: frozenset[str]) -> bool:
    """Whether an error is about a value that stays as it is; the order of dates concerns both of them."""
    if pointer == END:
        return not differing & {START, END}
    return any(pointer == kept or pointer.startswith(f"{kept}/") for kept in _KEPT - differing)


def _end_in_future(end: datetime | None, now: datetime) -> Iterator[FieldError]:
    if end is not None and end <= now:
        yield FieldError(END, "must be in the future")


def _with_content(campaign: Campaign, content: Content) -> Campaign:
    fields = {field.name: getattr(content, field.name) for field in msgspec.structs.fields(Content)}
    return msgspec.structs.replace(campaign, **fields)


def _below_spent(wanted: Campaign, account: Account, differing: frozenset[str]) -> Iterator[FieldError]:
    budget = wanted.effective_budget
    if budget is not None and budget < account.billed:
        pointer = BUDGET if BUDGET in differing else BUDGET_LIMIT
        yield FieldError(pointer, "must not be below what is billed")
    limit = wanted.max_impressions
    if limit is not None and limit < account.billable_impressions:
        yield FieldError(_MAX_IMPRESSIONS, "must not be below the billable impressions counted")


def _with_approval(wanted: Campaign, current: Campaign, organization: Organization) -> Campaign:
    """A running campaign keeps its budget until a new one is approved; a DRAFT asks on activation."""
    running = current.status in (CampaignStatus.ACTIVE, CampaignStatus.PAUSED)
    if not running or wanted.effective_budget == current.effective_budget:
        return wanted
    if needs_approval(wanted.effective_budget, organization, wanted.currency):
        return keep_budget(wanted, current)
    return msgspec.structs.replace(wanted, pending_budget=None)
