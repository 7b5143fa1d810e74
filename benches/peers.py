"""DuckDB and chDB at the work of the ingest benchmark: a file of JSON lines becomes raw rows and two rollups
(minute and hour, with a distinct count), durable on disk. Prints seconds, processor seconds and rows per
processor second of each; one that is not installed says so.

DuckDB: read_json into a table, two grouped tables, all three to zstd Parquet. chDB: JSONEachRow into a MergeTree
with two AggregatingMergeTree views. Shapes as in the known measurements of both.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile

DIMENSIONS = "channel, namespace, countryName, isRobot, isAnonymous, isNew, isMinor"
COLUMNS = {
    "time": "TIMESTAMP",
    **{c: "VARCHAR" for c in "channel cityName comment countryIsoCode countryName namespace page".split()},
    **{c: "VARCHAR" for c in "regionIsoCode regionName user".split()},
    **{c: "BOOLEAN" for c in "isAnonymous isMinor isNew isRobot isUnpatrolled".split()},
    **{c: "BIGINT" for c in "metroCode delta added deleted".split()},
}


def duckdb_work(path, folder):
    import duckdb

    con = duckdb.connect(os.path.join(folder, "duck.db"))
    columns = ", ".join(f"{k}: '{v}'" for k, v in COLUMNS.items())
    con.execute(
        f"create table raw as select * from read_json('{path}', format='newline_delimited', columns={{{columns}}})"
    )
    con.execute(f"copy raw to '{folder}/raw.parquet' (format parquet, compression zstd)")
    for grain in ("minute", "hour"):
        con.execute(
            f"copy (select date_trunc('{grain}', time) bucket, {DIMENSIONS}, count(*) edits, sum(added) added, "
            f"sum(deleted) deleted, sum(delta) delta, approx_count_distinct(\"user\") editors from raw "
            f"group by all order by all) to '{folder}/{grain}.parquet' (format parquet, compression zstd)"
        )
    return con.execute("select count(*) from raw").fetchone()[0]


def chdb_work(path, folder):
    from chdb import session

    chdb = session.Session(os.path.join(folder, "chdb"))
    kinds = {"TIMESTAMP": "DateTime64(3, 'UTC')", "VARCHAR": "Nullable(String)", "BOOLEAN": "Bool", "BIGINT": "Nullable(Int64)"}
    columns = ", ".join(f"`{k}` {kinds[v]}" for k, v in COLUMNS.items())
    chdb.query("create database if not exists b engine = Atomic")
    chdb.query(f"create table b.raw ({columns}) engine = MergeTree order by time")
    for grain in ("Minute", "Hour"):
        chdb.query(
            f"create materialized view b.{grain} engine = AggregatingMergeTree "
            f"order by (bucket, {DIMENSIONS}) settings allow_nullable_key = 1 as "
            f"select toStartOf{grain}(time) bucket, {DIMENSIONS}, countState() edits, sumState(added) added, "
            f"sumState(deleted) deleted, sumState(delta) delta, uniqState(user) editors from b.raw group by bucket, {DIMENSIONS}"
        )
    chdb.query(
        f"insert into b.raw select * from file('{path}', JSONEachRow, '{columns.replace(chr(39), chr(92) + chr(39))}') "
        "settings date_time_input_format = 'best_effort'"
    )
    return int(str(chdb.query("select count() from b.raw", "CSV")).strip())


def measure(name):
    """Runs one engine in a process of its own, so that its processor time is its own."""
    import time

    folder = tempfile.mkdtemp(prefix="otus-bench-")
    try:
        started = time.monotonic()
        child = subprocess.run(
            [sys.executable, __file__, sys.argv[1], name, folder], capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - started
        if child.returncode == 3:
            return {"skipped": f"{name} is not installed"}
        if child.returncode != 0:
            return {"failed": child.stderr[-500:]}
        answer = json.loads(child.stdout)
        answer["seconds"] = round(seconds, 3)
        answer["rows_per_cpu_second"] = round(answer["rows"] / answer["cpu_seconds"], 1)
        return answer
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if len(sys.argv) == 2:
    print(json.dumps({name: measure(name) for name in ("duckdb", "chdb")}))
else:
    path, name, folder = sys.argv[1:]
    try:
        __import__(name)
    except ImportError:
        sys.exit(3)
    before = resource.getrusage(resource.RUSAGE_SELF)
    rows = {"duckdb": duckdb_work, "chdb": chdb_work}[name](path, folder)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"rows": rows, "cpu_seconds": round(cpu, 3)}))
