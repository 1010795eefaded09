"""All that a door knows about campaigns, budgets and keys: the highest version of each."""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from schemas.access_keys import AccessKey
from schemas.budget_gates import BudgetGate
from schemas.campaign_state import CampaignState


class Versioned(Protocol):
    """A value of a compacted topic."""

    @property
    def version(self) -> int:
        """Rises with every change of the thing that the value describes."""


Value = TypeVar("Value", bound=Versioned)


class Table(Generic[Value]):
    """The highest version of each value of one compacted topic.

    Compaction keeps the last write, not the highest version: so a lower one that comes later is ignored.
    """

    def __init__(self, key_of: Callable[[Value], str]) -> None:
        self._key_of = key_of
        self._values: dict[str, Value] = {}
        self._seen: set[str] | None = None
        self.get = self._values.get

    def __len__(self) -> int:
        return len(self._values)

    def values(self) -> Iterable[Value]:
        """All values, in no order."""
        return self._values.values()

    def put(self, value: Value) -> bool:
        """Takes the value if it is newer than the one held; says whether it was."""
        key = self._key_of(value)
        if self._seen is not None:
            self._seen.add(key)
        held = self._values.get(key)
        if held is not None and held.version >= value.version:
            return False
        self._values[key] = value
        return True

    def drop(self, key: str) -> None:
        """Forgets a value whose topic holds a tombstone."""
        self._values.pop(key, None)

    def begin_full_read(self) -> None:
        """The topic is going to be read from its start."""
        self._seen = set()

    def end_full_read(self) -> int:
        """The topic has been read to its end: what was not in it is forgotten. Gives how many that were."""
        seen, self._seen = self._seen, None
        if seen is None:
            return 0
        unseen = [key for key in self._values if key not in seen]
        for key in unseen:
            del self._values[key]
        return len(unseen)


class Knowledge:
    """The three tables that a door decides by."""

    def __init__(self) -> None:
        self.campaigns: Table[CampaignState] = Table(lambda state: state.campaign_id)
        self.gates: Table[BudgetGate] = Table(lambda gate: gate.campaign_id)
        self.keys: Table[AccessKey] = Table(lambda key: key.key_hash)

    def campaign_of(self, campaign_id: str, organization_id: str) -> CampaignState | None:
        """The campaign, unless it is unknown, deleted or another organization's: those are all the same."""
        state = self.campaigns.get(campaign_id)
        if state is None or state.gone or state.organization_id != organization_id:
            return None
        return state
