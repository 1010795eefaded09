"""Export: all campaigns that a filter finds, page by page."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import structlog

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.errors import Unavailable
from control_api.handlers.listing import ListQuery
from control_api.handlers.ports import Store, Unit

log = structlog.get_logger(__name__)

PAGE = 500
_RETRY_SECONDS = (0.2, 1.0, 3.0)

Row = tuple[Campaign, Account]


async def pages(store: Store, query: ListQuery) -> AsyncIterator[list[Row]]:
    """The campaigns in order of their ids, each once; the first page may be empty, no other one is.

    Each page is a read of its own, so that a client which reads slowly keeps nothing open: what is changed
    meanwhile is exported as it was or as it is. Raises Unavailable when Postgres stays away.
    """
    after_id = None
    while True:
        page = await _page(store, msgspec.structs.replace(query, after_id=after_id, page_size=PAGE))
        if page or after_id is None:
            yield page
        if len(page) < PAGE:
            return
        after_id = page[-1][0].id


async def _page(store: Store, query: ListQuery) -> list[Row]:
    async def work(unit: Unit) -> list[Row]:
        return await unit.exports.page(query)

    # Whoever is halfway through a long answer is not sent away because of a moment.
    for pause in _RETRY_SECONDS if query.after_id else ():
        try:
            return await store.in_transaction(work)
        except Unavailable:
            log.info("exports.page_again", seconds=pause)
            await asyncio.sleep(pause)
    return await store.in_transaction(work)
