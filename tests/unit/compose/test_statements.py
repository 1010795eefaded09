"""What the gateway makes of a statement."""

import pytest

from compose.gateway.statements import (
    as_insert,
    only_reads,
    quote,
    reads_outside,
    set_statement,
    touches_server_files,
    with_our_query_ids,
)


def test_rows_begin_after_the_line_that_names_their_format() -> None:
    insert = as_insert("", b'INSERT INTO t (x)\n  SETTINGS async_insert = 0 FORMAT JSONEachRow\n{"x": 1}\n')
    assert insert is not None
    assert insert.statement == "INSERT INTO t (x)\n  SETTINGS async_insert = 0"
    assert (insert.format, insert.rows) == ("JSONEachRow", b'{"x": 1}\n')


def test_binary_rows_are_kept_to_the_byte() -> None:
    insert = as_insert("", b"INSERT INTO t FORMAT Native\n\x01\x00\nFORMAT TSV\n\xff")
    assert insert is not None
    assert insert.rows == b"\x01\x00\nFORMAT TSV\n\xff"


def test_with_the_statement_in_the_url_the_whole_body_is_rows() -> None:
    insert = as_insert("INSERT INTO t FORMAT Native", b"\n\nrows")
    assert insert is not None
    assert insert.rows == b"\n\nrows"


@pytest.mark.parametrize(
    "statement",
    [
        b"SELECT 1 FORMAT JSON",
        b"INSERT INTO t VALUES (1)",
        b"INSERT INTO t FORMAT Values (1)",
        b"INSERT INTO t SELECT 1",
    ],
)
def test_anything_without_rows_in_the_body_is_no_insert(statement: bytes) -> None:
    assert as_insert("", statement) is None


def test_input_becomes_a_file_with_the_same_structure() -> None:
    insert = as_insert(
        "INSERT INTO t SELECT x FROM input('x UInt8, e Enum8(\\'a(\\' = 1)') WHERE x > 1 FORMAT JSONEachRow",
        b"",
    )
    assert insert is not None
    assert insert.reads_input
    assert insert.selecting_from("/b/1") == (
        "INSERT INTO t SELECT x FROM "
        "file('/b/1', 'JSONEachRow', 'x UInt8, e Enum8(\\'a(\\' = 1)') WHERE x > 1"
    )


def test_only_kill_query_speaks_of_the_ids_that_clients_gave() -> None:
    assert with_our_query_ids("KILL QUERY WHERE query_id = 'a'") == (
        "KILL QUERY WHERE Settings['log_comment'] = 'a'"
    )
    assert with_our_query_ids("SELECT query_id FROM t") == "SELECT query_id FROM t"


def test_values_of_settings_are_quoted_and_names_are_checked() -> None:
    assert set_statement({"a": "1", "b": "it's \\"}) == r"SET a = '1', b = 'it\'s \\'"
    with pytest.raises(ValueError, match="a = 1"):
        set_statement({"a = 1, readonly": "0"})
    assert quote("") == "''"


@pytest.mark.parametrize(
    "text", ["SELECT 'file(1)'", "SELECT 1 -- url(x)", "SELECT file FROM t", "SELECT `s3`"]
)
def test_words_in_literals_comments_and_names_are_no_table_functions(text: str) -> None:
    assert not reads_outside(text)
    assert not touches_server_files(text)


@pytest.mark.parametrize("text", ["SELECT * FROM file('/etc/passwd')", "SELECT * FROM\nURL ('http://x')"])
def test_table_functions_that_read_outside_are_seen(text: str) -> None:
    assert reads_outside(text)


@pytest.mark.parametrize(
    "text", ["SELECT 1", "(SELECT 1) UNION ALL (SELECT 2)", "WITH 1 AS a SELECT a", "SHOW TABLES"]
)
def test_statements_that_read_are_told_by_how_they_begin(text: str) -> None:
    assert only_reads(text)


@pytest.mark.parametrize(
    "text", ["SYSTEM STOP MERGES", "KILL QUERY WHERE 1", "CREATE TEMPORARY TABLE t (a Int8)", "SELECTED"]
)
def test_all_other_statements_are_no_reads(text: str) -> None:
    assert not only_reads(text)
