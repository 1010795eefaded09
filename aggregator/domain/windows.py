"""Live windows of a campaign: what happened in the last minute and hour, and whether that is a fall.

Pure: time is the event time that the activity records carry. A campaign's windows are one value that holds
its own guard against reading a record twice, so a copy of it (a changelog's last one) is always whole.
"""

from typing import Annotated, Literal

import msgspec

from schemas.campaign_activity import Activity, BatchActivity

MINUTE_MS = 60_000
QUARTER_MINUTES = 15
DAY_MINUTES = 24 * 60
LATENESS_MS = MINUTE_MS
"""A minute is judged this long after its end: partitions are billed independently, and one that changes its
owner is some seconds behind the others."""

_RECENT_MS = 10_000
_NEVER = 2**62
_QUARTER_MS = QUARTER_MINUTES * MINUTE_MS
_RECENT_KEPT = 6
_MINUTES_KEPT = 60 + 2 * LATENESS_MS // MINUTE_MS
_QUARTERS_KEPT = (DAY_MINUTES + 60) // QUARTER_MINUTES + 2

_NOTHING = (-1, -1)

Metric = Literal["ctr", "rate"]


class AlertRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a window counts as a fall: below `factor` of the past day's average.

    Neither is judged below `minimum_impressions`. After an alert the same metric of the campaign is silent
    until it has recovered and `cooldown_minutes` have passed.
    """

    window_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 60
    factor: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    minimum_impressions: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    cooldown_minutes: Annotated[int, msgspec.Meta(ge=0)] = 60


class Counts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What happened in a span of time; `billed` is micros."""

    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    billed: int = 0

    def __add__(self, other: "Counts | Activity") -> "Counts":
        return Counts(
            self.impressions + other.impressions,
            self.clicks + other.clicks,
            self.conversions + other.conversions,
            self.billed + other.billed,
        )

    @property
    def ctr(self) -> float | None:
        """Clicks in percent of impressions; None without impressions."""
        return self.clicks * 100 / self.impressions if self.impressions else None


_NO_COUNTS = Counts()


def is_nothing(activity: Activity) -> bool:
    """Whether a batch added nothing to the windows of this campaign."""
    return not (activity.impressions or activity.clicks or activity.conversions or activity.billed)


class Raised(msgspec.Struct, array_like=True, gc=False):
    """The newest alert of one metric: its minute (epoch minutes), and whether the metric has recovered."""

    minute: int
    recovered: bool


class Fall(msgspec.Struct, frozen=True):
    """A metric that fell. The window is [`begin`, `end`) in epoch ms; `rate` is impressions an hour, `ctr` a
    percentage."""

    metric: Metric
    begin: int
    end: int
    current: float
    baseline: float


class Fresh(msgspec.Struct, gc=False):
    """What was collected of a campaign and is in no window yet: buckets of ten seconds, of which those of an
    hour and a day are made. `seen` is as in its windows."""

    organization_id: str
    began_at: int = _NEVER
    newest_at: int = 0
    recent: dict[int, Counts] = {}
    seen: dict[int, tuple[int, int]] = {}

    @property
    def impressions(self) -> int:
        return sum(counts.impressions for counts in self.recent.values())

    def add(self, batch: BatchActivity, activity: Activity, at: int) -> None:
        """Counts what a batch added at `at` (epoch ms), unless it was collected before."""
        here = (batch.incarnation, batch.next_offset)
        if here <= self.seen.get(batch.partition, _NOTHING):
            return
        self.seen[batch.partition] = here
        self.began_at = min(self.began_at, at)
        self.newest_at = max(self.newest_at, at)
        bucket = at // _RECENT_MS
        self.recent[bucket] = self.recent.get(bucket, _NO_COUNTS) + activity


class CampaignWindows(msgspec.Struct, array_like=True):
    """The windows of one campaign: sparse rings of buckets by their number since the epoch.

    `recent` has buckets of ten seconds, `minutes` those of the last hour, `quarters` those of the past day.
    `seen` tells, for each partition of `tracking-events`, the (incarnation, next offset) counted up to.
    """

    organization_id: str
    began_at: int
    newest_at: int = 0
    recent: dict[int, Counts] = {}
    minutes: dict[int, Counts] = {}
    quarters: dict[int, Counts] = {}
    seen: dict[int, tuple[int, int]] = {}
    raised: dict[Metric, Raised] = {}

    def merge(self, fresh: "Fresh") -> None:
        """Counts what was collected of the campaign, none of which was counted before."""
        self.seen |= fresh.seen
        self.began_at = min(self.began_at, fresh.began_at)
        self.newest_at = max(self.newest_at, fresh.newest_at)
        for ring, width, kept in self._rings():
            for recent, counts in fresh.recent.items():
                bucket = recent * _RECENT_MS // width
                ring[bucket] = ring.get(bucket, _NO_COUNTS) + counts
            oldest = self.newest_at // width - kept
            for gone in [bucket for bucket in ring if bucket <= oldest]:
                del ring[gone]

    def last_minute(self, now: int) -> Counts:
        """The last 50 to 60 seconds before `now` (epoch ms), to the present."""
        bucket = now // _RECENT_MS
        return _total(self.recent, bucket - _RECENT_KEPT + 1, bucket + 1)

    def last_hour(self, now: int) -> Counts:
        """The last 59 to 60 minutes before `now` (epoch ms), to the present."""
        minute = now // MINUTE_MS
        return _total(self.minutes, minute - 59, minute + 1)

    def is_stale(self, now: int) -> bool:
        """Whether nothing of this campaign can matter any more."""
        return self.newest_at < now - (DAY_MINUTES + 60) * MINUTE_MS - _QUARTER_MS

    def judge(self, minute: int, rules: AlertRules) -> list[Fall]:
        """The falls to be told now, of the window that ends before `minute` (epoch minutes).

        What is returned is remembered as raised: a fall is told once.
        """
        found = [self._judge_ctr(minute, rules), self._judge_rate(minute, rules)]
        return [fall for fall in found if fall is not None and self._note(fall, minute, rules)]

    def _judge_ctr(self, minute: int, rules: AlertRules) -> Fall | None:
        current = self._window(minute, rules)
        baseline, _ = self._past_day(minute - rules.window_minutes)
        if min(current.impressions, baseline.impressions) < rules.minimum_impressions:
            return None
        return _fall("ctr", minute, rules, current.ctr or 0.0, baseline.ctr or 0.0)

    def _judge_rate(self, minute: int, rules: AlertRules) -> Fall | None:
        """Only of a campaign that still delivers: one without any impression for a quarter of an hour was
        paused or has ended, which its status tells, and every end of a campaign would be an alert."""
        current = self._window(minute, rules)
        baseline, span = self._past_day(minute - rules.window_minutes)
        if not _total(self.minutes, minute - min(QUARTER_MINUTES, rules.window_minutes), minute).impressions:
            return None
        if span < max(rules.window_minutes, QUARTER_MINUTES):
            return None
        if baseline.impressions * rules.window_minutes < rules.minimum_impressions * span:
            return None
        return _fall(
            "rate",
            minute,
            rules,
            current.impressions * 60 / rules.window_minutes,
            baseline.impressions * 60 / span,
        )

    def _note(self, judged: Fall, minute: int, rules: AlertRules) -> bool:
        """Remembers a judgement; True when it is a fall that is to be told."""
        last = self.raised.get(judged.metric)
        if judged.current >= rules.factor * judged.baseline:
            if last is not None:
                last.recovered = True
            return False
        if last is not None and not (last.recovered and minute - last.minute >= rules.cooldown_minutes):
            return False
        self.raised[judged.metric] = Raised(minute, recovered=False)
        return True

    def _window(self, minute: int, rules: AlertRules) -> Counts:
        return _total(self.minutes, minute - rules.window_minutes, minute)

    def _past_day(self, until: int) -> tuple[Counts, int]:
        """The counts of the 24 h before minute `until`, in whole quarter-hours, and how many minutes of them
        the campaign has been there for."""
        end = until // QUARTER_MINUTES
        begin = end - DAY_MINUTES // QUARTER_MINUTES
        began = max(begin * QUARTER_MINUTES, self.began_at // MINUTE_MS)
        return _total(self.quarters, begin, end), max(0, end * QUARTER_MINUTES - began)

    def _rings(self) -> tuple[tuple[dict[int, Counts], int, int], ...]:
        """(buckets, width in ms, how many are kept)."""
        return (
            (self.recent, _RECENT_MS, _RECENT_KEPT),
            (self.minutes, MINUTE_MS, _MINUTES_KEPT),
            (self.quarters, _QUARTER_MS, _QUARTERS_KEPT),
        )


def judged_minute(watermark: int) -> int:
    """The minute (epoch minutes) before which all is taken to be known at a watermark (epoch ms)."""
    return (watermark - LATENESS_MS) // MINUTE_MS


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CampaignWindows)


def encode_windows(windows: CampaignWindows) -> bytes:
    """The windows as a table's value: about 3 kB for a campaign that has run for a day."""
    return _encoder.encode(windows)


def decode_windows(value: bytes) -> CampaignWindows:
    """The windows of a table's value. Raises msgspec.MsgspecError when it is none."""
    try:
        return _decoder.decode(value)
    except UnicodeDecodeError as error:  # the one error of msgspec's that is not its own
        raise msgspec.DecodeError(str(error)) from error


def _total(ring: dict[int, Counts], begin: int, end: int) -> Counts:
    total = _NO_COUNTS
    for bucket, counts in ring.items():
        if begin <= bucket < end:
            total += counts
    return total


def _fall(metric: Metric, minute: int, rules: AlertRules, current: float, baseline: float) -> Fall:
    return Fall(
        metric=metric,
        begin=(minute - rules.window_minutes) * MINUTE_MS,
        end=minute * MINUTE_MS,
        current=current,
        baseline=baseline,
    )
