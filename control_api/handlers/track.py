"""Tracks an event of a campaign through a door, and promises what the door has promised, no more."""

import asyncio
from datetime import datetime
from typing import Protocol

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.keys import HINT_LENGTH, StoredKey
from control_api.domain.tracking import TrackedEvent, event_id_of, internal_key, relayed
from control_api.errors import DoorUnavailable, EventRejected, TooManyEvents, Unauthorized
from control_api.handlers import campaigns
from control_api.handlers.actor import Actor
from control_api.handlers.keys import publish_key
from control_api.handlers.ports import Store, Unit
from schemas.access_keys import KeyKind, hash_key
from schemas.ids import new_id
from schemas.reasons import Rejected, Scope

_SECONDS = 3.0
"""So long a door may take to learn of a key or a campaign that is new."""
_PAUSE_SECONDS = 0.05
_ACCEPTED, _BAD_KEY, _REJECTED, _TOO_MANY = 202, 401, 422, 429
_REFUSED = {400: Rejected.MALFORMED, 413: Rejected.TOO_LARGE}
"""What a door says of a request that it does not read at all."""
_RETRY = "retry"
_KEY_NAME = "internal key of the control API"

_encoder = msgspec.json.Encoder(decimal_format="number")


class Result(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of an event, in the door's words: `accepted`, or `unbilled` with the reason. `serve` false
    tells to stop showing the campaign."""

    event_id: str | None
    status: str
    serve: bool | None = None
    reason: str | None = None
    detail: str | None = None


class DoorAnswer(msgspec.Struct, frozen=True):
    """A door's answer to one event: its result, or what its problem says."""

    status: int
    result: Result | None = None
    detail: str = ""
    retry_after: str = "1"


class Door(Protocol):
    """The doors."""

    async def send(self, key: str, event: bytes, headers: dict[str, str]) -> DoorAnswer:
        """Sends one event. Raises DoorUnavailable when there was no answer: what became of it is unknown."""


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says beside its body. `privacy` are the headers of who asks not to be tracked."""

    idempotency_key: str | None = None
    privacy: dict[str, str] = {}


async def track(
    store: Store,
    door: Door,
    secret: str,
    actor: Actor,
    campaign_id: str,
    event: TrackedEvent,
    sender: Sender,
    now: datetime,
) -> Result:
    """The door's result for an event that it has made durable.

    Raises EventRejected, NotFound, TooManyEvents, DoorUnavailable; and Unavailable, which can only happen
    where the door does not know the campaign or the organization's key yet.
    """
    made = event_id_of(actor.organization_id, actor.name, campaign_id, sender.idempotency_key)
    asked = relayed(event, campaign_id, made)
    body, key = _encoder.encode(asked), internal_key(secret, actor.organization_id)
    deadline = asyncio.get_running_loop().time() + _SECONDS
    has_key = is_known = False
    while True:
        answer = await door.send(key, body, sender.privacy)
        if answer.status == _BAD_KEY and not has_key:
            await _ensure_key(store, actor, key, now)
            has_key = True
        elif _may_be_unknown(answer) and not is_known:
            await campaigns.get(store, actor, campaign_id)
            is_known = True
        if not _is_early(answer) or asyncio.get_running_loop().time() >= deadline:
            return _result(answer, asked.event_id)
        await asyncio.sleep(_PAUSE_SECONDS)


def _result(answer: DoorAnswer, event_id: str | None) -> Result:
    """The result of an event that is durable; everything else is raised."""
    result = answer.result
    if answer.status == _ACCEPTED and result is not None and result.status != _RETRY:
        return result
    if answer.status == _REJECTED and result is not None:
        raise EventRejected(result.detail or "the door refused the event", result.reason or "")
    if answer.status in _REFUSED:
        raise EventRejected(answer.detail or "the door refused the event", _REFUSED[answer.status])
    again = f"send it again, with eventId {event_id!r}, so that it counts once"
    if answer.status == _TOO_MANY:
        raise TooManyEvents(f"{answer.detail or 'too many events'}; {again}", answer.retry_after)
    raise DoorUnavailable(f"no door can take the event now; {again}", answer.retry_after)


def _may_be_unknown(answer: DoorAnswer) -> bool:
    """Whether the door does not know the campaign (yet): whose it is decides whether the caller may know."""
    result = answer.result
    return result is not None and (result.status == _RETRY or result.reason == Rejected.UNKNOWN_CAMPAIGN)


def _is_early(answer: DoorAnswer) -> bool:
    return answer.status == _BAD_KEY or (answer.result is not None and answer.result.status == _RETRY)


async def _ensure_key(store: Store, actor: Actor, clear: str, now: datetime) -> None:
    """The organization's internal key, which the doors then learn of. It may write events, and no more: who
    tracks through this API gives no costs of their own and no events of long ago. One that was made with a
    secret of before is revoked, since whoever knows that secret knows the key; when that secret is put back,
    it is valid again."""

    async def work(unit: Unit) -> bool:
        # Locked: replicas with different secrets revoke each other's key, one after the other.
        if await unit.lock_organization(actor.organization_id) is None:
            raise Unauthorized("the token names an organization that does not exist")
        wanted = StoredKey(
            id=new_id(),
            organization_id=actor.organization_id,
            name=_KEY_NAME,
            key_hash=hash_key(clear),
            hint=clear[:HINT_LENGTH],
            kind=KeyKind.SERVER,
            scopes=(Scope.WRITE,),
            created_by=actor.user_id,
            created_at=now,
        )
        key = await unit.create_internal_key(wanted)
        if key is None:
            return False
        made = "key.made" if key.id == wanted.id else "key.restored"
        revoked = await unit.revoke_internal_keys(key, now)
        for each in (key, *revoked):
            await publish_key(unit, each)
        for each, action in ((key, made), *((each, "key.revoked") for each in revoked)):
            told = {"name": each.name, "kind": each.kind, "scopes": each.scopes}
            subject = ("key", each.id)
            await unit.audit(entry_of(actor.cause(), now, actor.organization_id, action, subject, after=told))
        return True

    await store.in_transaction(work)
