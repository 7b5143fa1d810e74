"""asyncpg: always prepared, always binary; cursors, COPY, a pool that resets."""

import asyncio
import datetime as dt
import io
import json
import time

import asyncpg
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, statements, table, value

DSN = dict(host=HOST, port=PORT, user=USER, database=DATABASE, password=PASSWORD)
SLOW = "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)"
loop = asyncio.new_event_loop()
connection = None
probes = Probes()


def run(name, work):
    probes.run(name, lambda: loop.run_until_complete(work()))


def given(kind, text):
    return json.dumps(text) if kind == "jsonb" and text is not None else value(kind, text)


def rows(found):
    return [list(row.values()) for row in found]


async def ask(sql, *params):
    statement = await connection.prepare(sql)
    columns = statement.get_attributes()
    found = await statement.fetch(*params)
    parameters = [p.name for p in statement.get_parameters()]
    answer = table([c.name for c in columns], [c.type.name for c in columns], rows(found))
    return {**answer, "value": parameters}


async def server():
    version = connection.get_server_version()
    settings = connection.get_settings()
    return [version.major, settings.server_encoding, settings.TimeZone, settings.is_superuser]


async def simple():
    return [await connection.execute("SET TimeZone = 'UTC'; SELECT 1"), await connection.fetchval("SELECT words FROM kinds WHERE n = $1", 2)]


async def many():
    found = []
    for n in range(7):
        found.append(await connection.fetchval("SELECT count(*) FROM wikipedia WHERE added > $1 AND channel = $2", n, "#en.wikipedia"))
    return found


async def cursor():
    async with connection.transaction():
        opened = await connection.cursor("SELECT n FROM generate_series(1, $1::bigint) AS g(n)", 500)
        first = await opened.fetch(3)
        await opened.forward(10)
        total = 0
        async for row in connection.cursor("SELECT n FROM generate_series(1, 100000) AS g(n)", prefetch=5000):
            total += row["n"]
        return [rows(first), rows(await opened.fetch(2)), total]


async def transactions():
    found = []
    transaction = connection.transaction(isolation="repeatable_read", readonly=True)
    await transaction.start()
    found.append(await connection.fetchval("SHOW transaction_isolation"))
    try:
        async with connection.transaction():
            await connection.fetchval("SELECT 1 / 0")
    except asyncpg.PostgresError as error:
        found.append(error.sqlstate)
    found.append(await connection.fetchval("SELECT count(*) FROM kinds"))
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO notes (at, client, n) VALUES (now(), 'asyncpg', 0)")
    except asyncpg.PostgresError as error:
        found.append(error.sqlstate)
    await transaction.rollback()
    return [*found, connection.is_in_transaction()]


async def pool():
    async with asyncpg.create_pool(**DSN, min_size=1, max_size=2, server_settings={"search_path": "public", "application_name": "pool"}) as taken:
        found = []
        for _ in range(4):
            async with taken.acquire() as one:
                found.append([await one.fetchval("SHOW TimeZone"), await one.fetchval("SHOW application_name")])
                await one.execute("SET TimeZone = 'Asia/Tokyo'")
        return found


async def cancel():
    other = await asyncpg.connect(**DSN)
    began = time.monotonic()
    found = []
    try:
        await other.fetchval(SLOW, timeout=0.5)
        found.append("ran to its end")
    except asyncio.TimeoutError:
        found.append("timeout")
    found.append(await other.fetchval("SELECT count(*) FROM kinds"))
    found.append(time.monotonic() - began < 6)
    await other.close()
    return found


async def timeout():
    other = await asyncpg.connect(**DSN, server_settings={"statement_timeout": "300"})
    try:
        return await other.fetchval(SLOW)
    except asyncpg.PostgresError as error:
        return [type(error).__name__, error.sqlstate]
    finally:
        await other.close()


async def copy_out():
    target = io.BytesIO()
    status = await connection.copy_from_query("SELECT n, words, exact, at FROM kinds WHERE n < $1 ORDER BY n", 4, output=target, format="csv", header=True)
    binary = io.BytesIO()
    await connection.copy_from_query("SELECT n, words, exact, at, tags, id FROM kinds ORDER BY n", output=binary, format="binary")
    whole = io.BytesIO()
    await connection.copy_from_table("kinds", output=whole, columns=["n", "words"])
    return [status, target.getvalue().decode(), binary.getvalue().hex(), sorted(whole.getvalue().decode().splitlines())]


async def copy_in():
    # So that what was written can be read at once; PostgreSQL has no such setting, and takes any with a dot.
    await connection.execute("SET otus.insert_wait = 'visible'")
    at = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    records = [(at, "asyncpg", n, f"copied {n}") for n in range(3)]
    status = await connection.copy_records_to_table("notes", records=records, columns=["at", "client", "n", "words"])
    text = io.BytesIO(b"2024-01-01 00:00:00+00,asyncpg,3,from CSV\n")
    return [status, await connection.copy_to_table("notes", source=text, columns=["at", "client", "n", "words"], format="csv")]


async def insert():
    at = dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc)
    status = await connection.execute("INSERT INTO notes (at, client, n, words) VALUES ($1, $2, $3, $4)", at, "asyncpg", 10, "inserted")
    await connection.executemany("INSERT INTO notes (at, client, n) VALUES ($1, $2, $3)", [(at, "asyncpg", n) for n in (11, 12)])
    return status


async def written():
    return rows(await connection.fetch("SELECT at, n, words FROM notes WHERE client = 'asyncpg' ORDER BY n"))


async def codecs():
    other = await asyncpg.connect(**DSN)
    await other.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    found = [await other.fetchval("SELECT document FROM kinds WHERE n = 1"), rows(await other.fetch("SELECT n FROM kinds WHERE document @> $1", {"a": 1}))]
    await other.close()
    return found


async def introspected():
    """Types outside the driver's own list: it asks the catalogue for them."""
    return [
        await connection.fetchval("SELECT ARRAY['pg_class'::regclass]::text[]"),
        await connection.fetchval("SELECT 'kinds'::regclass::text"),
        await connection.fetchval("SELECT ARRAY[1, 2]::smallint[]"),
        await connection.fetchval("SELECT $1::date[]", [dt.date(2024, 1, 1)]),
        await connection.fetchval("SELECT $1::uuid[]", []),
    ]


async def hundred_thousand():
    found = await connection.fetch("SELECT n, n::text AS t, n * 0.5::double precision AS f FROM generate_series(1, 100000) AS g(n)")
    return [len(found), sum(row["n"] for row in found), sum(row["f"] for row in found)]


async def reloaded():
    await connection.reload_schema_state()
    await connection.reset()
    return await connection.fetchval("SELECT count(*) FROM kinds")


async def listening():
    notices = []
    connection.add_log_listener(lambda _, message: notices.append([message.severity_en or message.severity, message.sqlstate]))
    await connection.execute("ROLLBACK")
    await asyncio.sleep(0)
    return notices


connection = loop.run_until_complete(asyncpg.connect(**DSN))
for each in statements():
    params = [given(*p) for p in each.get("params", [])]
    run(each["probe"], lambda: ask(each["sql"], *params))
for name, work in {
    "server": server, "simple": simple, "prepared seven times": many, "cursor": cursor, "transactions within each other": transactions,
    "pool": pool, "cancel by a timeout of the client": cancel, "statement timeout": timeout, "copy out": copy_out, "codecs": codecs,
    "types of the catalogue": introspected, "100,000 rows": hundred_thousand, "reset": reloaded, "notices": listening,
    "copy in": copy_in, "insert": insert, "rows that were written": written,
}.items():
    run(name, work)
