"""What the audit log says of a change, and the chain of hashes that holds its rows together."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from control_api.domain.campaign import Campaign
from control_api.domain.names import camel_case
from control_api.domain.snapshot import Cause, millis

START = b""
"""What stands before the first row of a chain."""

_UNTOLD = frozenset(
    {"id", "organization_id", "updated_at", "updated_by", "created_at", "created_by", "version"}
)
_encoder = msgspec.json.Encoder(decimal_format="number", order="deterministic")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done. `before` and `after` are JSON of what differs; `address` is a keyed hash."""

    organization_id: str
    at: datetime
    actor: str
    action: str
    subject_type: str
    subject_id: str
    reason: str | None = None
    correlation_id: str | None = None
    address: str | None = None
    before: str | None = None
    after: str | None = None


class ChainedEntry(msgspec.Struct, frozen=True):
    """An entry at its place in the chain of its organization."""

    seq: int
    entry: AuditEntry
    hash: bytes


def chain(previous: bytes, seq: int, entry: AuditEntry) -> ChainedEntry:
    """The entry at place `seq`, after the row whose hash is `previous`."""
    return ChainedEntry(seq, entry, _hash(previous, seq, entry))


def breaks(rows: Iterable[ChainedEntry], *, seq: int = 0, previous: bytes = START) -> Iterator[str]:
    """What is wrong with rows that should follow `seq` without a gap, one sentence each."""
    for row in rows:
        if row.seq != seq + 1:
            yield f"after row {seq} comes row {row.seq}: {row.seq - seq - 1} rows are missing"
        elif _hash(previous, row.seq, row.entry) != row.hash:
            yield f"row {row.seq} is not what was written: it was changed, or put in another's place"
        seq, previous = row.seq, row.hash


def entry_of(
    cause: Cause,
    at: datetime,
    organization_id: str,
    action: str,
    subject: tuple[str, str],
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> AuditEntry:
    """What `cause` did to a subject (its type, its id); `before` and `after` hold what msgspec can write."""
    subject_type, subject_id = subject
    return AuditEntry(
        organization_id=organization_id,
        at=at,
        actor=cause.actor,
        action=action,
        subject_type=subject_type,
        subject_id=subject_id,
        reason=cause.justification,
        correlation_id=cause.correlation_id,
        address=cause.address,
        before=_json(before),
        after=_json(after),
    )


def differing(before: Campaign | None, after: Campaign) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The fields of a campaign that a change has touched, as they were and as they are."""
    new = _told(after)
    if before is None:
        return None, new
    old = _told(before)
    changed = [name for name in new if new[name] != old[name]]
    return {name: old[name] for name in changed}, {name: new[name] for name in changed}


def _told(campaign: Campaign) -> dict[str, Any]:
    fields = (field.name for field in msgspec.structs.fields(Campaign))
    return {camel_case(name): getattr(campaign, name) for name in fields if name not in _UNTOLD}


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else _encoder.encode(value).decode()


def _hash(previous: bytes, seq: int, entry: AuditEntry) -> bytes:
    told = [
        seq,
        entry.organization_id,
        millis(entry.at),
        entry.actor,
        entry.action,
        entry.subject_type,
        entry.subject_id,
        entry.reason,
        entry.correlation_id,
        entry.address,
        entry.before,
        entry.after,
    ]
    return hashlib.sha256(previous + msgspec.json.encode(told)).digest()
