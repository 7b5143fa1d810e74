"""psycopg2: text protocol, named cursors, COPY, cancel."""

import io
import re
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, statements, table, value

psycopg2.extras.register_uuid()
DSN = dict(host=HOST, port=PORT, user=USER, dbname=DATABASE, password=PASSWORD)
connection = psycopg2.connect(**DSN)
probes = Probes(connection.rollback)


def given(kind, text):
    return psycopg2.extras.Json(text) if kind == "jsonb" and text is not None else value(kind, text)


def answer(cursor):
    if cursor.description is None:
        return {"value": cursor.statusmessage}
    return table([c.name for c in cursor.description], [c.type_code for c in cursor.description], cursor.fetchall())


def ask(sql, params=None, connection=connection):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return answer(cursor)


def percent(sql):
    """$1 as psycopg writes it."""
    return re.sub(r"\$(\d+)", r"%(p\1)s", sql.replace("%", "%%"))


for each in statements():
    params = {f"p{n}": given(*p) for n, p in enumerate(each.get("params", []), 1)}
    sql = percent(each["sql"]) if params else each["sql"]
    probes.run(each["probe"], lambda: ask(sql, params or None))


def server():
    return [
        str(connection.server_version)[:2],
        connection.encoding,
        connection.get_parameter_status("standard_conforming_strings"),
        connection.get_parameter_status("integer_datetimes"),
        connection.get_parameter_status("DateStyle"),
        connection.get_parameter_status("TimeZone"),
        connection.info.dbname,
        connection.info.user,
    ]


def named(scrollable=None, withhold=False, n=1000):
    with psycopg2.connect(**DSN) as other, other.cursor("of_rows", scrollable=scrollable, withhold=withhold) as cursor:
        cursor.itersize = 200
        cursor.execute("SELECT n FROM generate_series(1, %s) AS g(n)", (n,))
        first = cursor.fetchone()
        some = cursor.fetchmany(3)
        if scrollable:
            cursor.scroll(2)
        return [first, some, sum(row[0] for row in cursor)]


def hold():
    other = psycopg2.connect(**DSN)
    cursor = other.cursor("held", withhold=True)
    cursor.execute("SELECT n FROM kinds ORDER BY n")
    other.commit()
    rows = cursor.fetchall()
    other.close()
    return rows


def transaction():
    with connection.cursor() as cursor:
        statuses = [connection.info.transaction_status]
        cursor.execute("SELECT 1")
        statuses.append(connection.info.transaction_status)
        try:
            cursor.execute("SELECT nothing")
        except psycopg2.Error as error:
            statuses.append(error.pgcode)
        statuses.append(connection.info.transaction_status)
        try:
            cursor.execute("SELECT 1")
        except psycopg2.Error as error:
            statuses.append(error.pgcode)
    connection.rollback()
    return [*statuses, connection.info.transaction_status]


def savepoint():
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT a")
        try:
            cursor.execute("SELECT 1 / 0")
        except psycopg2.Error as error:
            code = error.pgcode
        cursor.execute("ROLLBACK TO SAVEPOINT a")
        cursor.execute("RELEASE SAVEPOINT a")
        cursor.execute("SELECT count(*) FROM kinds")
        found = cursor.fetchone()
    connection.rollback()
    return [code, found]


def read_only():
    other = psycopg2.connect(**DSN)
    other.set_session(readonly=True, isolation_level="REPEATABLE READ")
    found = [ask("SHOW transaction_read_only", None, other), ask("SHOW transaction_isolation", None, other)]
    try:
        ask("INSERT INTO notes (at, client, n) VALUES (now(), 'psycopg2', 0)", None, other)
    except psycopg2.Error as error:
        found.append(error.pgcode)
    other.close()
    return [f if isinstance(f, str) else f["rows"] for f in found]


def autocommit():
    other = psycopg2.connect(**DSN)
    other.autocommit = True
    found = ask("SELECT 1", None, other)["rows"]
    status = other.info.transaction_status
    other.close()
    return [found, status]


def cancel():
    other = psycopg2.connect(**DSN)
    stop = threading.Timer(0.5, other.cancel)
    stop.start()
    began = time.monotonic()
    try:
        ask("SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)", None, other)
        return "ran to its end"
    except psycopg2.Error as error:
        return [error.pgcode, time.monotonic() - began < 5]
    finally:
        other.close()


def timeout(**how):
    other = psycopg2.connect(**DSN, **how)
    try:
        if not how:
            ask("SET statement_timeout = '300ms'", None, other)
        ask("SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)", None, other)
        return "ran to its end"
    except psycopg2.Error as error:
        return error.pgcode
    finally:
        other.close()


def copy_out(how):
    target = io.BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY (SELECT n, flag, small, large, wide, exact, words, id, day, plain, at, raw, tags, numbers FROM kinds ORDER BY n) TO STDOUT {how}", target)
        return [target.getvalue().hex() if "binary" in how else target.getvalue().decode(), cursor.rowcount]


def copy_table():
    target = io.StringIO()
    with connection.cursor() as cursor:
        cursor.copy_to(target, "kinds", columns=["n", "words"])
    return sorted(target.getvalue().splitlines())


def options():
    other = psycopg2.connect(**DSN, options="-c search_path=pg_catalog -c TimeZone=Europe/Berlin", application_name="a client")
    found = [ask(f"SHOW {name}", None, other)["rows"][0][0] for name in ("search_path", "TimeZone", "application_name")]
    found.append(ask("SELECT timestamptz '2024-07-01 12:00:00+00'::text, date_trunc('day', timestamptz '2024-07-01 23:00:00+00')::text", None, other)["rows"])
    other.close()
    return found


def reset():
    other = psycopg2.connect(**DSN)
    other.autocommit = True
    ask("SET TimeZone = 'Asia/Tokyo'", None, other)
    before = ask("SHOW TimeZone", None, other)["rows"]
    other.reset()
    after = ask("SHOW TimeZone", None, other)["rows"]
    ask("DISCARD ALL", None, other)
    other.close()
    return [before, after]


def pool():
    taken = psycopg2.pool.SimpleConnectionPool(1, 2, **DSN)
    found = []
    for _ in range(5):
        one = taken.getconn()
        found.append(ask("SELECT 1", None, one)["rows"])
        taken.putconn(one)
    taken.closeall()
    return found


def copy_in():
    lines = "".join(f"2024-01-01 00:00:0{n}+00\tpsycopg2\t{n}\tcopied {n}\n" for n in range(3))
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY notes (at, client, n, words) FROM STDIN", io.StringIO(lines))
        count = cursor.rowcount
    connection.commit()
    return count


def insert():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO notes (at, client, n, words) VALUES (%s, %s, %s, %s)", ("2024-01-02T00:00:00Z", "psycopg2", 10, "inserted"))
        found = [cursor.rowcount, cursor.statusmessage]
        psycopg2.extras.execute_values(cursor, "INSERT INTO notes (at, client, n) VALUES %s", [("2024-01-02T00:00:00Z", "psycopg2", n) for n in (11, 12)])
        found.append(cursor.rowcount)
    connection.commit()
    return found


probes.run("server", server)
probes.run("named cursor", named)
probes.run("scrollable cursor", lambda: named(scrollable=True))
probes.run("cursor with hold", hold)
probes.run("large cursor", lambda: named(n=100_000))
probes.run("100,000 rows", lambda: len(ask("SELECT n, n::text FROM generate_series(1, 100000) AS g(n)")["rows"]))
probes.run("several statements", lambda: ask("SELECT 1; SELECT n, words FROM kinds WHERE n = 1; SELECT 3 AS three"))
probes.run("empty statement", lambda: ask(";"))
probes.run("transaction", transaction)
probes.run("savepoint", savepoint)
probes.run("read only", read_only)
probes.run("autocommit", autocommit)
probes.run("cancel", cancel)
probes.run("statement timeout", timeout)
probes.run("statement timeout at the start", lambda: timeout(options="-c statement_timeout=300"))
probes.run("copy out", lambda: copy_out(""))
probes.run("copy out as CSV", lambda: copy_out("WITH (FORMAT csv, HEADER)"))
probes.run("copy out as CSV, quoted", lambda: copy_out("WITH CSV DELIMITER ';' FORCE QUOTE * NULL 'none'"))
probes.run("copy out in binary", lambda: copy_out("WITH (FORMAT binary)"))
probes.run("copy a table", copy_table)
probes.run("startup options", options)
probes.run("reset", reset)
probes.run("pool", pool)
# So that what was written can be read at once; PostgreSQL has no such setting, and takes any with a dot.
probes.run("wait for rows", lambda: (ask("SET otus.insert_wait = 'visible'"), connection.commit())[0])
probes.run("copy in", copy_in)
probes.run("insert", insert)
probes.run("rows that were written", lambda: ask("SELECT at, n, words FROM notes WHERE client = 'psycopg2' ORDER BY n"))
probes.run("row count", lambda: ask("SELECT pg_typeof(count(*))::text AS a FROM kinds"))
