"""What approvals, copies and work on many campaigns need of a transaction."""

from collections.abc import Sequence
from typing import Protocol

from control_api.domain.account import Account
from control_api.domain.approval import Approval
from control_api.domain.campaign import Campaign
from control_api.handlers.listing import ListQuery
from control_api.handlers.writes import Writes


class Approvals(Protocol):
    """Requests for approval. They are locked after their campaign."""

    async def add(self, approval: Approval) -> bool:
        """False when one of the campaign is pending already."""

    async def get(self, organization_id: str, campaign_id: str, approval_id: str) -> Approval | None: ...

    async def of_campaign(
        self, campaign_id: str, states: Sequence[str] | None, after: str | None, most: int
    ) -> list[Approval]: ...

    async def page(
        self, organization_id: str, states: Sequence[str] | None, after: str | None, most: int
    ) -> list[Approval]:
        """In falling order of ids, which is from the newest on, after the id `after`."""

    async def decide(self, approval: Approval) -> None:
        """Writes what was decided."""


class Copies(Protocol):
    """Campaigns whose name gives way to others."""

    async def source(self, organization_id: str, campaign_id: str) -> Campaign | None: ...

    async def taken(self, organization_id: str, names: Sequence[str]) -> set[str]:
        """Which of the names are taken, whatever their case."""

    async def create(self, campaign: Campaign) -> bool:
        """A new campaign with its account, as ports.Unit.create_campaign; False when its name is taken.

        Waits for a transaction that is taking the name at this moment.
        """


class Exports(Protocol):
    """All of an organization's campaigns, page by page."""

    async def page(self, query: ListQuery) -> list[tuple[Campaign, Account]]:
        """`page_size` campaigns after `after_id`, in order of ids; of `query` only its filters count."""


class Batch(Writes, Protocol):
    """Changes of many campaigns, written by a few statements. What `add_to_outbox` returns here is no id."""

    async def lock(
        self, organization_id: str, campaign_ids: Sequence[str]
    ) -> dict[str, tuple[Campaign, Account]]:
        """Locks all accounts in order of their ids, then the campaigns; those that are there, by id."""

    async def create_campaign(self, campaign: Campaign) -> None: ...

    async def write(self) -> None:
        """Writes what there is, but for the audit log."""

    async def flush(self) -> list[int]:
        """Writes everything; returns the ids of what stands in the outbox. Call it last, as `audit`."""
