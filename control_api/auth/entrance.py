"""The way in, over HTTP and gRPC alike: who asks is found out, and counted."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from control_api import metrics
from control_api.auth.authenticator import Authenticator, Credentials, Told
from control_api.auth.rates import ADDRESS, KEY, USER, Rates, Taken
from control_api.domain.permissions import Permission
from control_api.errors import Unauthorized, Unavailable
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Clock

_NOWHERE = "unknown"
Tell = Callable[[Taken], None]
"""Is told what is left of a limit, also when a request is refused."""


def untold(_: Taken) -> None:
    """For whoever does not show what is left."""


class Entrance:
    """Users and keys have a limit of their own; an address has one for what comes without a valid token or
    key."""

    def __init__(self, authenticator: Authenticator, rates: Rates) -> None:
        self._authenticator = authenticator
        self._rates = rates

    async def actor(self, given: Credentials, told: Told, now: datetime, tell: Tell = untold) -> Actor:
        """Raises Unauthorized, MalformedRequest, TooManyRequests; Unavailable while Postgres is away."""
        if given.api_key and not self._authenticator.is_known_key(given):
            # Whoever guesses keys has Postgres asked for each: not when his address has guessed enough.
            left = self._rates.left(ADDRESS, told.address or _NOWHERE)
            self._pass(left, tell, within=left.remaining > 0)
        try:
            actor = await self._authenticator.actor(given, told, now)
        except Unauthorized:
            self.unknown(told.address, tell)
            raise
        policy, who = (KEY, actor.key_id) if actor.key_id else (USER, actor.user_id)
        taken, within = self._rates.take(policy, f"{actor.organization_id} {who}")
        self._pass(taken, tell, within=within)
        return actor

    def watch(
        self, given: Credentials, permission: Permission, clock: Clock
    ) -> Callable[[], Awaitable[bool]]:
        """For what goes on for long: tells whether who was let in would be let in now. While Postgres is away
        nobody can say, and he may stay."""

        async def still() -> bool:
            try:
                actor = await self._authenticator.actor(given, Told(), clock())
            except Unavailable:
                return True
            except Unauthorized:
                return False
            return permission in actor.permissions

        return still

    def unknown(self, address: str | None, tell: Tell = untold) -> None:
        """Counts a request of nobody. Raises TooManyRequests."""
        taken, within = self._rates.take(ADDRESS, address or _NOWHERE)
        self._pass(taken, tell, within=within)

    def left(self, address: str | None) -> Taken:
        """What an address has left."""
        return self._rates.left(ADDRESS, address or _NOWHERE)

    def _pass(self, taken: Taken, tell: Tell, *, within: bool) -> None:
        tell(taken)
        if not within:
            metrics.LIMITED.labels(taken.policy).inc()
            raise self._rates.refuse(taken)
