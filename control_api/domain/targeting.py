"""Targeting rules are references to the rules service: any id is accepted, none at all is not.

An unknown rule makes nobody eligible; targeting decides whom to serve, never what is counted or billed.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import msgspec

from control_api.domain.campaign import Campaign, Frequency
from control_api.domain.refusals import FieldError
from control_api.domain.texts import check_text
from schemas.reasons import Channel

POINTER = "/targetingRules"


def check_rules(rules: Sequence[str]) -> Iterator[FieldError]:
    """What is wrong with the rules of a campaign."""
    if not rules:
        yield FieldError(POINTER, "at least one targeting rule is required")
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        yield from check_text(rule, f"{POINTER}/{index}")
        if rule in seen:
            yield FieldError(f"{POINTER}/{index}", "this rule is named twice")
        seen.add(rule)


class Evaluation(msgspec.Struct, frozen=True):
    """What the rules service makes of the rules; without one, `available` is false and `detail` says why."""

    available: bool
    detail: str


class FrequencyLimit(msgspec.Struct, frozen=True, rename="camel"):
    """At most `impressions` to one visitor within `perHours`."""

    impressions: int
    per_hours: int


class Targets(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Whom a campaign names: segments and rules by their ids, and how it may address them."""

    segments: tuple[str, ...]
    rules: tuple[str, ...]
    personalization_rules: tuple[str, ...]
    channels: tuple[Channel, ...]
    frequency: Frequency
    frequency_cap: FrequencyLimit | None


class ReachedDay(msgspec.Struct, frozen=True):
    """Different visitors on a day of the organization's time zone, about."""

    day: date
    visitors: int


class Reached(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Different visitors that events named, within about 1 %: since the campaign began (`visitors`), and on
    each of the last days that has any. Events without a visitorId, and bots, are in none of them."""

    visitors: int
    time_zone: str
    by_day: list[ReachedDay]


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a campaign's audience: whom it names, and how many it has reached."""

    targets: Targets
    reached: Reached
    evaluation: Evaluation


def targets_of(campaign: Campaign) -> Targets:
    """Whom a campaign names."""
    settings, cap = campaign.settings, campaign.settings.frequency_cap or None
    personal = settings.personalization
    return Targets(
        segments=settings.target_audience,
        rules=campaign.targeting_rules,
        personalization_rules=personal.rules if personal.enabled else (),
        channels=settings.channels,
        frequency=settings.frequency,
        frequency_cap=FrequencyLimit(cap.impressions, cap.per_hours) if cap else None,
    )
