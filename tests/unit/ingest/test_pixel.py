"""Times in the pixel's query."""

from datetime import UTC, datetime

import pytest

from ingest.domain.incoming import IncomingEvent
from ingest.pixel import event_of
from tests.unit.ingest.given import CAMPAIGN


@pytest.mark.parametrize("offset", ["%2B02:00", "+02:00", "%2b02%3A00"])
def test_an_offset_may_have_a_plus_that_was_not_escaped(offset: str) -> None:
    pixel = event_of(f"campaignId={CAMPAIGN}&type=CLICK&occurredAt=2026-11-24T08:00:00{offset}")
    assert isinstance(pixel, IncomingEvent)
    assert pixel.occurred_at == datetime(2026, 11, 24, 6, tzinfo=UTC)
