"""Lets the status of campaigns follow crossings that no gate has told of: the ledger knows them all.

Gates come within a second. One that was lost with its topic, or could not be applied, is made up for here.
"""

import asyncio
from datetime import timedelta

import structlog

from control_api import metrics
from control_api.errors import Unavailable
from control_api.handlers.automatic import apply_gate
from control_api.handlers.ports import Clock, Store

log = structlog.get_logger(__name__)

LATE = timedelta(seconds=20)
"""So long a crossing is left to its gate."""

LOOKED_BACK = timedelta(days=90)
"""No outage lasts for longer; what is older was followed, or nobody waits for it."""

_LOOK_SECONDS = 15.0
_MOST = 200


async def run(store: Store, clock: Clock) -> None:
    """Looks every quarter of a minute until cancelled; any number of replicas may."""
    while True:
        try:
            found = await follow(store, clock)
        except Unavailable:
            found = 0
        if found < _MOST:
            await asyncio.sleep(_LOOK_SECONDS)


async def follow(store: Store, clock: Clock) -> int:
    """Applies what is found, some at a time; returns how many campaigns that were."""
    now = clock()
    gates = await store.unfollowed_crossings(now - LOOKED_BACK, now - LATE, _MOST)
    for gate in gates:
        changed = await apply_gate(store, gate, clock())
        metrics.CROSSINGS_FOUND.inc(len(gate.thresholds))
        log.warning("crossings.found", campaign=gate.campaign_id, thresholds=gate.thresholds, changed=changed)
    return len(gates)
