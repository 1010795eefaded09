"""What domain events say of a campaign."""

from datetime import timedelta, timezone

import msgspec

from control_api.domain.snapshot import Cause, event_of
from schemas.domain_events import DomainEventType
from tests.unit.control_api.samples import CAMPAIGN_ID, NOW, ORGANIZATION_ID, USER_ID, a_campaign


def test_an_event_names_who_why_and_where_it_belongs() -> None:
    cause = Cause(
        USER_ID, "request-1", "too dear", "a1b2", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    )
    at = NOW.astimezone(timezone(timedelta(hours=2)))
    event = event_of(DomainEventType.PAUSED, a_campaign(), cause, at, {"threshold": "90"})
    told = msgspec.to_builtins(event)
    assert (told["specversion"], told["type"]) == ("1.0", "flightline.campaign.paused")
    assert (told["subject"], told["organization"]) == (CAMPAIGN_ID, ORGANIZATION_ID)
    assert told["time"] == "2026-11-23T12:00:00.000Z"
    assert (told["correlationid"], told["traceparent"]) == (cause.correlation_id, cause.traceparent)
    assert told["data"]["justification"] == "too dear"
    assert told["data"]["threshold"] == "90"
    assert "a1b2" not in str(told)


def test_without_a_justification_there_is_none() -> None:
    event = event_of(DomainEventType.ACTIVATED, a_campaign(), Cause("flightline:budget"), NOW)
    assert "justification" not in event.data
    assert event.data["actor"] == "flightline:budget"
