"""psqlodbc by pyodbc: parameters, catalogue functions, UseDeclareFetch, batches."""

import datetime as dt
import json
import re

import pyodbc
from probes import DATABASE, HOST, PASSWORD, PORT, TLS, USER, Probes, statements, table, value

pyodbc.pooling = False
WHERE = f"Driver={{PostgreSQL Unicode}};Server={HOST};Port={PORT};Database={DATABASE};Uid={USER};Pwd={PASSWORD};SSLmode={TLS}"
SLOW = "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)"


def connect(**more):
    return pyodbc.connect(";".join([WHERE, *(f"{key}={value}" for key, value in more.items())]), autocommit=True)


connection = connect()
fetching = connect(UseDeclareFetch=1, Fetch=50)
probes = Probes()


def given(kind, text):
    found = value(kind, text)
    if kind in ("uuid", "numeric", "interval") and text is not None:
        return f"{text} seconds" if kind == "interval" else str(found)
    # ODBC has no arrays and no documents: they go as texts.
    if kind.endswith("[]"):
        parts = ("NULL" if part is None else '"' + str(part).replace("\\", "\\\\").replace('"', '\\"') + '"' for part in text)
        return "{" + ",".join(parts) + "}"
    if kind == "jsonb":
        return json.dumps(text)
    return found


def ask(sql, params=(), connection=connection):
    cursor = connection.cursor()
    cursor.execute(sql, *params)
    if cursor.description is None:
        return {"value": cursor.rowcount}
    kinds = [[c[1].__name__, c[3], c[4], c[5], c[6]] for c in cursor.description]
    return table([c[0] for c in cursor.description], kinds, cursor.fetchall())


def question(sql):
    """$1 as ODBC writes it."""
    return re.sub(r"\$\d+", "?", sql)


def listed(cursor, *columns):
    names = [c[0] for c in cursor.description]
    rows = [[row[names.index(name)] if name in names else "none" for name in columns or names] for row in cursor.fetchall()]
    return {"columns": list(columns or names), "types": [], "rows": rows}


def catalogue(name, *given, columns=(), **named):
    return lambda: listed(getattr(connection.cursor(), name)(*given, **named), *columns)


COLUMNS = ("table_schem", "table_name", "column_name", "data_type", "type_name", "column_size", "decimal_digits", "nullable", "remarks", "column_def", "sql_data_type", "ordinal_position", "is_nullable")


def types():
    wanted = {"bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "date", "timestamptz", "uuid", "bytea"}
    rows = connection.cursor().getTypeInfo().fetchall()
    return sorted([row[0], row[1], row[2]] for row in rows if row[0] in wanted)


def info():
    wanted = {"database": pyodbc.SQL_DATABASE_NAME, "dbms": pyodbc.SQL_DBMS_NAME, "user": pyodbc.SQL_USER_NAME, "quote": pyodbc.SQL_IDENTIFIER_QUOTE_CHAR, "longest": pyodbc.SQL_MAX_TABLE_NAME_LEN}
    return [[name, connection.getinfo(number)] for name, number in wanted.items()]


def chunks(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT n, n::text AS t FROM generate_series(1, 20000) AS g(n)")
    total = count = 0
    while rows := cursor.fetchmany(999):
        count += len(rows)
        total += sum(row[0] for row in rows)
    return [count, total]


def transaction():
    other = pyodbc.connect(WHERE, autocommit=False)
    found = []
    cursor = other.cursor()
    cursor.execute("SELECT count(*) FROM kinds")
    found.append(list(cursor.fetchone()))
    try:
        cursor.execute("SELECT nothing FROM kinds")
    except pyodbc.Error as error:
        found.append(error.args[0])
    other.rollback()
    cursor.execute("SELECT count(*) FROM kinds")
    found.append(list(cursor.fetchone()))
    other.commit()
    other.close()
    return found


def timeout():
    other = connect()
    other.timeout = 1
    try:
        return ask(SLOW, (), other)
    except pyodbc.Error as error:
        return error.args[0]
    finally:
        other.close()


def several():
    cursor = connection.cursor()
    cursor.execute("SELECT 1::bigint AS a; SELECT words FROM kinds ORDER BY n LIMIT 2")
    found = [[list(row) for row in cursor.fetchall()]]
    while cursor.nextset():
        found.append([list(row) for row in cursor.fetchall()])
    return found


def seven_times():
    cursor = connection.cursor()
    sql = "SELECT count(*) FROM wikipedia WHERE added > ? AND channel = ?"
    return [cursor.execute(sql, n, "#en.wikipedia").fetchone()[0] for n in range(7)]


def inserted():
    at = dt.datetime(2024, 1, 2)
    cursor = connection.cursor()
    cursor.execute("SET otus.insert_wait = 'visible'")
    cursor.executemany("INSERT INTO notes (at, client, n, words) VALUES (?, ?, ?, ?)", [(at, "psqlodbc", n, f"row {n}") for n in range(3)])
    return ask("SELECT n, words FROM notes WHERE client = 'psqlodbc' ORDER BY n")


def failed(self, name, error):
    state = error.args[0] if error.args else None
    self.put(name, error={"sqlstate": state}, words=str(error))


Probes.failed = failed
for each in statements():
    params = [given(*p) for p in each.get("params", [])]
    probes.run(each["probe"], lambda: ask(question(each["sql"]), params))
    if not params:
        probes.run(each["probe"] + ", declared and fetched", lambda: ask(each["sql"], (), fetching))
probes.run("info", info)
probes.run("SQLTables", catalogue("tables", schema="public"))
probes.run("SQLTables of a type", catalogue("tables", table="k%", schema="public", tableType="TABLE"))
probes.run("SQLTables, schemas", lambda: sorted(row[1] for row in connection.cursor().tables(catalog="", schema="%", table="") if row[1] in ("public", "pg_catalog")))
for name in ("kinds", "wikipedia", "edits_hour"):
    probes.run(f"SQLColumns of {name}", catalogue("columns", table=name, schema="public", columns=COLUMNS))
    probes.run(f"SQLPrimaryKeys of {name}", catalogue("primaryKeys", table=name))
    probes.run(f"SQLForeignKeys of {name}", catalogue("foreignKeys", table=name))
    probes.run(f"SQLStatistics of {name}", catalogue("statistics", table=name, columns=("table_name", "non_unique", "index_name", "type", "column_name")))
    probes.run(f"SQLSpecialColumns of {name}", catalogue("rowIdColumns", table=name, columns=("column_name", "type_name")))
probes.run("SQLProcedures", catalogue("procedures", procedure="nothing", columns=("procedure_name",)))
probes.run("SQLGetTypeInfo", types)
probes.run("20,000 rows", lambda: chunks(connection))
probes.run("20,000 rows, declared and fetched", lambda: chunks(fetching))
probes.run("transaction", transaction)
probes.run("query timeout", timeout)
probes.run("several statements", several)
probes.run("prepared seven times", seven_times)
probes.run("insert", inserted)
