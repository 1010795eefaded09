"""The caller's organization: its time zone and limits."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from control_api.domain.audit import entry_of
from control_api.domain.campaign import ShortText
from control_api.domain.content_rules import is_time_zone
from control_api.domain.organization import Limits, Organization
from control_api.domain.refusals import FieldError
from control_api.domain.texts import check_text
from control_api.errors import InvalidRequest, NotFound, PreconditionFailed
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from schemas.money import CURRENCY_DECIMALS, InvalidMoney, Money, budget_micros


class OrganizationRequest(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """The body of a PUT: the whole that an admin may change, as GET shows it. The rest of that is ignored."""

    name: ShortText
    time_zone: ShortText = "UTC"
    default_currency: ShortText = "EUR"
    limits: dict[str, Limits] = {}
    id: Any = UNSET
    version: Any = UNSET
    created_at: Any = UNSET
    updated_at: Any = UNSET


async def get(store: Store, actor: Actor) -> Organization:
    """The actor's organization. Raises NotFound."""
    organization = await store.organization(actor.organization_id)
    if organization is None:
        raise NotFound("there is no such organization")
    return organization


async def replace(
    store: Store, actor: Actor, asked: OrganizationRequest, if_match: int, now: datetime
) -> Organization:
    """Changes name, time zone and limits. Running campaigns keep their budgets."""
    if errors := tuple(_check(asked)):
        raise InvalidRequest(errors)

    async def work(unit: Unit) -> Organization:
        before = await unit.lock_organization(actor.organization_id)
        if before is None:
            raise NotFound("there is no such organization")
        if before.version != if_match:
            raise PreconditionFailed(before.version)
        await unit.update_organization(
            actor.organization_id,
            name=asked.name,
            time_zone=asked.time_zone,
            currency=asked.default_currency,
            limits=asked.limits,
            now=now,
        )
        after = await unit.organization(actor.organization_id) or before
        told = {"before": _told(before), "after": _told(after)}
        subject = ("organization", actor.organization_id)
        await unit.audit(
            entry_of(actor.cause(), now, actor.organization_id, "organization.updated", subject, **told)
        )
        return after

    return await store.in_transaction(work)


def _told(organization: Organization) -> dict[str, Any]:
    names = ("name", "time_zone", "default_currency", "limits")
    return {name: getattr(organization, name) for name in names}


def _check(asked: OrganizationRequest) -> Iterator[FieldError]:
    yield from check_text(asked.name, "/name")
    if not is_time_zone(asked.time_zone):
        yield FieldError("/timeZone", "not an IANA time zone")
    if asked.default_currency not in CURRENCY_DECIMALS:
        yield FieldError("/defaultCurrency", "not an ISO 4217 currency code")
    for currency, limits in asked.limits.items():
        if currency not in CURRENCY_DECIMALS:
            yield FieldError("/limits", "has a key that is not an ISO 4217 currency code")
            continue
        for name, amount in (
            ("largestBudget", limits.largest_budget),
            ("approvalThreshold", limits.approval_threshold),
        ):
            try:
                if amount is not None and budget_micros(Money(amount, currency)) <= 0:
                    yield FieldError(f"/limits/{currency}/{name}", "must be positive")
            except (InvalidMoney, ArithmeticError) as error:
                yield FieldError(f"/limits/{currency}/{name}", str(error))
