"""The statement of one page of a list of campaigns, put together of the parts that its query has."""

import re
from functools import cache
from typing import Any

import asyncpg

from control_api.domain.account import Account
from control_api.handlers.listing import ListQuery, SortKey
from control_api.stores.rows import account_from_json
from sql.load import postgres_parts

_FILTERS = (
    "statuses",
    "types",
    "channels",
    "pattern",
    "starts_after",
    "starts_before",
    "ends_after",
    "ends_before",
    "created_after",
    "created_before",
    "updated_after",
)
_TEXT, _TIME, _NUMBER = ' COLLATE "C"', "::timestamptz", "::numeric"
_TYPES = {SortKey.NAME: _TEXT, SortKey.STATUS: _TEXT, SortKey.BUDGET: _NUMBER}
_PARAMETER = re.compile(r"(?<!:):([a-z]\w*)")


def list_statement(query: ListQuery) -> tuple[str, list[Any]]:
    """The statement and the values of its parameters."""
    filters = tuple(name for name in _FILTERS if getattr(query, name) is not None)
    text, names = _statement(
        query.sort, query.descending, filters, query.after_key is not None, query.with_metrics
    )
    return text, [getattr(query, name) for name in names]


def listed_account(row: asyncpg.Record) -> Account | None:
    """The account beside a campaign in a row of a page, if it is there."""
    return account_from_json(row["account"], row["unbilled"]) if row["account"] else None


@cache
def _statement(
    sort: SortKey, descending: bool, filters: tuple[str, ...], goes_on: bool, with_metrics: bool
) -> tuple[str, tuple[str, ...]]:
    """The text with Postgres' numbered parameters, and their names in this order."""
    parts = postgres_parts("control_list")
    shown = "metrics" if with_metrics else "plain"
    chosen = ["page", *filters, *(["after"] if goes_on else []), "order", shown, "ordered"]
    text = "\n".join(parts[name] for name in chosen).format(
        column=parts[f"column of {sort}"],
        type=_TYPES.get(sort, _TIME),
        direction="DESC" if descending else "ASC",
        beyond="<" if descending else ">",
    )
    names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text), names
