"""The rules for events that need their sender or their campaign, and what is stamped on those that pass."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.bots import is_bot
from ingest.domain.incoming import Refused
from ingest.domain.judge import Judge, Status
from ingest.domain.knowledge import Knowledge
from ingest.domain.validate import Checked, check, may_be_on_its_way
from schemas.campaign_state import Pricing
from schemas.events import TrackingEvent, decode_events, encode_events
from schemas.reasons import CampaignStatus, PricingModel, Rejected, Scope, Unbilled
from tests.unit.ingest.given import BROWSER, CAMPAIGN, DAY, NOW, browser, campaign, event, gate, key, server

MINUTE = 60_000
EVENT_PRICED = campaign(pricing=Pricing(PricingModel.EVENT, 0))


def rfc3339(millis: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)).isoformat()


def checked(sender=None, state=None, **fields: Any) -> Checked | Refused:
    return check(event(**fields), sender or browser(), state or campaign(), NOW)


def refusal(sender=None, state=None, **fields: Any) -> Rejected | None:
    result = checked(sender, state, **fields)
    return result.reason if isinstance(result, Refused) else None


def stamped(sender=None, state=None, budget_gate=None, **fields: Any) -> TrackingEvent:
    """What the log would carry of this event."""
    knowledge = Knowledge()
    knowledge.campaigns.put(state or campaign())
    if budget_gate:
        knowledge.gates.put(budget_gate)
    judgement = Judge(knowledge, is_bot).judge([event(**fields)], sender or browser(), now=NOW)
    (line,) = decode_events(encode_events(judgement.stamped))
    return line


def test_occurred_at_is_now_when_absent_and_exact_to_the_millisecond_when_given():
    assert checked() == Checked(NOW)
    assert checked(occurredAt=rfc3339(NOW - 123)) == Checked(NOW - 123)


def test_a_clients_clock_is_corrected_by_when_it_says_it_sent():
    ahead = 3 * DAY
    result = checked(occurredAt=rfc3339(NOW + ahead - 5_000), sentAt=rfc3339(NOW + ahead))
    assert result == Checked(NOW - 5_000)
    assert checked(sentAt=rfc3339(NOW + ahead)) == Checked(NOW)


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (5 * MINUTE, None),
        (5 * MINUTE + 1, Rejected.IN_FUTURE),
        (-7 * DAY, None),
        (-7 * DAY - 1, Rejected.TOO_OLD),
    ],
)
def test_occurred_at_must_be_within_the_window(offset, reason):
    assert refusal(occurredAt=rfc3339(NOW + offset)) == reason


def test_old_events_pass_with_the_backfill_scope_and_are_unbilled():
    old = rfc3339(NOW - 400 * DAY)
    line = stamped(server(Scope.BACKFILL), occurredAt=old)
    assert (line.reason, line.billable, line.cost) == (Unbilled.BACKFILL, False, 0)
    assert refusal(server(Scope.BACKFILL), occurredAt="0001-01-01T00:00:00+23:59") == Rejected.TOO_OLD


def test_money_in_another_currency_is_refused():
    assert refusal(revenue={"amount": 1, "currency": "USD"}) == Rejected.WRONG_CURRENCY
    wrong = {"amount": 1, "currency": "eur"}
    assert refusal(server(Scope.COST), EVENT_PRICED, cost=wrong) == Rejected.WRONG_CURRENCY
    assert refusal(revenue={"amount": 1, "currency": "EUR"}) is None


@pytest.mark.parametrize(
    "amount",
    [
        "1e999999999",
        "-1",
        "NaN",
        "sNaN",
        "Infinity",
        "1e-999999999",
        "0.1234567",
        "1000000000001",
        "9" * 9_000,
    ],
)
def test_amounts_out_of_range_are_malformed(amount):
    assert refusal(revenue={"amount": amount}) == Rejected.MALFORMED


@pytest.mark.parametrize(
    ("amount", "micros"), [(49.90, 49_900_000), ("0.000001", 1), (0, 0), ("1e3", 10**9), ("0E+99999", 0)]
)
def test_amounts_are_exact_micros(amount, micros):
    assert checked(revenue={"amount": amount}) == Checked(NOW, revenue=micros)


def test_a_cost_needs_the_scope_and_a_campaign_that_takes_it():
    cost = {"amount": 0.113}
    assert refusal(server(), EVENT_PRICED, cost=cost) == Rejected.MISSING_SCOPE
    assert refusal(server(Scope.COST), campaign(), cost=cost) == Rejected.MALFORMED
    assert stamped(server(Scope.COST), EVENT_PRICED, cost=cost).cost == 113_000
    assert stamped(server(), EVENT_PRICED).cost == 0


def test_revenue_is_verified_only_from_a_server():
    assert not stamped(revenue={"amount": 1}).revenue_verified
    assert stamped(server(), revenue={"amount": 1}).revenue_verified


@pytest.mark.parametrize("data", [[1], "text", 5, True])
def test_data_must_be_an_object(data):
    assert refusal(data=data) == Rejected.MALFORMED


def test_data_is_bounded_in_size_and_depth_and_kept_on_one_line():
    assert refusal(data={"a": "x" * 4_096}) == Rejected.TOO_LARGE
    deep: Any = {}
    for _ in range(32):
        deep = {"a": deep}
    assert refusal(data=deep) == Rejected.MALFORMED
    wide = {"a": [{}] * 100}
    assert refusal(data=wide) is None
    pretty = msgspec.structs.replace(event(), data=msgspec.Raw(b'{\r\n "a": 1e400\n}'))
    kept = check(pretty, browser(), campaign(), NOW)
    assert isinstance(kept, Checked)
    assert bytes(kept.data) == b'{"a":1e400}'
    assert checked(data=None) == Checked(NOW)


@pytest.mark.parametrize(
    ("model", "event_type", "cost", "flat"),
    [
        ("CPM", "IMPRESSION", 2_500, False),
        ("CPM", "CLICK", 0, False),
        ("CPC", "CLICK", 2_500_000, False),
        ("CPC", "IMPRESSION", 0, False),
        ("CPA", "CONVERSION", 2_500_000, False),
        ("CPA", "BOUNCE", 0, False),
        ("FLAT", "IMPRESSION", 2_500_000, True),
        ("FLAT", "UNSUBSCRIBE", 2_500_000, True),
    ],
)
def test_an_event_costs_what_its_campaigns_pricing_says(model, event_type, cost, flat):
    state = campaign(pricing=Pricing(PricingModel(model), 2_500_000))
    line = stamped(state=state, type=event_type)
    assert (line.cost, line.flat) == (cost, flat)


def test_what_is_not_billable_costs_nothing():
    flat = campaign(pricing=Pricing(PricingModel.FLAT, 5), status=CampaignStatus.PAUSED)
    line = stamped(state=flat)
    assert (line.cost, line.flat, line.billable, line.reason) == (0, False, False, Unbilled.PAUSED)


def test_the_log_carries_what_was_sent():
    line = stamped(
        eventId="e-1", visitorId="v", customerId="c", clickId="k", variant="a", channel="WEB",
        placement="hero", url="https://x/?q=1", referrer="https://y/", data={"sku": "A1"},
    )  # fmt: skip
    assert (line.event_id, line.visitor_id, line.customer_id, line.click_id) == ("e-1", "v", "c", "k")
    assert (line.variant, line.channel, line.placement) == ("a", "WEB", "hero")
    assert (line.url, line.referrer, bytes(line.data)) == ("https://x/?q=1", "https://y/", b'{"sku":"A1"}')
    assert (line.received_at, line.occurred_at, line.budget_version, line.currency) == (NOW, NOW, 3, "EUR")


def test_who_asks_not_to_be_tracked_counts_without_identity_and_queries():
    line = stamped(
        browser(private=True), visitorId="v", customerId="c", url="https://x/a?q=1#f", referrer="https://y/?z"
    )
    assert (line.visitor_id, line.customer_id, line.url, line.referrer) == (
        "",
        "",
        "https://x/a",
        "https://y/",
    )
    assert line.billable


def test_country_and_user_agent_of_a_browser_are_the_requests_and_of_a_server_the_events():
    sent = {"country": "de", "userAgent": "Googlebot/2.1"}
    line = stamped(browser(country="FR"), **sent)
    assert (line.country, line.user_agent, line.billable) == ("FR", BROWSER, True)
    line = stamped(server(), **sent)
    assert (line.country, line.user_agent, line.reason) == ("DE", "Googlebot/2.1", Unbilled.BOT)


def test_an_event_without_an_id_is_given_one():
    assert stamped().event_id != stamped().event_id


def judged(*events: Any, sender=None, catching_up: bool = False, state=None) -> list[Any]:
    knowledge = Knowledge()
    knowledge.campaigns.put(state or campaign())
    return (
        Judge(knowledge, is_bot).judge(events, sender or browser(), now=NOW, catching_up=catching_up).results
    )


def test_nothing_of_a_refused_event_is_kept_when_its_visitor_asks_not_to_be_tracked():
    refused = Refused(Rejected.MALFORMED, "d", "e1", b'{"visitorId":"v"}')
    for sender, kept in ((browser(), refused.sample), (browser(private=True), b"")):
        judgement = Judge(Knowledge(), is_bot).judge([refused], sender, now=NOW)
        assert [one.sample for one in judgement.refused] == [kept]


def test_unknown_deleted_and_foreign_campaigns_are_the_same():
    foreign = campaign(organization_id="another")
    for state in (campaign(campaign_id="other"), campaign(gone=True), foreign):
        (result,) = judged(event(), state=state)
        assert (result.status, result.reason) == (Status.REJECTED, Rejected.UNKNOWN_CAMPAIGN)


def test_a_campaign_id_is_recognised_in_any_spelling_of_the_uuid():
    (result,) = judged(event(campaignId=CAMPAIGN.upper().replace("-", "")))
    assert result.status is Status.ACCEPTED
    (result,) = judged(event(campaignId="campaign-1"))
    assert (result.status, result.reason) == (Status.REJECTED, Rejected.MALFORMED)


def test_an_unknown_campaign_made_within_a_minute_or_not_read_yet_is_to_be_sent_again():
    fresh = f"{NOW - 59_000:012x}"
    made_now = f"{fresh[:8]}-{fresh[8:]}-7000-8000-000000000000"
    assert judged(event(campaignId=made_now))[0].status is Status.RETRY
    assert (
        judged(event(campaignId="01890000-0000-7000-8000-00000000ffff"), catching_up=True)[0].status
        == "retry"
    )
    assert not may_be_on_its_way(made_now, NOW + 2_000)
    assert not may_be_on_its_way("c0a80101-0000-4000-8000-000000000000", NOW)


def test_a_late_click_is_accepted_and_not_to_be_served():
    state = campaign(status=CampaignStatus.PAUSED, closed_since=NOW - 1)
    (result,) = judged(event(type="CLICK"), state=state)
    assert (result.status, result.serve) == (Status.ACCEPTED, False)


def test_results_stand_in_the_order_of_the_events():
    refused = Refused(Rejected.MALFORMED, "…", "mine")
    results = judged(
        event(eventId="1"), refused, event(eventId="2", revenue={"amount": -1}), event(eventId="3")
    )
    assert [(result.event_id, result.status) for result in results] == [
        ("1", "accepted"), ("mine", "rejected"), ("2", "rejected"), ("3", "accepted"),
    ]  # fmt: skip


@given(
    occurred=st.none() | st.datetimes(timezones=st.timezones()),
    sent=st.none() | st.datetimes(timezones=st.timezones()),
    amount=st.none() | st.decimals(),
    currency=st.none() | st.text(max_size=3),
    scopes=st.lists(st.sampled_from(Scope), unique=True),
    model=st.sampled_from(PricingModel),
    raw=st.sampled_from([b"", b"null", b"{}", b'{"a":[1]}', b"[1]", b'{"a":' * 40 + b"1" + b"}" * 40]),
)
def test_any_event_is_stamped_or_refused_and_its_line_can_be_read(
    occurred, sent, amount, currency, scopes, model, raw
):
    money = None if amount is None else {"amount": str(amount), "currency": currency}
    incoming = event(revenue=money, cost=money)
    incoming = msgspec.structs.replace(incoming, occurred_at=occurred, sent_at=sent, data=msgspec.Raw(raw))
    knowledge = Knowledge()
    knowledge.campaigns.put(campaign(pricing=Pricing(model, 1_000)))
    sender = browser(key=key(*scopes))
    judgement = Judge(knowledge, is_bot).judge([incoming], sender, now=NOW)
    lines = decode_events(encode_events(judgement.stamped))
    assert len(lines) + len(judgement.refused) == len(judgement.results) == 1
    if lines and amount is not None and lines[0].revenue:
        assert Decimal(lines[0].revenue) == amount * 1_000_000


def test_a_gate_reaches_the_verdict():
    assert stamped(budget_gate=gate("100")).reason is Unbilled.BUDGET_100
