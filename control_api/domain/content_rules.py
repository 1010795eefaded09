"""From a submission to a campaign's content: every rule of creation, all errors at once."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET

from control_api.domain.campaign import CampaignType, Content, Settings, Variant
from control_api.domain.money_rules import Amounts, over_limit, read_amounts
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError, InvalidCampaign
from control_api.domain.sizes import too_long
from control_api.domain.submission import MAX_NAME, Submission
from control_api.domain.targeting import check_rules
from control_api.domain.texts import check_text, composed, unseen_in

NAME = "/name"
DESCRIPTION = "/description"
START = "/startDate"
END = "/endDate"
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
_MIN_VARIANTS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Read(msgspec.Struct, frozen=True):
    """What the rules made of a submission. `content` is only to be used when `errors` is empty."""

    content: Content
    amounts: Amounts
    errors: tuple[FieldError, ...]


def read_submission(submission: Submission, default_currency: str) -> Read:
    """The normalized content and every error that does not depend on the moment or the organization."""
    amounts, errors = read_amounts(submission, default_currency)
    start = _moment(START, submission.start_date or None, errors)
    end = _moment(END, submission.end_date, errors)
    name = composed(submission.name or "")
    errors.extend(_check_texts(name, submission.description or ""))
    if submission.type is UNSET:
        errors.append(FieldError("/type", "a type is required"))
    if submission.start_date is UNSET:
        errors.append(FieldError(START, "a startDate is required"))
    if start and end and end <= start:
        errors.append(FieldError(END, "must be after startDate"))
    errors.extend(check_rules(submission.targeting_rules))
    errors.extend(_check_settings(submission.settings))
    content = Content(
        name=name,
        description=submission.description or "",
        type=submission.type or CampaignType.PROMOTION,
        targeting_rules=submission.targeting_rules,
        start_date=start or _EPOCH,
        end_date=end,
        budget=amounts.budget,
        settings=_normalized(submission.settings, amounts),
        currency=amounts.currency,
    )
    return Read(content, amounts, tuple(errors))


def _check_texts(name: str, description: str) -> Iterator[FieldError]:
    if not name:
        yield FieldError(NAME, "a name is required")
    elif len(name) > MAX_NAME:  # as it is kept: NFC makes two characters of some that came as one
        yield FieldError(NAME, f"must have at most {MAX_NAME} characters, written in NFC")
    elif unseen := unseen_in(name):
        yield FieldError(NAME, unseen)
    if unseen := unseen_in(description, lines=True):
        yield FieldError(DESCRIPTION, unseen)


def new_content(
    submission: Submission, organization: Organization, now: datetime, unread: Sequence[FieldError] = ()
) -> Content:
    """The content of a campaign to create; raises InvalidCampaign with every error.

    `unread` are the fields that could not be read at all, and that the submission therefore lacks.
    """
    read = read_submission(submission, organization.default_currency)
    errors = [*read.errors, *too_long(read.content), *over_limit(read.amounts, organization)]
    if submission.start_date is not UNSET:
        errors.extend(start_in_future(read.content.start_date, now))
    refuse(errors, unread)
    return read.content


def start_in_future(start: datetime, now: datetime) -> Iterator[FieldError]:
    """A campaign is planned before it starts."""
    if start <= now:
        yield FieldError(START, "must be in the future")


def refuse(errors: Sequence[FieldError], unread: Sequence[FieldError] = ()) -> None:
    """Raises InvalidCampaign when there are errors: one for each field, none that follows from another."""
    told = {error.pointer: error for error in unread}
    for error in errors:
        if not any(_is_about(pointer, error.pointer) for pointer in told):
            told[error.pointer] = error
    if told:
        raise InvalidCampaign(tuple(told.values()))


def _is_about(pointer: str, other: str) -> bool:
    """Whether one of two pointers leads to a part of what the other one leads to."""
    return f"{pointer}/".startswith(f"{other}/") or f"{other}/".startswith(f"{pointer}/")


def _moment(pointer: str, moment: datetime | None, errors: list[FieldError]) -> datetime | None:
    if moment is None:
        return None
    if not _FIRST_YEAR < moment.year < _LAST_YEAR:
        errors.append(FieldError(pointer, f"must lie between the years {_FIRST_YEAR} and {_LAST_YEAR}"))
        return None
    utc = moment.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _normalized(settings: Settings, amounts: Amounts) -> Settings:
    return msgspec.structs.replace(
        settings,
        max_impressions=settings.max_impressions or UNSET,
        budget_limit=amounts.budget_limit or UNSET,
        pricing=amounts.pricing,
        attribution=settings.attribution or UNSET,
        frequency_cap=settings.frequency_cap or UNSET,
        ab_test_settings=settings.ab_test_settings or UNSET,
    )


def _check_settings(settings: Settings) -> Iterator[FieldError]:
    if not settings.channels:
        yield FieldError("/settings/channels", "at least one channel is required")
    if len(set(settings.channels)) < len(settings.channels):
        yield FieldError("/settings/channels", "a channel is named twice")
    for index, hours in enumerate(settings.scheduling_rules):
        if not is_time_zone(hours.time_zone):
            yield FieldError(f"/settings/schedulingRules/{index}/timeZone", "not an IANA time zone")
        if hours.from_ >= hours.to:
            yield FieldError(f"/settings/schedulingRules/{index}/to", "must be after from")
    for pointer, texts in (
        ("/settings/targetAudience", settings.target_audience),
        ("/settings/personalization/rules", settings.personalization.rules),
    ):
        for index, text in enumerate(texts):
            yield from check_text(text, f"{pointer}/{index}")
    if settings.ab_test_settings:
        yield from _check_variants(settings.ab_test_settings.variants)


def _check_variants(variants: Sequence[Variant]) -> Iterator[FieldError]:
    pointer = "/settings/abTestSettings/variants"
    for index, variant in enumerate(variants):
        yield from check_text(variant.name, f"{pointer}/{index}/name")
    if len({variant.name for variant in variants}) < max(len(variants), _MIN_VARIANTS):
        yield FieldError(pointer, "at least two variants of different names")
    if not any(variant.weight for variant in variants):
        yield FieldError(pointer, "some weight must be above 0")


def is_time_zone(name: str) -> bool:
    """Whether the time zone database knows the name."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, or a name that is a path
        return False
    return True
