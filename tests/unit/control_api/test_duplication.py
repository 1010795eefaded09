"""Names and dates of copies."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_api.domain.duplication import Duplication, copy_of, names_of_copies
from control_api.domain.refusals import InvalidCampaign
from tests.unit.control_api.samples import DAY, NOW, a_campaign, an_organization

BERLIN = msgspec.structs.replace(an_organization(), time_zone="Europe/Berlin")


def test_copies_are_numbered() -> None:
    assert list(islice(names_of_copies("A"), 3)) == ["A (copy)", "A (copy 2)", "A (copy 3)"]
    long = list(islice(names_of_copies("x" * 255), 1_000))
    assert len(set(long)) == 1_000
    assert max(map(len, long)) == 255


@settings(deadline=None)
@given(
    st.integers(365, 47_000).map(lambda days: datetime(1970, 1, 1, 7, 30, tzinfo=UTC) + days * DAY),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=4_000)),
)
def test_a_copy_starts_within_the_next_days_and_runs_for_as_long(start: datetime, length: timedelta) -> None:
    campaign = a_campaign(start_date=start, end_date=start + length)
    copy = copy_of(campaign, "c", BERLIN, Duplication(), NOW)
    assert copy.start_date > NOW
    assert copy.end_date is not None
    assert copy.end_date - copy.start_date == length
    if start <= NOW:
        assert copy.start_date <= NOW + 2 * DAY
    else:
        assert copy.start_date == start


def test_the_time_of_day_is_that_of_the_organization() -> None:
    summer = datetime(2026, 7, 1, 7, 0, tzinfo=UTC)  # 09:00 in Berlin
    copy = copy_of(a_campaign(start_date=summer, end_date=None), "c", BERLIN, Duplication(), NOW)
    assert copy.start_date == datetime(2026, 11, 24, 8, 0, tzinfo=UTC)  # 09:00 in Berlin's winter
    assert copy.end_date is None
    winter = datetime(2026, 1, 10, 8, 0, tzinfo=UTC)  # 09:00 in Berlin
    now = datetime(2026, 7, 1, 7, 30, tzinfo=UTC)  # 09:30 there: today's 09:00 has passed
    copy = copy_of(a_campaign(start_date=winter, end_date=None), "c", BERLIN, Duplication(), now)
    assert copy.start_date == datetime(2026, 7, 2, 7, 0, tzinfo=UTC)


def test_dates_without_a_place_in_the_calendar_are_refused() -> None:
    campaign = a_campaign(start_date=NOW, end_date=NOW + timedelta(days=4_000))
    far = datetime(9999, 12, 30, tzinfo=UTC)
    with pytest.raises(InvalidCampaign):
        copy_of(campaign, "c", BERLIN, Duplication(far), NOW)
