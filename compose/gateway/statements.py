"""What the gateway must understand of a statement before chdb gets it. Pure."""

import re

import msgspec

_INSERT = re.compile(rb"\s*INSERT\s+INTO\b", re.IGNORECASE)
_FORMAT = re.compile(rb"\bFORMAT\s+(?P<format>[A-Za-z]\w*)[ \t]*(?:\r?\n|;|$)", re.IGNORECASE)
_INPUT = re.compile(r"\binput\s*\(\s*(?P<structure>'(?:[^'\\]|\\.|'')*')\s*\)", re.IGNORECASE)
_KILL = re.compile(r"\s*KILL\s+QUERY\b", re.IGNORECASE)
_QUERY_ID = re.compile(r"\bquery_id\b")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|`[^`]*`|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_FILES = re.compile(r"\b(?:INTO\s+OUTFILE|FROM\s+INFILE)\b", re.IGNORECASE)
_READS = re.compile(r"[\s(]*(?:SELECT|WITH|SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b", re.IGNORECASE)
_SOURCES = re.compile(
    r"\b(?:file|fileCluster|url\w*|s3\w*|gcs|hdfs\w*|azureBlobStorage\w*|remote\w*|cluster\w*|mysql|postgresql|"
    r"mongodb|redis|sqlite|odbc|jdbc|executable|python|iceberg\w*|deltaLake\w*|hudi\w*|paimon\w*|filesystem|"
    r"arrowFlight|ytsaurus)\s*\(",
    re.IGNORECASE,
)


class Insert(msgspec.Struct, frozen=True):
    """An insert whose rows come in the body: the statement without FORMAT, and the rows in that format."""

    statement: str
    format: str
    rows: bytes

    @property
    def reads_input(self) -> bool:
        """Whether it selects from `input('structure')`, and so needs the rows as a file."""
        return _INPUT.search(self.statement) is not None

    def selecting_from(self, file: str) -> str:
        """The same insert with `file(…)` in the place of `input('structure')`."""

        def table_function(match: re.Match[str]) -> str:
            return f"file('{file}', '{self.format}', {match['structure']})"

        return _INPUT.sub(table_function, self.statement, count=1)


def as_insert(url_query: str, body: bytes) -> Insert | None:
    """The insert in a request, or None when it is anything else (or a VALUES list, which is all SQL).

    `url_query` is the `query` parameter: the statement then stands there, and all of the body is rows.
    """
    text = url_query.encode() + b"\n" + body if url_query else body
    if not _INSERT.match(text):
        return None
    found = _FORMAT.search(text)
    if found is None or found["format"].upper() == b"VALUES":
        return None
    return Insert(text[: found.start()].decode().strip(), found["format"].decode(), text[found.end() :])


def with_our_query_ids(query: str) -> str:
    """KILL QUERY by the ids that clients gave: chdb makes its own, so a client's stands in `log_comment`."""
    return _QUERY_ID.sub("Settings['log_comment']", query) if _KILL.match(query) else query


def touches_server_files(query: str) -> bool:
    """INTO OUTFILE and FROM INFILE are for a local client; a server refuses them over HTTP."""
    return _FILES.search(_QUOTED.sub(" ", query)) is not None


def reads_outside(query: str) -> bool:
    """Whether it reads through a table function from files or the network: not for a read-only user.

    chdb runs as one user with all rights, so what ClickHouse decides by grants is decided here by name.
    """
    return _SOURCES.search(_QUOTED.sub(" ", query)) is not None


def only_reads(query: str) -> bool:
    """Whether a statement, as ClickHouse's own formatter writes it, begins as one that reads."""
    return _READS.match(query) is not None


def set_statement(settings: dict[str, str]) -> str:
    """One SET for all of them; names are checked, values quoted. ValueError on a name that is none."""
    if bad := [name for name in settings if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"{bad[0]!r} is not the name of a setting")
    pairs = (f"{name} = {quote(value)}" for name, value in settings.items())
    return f"SET {', '.join(pairs)}"


def quote(value: str) -> str:
    """A SQL string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
