"""The HTTP side of the gateway: decodes a request, runs it on a thread, answers as ClickHouse does."""

import asyncio
import base64
import binascii
import gzip
import hmac
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor

import lz4.frame  # type: ignore[import-untyped]  # it has no annotations
import msgspec
import orjson
import structlog
import zstandard
from aiohttp import web
from multidict import MultiMapping

from compose.gateway.engine import Answer, Engine, QueryError, Request

log = structlog.get_logger(__name__)

LARGEST_BODY = 512 * 1024 * 1024
THREADS = 32
"""Queries at the same time; further ones wait. Answers to /ping need none of them."""

_AUTHENTICATION_FAILED = 516
_STATUS = {
    _AUTHENTICATION_FAILED: 403,
    497: 403,  # ACCESS_DENIED
    164: 403,  # READONLY
    60: 404,  # UNKNOWN_TABLE
    81: 404,  # UNKNOWN_DATABASE
    46: 404,  # UNKNOWN_FUNCTION
    47: 404,  # UNKNOWN_IDENTIFIER
    115: 404,  # UNKNOWN_SETTING
    62: 400,  # SYNTAX_ERROR
    26: 400,
    27: 400,
    53: 400,
    117: 400,  # INCORRECT_DATA
    456: 400,  # UNKNOWN_QUERY_PARAMETER
    457: 400,
    48: 501,  # NOT_IMPLEMENTED
    159: 408,  # TIMEOUT_EXCEEDED
}
# What belongs to the transport and is no setting of a query.
_TRANSPORT = frozenset(
    {
        *("query", "database", "default_format", "query_id", "user", "password", "quota_key", "role"),
        *("session_id", "session_timeout", "session_check", "compress", "decompress", "buffer_size"),
        *("client_protocol_version", "wait_end_of_query", "stacktrace", "enable_http_compression"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "add_http_cors_header"),
        "cancel_http_readonly_queries_on_client_close",
    }
)


class User(msgspec.Struct, frozen=True):
    """Someone who may ask."""

    name: str
    password: str
    read_only: bool


class Gateway:
    """The handlers; one engine, its users, and threads for its queries."""

    def __init__(self, engine: Engine, users: tuple[User, ...]) -> None:
        self._engine = engine
        self._users = {user.name: user for user in users}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="query")

    def app(self) -> web.Application:
        """The application to serve."""
        # aiohttp would inflate gzip by itself but knows no lz4; one place does all of them.
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_get("/ping", _ping)
        app.router.add_route("GET", "/", self._handle)
        app.router.add_route("POST", "/", self._handle)
        return app

    async def _handle(self, http: web.Request) -> web.Response:
        query_id = http.query.get("query_id") or str(uuid.uuid4())
        try:
            user = self._authenticate(http)
            request = await _decode(http, user, query_id)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, self._engine.run, request)
        except QueryError as error:
            return _refusal(error, query_id)
        return _success(answer, query_id)

    def _authenticate(self, http: web.Request) -> User:
        name, password = _credentials(http)
        user = self._users.get(name)
        if user is None or not hmac.compare_digest(user.password.encode(), password.encode()):
            raise QueryError(
                _AUTHENTICATION_FAILED,
                f"Code: {_AUTHENTICATION_FAILED}. DB::Exception: {name}: Authentication failed: password is "
                "incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)",
            )
        return user


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


def _credentials(http: web.Request) -> tuple[str, str]:
    """As ClickHouse: its headers, else basic authentication, else URL parameters, else `default`."""
    if name := http.headers.get("X-ClickHouse-User"):
        return name, http.headers.get("X-ClickHouse-Key", "")
    scheme, _, encoded = http.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return name, password
    return http.query.get("user", "default"), http.query.get("password", "")


async def _decode(http: web.Request, user: User, query_id: str) -> Request:
    fields: MultiMapping[str] = http.query
    if http.content_type == "multipart/form-data":
        form = {k: v for k, v in (await http.post()).items() if isinstance(v, str)}
        values = {**dict(fields), **form}
        body = b""
    else:
        values = dict(fields)
        body = _decompress(await http.read(), http.headers.get("Content-Encoding", ""))
    return Request(
        url_query=values.get("query", ""),
        body=body,
        database=values.get("database", http.headers.get("X-ClickHouse-Database", "")),
        default_format=values.get("default_format", http.headers.get("X-ClickHouse-Format", "TabSeparated")),
        settings={k: v for k, v in values.items() if k not in _TRANSPORT and not k.startswith("param_")},
        parameters={k.removeprefix("param_"): v for k, v in values.items() if k.startswith("param_")},
        query_id=query_id,
        read_only=user.read_only or http.method == "GET",
    )


def _decompress(body: bytes, encoding: str) -> bytes:
    try:
        match encoding:
            case "" | "identity":
                return body
            case "gzip":
                return gzip.decompress(body)
            case "deflate":
                return zlib.decompress(body)
            case "zstd":
                return zstandard.ZstdDecompressor().decompressobj().decompress(body)
            case "lz4":
                return bytes(lz4.frame.decompress(body))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, RuntimeError) as error:
        raise QueryError(354, f"Code: 354. DB::Exception: the body is not {encoding}: {error}") from error
    raise QueryError(48, f"Code: 48. DB::Exception: Content-Encoding {encoding} is not supported")


def _success(answer: Answer, query_id: str) -> web.Response:
    summary = {
        "read_rows": str(answer.read_rows),
        "read_bytes": str(answer.read_bytes),
        "written_rows": str(answer.written_rows),
        "written_bytes": str(answer.written_bytes),
        "elapsed_ns": str(answer.elapsed_ns),
    }
    return web.Response(
        body=answer.data,
        headers={
            "Content-Type": "application/octet-stream",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Summary": orjson.dumps(summary).decode(),
            "X-ClickHouse-Timezone": "UTC",
        },
    )


def _refusal(error: QueryError, query_id: str) -> web.Response:
    log.info("query refused", code=error.code, query_id=query_id)
    return web.Response(
        status=_STATUS.get(error.code, 500),
        text=f"{error}\n",
        headers={"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Query-Id": query_id},
    )
