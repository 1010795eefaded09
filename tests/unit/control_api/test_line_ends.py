"""A line feed at its end makes a text another one: `$` alone would let it pass."""

from typing import Any

import msgspec
import pytest

from control_api.domain.campaign import Host, TimeOfDay
from control_api.domain.keys import Origin
from control_api.domain.tracking import TrackedEvent
from control_api.domain.users import Email
from control_api.routes.analytics import ReportParameters
from control_api.routes.list_parameters import ListParameters
from control_api.routes.webhooks import DeliveryParameters
from ingest.domain.incoming import IncomingEvent


@pytest.mark.parametrize(
    ("kind", "taken", "text"),
    [
        (TimeOfDay, "{}", "18:00"),
        (TimeOfDay, "{}", "24:00"),
        (Host, "{}", "shop.example"),
        (Host, "{}", "a"),
        (Origin, "{}", "https://shop.example"),
        (Origin, "{}", "https://shop.example:8443"),
        (Email, "{}", "ann@shop.example"),
        (IncomingEvent, {"campaignId": "c", "type": "CLICK", "country": "{}"}, "DE"),
        (TrackedEvent, {"type": "CLICK", "country": "{}"}, "DE"),
        (ListParameters, {"sort": "{}"}, "-updatedAt"),
        (ReportParameters, {"groupBy": ["{}"]}, "channel,country"),
        (DeliveryParameters, {"cursor": "{}"}, "01890000-0000-7000-8000-000000000000"),
    ],
)
def test_a_text_with_a_line_feed_at_its_end_is_refused(kind: Any, taken: Any, text: str) -> None:
    def with_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: with_text(each) for name, each in value.items()}
        if isinstance(value, list):
            return [with_text(each) for each in value]
        return value.replace("{}", text)

    msgspec.convert(with_text(taken), kind)
    text += "\n"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(with_text(taken), kind)
