"""Rules of the amounts in a submission: precision by currency, one currency a campaign."""

import msgspec

from control_api.domain.campaign import PricingSettings, free_of_charge
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError
from control_api.domain.submission import Submission
from schemas.money import (
    CURRENCY_DECIMALS,
    MAX_COST_MICROS,
    InvalidMoney,
    Money,
    budget_micros,
    from_micros,
    to_micros,
)
from schemas.reasons import PricingModel

BUDGET = "/budget"
BUDGET_LIMIT = "/settings/budgetLimit"
PRICE = "/settings/pricing/price"
_PRICE_DECIMALS = {PricingModel.CPM: 3}
"""A CPM price has three decimals, so that one impression costs whole micros."""
_MICRO_DECIMALS = 6


class Amounts(msgspec.Struct, frozen=True):
    """The amounts of a submission with their currency's decimals, and the campaign's one currency."""

    currency: str
    budget: Money | None
    budget_limit: Money | None
    pricing: PricingSettings


def read_amounts(submission: Submission, default_currency: str) -> tuple[Amounts, list[FieldError]]:
    """The amounts, and what is wrong with them (an amount that is wrong is left out)."""
    errors: list[FieldError] = []
    settings = submission.settings
    pricing = settings.pricing or None
    price = pricing.price or None if pricing else None
    named = {BUDGET: submission.budget, BUDGET_LIMIT: settings.budget_limit or None, PRICE: price}
    currency = next((money.currency for money in named.values() if money is not None), default_currency)
    for pointer, money in named.items():
        if money is not None and money.currency not in CURRENCY_DECIMALS:
            errors.append(FieldError(f"{pointer}/currency", "not an ISO 4217 currency code"))
        elif money is not None and money.currency != currency:
            errors.append(FieldError(f"{pointer}/currency", f"a campaign has one currency, here {currency}"))
    amounts = Amounts(
        currency,
        _budget(BUDGET, named[BUDGET], errors),
        _budget(BUDGET_LIMIT, named[BUDGET_LIMIT], errors),
        _pricing(pricing, currency, errors),
    )
    return amounts, errors


def over_limit(amounts: Amounts, organization: Organization) -> list[FieldError]:
    """What is above the organization's largest budget; no budget at all is above any that is set."""
    largest = organization.limits_in(amounts.currency).largest_budget
    asked = amounts.budget or amounts.budget_limit
    if largest is None or (asked is not None and asked.amount <= largest):
        return []
    return [FieldError(BUDGET, f"the organization's largest budget is {largest} {amounts.currency}")]


def _budget(pointer: str, money: Money | None, errors: list[FieldError]) -> Money | None:
    if money is None or money.currency not in CURRENCY_DECIMALS:
        return None
    try:
        micros = budget_micros(money)
    except (InvalidMoney, ArithmeticError) as error:
        errors.append(FieldError(f"{pointer}/amount", _sentence(error)))
        return None
    if micros <= 0:
        errors.append(FieldError(f"{pointer}/amount", "a budget must be positive"))
        return None
    return from_micros(micros, money.currency, budget=True)


def _pricing(pricing: PricingSettings | None, currency: str, errors: list[FieldError]) -> PricingSettings:
    if pricing is None:
        return free_of_charge(currency)
    if not pricing.price:
        if pricing.model is not PricingModel.EVENT:
            errors.append(FieldError(PRICE, f"the pricing model {pricing.model} needs a price"))
        return PricingSettings(pricing.model, from_micros(0, currency))
    try:
        micros = to_micros(
            pricing.price.amount,
            _PRICE_DECIMALS.get(pricing.model, _MICRO_DECIMALS),
            most=MAX_COST_MICROS,
        )
    except (InvalidMoney, ArithmeticError) as error:
        errors.append(FieldError(f"{PRICE}/amount", _sentence(error)))
        return free_of_charge(currency)
    if micros < 0:
        errors.append(FieldError(f"{PRICE}/amount", "a price must not be negative"))
    return PricingSettings(pricing.model, from_micros(micros, currency))


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, InvalidMoney) else "not an amount"
