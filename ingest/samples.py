"""The newest refused events, kept in memory for inspection by the organization that sent them."""

import time
from collections import OrderedDict, deque

import msgspec
import structlog

from ingest.domain.incoming import Refused
from schemas.access_keys import AccessKey
from schemas.reasons import Rejected

log = structlog.get_logger(__name__)

KEPT = 20
"""Of each reason and organization."""
_MAX_ORGANIZATIONS_AND_REASONS = 1_000
_LOG_EVERY_SECONDS = 1.0


class Sample(msgspec.Struct, frozen=True, rename="camel"):
    """A refused event; `sample` is the beginning of what was sent, `at` epoch ms."""

    at: int
    key_id: str
    reason: Rejected
    detail: str
    event_id: str | None
    sample: str


class Samples:
    """The last few refusals of each reason and organization; a line in the log at most once a second."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Rejected], deque[Sample]] = OrderedDict()
        self._next_log = 0.0

    def keep(self, refused: Refused, key: AccessKey, now: int) -> None:
        """Adds a refusal of `now` (epoch ms)."""
        slot = (key.organization_id, refused.reason)
        kept = self._kept.setdefault(slot, deque(maxlen=KEPT))
        self._kept.move_to_end(slot)
        if len(self._kept) > _MAX_ORGANIZATIONS_AND_REASONS:
            self._kept.popitem(last=False)
        text = refused.sample.decode(errors="replace")
        kept.append(Sample(now, key.key_id, refused.reason, refused.detail, refused.event_id, text))
        self._log(refused, key)

    def of(self, organization_id: str) -> list[Sample]:
        """All that are kept of an organization, by reason, oldest first."""
        return [sample for reason in Rejected for sample in self._kept.get((organization_id, reason), ())]

    def _log(self, refused: Refused, key: AccessKey) -> None:
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_SECONDS
            log.info("event.rejected", reason=refused.reason, detail=refused.detail, key_id=key.key_id)
