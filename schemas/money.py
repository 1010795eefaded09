"""Money without floats: integer micros inside, decimal numbers with a currency at the edges.

A micro is 10⁻⁶ of a currency's unit. Budgets have the decimals of their currency (ISO 4217); event costs,
prices and revenue have up to six.
"""

from decimal import Decimal
from typing import NewType

import msgspec

Micros = NewType("Micros", int)

MICROS_PER_UNIT = 1_000_000
MICRO_DECIMALS = 6
MAX_MICROS = 10**15 * 1_000
"""10¹² units: far above any budget."""

MAX_COST_MICROS = 10**14
"""10⁸ units: the most that one event may cost. A block of 20,000 events then sums within 64 bits."""

MAX_REVENUE_MICROS = 10**15
"""10⁹ units: the most that one conversion may bring in (a car in VND is 5·10⁸)."""
_TOO_MANY_DIGITS = 18

_ZERO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_TWO_DECIMALS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
    "CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF "
    "IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
    "MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD "
    "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER "
    "ZAR ZMW ZWG"
)
CURRENCY_DECIMALS: dict[str, int] = {
    **dict.fromkeys(_TWO_DECIMALS.split(), 2),
    **dict.fromkeys(_ZERO_DECIMALS.split(), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(), 3),
}
"""Decimals of each active ISO 4217 currency."""

_SMALLEST = {currency: Decimal(1).scaleb(-decimals) for currency, decimals in CURRENCY_DECIMALS.items()}
_CENT = Decimal("0.01")


class InvalidMoney(ValueError):
    """An amount that its currency, its precision or its range does not allow."""


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money as the API shows it: `{"amount": 10000.00, "currency": "EUR"}`; `amount` is a decimal number."""

    amount: Decimal
    currency: str


def to_micros(amount: Decimal, decimals: int = MICRO_DECIMALS, most: int = MAX_MICROS) -> Micros:
    """`amount` in micros; InvalidMoney for too many decimals, NaN, an infinity, or above `most` micros."""
    if not amount.is_finite():
        raise InvalidMoney("an amount must be a finite number")
    # adjusted() first: to take abs() of 1e999999999 is a decimal.Overflow.
    if amount and (amount.adjusted() >= _TOO_MANY_DIGITS or abs(amount) > most // MICROS_PER_UNIT):
        raise InvalidMoney(f"an amount must not exceed {most // MICROS_PER_UNIT}")
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -decimals and amount != round(amount, decimals):
        raise InvalidMoney(f"an amount has at most {decimals} decimals here")
    return Micros(int(amount.scaleb(MICRO_DECIMALS)))


def budget_micros(money: Money) -> Micros:
    """A budget in micros; InvalidMoney for an unknown currency or decimals that it does not have."""
    decimals = CURRENCY_DECIMALS.get(money.currency)
    if decimals is None:
        raise InvalidMoney(f"{money.currency!r} is not an ISO 4217 currency code")
    return to_micros(money.amount, decimals)


def from_micros(micros: int, currency: str, *, budget: bool = False) -> Money:
    """Micros as money. Budgets are shown with their currency's decimals, everything else with what it has."""
    amount = Decimal(micros).scaleb(-MICRO_DECIMALS)
    shown = in_decimals_of(currency, amount)
    if budget or shown == amount:
        return Money(shown, currency)
    return Money(amount.normalize(), currency)


def in_decimals_of(currency: str, amount: Decimal) -> Decimal:
    """An amount with the decimals of its currency, rounded half to even where it has more."""
    return amount.quantize(_SMALLEST.get(currency, _CENT))
