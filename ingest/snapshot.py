"""The door's knowledge on disk, so that a door can start while Kafka is away."""

import asyncio
import os
import time
from pathlib import Path

import msgspec
import structlog

from ingest import metrics
from ingest.campaign_feed import CampaignFeed
from ingest.domain.knowledge import Knowledge
from schemas.access_keys import AccessKey
from schemas.budget_gates import BudgetGate
from schemas.campaign_state import CampaignState

log = structlog.get_logger(__name__)

FILE_NAME = "knowledge.msgpack"
_FORMAT = 1
_EVERY_SECONDS = 5.0


class _Snapshot(msgspec.Struct, frozen=True):
    format: int
    campaigns: list[CampaignState]
    gates: list[BudgetGate]
    keys: list[AccessKey]


class SnapshotFile:
    """One file in `folder`; doors may share it, since each replaces it whole."""

    def __init__(self, folder: Path, knowledge: Knowledge) -> None:
        self._path = folder / FILE_NAME
        self._knowledge = knowledge

    def load(self) -> bool:
        """Fills the knowledge; False when there is no usable file."""
        try:
            snapshot = msgspec.msgpack.decode(self._path.read_bytes(), type=_Snapshot)
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("snapshot.unusable", error=str(error))
            return False
        if snapshot.format != _FORMAT:
            return False
        for campaign in snapshot.campaigns:
            self._knowledge.campaigns.put(campaign)
        for gate in snapshot.gates:
            self._knowledge.gates.put(gate)
        for key in snapshot.keys:
            self._knowledge.keys.put(key)
        log.info("snapshot.loaded", campaigns=len(snapshot.campaigns), keys=len(snapshot.keys))
        return True

    def save(self) -> None:
        """Replaces the file in one step; it is on the disk when this returns. Raises OSError."""
        _replace(self._path, self._encode())
        metrics.SNAPSHOT_SAVED.set(time.time())

    async def keep(self, feed: CampaignFeed) -> None:
        """Saves every few seconds when something has changed, until cancelled.

        Never before the topics were read to their ends: a later door would take what is missing for unknown.
        """
        saved = -1
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            if not feed.complete or feed.changes == saved:
                continue
            changes = feed.changes
            try:
                await asyncio.to_thread(_replace, self._path, self._encode())
            except OSError as error:
                log.warning("snapshot.not_saved", error=str(error))
            else:
                saved = changes
                metrics.SNAPSHOT_SAVED.set(time.time())

    def _encode(self) -> bytes:
        return msgspec.msgpack.encode(
            _Snapshot(
                _FORMAT,
                list(self._knowledge.campaigns.values()),
                list(self._knowledge.gates.values()),
                list(self._knowledge.keys.values()),
            )
        )


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        # On a full disk the half of it would take the room that the spool needs.
        unfinished.unlink(missing_ok=True)
        raise
