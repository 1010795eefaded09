"""Several batches billed one after another, with accounts that were read once for all of them."""

from collections.abc import Mapping, Sequence

import msgspec

from aggregator.domain.batch import Batch
from aggregator.domain.billing import Account, Bill, Delta, bill
from aggregator.domain.crossing import Crossing, crossed_after
from schemas.reasons import Threshold


class Tallied(msgspec.Struct, frozen=True):
    """A batch that is still to be billed: `duplicates` are indexes into its events, `deltas` those of
    `billing.tally`."""

    batch: Batch
    duplicates: Sequence[int]
    deltas: dict[str, Delta]


class JointBill(msgspec.Struct, frozen=True):
    """The outcome of several batches: what all of them add to each campaign, what they crossed, in order, and
    the bill of each."""

    deltas: dict[str, Delta]
    crossings: list[Crossing]
    outcomes: list[Bill]


def together(tallies: Sequence[Mapping[str, Delta]]) -> dict[str, Delta]:
    """What batches add to each campaign, summed. A campaign that stands in one of them keeps its delta."""
    first, *others = tallies
    total = dict(first)
    for deltas in others:
        for campaign_id, delta in deltas.items():
            found = total.get(campaign_id)
            total[campaign_id] = delta if found is None else _sum(found, delta)
    return total


def bill_in_turn(
    tallied: Sequence[Tallied],
    added: Mapping[str, Delta],
    accounts: Mapping[str, Account],
    crossed: Mapping[str, frozenset[Threshold]],
) -> JointBill:
    """Bills each batch as if those before it had been saved. `added` is what all of them add before anything
    is clipped (`together`); `accounts` and `crossed` are as for `billing.bill`, of the campaigns that are at
    risk by that."""
    outcomes, clipped = [], []
    for each in tallied:
        here = {
            campaign_id: account for campaign_id, account in accounts.items() if campaign_id in each.deltas
        }
        outcome = bill(
            each.batch.events,
            each.batch.positions,
            each.duplicates,
            each.deltas,
            here,
            crossed,
            partition=each.batch.partition,
            incarnation=each.batch.incarnation,
        )
        outcomes.append(outcome)
        clipped.append({campaign_id: each.deltas[campaign_id] for campaign_id in here})
        accounts = {**accounts, **{key: _after(account, each.deltas[key]) for key, account in here.items()}}
        crossed = crossed_after(crossed, outcome.crossings)
    crossings = [crossing for outcome in outcomes for crossing in outcome.crossings]
    return JointBill({**added, **together(clipped)}, crossings, outcomes)


def _sum(one: Delta, other: Delta) -> Delta:
    unbilled = dict(one.unbilled)
    for reason, events in other.unbilled.items():
        unbilled[reason] = unbilled.get(reason, 0) + events
    return Delta(
        campaign_id=one.campaign_id,
        organization_id=one.organization_id,
        currency=one.currency,
        impressions=one.impressions + other.impressions,
        clicks=one.clicks + other.clicks,
        conversions=one.conversions + other.conversions,
        bounces=one.bounces + other.bounces,
        unsubscribes=one.unsubscribes + other.unsubscribes,
        billable_impressions=one.billable_impressions + other.billable_impressions,
        billed=one.billed + other.billed,
        overdelivery=one.overdelivery + other.overdelivery,
        revenue=one.revenue + other.revenue,
        unverified_revenue=one.unverified_revenue + other.unverified_revenue,
        invalid_impressions=one.invalid_impressions + other.invalid_impressions,
        invalid_clicks=one.invalid_clicks + other.invalid_clicks,
        invalid_conversions=one.invalid_conversions + other.invalid_conversions,
        duplicates=one.duplicates + other.duplicates,
        flat_billed=one.flat_billed or other.flat_billed,
        has_flat=one.has_flat or other.has_flat,
        last_received_at=max(one.last_received_at, other.last_received_at),
        unbilled=unbilled,
    )


def _after(account: Account, delta: Delta) -> Account:
    return msgspec.structs.replace(
        account,
        billed=account.billed + delta.billed,
        billable_impressions=account.billable_impressions + delta.billable_impressions,
        flat_billed=account.flat_billed or delta.flat_billed,
    )
