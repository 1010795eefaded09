"""What the handlers of webhooks and deliveries need of the world."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from control_api.domain.deliveries import Delivery, Outcome, Reply
from control_api.domain.webhooks import Webhook


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that is this process's to send until its lease ends, with what that takes."""

    id: str
    claim: str
    webhook_id: str
    organization_id: str
    event_id: str
    payload: bytes
    attempts: int
    url: str
    secret: bytes
    previous_secret: bytes | None


class Shares(msgspec.Struct, frozen=True):
    """How many deliveries may be sent at a time to one webhook, and to all of one organization."""

    webhook: int
    organization: int


class Sending(msgspec.Struct, frozen=True):
    """How many deliveries this process is sending, by webhook and by organization."""

    webhooks: Mapping[str, int]
    organizations: Mapping[str, int]


class WebhookRows(Protocol):
    """Webhooks, within one transaction."""

    async def create(self, webhook: Webhook) -> None: ...

    async def of_organization(self, organization_id: str) -> list[Webhook]: ...

    async def get(self, organization_id: str, webhook_id: str) -> Webhook | None: ...

    async def lock(self, organization_id: str, webhook_id: str) -> Webhook | None: ...

    async def update(self, webhook: Webhook) -> None: ...

    async def delete(self, webhook_id: str) -> None: ...

    async def subscribers(self, organizations: Iterable[str]) -> list[Webhook]:
        """The active ones of these organizations; nobody changes them before the transaction ends."""


class DeliveryRows(Protocol):
    """Deliveries, within one transaction."""

    async def lock_offset(self, partition: int) -> int:
        """The offset that a partition of `campaign-events` goes on at."""

    async def set_offset(self, partition: int, next_offset: int) -> None: ...

    async def add(self, delivery: Delivery) -> bool:
        """False when the subscriber has a delivery of this event already."""

    async def claim(
        self, *, now: datetime, lease: datetime, most: int, shares: Shares, sending: Sending
    ) -> list[Claimed]:
        """Due deliveries, `most` in all, and of each webhook and organization its share at most together with
        what is being sent already. They are due again at `lease`, unless recorded."""

    async def record(self, claimed: Claimed, reply: Reply, outcome: Outcome, now: datetime) -> bool:
        """False when it is another one's meanwhile."""

    async def give_up_pending(self, webhook_id: str, error: str) -> None:
        """Some of what waits for a webhook that is not active any more becomes dead letters: as much as a
        transaction can do. `give_up_unsendable` sees to the rest."""

    async def give_up_unsendable(self, *, gone: str, deactivated: str) -> bool:
        """Some of what waits for webhooks that are not active, or were deleted, becomes dead letters with one
        of these errors; whether there may be more."""

    async def get(self, webhook_id: str, delivery_id: str) -> Delivery | None: ...

    async def page(
        self, webhook_id: str, states: Sequence[str] | None, before: str | None, most: int
    ) -> list[Delivery]:
        """The newest first."""

    async def redeliver(self, delivery_id: str, now: datetime) -> None: ...

    async def redeliver_dead(self, webhook_id: str, now: datetime, most: int) -> int:
        """How many that were."""

    async def forget(self, before: datetime, most: int) -> int:
        """Removes some that are older; how many that were."""

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many wait, counted up to 100,000, and since when the oldest of those does."""


class Secrets(Protocol):
    """Secrets of webhooks."""

    def new(self) -> str:
        """The clear text of a new one."""

    def seal(self, webhook_id: str, clear: str) -> bytes: ...

    def open(self, webhook_id: str, sealed: bytes) -> str | None:
        """None when it cannot be opened any more."""


class Subscribers(Protocol):
    """The way to subscribers."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request, within bounded time; whatever goes wrong is told in the reply."""
