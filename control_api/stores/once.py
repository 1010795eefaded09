"""The database as a request with an Idempotency-Key sees it: each transaction is committed once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import count
from typing import Any, TypeVar, cast, get_type_hints

import msgspec

from control_api.errors import IdempotencyKeyReused, RepeatUnreadable
from control_api.stores.database import Database
from control_api.stores.pool import Pool
from control_api.stores.repeat import Repeat
from control_api.stores.unit import PostgresUnit
from sql.load import postgres_queries

T = TypeVar("T")

_repeats = postgres_queries("control_repeats")
_FORGOTTEN_AT_ONCE = 1_000


class OnceDatabase(Database):
    """A transaction's result is kept with it. Whoever sends the request again gets that result in its place,
    so that the same code makes the same answer of it, wherever the first attempt broke off."""

    goes_on = True

    def __init__(self, pool: Pool, repeat: Repeat) -> None:
        super().__init__(pool)
        self._repeat = repeat
        self._steps = count()

    async def in_transaction(self, work: Callable[[PostgresUnit], Awaitable[T]]) -> T:
        """Runs `work`, or returns what it has returned before. Raises IdempotencyKeyReused."""
        step, kind, repeat = next(self._steps), get_type_hints(work)["return"], self._repeat

        async def once(unit: PostgresUnit) -> T:
            if await unit.claim_step(repeat, step):
                result = await work(unit)
                await unit.finish_step(repeat, step, repeat.close(msgspec.json.encode(result)))
                return result
            done = await unit.done_step(repeat, step)
            if done is None or done[0] != repeat.fingerprint:
                raise IdempotencyKeyReused("the key was used for another request")
            return cast("T", _opened(repeat, done[1], kind))

        return await super().in_transaction(once)


class Repeats:
    """Answers of requests with an Idempotency-Key."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def store(self, repeat: Repeat) -> OnceDatabase:
        """The database for this request."""
        return OnceDatabase(self._pool, repeat)

    async def is_known(self, repeat: Repeat) -> bool:
        """Whether the key was used before, for whatever request."""
        async with self._pool.connection() as connection:
            return await _repeats.first_step(connection, id=repeat.id) is not None

    async def answer(self, repeat: Repeat) -> bytes | None:
        """The first answer; None when there is none yet. Raises IdempotencyKeyReused."""
        async with self._pool.connection() as connection:
            row = await _repeats.first_step(connection, id=repeat.id)
        if row is None:
            return None
        if row["fingerprint"] != repeat.fingerprint:
            raise IdempotencyKeyReused("the key was used for another request")
        return repeat.open(row["result"]) if row["step"] < 0 else None

    async def keep(self, repeat: Repeat, answer: bytes) -> None:
        """Keeps the answer, unless another one is there."""
        async with self._pool.connection() as connection:
            await _repeats.keep_answer(
                connection, id=repeat.id, fingerprint=repeat.fingerprint, result=repeat.close(answer)
            )

    async def forget(self, before: datetime) -> bool:
        """Forgets some of what is older; whether there may be more."""
        async with self._pool.connection() as connection:
            status: str = await _repeats.forget(connection, before=before, most=_FORGOTTEN_AT_ONCE)
        return status.endswith(f" {_FORGOTTEN_AT_ONCE}")


def _opened(repeat: Repeat, kept: bytes, kind: Any) -> Any:
    text = repeat.open(kept)
    if text is None:
        raise RepeatUnreadable("this request was carried out; its answer cannot be shown again")
    return msgspec.json.decode(text, type=kind)
