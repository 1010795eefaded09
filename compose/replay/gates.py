"""What the sender knows of closed campaigns, and whether their further events are to be sent."""

from collections.abc import Mapping
from enum import StrEnum

from compose.replay.door import Result, Serving
from schemas.reasons import Rejected, Unbilled


class OnClosed(StrEnum):
    """What becomes of a campaign's further events while the door says not to serve it."""

    SEND = "send"
    """They are sent all the same: the door stores them unbilled."""
    WAIT = "wait"
    SKIP = "skip"
    STOP = "stop"


_OF_THE_EVENT = frozenset({Unbilled.BOT, Unbilled.BACKFILL})
"""Reasons that say nothing of the campaign."""

_FINAL = frozenset(
    {
        *(Unbilled.BUDGET_100, Unbilled.MAX_IMPRESSIONS, Unbilled.END_DATE, Unbilled.CANCELLED),
        Rejected.UNKNOWN_CAMPAIGN,
    }
)
"""A campaign that is closed for one of these does not open again: to wait would be to wait for ever. What
happened is then sent, and counted unbilled (or, of a campaign that was deleted, refused)."""


class Gates:
    """The campaigns that are closed now. Pure: answers of the door come in, decisions go out."""

    def __init__(self, policy: OnClosed) -> None:
        self._policy = policy
        self._closed: dict[str, str] = {}
        self._final: set[str] = set()

    @property
    def closed(self) -> Mapping[str, str]:
        """The reason of each campaign whose further events are not sent at present."""
        return self._closed

    def answered(self, campaign_id: str, result: Result) -> None:
        """Takes in the answer to an event of the campaign."""
        if self._policy is OnClosed.SEND or result.serve or campaign_id in self._final:
            return
        if result.reason not in _OF_THE_EVENT:
            self._close(campaign_id, result.reason)

    def polled(self, serving: Mapping[str, Serving]) -> None:
        """Takes in what the door says of closed campaigns."""
        for campaign_id, state in serving.items():
            if campaign_id not in self._closed:
                continue
            if state.serve:
                del self._closed[campaign_id]
            else:
                self._close(campaign_id, state.reason)

    def _close(self, campaign_id: str, reason: str) -> None:
        if self._policy is OnClosed.WAIT and reason in _FINAL:
            self._final.add(campaign_id)
            self._closed.pop(campaign_id, None)
        else:
            self._closed[campaign_id] = reason
