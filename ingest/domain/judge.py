"""The way of an event through the door: what becomes of it, and what its sender is told."""

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from ingest.domain.decode import SAMPLE_BYTES, Decoded
from ingest.domain.gate import decide
from ingest.domain.incoming import IncomingEvent, Refused
from ingest.domain.knowledge import Knowledge
from ingest.domain.stamp import Stamp
from ingest.domain.validate import Sender, check, may_be_on_its_way
from schemas.campaign_state import CampaignState
from schemas.events import TrackingEvent
from schemas.ids import canonical_uuid
from schemas.reasons import Rejected, Unbilled


class Status(StrEnum):
    """What became of an event; RETRY asks to send it again."""

    ACCEPTED = "accepted"
    UNBILLED = "unbilled"
    REJECTED = "rejected"
    RETRY = "retry"


class Result(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The answer for one event."""

    event_id: str | None
    status: Status
    serve: bool | msgspec.UnsetType = msgspec.UNSET
    reason: Rejected | Unbilled | msgspec.UnsetType = msgspec.UNSET
    detail: str | msgspec.UnsetType = msgspec.UNSET


class Judgement(msgspec.Struct, frozen=True):
    """The results in the order of the input, what goes to the log, and what was refused."""

    results: list[Result]
    stamped: list[TrackingEvent]
    refused: list[Refused]


class Judge:
    """Decides by what is known. While `catching_up`, an unknown campaign may only not have been read yet."""

    def __init__(self, knowledge: Knowledge, is_bot: Callable[[str], bool]) -> None:
        self._knowledge = knowledge
        self._is_bot = is_bot

    def judge(
        self, events: Iterable[Decoded], sender: Sender, *, now: int, catching_up: bool = False
    ) -> Judgement:
        """What becomes of each event received at `now` (epoch ms). Nothing is durable yet."""
        judgement = Judgement([], [], [])
        stamp = Stamp(sender, now, self._is_bot)
        for event in events:
            if isinstance(event, Refused):
                _refuse(judgement, _private(event) if sender.private else event)
                continue
            campaign = self._campaign(event, sender)
            if campaign is None:
                _unknown(judgement, event, now, catching_up=catching_up)
            else:
                self._known(judgement, event, campaign, sender, stamp, now)
        return judgement

    def _campaign(self, event: IncomingEvent, sender: Sender) -> CampaignState | None:
        organization = sender.key.organization_id
        found = self._knowledge.campaign_of(event.campaign_id, organization)
        if found is not None:
            return found
        campaign_id = canonical_uuid(event.campaign_id)
        return self._knowledge.campaign_of(campaign_id, organization) if campaign_id else None

    def _known(
        self,
        judgement: Judgement,
        event: IncomingEvent,
        campaign: CampaignState,
        sender: Sender,
        stamp: Stamp,
        now: int,
    ) -> None:
        checked = check(event, sender, campaign, now)
        if isinstance(checked, Refused):
            _refuse(judgement, _with_sample(checked, event))
            return
        verdict = decide(campaign, self._knowledge.gates.get(campaign.campaign_id), now, event.type)
        stamped = stamp.stamped(event, checked, campaign, verdict)
        judgement.stamped.append(stamped)
        judgement.results.append(
            Result(stamped.event_id, Status.ACCEPTED, verdict.serve)
            if stamped.reason is None
            else Result(stamped.event_id, Status.UNBILLED, verdict.serve, stamped.reason)
        )


def _unknown(judgement: Judgement, event: IncomingEvent, now: int, *, catching_up: bool) -> None:
    if canonical_uuid(event.campaign_id) is None:
        refused = Refused(Rejected.MALFORMED, "campaignId is not a UUID", event.event_id)
        _refuse(judgement, _with_sample(refused, event))
    elif catching_up or may_be_on_its_way(event.campaign_id, now):
        detail = "the campaign may be on its way to the door: send this event again"
        judgement.results.append(
            Result(event.event_id, Status.RETRY, reason=Rejected.UNKNOWN_CAMPAIGN, detail=detail)
        )
    else:
        refused = Refused(Rejected.UNKNOWN_CAMPAIGN, "there is no such campaign", event.event_id)
        _refuse(judgement, _with_sample(refused, event))


def _refuse(judgement: Judgement, refused: Refused) -> None:
    judgement.refused.append(refused)
    judgement.results.append(
        Result(refused.event_id, Status.REJECTED, reason=refused.reason, detail=refused.detail)
    )


def _private(refused: Refused) -> Refused:
    """Nothing of what was sent: who asks not to be tracked is not kept for inspection either."""
    return msgspec.structs.replace(refused, sample=b"")


def _with_sample(refused: Refused, event: IncomingEvent) -> Refused:
    """A sample without who it was about: only what names the campaign and the fault."""
    sample = msgspec.json.encode({"campaignId": event.campaign_id, "type": event.type})[:SAMPLE_BYTES]
    return msgspec.structs.replace(refused, sample=sample)
