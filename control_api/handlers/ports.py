"""What handlers need of the world. `app.py` fills these in."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from control_api.domain.account import Account
from control_api.domain.approval import Approval, ApprovalState
from control_api.domain.audit import AuditEntry
from control_api.domain.campaign import Campaign
from control_api.domain.keys import StoredKey
from control_api.domain.organization import Limits, Organization, User
from control_api.handlers.access_ports import ControlKeys, Sessions, Users
from control_api.handlers.job_ports import Jobs
from control_api.handlers.listing import ListQuery
from control_api.handlers.webhook_ports import DeliveryRows, WebhookRows
from control_api.handlers.work_ports import Approvals, Batch, Copies, Exports
from schemas.budget_gates import BudgetGate
from schemas.reasons import Threshold

T = TypeVar("T")


class Unit(Protocol):
    """One transaction: all of what is written through it is committed, or nothing is."""

    @property
    def users(self) -> Users: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def control_keys(self) -> ControlKeys: ...

    @property
    def webhooks(self) -> WebhookRows: ...

    @property
    def deliveries(self) -> DeliveryRows: ...

    @property
    def approvals(self) -> Approvals: ...

    @property
    def copies(self) -> Copies: ...

    @property
    def exports(self) -> Exports: ...

    @property
    def jobs(self) -> Jobs: ...

    @property
    def batch(self) -> Batch: ...

    async def organization(self, organization_id: str) -> Organization | None: ...

    async def lock_campaign(self, organization_id: str, campaign_id: str) -> tuple[Campaign, Account] | None:
        """Locks the account, then the campaign. The account knows the current budget version's crossings."""

    async def create_campaign(self, campaign: Campaign) -> None:
        """A new campaign with its account. Raises NameTaken at the latest when the transaction ends."""

    async def update_campaign(self, campaign: Campaign, previous: Campaign) -> None:
        """Writes a campaign that was locked, and its account when there is a new budget version."""

    async def name_is_taken(self, organization_id: str, name: str, campaign_id: str) -> bool:
        """Whether another campaign than this one, neither cancelled nor deleted, has the name."""

    async def record_crossings(
        self, campaign: Campaign, thresholds: Iterable[Threshold], *, billed: int, at: datetime
    ) -> None:
        """Crossings that no event caused, of the campaign's budget version."""

    async def announce(self, campaign_id: str, budget_version: int, threshold: Threshold) -> bool:
        """True once for each crossing."""

    async def withdraw_approvals(
        self, campaign_id: str, states: Sequence[ApprovalState], now: datetime
    ) -> list[Approval]: ...

    async def lock_due_accounts(self, now: datetime, most: int) -> list[tuple[str, str]]:
        """(organization, campaign) whose endDate has come, but for those that another replica holds."""

    async def add_to_outbox(self, topic: str, key: str, value: bytes) -> int:
        """The row's id: it is gone once Kafka has acked the record."""

    async def audit(self, entry: AuditEntry) -> None:
        """Appends to the organization's audit log. Call it last: the end of the log stays locked until the
        transaction ends."""

    async def create_key(self, key: StoredKey) -> bool:
        """False when a key of this hash is there already."""

    async def create_internal_key(self, key: StoredKey) -> StoredKey | None:
        """A key that nobody sees or revokes, as it is kept: one of this hash that was revoked is valid again.
        None when there is nothing to do."""

    async def revoke_internal_keys(self, but: StoredKey, now: datetime) -> list[StoredKey]:
        """Revokes the other ones of its organization, which were made with another secret; returns them."""

    async def lock_key(self, organization_id: str, key_id: str) -> StoredKey | None: ...

    async def revoke_key(self, key_id: str, now: datetime) -> None: ...

    async def lock_organization(self, organization_id: str) -> Organization | None: ...

    async def update_organization(
        self,
        organization_id: str,
        *,
        name: str,
        time_zone: str,
        currency: str,
        limits: dict[str, Limits],
        now: datetime,
    ) -> None: ...


class Store(Protocol):
    """The database. Every method raises Unavailable while it cannot be reached.

    `goes_on`: a request that broke off and is sent again goes on where it stopped (Idempotency-Key).
    """

    @property
    def goes_on(self) -> bool: ...

    async def in_transaction(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        """Runs `work` in one transaction; `work` may be called again when that was rolled back.

        In a request with an Idempotency-Key that has been carried out already, returns what `work` returned
        then, without calling it: so `work` says in its annotation what it returns, a type of msgspec's, and
        whatever the answer needs (a new id, a secret) is made in it.
        """

    async def campaign(self, organization_id: str, campaign_id: str) -> tuple[Campaign, Account] | None: ...

    async def campaigns(self, query: ListQuery) -> list[tuple[Campaign, Account | None, str]]:
        """A page, each with its account if the query is with metrics, and with its sort key."""

    async def organization(self, organization_id: str) -> Organization | None: ...

    async def keys(self, organization_id: str, after: str | None, most: int) -> list[StoredKey]: ...

    async def user(self, organization_id: str, user_id: str) -> User | None: ...

    async def unfollowed_crossings(self, since: datetime, before: datetime, most: int) -> list[BudgetGate]:
        """Crossings recorded between these moments that no transition has followed."""

    async def is_published(self, ids: Sequence[int]) -> bool:
        """Whether Kafka has acked these records of the outbox."""


class Clock(Protocol):
    """The time now, in UTC with whole milliseconds."""

    def __call__(self) -> datetime: ...
