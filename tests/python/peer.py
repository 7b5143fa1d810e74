"""Answers of DuckDB to queries over one table of newline-delimited JSON.

    peer.py answer <path of the JSON> <JSON of columns: name -> [field, type]> <table> <JSON list of queries>
    peer.py flights <flights-3m.parquet> <rows> <path to write>

Prints JSON: for `answer` the rows of each query, values as text (null for null); for `flights` their number.
"""

import decimal
import json
import sys

import duckdb


def text(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(value)


def answer(path, columns, table, queries):
    columns, queries = json.loads(columns), json.loads(queries)
    fields = {field: kind for field, kind in columns.values()}
    chosen = ", ".join(f'"{field}" as {name}' for name, (field, _) in columns.items())
    connection = duckdb.connect()
    connection.sql("set threads = 1")
    source = connection.read_json(path, format="newline_delimited", columns=fields)
    source.create_view("source")
    connection.sql(f"create table {table} as select {chosen} from source")
    print(json.dumps([
        [[text(value) for value in row] for row in connection.sql(query).fetchall()]
        for query in queries
    ]))


def flights(source, rows, target):
    connection = duckdb.connect()
    connection.sql(
        "copy (select strftime(date, '%Y-%m-%dT%H:%M:%SZ') as date, delay, distance, origin, destination "
        f"from read_parquet('{source}') using sample {rows} rows (reservoir, 42)) to '{target}' (format json)"
    )
    lines = connection.read_json(target, format="newline_delimited")
    print(json.dumps(lines.count("*").fetchall()[0][0]))


{"answer": answer, "flights": flights}[sys.argv[1]](*sys.argv[2:])
