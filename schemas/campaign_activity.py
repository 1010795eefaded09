"""`campaign-activity`: what each billed batch added to each campaign, for live windows and streams."""

import msgspec

TOPIC = "campaign-activity"


class Activity(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What one batch added to one campaign: counts without duplicates and bots, micros."""

    campaign_id: str
    organization_id: str
    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    billed: int = 0
    revenue: int = 0


class BatchActivity(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A billed batch: its range in the partition (`next_offset` exclusive). A batch of very many campaigns is
    several records of the same range, each with campaigns of its own.

    `at` is the newest receivedAt in epoch ms.
    """

    incarnation: int
    partition: int
    first_offset: int
    next_offset: int
    at: int
    campaigns: tuple[Activity, ...]
