"""What the copy of a campaign is called, and when it runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import msgspec

from control_api.domain.campaign import Campaign, Moment
from control_api.domain.content_rules import END
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError, InvalidCampaign
from control_api.domain.submission import MAX_NAME, Submission

_DAY = timedelta(days=1)


class Duplication(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of duplicate: `startDate` in place of the first day that is still to come."""

    start_date: Moment | None = None


def names_of_copies(name: str) -> Iterator[str]:
    """NAME (copy), NAME (copy 2), …, without an end; a long NAME is cut."""
    for number in count(1):
        suffix = " (copy)" if number == 1 else f" (copy {number})"
        yield name[: MAX_NAME - len(suffix)].rstrip() + suffix


def copy_of(
    campaign: Campaign, name: str, organization: Organization, asked: Duplication, now: datetime
) -> Submission:
    """What a marketer would send to create the copy. It runs for as long as the campaign.

    A start that has passed moves by whole days, to the same time of day in the organization's time zone.
    """
    start = asked.start_date or _to_come(campaign.start_date, organization.time_zone, now)
    try:
        end = campaign.end_date and start + (campaign.end_date - campaign.start_date)
    except OverflowError:
        raise InvalidCampaign(
            [FieldError(END, "would lie too far off: choose an earlier startDate")]
        ) from None
    return Submission(
        name=name,
        description=campaign.description,
        type=campaign.type,
        targeting_rules=campaign.targeting_rules,
        start_date=start,
        end_date=end,
        budget=campaign.budget,
        settings=campaign.settings,
    )


def _to_come(start: datetime, time_zone: str, now: datetime) -> datetime:
    if start > now:
        return start
    local = start.astimezone(ZoneInfo(time_zone))
    moved = local + ((now - start) // _DAY + 1) * _DAY
    # Days of 23 hours: what is a day later on the clock may be gone already.
    while moved.astimezone(UTC) <= now:
        moved += _DAY
    return moved.astimezone(UTC)
