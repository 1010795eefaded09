"""Rows become events: mappings, derived ids, second events, refusals."""

from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from compose.replay.errors import BadRow, InvalidOption
from compose.replay.mapping import Column, Condition, parse_condition, parse_constant, parse_mapping
from compose.replay.options import PlanOptions, build_plan
from compose.replay.plan import Plan, derived_event_id, events_of
from compose.replay.source import Format
from schemas.reasons import EventType

CAMPAIGN = "01930000-0000-7000-8000-000000000001"
OTHER = "01930000-0000-7000-8000-000000000002"
ROW = {"advertiser": "1458", "payprice": "113", "userid": "u1", "click": "1", "bidid": "b1"}


def plan(**changes: object) -> Plan:
    return msgspec.structs.replace(Plan(file_sha256="ab" * 32, campaign=CAMPAIGN), **changes)


def body(event: object) -> dict[str, object]:
    return msgspec.json.decode(event.body)  # type: ignore[attr-defined,no-any-return]


def test_a_price_per_thousand_becomes_an_exact_cost() -> None:
    _, cost = parse_mapping("cost=payprice/1000")
    (event,) = events_of(plan(columns={"cost": cost}), ROW, 1)
    assert event.cost == 113_000
    assert b'"cost":{"amount":0.113}' in event.body


def test_multiplication_and_dotted_paths_read_into_rows() -> None:
    assert parse_mapping("revenue = order.total * 0.01")[1].value({"order": {"total": 4990}}) == Decimal(
        "49.90"
    )


def test_a_column_whose_name_holds_a_slash_is_a_column() -> None:
    assert parse_mapping("placement=slot/name")[1] == Column("slot/name")


@pytest.mark.parametrize("text", ["cost", "cost=", "price=payprice", "cost=payprice/0", "data.=x"])
def test_a_mapping_that_can_not_be_meant_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="--map"):
        parse_mapping(text)


def test_a_derived_id_is_a_uuid_and_depends_on_everything_that_makes_an_event() -> None:
    ids = {
        derived_event_id(CAMPAIGN, "aa", 1, EventType.IMPRESSION),
        derived_event_id(OTHER, "aa", 1, EventType.IMPRESSION),
        derived_event_id(CAMPAIGN, "bb", 1, EventType.IMPRESSION),
        derived_event_id(CAMPAIGN, "aa", 2, EventType.IMPRESSION),
        derived_event_id(CAMPAIGN, "aa", 1, EventType.CLICK),
    }
    assert len(ids) == 5
    assert {UUID(text).version for text in ids} == {8}
    assert derived_event_id(CAMPAIGN, "aa", 1, EventType.CLICK) in ids


def test_a_condition_adds_a_second_event_without_cost() -> None:
    also = parse_condition("CLICK:click=1")
    assert also == Condition(EventType.CLICK, "click", "1")
    columns = dict([parse_mapping("cost=payprice/1000"), parse_mapping("visitorId=userid")])
    impression, click = events_of(plan(columns=columns, also=(also,)), ROW, 7)
    assert (impression.type, click.type) == (EventType.IMPRESSION, EventType.CLICK)
    assert click.cost == 0
    assert "cost" not in body(click)
    assert body(click)["visitorId"] == "u1"
    assert impression.event_id != click.event_id
    assert len(events_of(plan(columns=columns, also=(also,)), {**ROW, "click": "0"}, 7)) == 1


def test_a_given_id_is_kept_and_the_second_event_has_its_own() -> None:
    first, second = events_of(
        plan(columns={"eventId": Column("bidid")}, also=(parse_condition("CLICK:click=1"),)), ROW, 1
    )
    assert (first.event_id, second.event_id) == ("b1", "b1:CLICK")


def test_a_table_of_campaigns_translates_a_column_and_leaves_out_other_rows() -> None:
    mapped = plan(columns={"campaignId": Column("advertiser")}, campaign=None, campaigns={"1458": OTHER})
    assert events_of(mapped, ROW, 1)[0].campaign_id == OTHER
    assert events_of(mapped, {**ROW, "advertiser": "9"}, 1) == []


def test_times_are_taken_as_text_seconds_or_milliseconds() -> None:
    timed = plan(columns={"occurredAt": Column("at")})
    for at in ("1764000000", 1764000000, "1764000000000", Decimal(1764000000)):
        assert body(events_of(timed, {"at": at}, 1)[0])["occurredAt"] == "2025-11-24T16:00:00+00:00"
    assert (
        body(events_of(timed, {"at": "2026-11-23T10:00:00Z"}, 1)[0])["occurredAt"] == "2026-11-23T10:00:00Z"
    )


def test_data_is_nested_and_empty_columns_are_left_out() -> None:
    columns = dict([parse_mapping("data.sku=sku"), parse_mapping("country=land")])
    constants = dict([parse_constant("channel=EMAIL")])
    (event,) = events_of(plan(columns=columns, constants=constants), {"sku": "A1", "land": ""}, 1)
    assert body(event)["data"] == {"sku": "A1"}
    assert body(event)["channel"] == "EMAIL"
    assert "country" not in body(event)


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"cost": Column("c", "/", Decimal(1000))}, {"c": "much"}),
        ({"cost": Column("c")}, {"c": "0.1234567"}),
        ({"cost": Column("c")}, {"c": "-1"}),
        ({"cost": Column("c")}, {"c": "NaN"}),
        ({"type": Column("t")}, {"t": "VIEW"}),
        ({"url": Column("u")}, {"u": "bad \udcff byte"}),
    ],
)
def test_a_row_that_is_no_event_is_refused(columns: dict[str, Column], row: dict[str, str]) -> None:
    with pytest.raises(BadRow):
        events_of(plan(columns=columns), row, 1)


def test_options_that_contradict_each_other_are_refused() -> None:
    for options in (
        PlanOptions(),
        PlanOptions(campaigns=["not an id"]),
        PlanOptions(campaigns=[CAMPAIGN, OTHER]),
        PlanOptions(campaigns=[CAMPAIGN], maps=["campaignId=advertiser"]),
        PlanOptions(campaigns=["1458=nobody"], maps=["campaignId=advertiser"]),
    ):
        with pytest.raises(InvalidOption):
            build_plan(options, "aa", Format.CSV)


def test_an_access_log_brings_its_mapping_and_now_leaves_out_its_times() -> None:
    built = build_plan(PlanOptions(campaigns=[CAMPAIGN]), "aa", Format.LOG)
    assert set(built.columns) == {"url", "referrer", "userAgent", "visitorId", "occurredAt"}
    assert (
        "occurredAt" not in build_plan(PlanOptions(campaigns=[CAMPAIGN], now=True), "aa", Format.LOG).columns
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (PlanOptions(campaigns=[CAMPAIGN], maps=["cost=paypriec/1000"]), "no column 'paypriec'"),
        (PlanOptions(campaigns=[CAMPAIGN], also=["CLICK:clik=1"]), "no column 'clik'"),
        (PlanOptions(campaigns=[CAMPAIGN], event_id="id"), "no column 'id'"),
        (PlanOptions(campaigns=[CAMPAIGN], maps=["visitorId=twice"]), "several columns 'twice'"),
    ],
)
def test_a_column_that_the_file_has_not_is_told_before_anything_is_sent(
    options: PlanOptions, named: str
) -> None:
    with pytest.raises(InvalidOption, match=named):
        build_plan(options, "aa", Format.CSV, ["payprice", "click", "twice", "twice"])
