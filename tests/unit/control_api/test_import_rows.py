"""Campaigns as rows of files, and back."""

import csv
import io
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_api.domain.cells import COLUMNS, defused, document_of, row_of, undone
from control_api.domain.content_rules import new_content
from control_api.domain.importing import imported_content
from control_api.domain.job import FileFormat
from control_api.domain.submission import Submission
from control_api.handlers.campaigns import draft_by
from control_api.jobs.import_rows import MAX_ROW_BYTES, read_row, rows_of
from control_api.jobs.json_items import BadFile, array_items
from control_api.routes.reading import read_body
from control_api.routes.views import campaign_view
from tests.unit.control_api.documents import HOSTILE, documents
from tests.unit.control_api.samples import (
    CAMPAIGN_ID,
    NOW,
    ORGANIZATION_ID,
    USER_ID,
    an_account,
    an_organization,
)

FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def lines(text: str | bytes, file_format: FileFormat) -> list[Any]:
    body = text.encode() if isinstance(text, str) else text
    return [read_row(number, row) for number, row in enumerate(rows_of(io.BytesIO(body), file_format))]


def written(rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


@settings(max_examples=300, deadline=None)
@given(documents())
def test_a_round_trip_through_any_format_loses_nothing(document: dict[str, Any]) -> None:
    organization = an_organization()
    submission, errors = read_body(Submission, msgspec.json.encode(document))
    assert submission is not None
    assert not errors
    content = new_content(submission, organization, NOW)
    draft = draft_by(content, CAMPAIGN_ID, ORGANIZATION_ID, USER_ID, NOW)
    view = campaign_view(draft, an_account(billed=-1), NOW)
    shown = msgspec.json.Encoder(decimal_format="number").encode(view)
    cells = row_of(msgspec.to_builtins(view, builtin_types=(Decimal,)))
    files = {
        FileFormat.CSV: written([list(COLUMNS), cells]),
        FileFormat.NDJSON: shown.decode() + "\n",
        FileFormat.JSON: f"[{shown.decode()}]",
    }
    for file_format, text in files.items():
        (row,) = lines(text, file_format)
        assert row.errors == ()
        assert imported_content(row.submission, organization) == content, file_format
        assert row.submission.id == CAMPAIGN_ID


@settings(deadline=None)
@given(documents())
def test_no_cell_of_an_export_begins_like_a_formula(document: dict[str, Any]) -> None:
    for cell in row_of(document):
        assert not cell.startswith(FORMULAS)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_was_defused_is_undone(text: str) -> None:
    assert undone(defused(text)) == text
    # As a spreadsheet does that takes `;` or a tab for the end of a cell.
    assert not [cell for cell in re.split(r"[;\t]", defused(text)) if cell.startswith(FORMULAS)]


def test_columns_may_be_missing_and_in_any_order() -> None:
    head = "targetingRules,name,settings.channels,type,startDate,metrics.ctr,status\r\n"
    (row,) = lines(
        f"\ufeff{head}r1; r2,n,WEB;EMAIL,COUPON,2020-01-01T00:00:00Z,7,ACTIVE\r\n\r\n", FileFormat.CSV
    )
    assert row.errors == ()
    content = imported_content(row.submission, an_organization())
    assert (content.targeting_rules, content.settings.channels) == (("r1", "r2"), ("WEB", "EMAIL"))
    assert row.line == 2


def test_every_wrong_field_is_named_with_its_line() -> None:
    text = (
        "name,description,type,budget.amount,budget.currency,settings.maxImpressions,settings.schedulingRules\n"
        '"a\nb",,FLYER,x,EUR,1.5,nonsense\n'
        ",,,,,,\n"
        "too,few\n"
    )
    first, empty, short = lines(text, FileFormat.CSV)
    assert (first.line, empty.line, short.line) == (2, 4, 5)
    assert {error.pointer for error in first.errors} == {
        "/type",
        "/budget/amount",
        "/settings/maxImpressions",
        "/settings/schedulingRules",
    }
    assert empty.submission is not None
    assert [error.pointer for error in short.errors] == [""]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "name,colour\n",
        "name,name\n",
        'name\n"open',
        'name\n"a"b\n',
        "name\n" + "x" * (MAX_ROW_BYTES + 1),
        "name\n" + "," * (MAX_ROW_BYTES + 1),
        'name\n"' + "x\n" * (MAX_ROW_BYTES // 2 + 1),
    ],
)
def test_a_table_that_is_none_is_refused_whole(text: str) -> None:
    with pytest.raises(BadFile):
        lines(text, FileFormat.CSV)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "1",
        "[{},",
        "[{}]]",
        "[{}} ]",
        "[" * 100_000,
        "[",
        '["',
        '["a\\"]',
        "[" + "1" * (2 * MAX_ROW_BYTES) + "]",
        '["' + "1" * (2 * MAX_ROW_BYTES) + '"]',
    ],
)
def test_an_array_that_is_none_is_refused_whole(text: str) -> None:
    with pytest.raises(BadFile):
        lines(text, FileFormat.JSON)


def test_items_that_are_no_campaigns_are_named_by_their_place() -> None:
    items = [
        "1",
        "null",
        '{"name": "a", "name": "b"}',
        '{"settings": {"channels": [], "channels": []}}',
        '{"colour": 1}',
        "9" * 5_000,
        "[" * 10_000 + "]" * 10_000,
        '{"a": 1} {"b": 2}',
        "{]",
        "",
    ]
    rows = lines(f'[{{"name": "a, ]\\"}}"}},{",".join(items)}]', FileFormat.JSON)
    assert [row.line for row in rows] == list(range(1, 12))
    assert [bool(row.errors) for row in rows] == [False] + [True] * 10
    assert "twice" in rows[3].errors[0].detail
    assert lines(" [ ] ", FileFormat.JSON) == []


class Dribbling(io.BytesIO):
    """Gives a few bytes at a time."""

    def __init__(self, body: bytes, size: int) -> None:
        super().__init__(body)
        self._size = size

    def read(self, _most: int | None = -1) -> bytes:
        return super().read(self._size)


@settings(deadline=None)
@given(st.lists(documents(), max_size=4), st.integers(1, 300))
def test_items_are_found_wherever_a_file_is_cut(found: list[dict[str, Any]], size: int) -> None:
    file = Dribbling(msgspec.json.encode(found), size)
    assert [msgspec.json.decode(item) for item in array_items(file)] == found


def test_a_line_that_cannot_be_read_stops_none_behind_it() -> None:
    text = (
        b'{"name": "a"}\r\n\n{"name": \n[]\n'
        + b" " * MAX_ROW_BYTES
        + b'{}\n{"name": "\\u0000"}\n{"name": "z"}'
    )
    rows = lines(text, FileFormat.NDJSON)
    assert [(row.line, bool(row.errors)) for row in rows] == [
        (1, False),
        (3, True),
        (4, True),
        (5, True),
        (6, True),
        (7, False),
    ]


def test_a_document_of_a_row_leaves_out_what_only_the_service_writes() -> None:
    columns = ["name", "status", "version", "metrics.impressions", "createdAt"]
    assert document_of(columns, ["n", "ACTIVE", "7", "9", "x"]) == {"name": "n"}
