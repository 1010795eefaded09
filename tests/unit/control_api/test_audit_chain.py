"""The chain of the audit log: what was changed, removed, or put elsewhere is found."""

from datetime import timedelta

import msgspec
import pytest

from control_api.domain.audit import START, AuditEntry, ChainedEntry, breaks, chain, differing, entry_of
from control_api.domain.snapshot import Cause
from tests.unit.control_api.samples import NOW, ORGANIZATION_ID, USER_ID, a_campaign


def a_chain(length: int) -> list[ChainedEntry]:
    rows: list[ChainedEntry] = []
    for seq in range(1, length + 1):
        cause = Cause(USER_ID, f"request-{seq}", "why", "a1b2")
        at = NOW + timedelta(seconds=seq)
        entry = entry_of(
            cause, at, ORGANIZATION_ID, "campaign.updated", ("campaign", "c"), after={"name": seq}
        )
        rows.append(chain(rows[-1].hash if rows else START, seq, entry))
    return rows


def test_what_was_written_is_whole() -> None:
    assert not list(breaks(a_chain(5)))
    rows = a_chain(5)
    assert not list(breaks(rows[3:], seq=3, previous=rows[2].hash))


@pytest.mark.parametrize("field", AuditEntry.__struct_fields__)
def test_a_changed_field_is_found(field: str) -> None:
    rows = a_chain(5)
    value = NOW if field == "at" else "changed"
    entry = msgspec.structs.replace(rows[2].entry, **{field: value})
    rows[2] = msgspec.structs.replace(rows[2], entry=entry)
    assert [found.split(" is ")[0] for found in breaks(rows)] == ["row 3"]


def test_a_changed_row_with_a_hash_of_its_own_breaks_the_next_one() -> None:
    rows = a_chain(5)
    entry = msgspec.structs.replace(rows[2].entry, actor="nobody")
    rows[2] = chain(rows[1].hash, 3, entry)
    assert [found.split(" is ")[0] for found in breaks(rows)] == ["row 4"]


def test_a_removed_row_is_found() -> None:
    rows = a_chain(5)
    del rows[2]
    assert list(breaks(rows)) == ["after row 2 comes row 4: 1 rows are missing"]


def test_rows_that_have_changed_places_are_found() -> None:
    rows = a_chain(5)
    rows[1] = msgspec.structs.replace(rows[1], entry=rows[2].entry, hash=rows[2].hash)
    assert list(breaks(rows))


def test_only_what_differs_is_told() -> None:
    before = a_campaign()
    after = msgspec.structs.replace(before, name="new", version=2, updated_at=NOW + timedelta(days=1))
    assert differing(before, after) == ({"name": before.name}, {"name": "new"})
    later = msgspec.structs.replace(before, start_date=NOW + timedelta(days=2))
    assert differing(before, later)[1] == {"startDate": NOW + timedelta(days=2)}
    nothing, whole = differing(None, before)
    assert nothing is None
    assert whole["name"] == before.name
