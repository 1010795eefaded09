"""Incarnations of a partition: which log each offset was billed from, after a log was cut back or replaced.

Offsets of an incarnation may be given to other records in a later one, so coordinates carry both.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Incarnation(msgspec.Struct, frozen=True):
    """A log that took the place of the one before, from `first_offset` on.

    Below it the log is still the one of the incarnation `base`; None: of none that is known.
    `former_next_offset` is how far the incarnation before this one was billed, `began_at_ms` when this one
    took its place (epoch ms).
    """

    incarnation: int
    base: int | None
    first_offset: int
    former_next_offset: int
    began_at_ms: int = 0


class Stretch(msgspec.Struct, frozen=True):
    """Offsets `first_offset` (inclusive) to `next_offset` (exclusive) of an incarnation."""

    incarnation: int
    first_offset: int
    next_offset: int


def lineage(history: Sequence[Incarnation], incarnation: int, next_offset: int) -> list[Stretch]:
    """What the log of `incarnation`, billed to `next_offset`, is made of, in order of offsets.

    `history` holds the incarnations after the first one, which needs no entry.
    """
    begun = {each.incarnation: each for each in history}
    stretches: list[Stretch] = []
    at: int | None = incarnation
    while at is not None:
        first_offset = begun[at].first_offset if at in begun else 0
        if first_offset < next_offset:
            stretches.append(Stretch(at, first_offset, next_offset))
        next_offset = min(next_offset, first_offset)
        at = begun[at].base if at in begun else None
    return stretches[::-1]


def billed(history: Sequence[Incarnation], incarnation: int, next_offset: int) -> list[Stretch]:
    """All that was ever billed of the partition, by incarnation, the oldest first."""
    firsts = {each.incarnation: each.first_offset for each in history}
    ends = {**ends_of(history), incarnation: next_offset}
    return [Stretch(each, firsts.get(each, 0), ends[each]) for each in range(incarnation + 1)]


def gone(history: Sequence[Incarnation], incarnation: int, next_offset: int) -> list[Stretch]:
    """What was billed and is not in the log of `incarnation`, the oldest first."""
    kept = {each.incarnation: each.next_offset for each in lineage(history, incarnation, next_offset)}
    lost = [
        Stretch(each.incarnation, kept.get(each.incarnation, each.first_offset), each.next_offset)
        for each in billed(history, incarnation, next_offset)
    ]
    return [each for each in lost if each.first_offset < each.next_offset]


def ends_of(history: Sequence[Incarnation]) -> Mapping[int, int]:
    """How far each incarnation but the newest was billed: what lies beyond was never counted."""
    return {each.incarnation - 1: each.former_next_offset for each in history}
