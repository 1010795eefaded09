"""The gateway answers as ClickHouse does, as far as clickhouse-connect and dashboards go."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import aiohttp
import clickhouse_connect
import orjson
import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.running import RunningStack


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(engines: RunningStack) -> str:
    return await engines.fresh_clickhouse(migrated=False)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(address: str) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(dsn=address, autogenerate_session_id=False)
    await client.command(
        "CREATE TABLE t (x UInt64, y String, at DateTime64(3, 'UTC') DEFAULT now64(3)) "
        "ENGINE = MergeTree ORDER BY x SETTINGS non_replicated_deduplication_window = 100"
    )
    yield client
    await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def emptied(client: AsyncClient) -> AsyncClient:
    await client.command("TRUNCATE TABLE t")
    return client


def _url(address: str) -> tuple[str, str, str]:
    credentials, _, rest = address.removeprefix("http://").partition("@")
    user, _, password = credentials.partition(":")
    server, _, database = rest.partition("/")
    return f"http://{server}/", aiohttp.encode_basic_auth(user, password), database


async def _post(address: str, params: dict[str, str], body: bytes, **headers: str) -> aiohttp.ClientResponse:
    url, auth, database = _url(address)
    async with aiohttp.ClientSession(headers={"Authorization": auth}) as session:
        answer = await session.post(url, params={"database": database, **params}, data=body, headers=headers)
        await answer.read()
        return answer


async def test_a_query_with_bound_parameters_gives_typed_rows(emptied: AsyncClient) -> None:
    result = await emptied.query(
        "SELECT {n:UInt32} + 1, {s:String}, {l:Array(String)}",
        parameters={"n": 41, "s": "it's\n\\", "l": ["a", "b"]},
    )
    assert result.result_rows == [(42, "it's\n\\", ["a", "b"])]


async def test_native_rows_are_inserted_and_counted_in_the_summary(emptied: AsyncClient) -> None:
    summary = await emptied.insert("t", [[1, "a"], [2, "b"]], column_names=["x", "y"])
    assert summary.written_rows == 2
    assert (await emptied.query("SELECT x, y FROM t ORDER BY x")).result_rows == [(1, "a"), (2, "b")]


@pytest.mark.usefixtures("emptied")
async def test_the_synchronous_client_works_as_well(address: str) -> None:
    def ask() -> list[tuple[int]]:
        with clickhouse_connect.get_client(dsn=address) as client:
            client.insert("t", [[7, "z"]], column_names=["x", "y"])
            return list(client.query("SELECT x FROM t").result_rows)

    assert await asyncio.to_thread(ask) == [(7,)]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4"])
async def test_compressed_rows_are_taken(address: str, emptied: AsyncClient, compression: str) -> None:
    client = await clickhouse_connect.get_async_client(dsn=address, compress=compression)
    await client.insert("t", [[n, str(n)] for n in range(1000)], column_names=["x", "y"])
    await client.close()
    assert (await emptied.query("SELECT sum(x) FROM t")).result_rows == [(499_500,)]


async def test_json_lines_after_the_statement_are_inserted(address: str, emptied: AsyncClient) -> None:
    rows = b'{"x": 1, "y": "FORMAT TSV\\n"}\n{"x": 2, "y": "b"}\n'
    answer = await _post(address, {}, b"INSERT INTO t (x, y)\nFORMAT JSONEachRow\n" + rows)
    assert answer.status == 200
    assert orjson.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert (await emptied.query("SELECT y FROM t ORDER BY x")).result_rows == [("FORMAT TSV\n",), ("b",)]


async def test_the_statement_may_stand_in_the_url(address: str, emptied: AsyncClient) -> None:
    body = gzip.compress(b'{"x": 1, "y": "a"}\n')
    query = {"query": "INSERT INTO t (x, y) FORMAT JSONEachRow"}
    answer = await _post(address, query, body, **{"Content-Encoding": "gzip"})
    assert answer.status == 200
    assert (await emptied.query("SELECT count() FROM t")).result_rows == [(1,)]


async def test_insert_select_from_input_filters_the_rows_of_the_body(
    address: str, emptied: AsyncClient
) -> None:
    statement = (
        "INSERT INTO t (x, y) SELECT x, y FROM input('x UInt64, y String, e Enum8(\\'a\\' = 1)') "
        "WHERE x >= {low:UInt64} FORMAT JSONEachRow\n"
    )
    rows = b"".join(b'{"x": %d, "y": "r", "e": "a"}\n' % n for n in range(10))
    answer = await _post(address, {"param_low": "4"}, statement.encode() + rows)
    assert answer.status == 200, await answer.text()
    assert orjson.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "6"
    assert (await emptied.query("SELECT min(x), count() FROM t")).result_rows == [(4, 6)]


async def test_a_block_sent_again_with_its_token_is_stored_once(address: str, emptied: AsyncClient) -> None:
    params = {"insert_deduplication_token": "b1", "async_insert": "0"}
    for _ in range(2):
        await _post(address, params, b'INSERT INTO t (x, y) FORMAT JSONEachRow\n{"x": 1, "y": "a"}\n')
    assert (await emptied.query("SELECT count() FROM t")).result_rows == [(1,)]


async def test_settings_reach_the_query_and_not_the_next_one(address: str) -> None:
    first = await _post(
        address, {"max_threads": "3", "query_id": "mine"}, b"SELECT getSetting('max_threads')"
    )
    second = await _post(address, {}, b"SELECT getSetting('max_threads')")
    assert (await first.text()).strip() == "3"
    assert first.headers["X-ClickHouse-Query-Id"] == "mine"
    assert (await second.text()).strip() != "3"


@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize(
    ("statement", "code", "status"),
    [
        ("SELECT * FROM no_such_table", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 48, 501),
        ('INSERT INTO t (x) FORMAT JSONEachRow\n{"x": "no number"}', 27, 400),
        (
            "SELECT sleepEachRow(1) FROM numbers(9) SETTINGS max_execution_time = 1, max_block_size = 1",
            159,
            408,
        ),
    ],
)
async def test_an_error_has_clickhouse_code_and_message(
    address: str, statement: str, code: int, status: int
) -> None:
    answer = await _post(address, {}, statement.encode())
    assert answer.headers["X-ClickHouse-Exception-Code"] == str(code), await answer.text()
    assert answer.status == status
    assert "DB::Exception" in await answer.text()


async def test_a_wrong_password_is_refused(address: str) -> None:
    url, _, _ = _url(address)
    with pytest.raises(DatabaseError, match="516"):
        await clickhouse_connect.get_async_client(dsn=url.replace("http://", "http://default:wrong@"))


async def test_the_dashboards_user_reads_tables_and_nothing_else(
    engines: RunningStack, address: str, emptied: AsyncClient
) -> None:
    await emptied.insert("t", [[1, "a"]], column_names=["x", "y"])
    password = orjson.loads((engines.state / "secrets.json").read_bytes())["dashboards_password"]
    server, _, database = address.partition("@")[2].partition("/")
    readers = f"http://dashboards:{password}@{server}/{database}"
    reader = await clickhouse_connect.get_async_client(dsn=readers)
    assert (await reader.query("SELECT x FROM t", settings={"max_threads": 1})).result_rows == [(1,)]
    for forbidden in (
        "INSERT INTO t (x) VALUES (2)",
        "DROP TABLE t",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT 1 SETTINGS readonly = 0",
        "SET readonly = 0",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE query_id = 'nobody'",
        "CREATE TEMPORARY TABLE mine (a UInt8)",
        "/* a comment */ SYSTEM START MERGES",
        "DESCRIBE file('/etc/hostname', 'LineAsString')",
    ):
        answer = await _post(readers, {}, forbidden.encode())
        assert answer.status == 403, forbidden
    assert (await _post(readers, {"readonly": "0"}, b"DROP TABLE t")).status == 403
    several = await _post(readers, {}, b"SELECT 1; SYSTEM STOP MERGES")
    assert several.headers["X-ClickHouse-Exception-Code"] == "62", "as a server answers several statements"
    await reader.close()


async def test_a_slow_query_holds_up_nobody_and_can_be_killed(address: str, emptied: AsyncClient) -> None:
    slow = asyncio.create_task(
        _post(
            address,
            {"query_id": "slow-one", "max_block_size": "1"},
            b"SELECT sum(sleepEachRow(0.5)) FROM numbers(120)",
        )
    )
    url, _, _ = _url(address)
    running = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = 'slow-one'"
    async with asyncio.timeout(20):
        while (await emptied.query(running)).result_rows == [(0,)]:
            await asyncio.sleep(0.02)
    started = time.monotonic()
    async with aiohttp.ClientSession() as session, session.get(f"{url}ping") as answer:
        assert await answer.text() == "Ok.\n"
    assert time.monotonic() - started < 5
    await emptied.command("KILL QUERY WHERE query_id = 'slow-one' SYNC")
    answer = await asyncio.wait_for(slow, 20)
    assert answer.headers["X-ClickHouse-Exception-Code"] == "394"
