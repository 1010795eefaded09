"""Live windows, with event time as a plain number."""

from collections.abc import Iterable
from contextlib import suppress

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.domain.windows import (
    MINUTE_MS,
    AlertRules,
    CampaignWindows,
    Counts,
    Fall,
    Fresh,
    decode_windows,
    encode_windows,
    judged_minute,
)
from schemas.campaign_activity import Activity, BatchActivity

START = 29_000_160 * MINUTE_MS
"""A full hour, so that the quarter-hours of a test begin with it."""
HOUR = 60
RULES = AlertRules(minimum_impressions=100)


def batch(next_offset: int, partition: int = 0, incarnation: int = 0) -> BatchActivity:
    return BatchActivity(incarnation, partition, 0, next_offset, 0, ())


def activity(impressions: int = 0, clicks: int = 0, conversions: int = 0, billed: int = 0) -> Activity:
    return Activity("c", "o", impressions, clicks, conversions, billed)


def add(windows: CampaignWindows, batch: BatchActivity, activity: Activity, at: int) -> bool:
    """As a take of this batch alone does; whether it was counted."""
    fresh = Fresh("o", seen=dict(windows.seen))
    fresh.add(batch, activity, at)
    if not fresh.recent:
        return False
    windows.merge(fresh)
    return True


class Flight:
    """A campaign that is told of one batch a minute."""

    def __init__(self, rules: AlertRules = RULES) -> None:
        self.windows = CampaignWindows("o", START)
        self.rules = rules
        self.minute = 0
        self.falls: list[tuple[int, Fall]] = []

    def run(self, minutes: int, impressions: int, clicks: int = 0) -> None:
        """So many minutes of so much, each judged as soon as it is over."""
        for _ in range(minutes):
            self.minute += 1
            at = START + (self.minute - 1) * MINUTE_MS
            if impressions or clicks:
                add(self.windows, batch(self.minute), activity(impressions, clicks), at)
            now = START // MINUTE_MS + self.minute
            self.falls += [(self.minute, fall) for fall in self.windows.judge(now, self.rules)]

    @property
    def metrics(self) -> list[str]:
        return [fall.metric for _, fall in self.falls]


def test_the_last_minute_and_hour_hold_what_happened_in_them() -> None:
    windows = CampaignWindows("o", START)
    add(windows, batch(1), activity(10, 1, 0, 500), START)
    add(windows, batch(2), activity(20, 2, 1, 700), START + 30 * MINUTE_MS)
    now = START + 30 * MINUTE_MS + 20_000
    assert windows.last_minute(now) == Counts(20, 2, 1, 700)
    assert windows.last_hour(now) == Counts(30, 3, 1, 1_200)
    assert windows.last_hour(now + 31 * MINUTE_MS) == Counts(20, 2, 1, 700)
    assert windows.last_minute(now + MINUTE_MS) == Counts()
    assert windows.last_hour(now + HOUR * MINUTE_MS) == Counts()


def test_a_batch_that_comes_again_is_not_counted_again() -> None:
    windows = CampaignWindows("o", START)
    assert add(windows, batch(10), activity(5), START)
    assert not add(windows, batch(10), activity(5), START)
    assert not add(windows, batch(7), activity(5), START)
    assert add(windows, batch(7, partition=1), activity(5), START)
    assert windows.last_hour(START) == Counts(10)


def test_a_new_incarnation_begins_with_offsets_of_its_own() -> None:
    windows = CampaignWindows("o", START)
    add(windows, batch(100, incarnation=0), activity(5), START)
    assert add(windows, batch(3, incarnation=1), activity(5), START)
    assert not add(windows, batch(200, incarnation=0), activity(5), START)


def test_a_late_batch_is_counted_in_its_own_minute() -> None:
    windows = CampaignWindows("o", START)
    add(windows, batch(1), activity(1), START + 10 * MINUTE_MS)
    add(windows, batch(1, partition=1), activity(7), START)
    assert windows.last_minute(START + 10 * MINUTE_MS) == Counts(1)
    assert windows.last_hour(START + 10 * MINUTE_MS) == Counts(8)
    assert windows.last_hour(START + HOUR * MINUTE_MS) == Counts(1)


def test_a_batch_older_than_all_windows_changes_none_of_them() -> None:
    windows = CampaignWindows("o", START)
    add(windows, batch(1), activity(1), START + 3 * 24 * HOUR * MINUTE_MS)
    add(windows, batch(2), activity(1), START)
    assert windows.last_hour(START + 3 * 24 * HOUR * MINUTE_MS) == Counts(1)
    assert windows.last_hour(START) == Counts()


def test_ctr_below_half_of_the_past_day_is_told_once() -> None:
    flight = Flight()
    flight.run(5 * HOUR, impressions=100, clicks=10)
    assert flight.falls == []
    flight.run(2 * HOUR, impressions=100, clicks=1)
    assert flight.metrics == ["ctr"]
    (minute, fall) = flight.falls[0]
    # The window's mean falls below 5 % with its 34th minute: (26 * 10 + 34 * 1) / 60 = 4.9.
    assert minute == 5 * HOUR + 34
    assert fall.end - fall.begin == HOUR * MINUTE_MS
    assert fall.end == START + minute * MINUTE_MS
    assert round(fall.current, 6) == 4.9
    assert fall.baseline == 10.0


def test_rate_below_half_of_the_past_day_is_told_once() -> None:
    flight = Flight()
    flight.run(5 * HOUR, impressions=100)
    flight.run(2 * HOUR, impressions=10)
    assert flight.metrics == ["rate"]
    (minute, fall) = flight.falls[0]
    # (26 * 100 + 34 * 10) / 60 = 49 a minute.
    assert minute == 5 * HOUR + 34
    assert (fall.current, fall.baseline) == (2_940.0, 6_000.0)


def test_exactly_half_is_no_fall() -> None:
    flight = Flight()
    flight.run(5 * HOUR, impressions=100, clicks=10)
    flight.run(HOUR, impressions=50, clicks=5)
    assert flight.falls == []


def test_a_campaign_that_stopped_delivering_is_not_an_alert() -> None:
    flight = Flight()
    flight.run(5 * HOUR, impressions=100, clicks=10)
    flight.run(3 * HOUR, impressions=0)
    assert flight.falls == []


def test_few_impressions_are_noise() -> None:
    flight = Flight(AlertRules(minimum_impressions=1_000))
    flight.run(5 * HOUR, impressions=10, clicks=2)
    flight.run(2 * HOUR, impressions=4, clicks=0)
    assert flight.falls == []


def test_a_young_campaign_has_no_past_to_fall_below() -> None:
    flight = Flight()
    flight.run(HOUR, impressions=1_000, clicks=100)
    flight.run(5, impressions=10, clicks=1)
    assert flight.falls == []


def test_a_second_fall_is_told_after_a_recovery() -> None:
    flight = Flight()
    flight.run(5 * HOUR, impressions=100, clicks=10)
    flight.run(HOUR, impressions=100, clicks=1)
    flight.run(2 * HOUR, impressions=100, clicks=10)
    assert flight.metrics == ["ctr"]
    flight.run(HOUR, impressions=100, clicks=1)
    assert flight.metrics == ["ctr", "ctr"]


def test_a_second_fall_within_the_cool_down_is_told_when_it_is_over() -> None:
    flight = Flight(AlertRules(minimum_impressions=100, cooldown_minutes=6 * HOUR, window_minutes=15))
    flight.run(12 * HOUR, impressions=100, clicks=10)
    flight.run(15, impressions=100, clicks=1)
    flight.run(30, impressions=100, clicks=10)
    first = flight.falls[0][0]
    flight.run(6 * HOUR, impressions=100, clicks=1)
    assert [minute for minute, _ in flight.falls] == [first, first + 6 * HOUR]


def test_the_past_day_is_no_longer_than_a_day() -> None:
    flight = Flight()
    flight.run(30 * HOUR, impressions=100, clicks=50)
    flight.run(27 * HOUR, impressions=100, clicks=10)
    assert flight.metrics == ["ctr"]
    flight.run(HOUR, impressions=100, clicks=4)
    assert flight.falls[-1][1].baseline == 10.0


def test_a_minute_is_judged_only_when_another_has_passed() -> None:
    assert judged_minute(START + 2 * MINUTE_MS) == START // MINUTE_MS + 1
    assert judged_minute(START + 2 * MINUTE_MS - 1) == START // MINUTE_MS


def test_windows_are_stale_when_a_day_and_an_hour_have_passed() -> None:
    windows = CampaignWindows("o", START)
    add(windows, batch(1), activity(1), START)
    assert not windows.is_stale(START + 25 * HOUR * MINUTE_MS)
    assert windows.is_stale(START + 26 * HOUR * MINUTE_MS)


def test_a_full_value_stays_compact() -> None:
    flight = Flight()
    flight.run(50 * HOUR, impressions=100_000, clicks=1_000)
    assert len(encode_windows(flight.windows)) < 5_000
    assert len(flight.windows.minutes) <= 62


Report = tuple[int, int, int, int]
reports = st.lists(
    st.tuples(
        st.integers(0, 2),  # partition
        st.integers(0, 26 * HOUR * MINUTE_MS),  # at
        st.integers(0, 1_000),  # impressions
        st.integers(0, 100),  # clicks
    ),
    max_size=40,
)


def fold(windows: CampaignWindows, numbered: Iterable[tuple[int, Report]]) -> CampaignWindows:
    for offset, (partition, at, impressions, clicks) in numbered:
        add(windows, batch(offset + 1, partition), activity(impressions, clicks), START + at)
    return windows


@settings(max_examples=50, deadline=None)
@given(reports, st.data())
def test_reading_on_from_a_stored_value_and_an_older_offset_gives_the_same(
    told: list[Report], data: st.DataObject
) -> None:
    numbered = list(enumerate(told))
    cut = data.draw(st.integers(0, len(told)))
    again = data.draw(st.integers(0, cut))
    whole = fold(CampaignWindows("o", START), numbered)
    restored = decode_windows(encode_windows(fold(CampaignWindows("o", START), numbered[:cut])))
    assert fold(restored, numbered[again:]) == whole


@settings(max_examples=50, deadline=None)
@given(reports, st.data())
def test_what_is_collected_for_a_while_counts_as_if_it_had_been_counted_at_once(
    told: list[Report], data: st.DataObject
) -> None:
    numbered = list(enumerate(told))
    cut = data.draw(st.integers(0, len(told)))
    windows = fold(CampaignWindows("o", START), numbered[:cut])
    fresh = Fresh("o")
    for offset, (partition, at, impressions, clicks) in numbered[cut:]:
        for _ in range(data.draw(st.integers(1, 2))):
            fresh.add(batch(offset + 1, partition), activity(impressions, clicks), START + at)
    windows.merge(fresh)
    assert windows == fold(CampaignWindows("o", START), numbered)


@settings(max_examples=50, deadline=None)
@given(reports)
def test_the_hour_holds_what_fell_into_it(told: list[Report]) -> None:
    windows = fold(CampaignWindows("o", START), enumerate(told))
    now = max((START + at for _, at, _, _ in told), default=START)
    inside = [r for r in told if (START + r[1]) // MINUTE_MS > now // MINUTE_MS - HOUR]
    assert windows.last_hour(now) == Counts(sum(r[2] for r in inside), sum(r[3] for r in inside))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
@example(b"\x92\xa1\x80\x00")  # a text that is not UTF-8
def test_a_value_that_is_none_is_refused_and_nothing_worse(value: bytes) -> None:
    with suppress(msgspec.MsgspecError):
        decode_windows(value)
