"""What a client sends to create or replace a campaign, before any rule has looked at it.

Every field may be missing here, so that the rules can name all that is missing at once.
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from control_api.domain.campaign import CampaignType, Moment, Settings, Texts
from schemas.money import Money

MAX_NAME = 255
"""Characters of a campaign's name."""


class Submission(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """The body of a create request (specification: Create Campaign Request)."""

    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] | UnsetType = UNSET
    description: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    type: CampaignType | UnsetType = UNSET
    targeting_rules: Texts = ()
    start_date: Moment | UnsetType = UNSET
    end_date: Moment | None = None
    budget: Money | None = None
    settings: Settings = Settings()


class Replacement(Submission, frozen=True, kw_only=True):
    """The body of a PUT: a whole campaign, as GET shows it. What only the service writes is ignored."""

    id: Any = UNSET
    status: Any = UNSET
    effective_status: Any = UNSET
    status_reason: Any = UNSET
    version: Any = UNSET
    budget_version: Any = UNSET
    acknowledged_threshold: Any = UNSET
    pending_budget: Any = UNSET
    created_by: Any = UNSET
    created_at: Any = UNSET
    updated_by: Any = UNSET
    updated_at: Any = UNSET
    currency: Any = UNSET
    metrics: Any = UNSET
    warnings: Any = UNSET
    propagation: Any = UNSET
