"""Files are read as streams, told by their content, and bad rows cost their neighbours nothing."""

import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from compose.replay.errors import UnreadableFile
from compose.replay.source import Format, Source

LOG_LINE = (
    '83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a/b.png?x=1 HTTP/1.1" 200 203023 '
    '"http://example.org/\\"quoted\\"" "Mozilla/5.0 (X11)"'
)


def write(folder: Path, content: bytes, *, zipped: bool = False) -> Path:
    file = folder / "file"
    file.write_bytes(gzip.compress(content) if zipped else content)
    return file


@pytest.mark.parametrize("zipped", [False, True])
def test_formats_and_compression_are_told_by_the_content(tmp_path: Path, zipped: bool) -> None:
    for content, expected in (
        (b"a,b\n1,2\n", Format.CSV),
        (b'{"a": 1}\n', Format.NDJSON),
        (LOG_LINE.encode() + b"\n", Format.LOG),
    ):
        source = Source(write(tmp_path, content, zipped=zipped))
        assert source.format is expected
        assert len(list(source.rows())) == 1


def test_csv_rows_are_numbered_and_a_short_one_is_reported_by_its_line(tmp_path: Path) -> None:
    rows = list(Source(write(tmp_path, b'a,b\n1,"x\ny"\n2\n3,z\n')).rows())
    assert [(row.number, row.line, row.columns) for row in rows] == [
        (1, 3, {"a": "1", "b": "x\ny"}),
        (2, 4, None),
        (3, 5, {"a": "3", "b": "z"}),
    ]
    assert "1 columns" in rows[1].problem


def test_ndjson_numbers_stay_exact_and_a_bad_line_stands_alone(tmp_path: Path) -> None:
    first, bad, last = Source(write(tmp_path, b'{"a": 0.1}\n{"a":\n{"a": {"b": 2}}\n')).rows()
    assert first.columns == {"a": Decimal("0.1")}
    assert (bad.columns, bad.line) == (None, 2)
    assert last.columns == {"a": {"b": 2}}


def test_an_access_log_gives_no_address_away(tmp_path: Path) -> None:
    same = LOG_LINE.replace("/a/b.png", "/c")
    other = LOG_LINE.replace("83.149.9.216", "83.149.9.217")
    content = "\n".join([LOG_LINE, same, other, "nonsense"]).encode()
    rows = list(Source(write(tmp_path, content)).rows())
    first = rows[0].columns
    assert first is not None
    assert first["path"] == "/a/b.png?x=1"
    assert first["time"] == "2015-05-17T10:05:03+00:00"
    assert first["userAgent"] == "Mozilla/5.0 (X11)"
    assert not any("83.149" in value for value in first.values())
    visitors = [row.columns["visitor"] for row in rows[:3] if row.columns]
    assert visitors[0] == visitors[1] != visitors[2]
    assert (rows[3].columns, rows[3].line) == (None, 4)


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)[:-50])
    with pytest.raises(UnreadableFile, match="cut off"):
        list(Source(file).rows())


def test_a_missing_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile):
        Source(tmp_path / "missing")
    with pytest.raises(UnreadableFile, match="empty"):
        Source(write(tmp_path, b""))


def test_the_rows_can_be_read_twice_and_the_position_moves(tmp_path: Path) -> None:
    source = Source(write(tmp_path, b"a\n1\n2\n", zipped=True))
    assert len(list(source.rows())) == len(list(source.rows())) == 2
    assert source.position == source.size


def test_a_byte_order_mark_costs_no_row(tmp_path: Path) -> None:
    for content in (b'{"a": "1"}\r\n{"a": "2"}\r\n', b"a\r\n1\r\n2\r\n"):
        source = Source(write(tmp_path, b"\xef\xbb\xbf" + content))
        assert [row.columns for row in source.rows()] == [{"a": "1"}, {"a": "2"}]
    plain, marked = (
        next(iter(Source(write(tmp_path, mark + LOG_LINE.encode())).rows())).columns
        for mark in (b"", b"\xef\xbb\xbf")
    )
    assert plain is not None
    assert marked is not None
    assert (marked["path"], marked["time"]) == (plain["path"], plain["time"])


def test_a_line_of_any_length_is_one_row(tmp_path: Path) -> None:
    content = b'{"a": "' + b"x" * 3_000_000 + b'"}\n{"a": "1"}\n'
    long, last = Source(write(tmp_path, content)).rows()
    assert (long.columns, long.line) == (None, 1)
    assert (last.columns, last.line) == ({"a": "1"}, 2)


@pytest.mark.parametrize("content", [b"BZh91AY&SY\x01\x02", b"PK\x03\x04", b"\x28\xb5\x2f\xfd\x04a\n"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="not a text file"):
        Source(write(tmp_path, content))


@pytest.mark.parametrize("zipped", [False, True])
def test_the_columns_of_a_csv_are_known_before_its_rows(tmp_path: Path, zipped: bool) -> None:
    source = Source(write(tmp_path, b'\xef\xbb\xbfa,"b\nc"\n1,2\n', zipped=zipped))
    assert source.header == ["a", "b\nc"]
    assert [row.columns for row in source.rows()] == [{"a": "1", "b\nc": "2"}]
    assert Source(write(tmp_path, b'{"a": 1}')).header is None
