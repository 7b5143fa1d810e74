"""ADBC: Arrow by COPY in binary; catalogue, parameters, ingest."""

from urllib.parse import quote

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, shown, statements, value

URI = f"postgresql://{USER}:{quote(PASSWORD)}@{HOST}:{PORT}/{DATABASE}"
connection = adbc.connect(URI, autocommit=True)


def again():
    """After an error, as after one in a pool."""
    try:
        connection.rollback()
    except adbc.Error:
        pass


probes = Probes(again)


def framed(found):
    return {"columns": found.column_names, "types": [str(t) for t in found.schema.types], "rows": [[shown(v) for v in row.values()] for row in found.rename_columns([str(n) for n in range(found.num_columns)]).to_pylist()]}


def ask(sql, params=(), copy=True):
    with connection.cursor(adbc_stmt_kwargs={} if copy else {"adbc.postgresql.use_copy": "false"}) as cursor:
        cursor.execute(sql, tuple(params) or None)
        return framed(cursor.fetch_arrow_table())


def batches():
    with connection.cursor(adbc_stmt_kwargs={"adbc.postgresql.batch_size_hint_bytes": "65536"}) as cursor:
        cursor.execute("SELECT n, n::text AS t FROM generate_series(1, 100000) AS g(n)")
        total = count = 0
        for batch in cursor.fetch_record_batch():
            total += sum(batch.column(0).to_pylist())
            count += batch.num_rows
    return [count, total]


def objects():
    found = connection.adbc_get_objects(depth="all", db_schema_filter="public").read_all().to_pylist()
    listed = []
    for catalog in found:
        for schema in catalog["catalog_db_schemas"] or []:
            for one in schema["db_schema_tables"] or []:
                columns = [[c["column_name"], c["ordinal_position"], c["remarks"], c["xdbc_type_name"]] for c in one["table_columns"] or []]
                listed.append([catalog["catalog_name"], schema["db_schema_name"], one["table_name"], one["table_type"], columns, shown(one["table_constraints"])])
    return sorted(listed, key=str)


def schema(name):
    found = connection.adbc_get_table_schema(name)
    return [[field.name, str(field.type)] for field in found]


def info():
    found = connection.adbc_get_info()
    return [found["vendor_name"], found["vendor_version"].split(".")[0][:2]]


def bound():
    with connection.cursor() as cursor:
        cursor.executemany("SELECT $1::bigint", [(n,) for n in range(3)])
        return cursor.rowcount is not None


def ingest():
    times = pa.array([1704067200000000, 1704067201000000], pa.timestamp("us", "UTC"))
    rows = pa.table({"at": times, "client": ["adbc", "adbc"], "n": pa.array([1, 2], pa.int64()), "words": ["a", None]})
    with connection.cursor() as cursor:
        cursor.execute("SET otus.insert_wait = 'visible'")
        count = cursor.adbc_ingest("notes", rows, mode="append")
    return [count, ask("SELECT at, n, words FROM notes WHERE client = 'adbc' ORDER BY n")["rows"]]


def arrow(kind, text):
    kinds = {"bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float8": pa.float64(), "text": pa.string(), "date": pa.date32(), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"), "bytea": pa.binary()}
    return pa.array([value(kind, text)], kinds[kind]) if kind in kinds else None


def with_arrow(sql, params):
    columns = [arrow(*p) for p in params]
    if any(column is None for column in columns):
        return None
    with connection.cursor() as cursor:
        cursor.execute(sql, pa.RecordBatch.from_arrays(columns, [str(n) for n in range(len(columns))]))
        return framed(cursor.fetch_arrow_table())


for each in statements():
    params = each.get("params")
    if not params:
        probes.run(each["probe"], lambda: ask(each["sql"]))
        probes.run(each["probe"] + ", without COPY", lambda: ask(each["sql"], copy=False))
    elif all(arrow(*p) is not None for p in params):
        probes.run(each["probe"], lambda: with_arrow(each["sql"], params))
probes.run("info", info)
probes.run("batches", batches)
probes.run("objects", objects)
for name in ("kinds", "wikipedia", "edits_hour"):
    probes.run(f"schema of {name}", lambda: schema(name))
probes.run("schema of nothing", lambda: schema("nowhere"))
probes.run("table types", lambda: sorted(connection.adbc_get_table_types()))
probes.run("many parameters", bound)
probes.run("ingest", ingest)
