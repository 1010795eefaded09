"""One step of many campaigns: each by itself, or all or none of them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign, ShortText
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError, Refusal
from control_api.errors import InvalidRequest, NotCarriedOut, NotFound, Unavailable
from control_api.handlers.actor import Actor
from control_api.handlers.change import Saved, moved, save, wait_until_published
from control_api.handlers.ports import Store, Unit
from control_api.handlers.transitions import Activation, Pausing, Step, Stopping, kind_of, organization_of
from control_api.handlers.work_ports import Batch
from schemas.ids import canonical_uuid

MOST = 1_000
_GROUP = 50
"""Campaigns of a transaction where each stands for itself: their accounts are locked for milliseconds."""

_PAUSE_AFTER = 25
"""Campaigns after which other requests of this process get their turn."""

_WRITE_AFTER = 200
"""Campaigns after which something is written: Postgres ends a transaction that is idle for 2 s."""

Ids = Annotated[tuple[ShortText, ...], msgspec.Meta(min_length=1, max_length=MOST)]
Explain = Callable[[Exception, str], dict[str, Any]]
"""Makes the problem of a refusal; the text is the campaign's id."""


class BulkActivation(Activation, frozen=True, kw_only=True):
    """The body of bulk activate: ids, each once. `atomic`: all of them, or none."""

    ids: Ids
    atomic: bool = False


class BulkPausing(Pausing, frozen=True, kw_only=True):
    """The body of bulk pause and of bulk delete, with an optional reason for the audit log."""

    ids: Ids
    atomic: bool = False


class BulkStopping(Stopping, frozen=True, kw_only=True):
    """The body of bulk stop, with one reason for all."""

    ids: Ids
    atomic: bool = False


BulkRequest = BulkActivation | BulkPausing | BulkStopping


class Result(msgspec.Struct, frozen=True):
    """What became of one id: the campaign, or a problem."""

    id: str
    campaign: Campaign | None = None
    account: Account | None = None
    problem: dict[str, Any] | None = None


class _Done(msgspec.Struct, frozen=True):
    results: list[Result]
    outbox_ids: list[int] = []


class _NotAll(Exception):
    def __init__(self, results: list[Result]) -> None:
        self.results = results


async def carry_out_all(
    store: Store,
    actor: Actor,
    asked: BulkRequest,
    step: Step,
    explain: Explain,
    now: datetime,
    *,
    dry_run: bool = False,
) -> tuple[list[Result], bool | None]:
    """A result for each id in the order given, and whether Kafka has all new snapshots (after 2 s at most).

    The same request makes the same transactions in the same order, so one with an Idempotency-Key that broke
    off goes on where it stopped; of one without, Postgres may go away in the middle: what was not done by
    then has that as its problem. Raises InvalidRequest for an id that is given twice.
    """
    ids = _distinct(asked.ids)
    size = len(ids) if asked.atomic else _GROUP
    results: list[Result] = []
    outbox_ids: list[int] = []
    for first in range(0, len(ids), size):
        group = ids[first : first + size]
        work = _group(actor, group, step, explain, now, is_atomic=asked.atomic, dry_run=dry_run)
        try:
            done = await store.in_transaction(work)
        except _NotAll as failed:
            return failed.results, None
        except Unavailable as error:
            if not results or store.goes_on:
                raise
            results += [Result(each, problem=explain(error, each)) for each in ids[first:]]
            break
        results += done.results
        outbox_ids += done.outbox_ids
    waits = bool(outbox_ids) and not all(_is_gone(result) for result in results)
    published = await wait_until_published(store, outbox_ids) if waits else None
    return results, published


def _group(
    actor: Actor,
    ids: Sequence[str],
    step: Step,
    explain: Explain,
    now: datetime,
    *,
    is_atomic: bool,
    dry_run: bool,
) -> Callable[[Unit], Any]:
    async def work(unit: Unit) -> _Done:
        organization, batch = await organization_of(unit, actor), unit.batch
        known = [found for found in map(canonical_uuid, ids) if found is not None]
        locked = await batch.lock(actor.organization_id, known)
        results = []
        for number, campaign_id in enumerate(ids, 1):
            try:
                found = locked.get(canonical_uuid(campaign_id) or "")
                saved = await _one(batch, actor, found, step, organization, now, dry_run=dry_run)
                results.append(Result(campaign_id, saved.campaign, saved.account))
            except (Refusal, NotFound) as refused:
                results.append(Result(campaign_id, problem=explain(refused, campaign_id)))
            if number % _PAUSE_AFTER == 0:
                await asyncio.sleep(0)
            if number % _WRITE_AFTER == 0:
                await batch.write()
        if is_atomic and any(result.problem for result in results):
            raise _NotAll([_not_carried_out(result, explain) for result in results])
        return _Done(results, [] if dry_run else await batch.flush())

    return work


async def _one(
    batch: Batch,
    actor: Actor,
    found: tuple[Campaign, Account] | None,
    step: Step,
    organization: Organization,
    now: datetime,
    *,
    dry_run: bool,
) -> Saved:
    if found is None:
        raise NotFound("there is no such campaign")
    before, account = found
    after = step.decide(before, account, organization, now)
    by = actor.user_id
    if dry_run:
        change = moved(before=before, after=after, account=account, kinds=(), now=now, updated_by=by)
        return Saved(campaign=change.campaign, account=account)
    return await save(
        batch,
        before=before,
        after=after,
        account=account,
        kind=kind_of(after),
        cause=actor.cause(step.justification),
        now=now,
        updated_by=by,
    )


def _is_gone(result: Result) -> bool:
    return result.campaign is None or result.campaign.deleted_at is not None


def _not_carried_out(result: Result, explain: Explain) -> Result:
    if result.problem is not None:
        return result
    refused = NotCarriedOut("possible by itself, but not all of the ids are")
    return Result(result.id, problem=explain(refused, result.id))


def _distinct(ids: Sequence[str]) -> Sequence[str]:
    """The ids. Raises InvalidRequest when one is given twice, in whatever writing."""
    seen: set[str] = set()
    twice = []
    for index, text in enumerate(ids):
        key = canonical_uuid(text) or text
        if key in seen:
            twice.append(FieldError(f"/ids/{index}", "this id is given twice"))
        seen.add(key)
    if twice:
        raise InvalidRequest(twice)
    return ids
