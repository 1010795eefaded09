"""What a stream tells of a campaign, and how a client that comes back is told only what it has missed."""

import hashlib
from datetime import datetime

import msgspec

from control_api.domain.account import Account
from control_api.domain.lifecycle import SCHEDULED
from control_api.domain.metrics import metrics_of
from schemas.reasons import CampaignStatus, StatusReason, Threshold

_DIGEST_BYTES = 8
_encoder = msgspec.json.Encoder(decimal_format="number")


class LiveCampaign(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign with its account, now; `account.crossed` are the thresholds of its budget version."""

    id: str
    status: CampaignStatus
    status_reason: StatusReason | None
    version: int
    budget_version: int
    start_date: datetime
    account: Account


class LiveStatus(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The data of a `status` event: where the campaign is, and which thresholds of its budget version its
    spend has crossed. The doors close at a crossing; the status follows within a second."""

    status: CampaignStatus
    effective_status: str
    status_reason: StatusReason | None
    version: int
    budget_version: int
    crossed: list[Threshold]


class Told(msgspec.Struct, frozen=True):
    """Digests of what a client knows; as text they are the id of an event."""

    metrics: str = ""
    status: str = ""

    @property
    def text(self) -> str:
        return f"{self.metrics}.{self.status}"


class Picture(msgspec.Struct, frozen=True):
    """A campaign as a stream shows it: JSON of its metrics and of its status, with their digests."""

    metrics: bytes
    status: bytes
    told: Told


def picture_of(campaign: LiveCampaign, now: datetime) -> Picture:
    """What a stream shows at `now`."""
    scheduled = campaign.status is CampaignStatus.ACTIVE and now < campaign.start_date
    status = LiveStatus(
        status=campaign.status,
        effective_status=SCHEDULED if scheduled else campaign.status,
        status_reason=campaign.status_reason,
        version=campaign.version,
        budget_version=campaign.budget_version,
        crossed=sorted(campaign.account.crossed),
    )
    shown = _encoder.encode(metrics_of(campaign.account)), _encoder.encode(status)
    return Picture(*shown, Told(*map(_digest, shown)))


def told_by(last_event_id: str | None) -> Told:
    """What a client knows that names the last event it got; nothing, if that is not one of ours."""
    metrics, dot, status = (last_event_id or "").partition(".")
    return Told(metrics, status) if dot else Told()


def _digest(shown: bytes) -> str:
    return hashlib.sha256(shown).hexdigest()[: 2 * _DIGEST_BYTES]
