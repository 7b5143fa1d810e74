"""psycopg 3: every statement in text, in binary and prepared; server cursors, pipelines, COPY, a pool."""

import asyncio
import datetime as dt
import re
import threading
import time

import psycopg
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, statements, table, value
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

INFO = psycopg.conninfo.make_conninfo(host=HOST, port=PORT, user=USER, dbname=DATABASE, password=PASSWORD)
SLOW = "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)"
connection = psycopg.connect(INFO, autocommit=True)
probes = Probes(connection.rollback)


def given(kind, text):
    return Jsonb(text) if kind == "jsonb" and text is not None else value(kind, text)


def answer(cursor):
    if cursor.description is None:
        return {"value": cursor.statusmessage}
    return table([c.name for c in cursor.description], [c.type_code for c in cursor.description], cursor.fetchall())


def ask(sql, params=None, connection=connection, **how):
    binary = how.pop("binary", False)
    with connection.cursor(binary=binary) as cursor:
        cursor.execute(sql, params, **how)
        return answer(cursor)


def percent(sql):
    return re.sub(r"\$(\d+)", r"%(p\1)s", sql.replace("%", "%%"))


for each in statements():
    params = {f"p{n}": given(*p) for n, p in enumerate(each.get("params", []), 1)} or None
    sql = percent(each["sql"]) if params else each["sql"]
    probes.run(each["probe"], lambda: ask(sql, params))
    probes.run(each["probe"] + ", binary", lambda: ask(sql, params, binary=True, prepare=True))


def seven_times():
    return [ask("SELECT count(*) FROM wikipedia WHERE added > %s AND channel = %s", (n, "#en.wikipedia"))["rows"] for n in range(7)]


def server_cursor(**how):
    with psycopg.connect(INFO) as other, other.cursor("of_rows", binary=how.pop("binary", False), **how) as cursor:
        cursor.itersize = 300
        cursor.execute("SELECT n, n::text AS text FROM generate_series(1, %s) AS g(n)", (1000,))
        names = [c.name for c in cursor.description]
        found = [names, cursor.fetchone(), cursor.fetchmany(2)]
        if how.get("scrollable"):
            cursor.scroll(5)
            found.append(cursor.fetchone())
            cursor.scroll(0, mode="absolute")
        return [*found, sum(row[0] for row in cursor)]


def transactions():
    found = []
    with psycopg.connect(INFO) as other:
        try:
            with other.transaction():
                found.append(ask("SELECT 1", None, other)["rows"])
                try:
                    with other.transaction():
                        ask("SELECT nothing", None, other)
                except psycopg.Error as error:
                    found.append(error.sqlstate)
                found.append(other.info.transaction_status.name)
                found.append(ask("SELECT count(*) FROM kinds", None, other)["rows"])
                raise psycopg.Rollback()
        finally:
            found.append(other.info.transaction_status.name)
    return found


def read_only():
    with psycopg.connect(INFO) as other:
        other.read_only = True
        other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        found = [ask("SHOW transaction_read_only", None, other)["rows"], ask("SHOW transaction_isolation", None, other)["rows"]]
        try:
            ask("INSERT INTO notes (at, client, n) VALUES (now(), 'psycopg3', 0)", None, other)
        except psycopg.Error as error:
            found.append(error.sqlstate)
        other.rollback()
    return found


def pipeline():
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::bigint + n AS a FROM kinds ORDER BY n", (n,)) for n in range(5)]
        found = [cursor.fetchall() for cursor in cursors]
    try:
        with connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT nothing")
            connection.execute("SELECT 2")
    except psycopg.Error as error:
        found.append(error.sqlstate)
    return [*found, ask("SELECT 1")["rows"]]


def stream():
    with connection.cursor() as cursor:
        total = 0
        for row in cursor.stream("SELECT n FROM generate_series(1, 20000) AS g(n)"):
            total += row[0]
    return total


def many():
    with connection.cursor() as cursor:
        cursor.executemany("SELECT words FROM kinds WHERE n = %s", [(n,) for n in range(1, 6)], returning=True)
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
    return found


def several():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1::bigint AS a; SELECT words FROM kinds ORDER BY n LIMIT 2; SET TimeZone = 'UTC'")
        found = [answer(cursor)]
        while cursor.nextset():
            found.append(answer(cursor))
    return found


def cancel():
    with psycopg.connect(INFO, autocommit=True) as other:
        threading.Timer(0.5, other.cancel_safe).start()
        began = time.monotonic()
        try:
            ask(SLOW, None, other)
            return "ran to its end"
        except psycopg.Error as error:
            return [error.sqlstate, time.monotonic() - began < 5, ask("SELECT 1", None, other)["rows"]]


def timeout():
    with psycopg.connect(INFO, options="-c statement_timeout=300", autocommit=True) as other:
        try:
            ask(SLOW, None, other)
            return "ran to its end"
        except psycopg.Error as error:
            return [error.sqlstate, ask("SELECT 1", None, other)["rows"]]


def copy_out(how, types=None):
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT n, flag, large, wide, exact, words, id, day, plain, at, raw, tags FROM kinds ORDER BY n) TO STDOUT {how}") as copy:
            if types:
                copy.set_types(types)
                return list(copy.rows())
            return b"".join(bytes(block) for block in copy).decode()


def time_zones():
    found = []
    with psycopg.connect(INFO, autocommit=True) as other:
        for zone in ("America/New_York", "Europe/Berlin", "Asia/Kolkata"):
            other.execute(psycopg.sql.SQL("SET TimeZone TO {}").format(zone))
            at = other.execute("SELECT at FROM kinds WHERE n = 2").fetchone()[0]
            found.append([other.info.timezone.key, at.isoformat(), ask("SELECT date_trunc('day', at)::text AS day, at::text AS at, extract(hour FROM at)::integer AS hour FROM kinds ORDER BY n", None, other)["rows"]])
    return found


def notices():
    heard = []
    with psycopg.connect(INFO, autocommit=True) as other:
        other.add_notice_handler(lambda notice: heard.append([notice.severity, notice.sqlstate]))
        other.execute("ROLLBACK")
        other.execute("BEGIN")
        other.execute("BEGIN")
        other.execute("COMMIT")
    return heard


def pool():
    with ConnectionPool(INFO, min_size=1, max_size=2, check=ConnectionPool.check_connection, open=True) as taken:
        found = []
        for _ in range(4):
            with taken.connection() as one:
                found.append(one.execute("SELECT count(*) FROM kinds").fetchone())
        return found


def asynchronous():
    async def work():
        async with await psycopg.AsyncConnection.connect(INFO) as other:
            cursor = await other.execute("SELECT n, words FROM kinds WHERE n <= %s ORDER BY n", (3,))
            return await cursor.fetchall()

    return asyncio.run(work())


def described():
    error = None
    try:
        connection.execute("SELECT nothing FROM kinds")
    except psycopg.Error as failed:
        error = failed.diag
    return [error.severity, error.sqlstate, error.statement_position, error.message_primary]


def copy_in(binary):
    with connection.cursor() as cursor:
        how = "(FORMAT binary)" if binary else ""
        with cursor.copy(f"COPY notes (at, client, n, words) FROM STDIN {how}") as copy:
            copy.set_types(["timestamptz", "text", "int8", "text"])
            for n in range(3):
                at = dt.datetime(2024, 1, 1, 0, 0, n, tzinfo=dt.timezone.utc)
                copy.write_row((at, "psycopg3", n + 100 * binary, None if n == 1 else f"tab\t{n}"))
        return cursor.rowcount


def insert():
    at = dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO notes (at, client, n, words) VALUES (%s, %s, %s, %s)", (at, "psycopg3", 10, "inserted"))
        found = [cursor.rowcount, cursor.statusmessage]
        cursor.executemany("INSERT INTO notes (at, client, n) VALUES (%s, %s, %s)", [(at, "psycopg3", n) for n in (11, 12)])
        return [*found, cursor.rowcount]


TYPES = ["int8", "bool", "int8", "float8", "numeric", "text", "uuid", "date", "timestamp", "timestamptz", "bytea", "text[]"]
probes.run("prepared seven times", seven_times)
probes.run("server cursor", server_cursor)
probes.run("server cursor, binary", lambda: server_cursor(binary=True))
probes.run("server cursor, scrollable", lambda: server_cursor(scrollable=True))
probes.run("server cursor with hold", lambda: server_cursor(withhold=True))
probes.run("transactions within each other", transactions)
probes.run("read only", read_only)
probes.run("pipeline", pipeline)
probes.run("stream", stream)
probes.run("one statement, many parameters", many)
probes.run("several statements", several)
probes.run("cancel", cancel)
probes.run("statement timeout", timeout)
probes.run("copy out", lambda: copy_out(""))
probes.run("copy out as CSV", lambda: copy_out("(FORMAT csv, HEADER true, NULL 'none')"))
probes.run("copy out, typed rows", lambda: copy_out("", TYPES))
probes.run("copy out in binary", lambda: copy_out("(FORMAT binary)", TYPES))
probes.run("time zones", time_zones)
probes.run("notices", notices)
probes.run("pool", pool)
probes.run("asynchronous", asynchronous)
probes.run("what an error says", described)
probes.run("type lookup", lambda: [psycopg.types.TypeInfo.fetch(connection, n).oid for n in ("uuid", "jsonb", "text[]", "numeric")])
# So that what was written can be read at once; PostgreSQL has no such setting, and takes any with a dot.
probes.run("wait for rows", lambda: ask("SET otus.insert_wait = 'visible'"))
probes.run("copy in", lambda: copy_in(False))
probes.run("copy in in binary", lambda: copy_in(True))
probes.run("insert", insert)
probes.run("rows that were written", lambda: ask("SELECT at, n, words FROM notes WHERE client = 'psycopg3' ORDER BY n"))
