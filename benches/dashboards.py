"""DuckDB and chDB at the queries of the rollups benchmark, over the same raw Parquet files. Takes a JSON file of
`files`, `queries` (name and SQL) and `runs`; prints the median milliseconds of each query and the count that
each engine finds; an engine that is not installed says so.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time


def duckdb_engine(files):
    import duckdb

    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    names = ", ".join(f"'{name}'" for name in files)
    con.execute(f"create view events as select * from read_parquet([{names}])")
    # Python's own rows would need a time zone package.
    return lambda sql: con.execute(sql).to_arrow_table(), lambda table: table.column(0)[0].as_py()


def chdb_engine(files):
    from chdb import session

    chdb = session.Session()
    # A folder of links, since a pattern cannot name files of several folders.
    folder = tempfile.mkdtemp()
    for number, name in enumerate(files):
        os.symlink(os.path.realpath(name), f"{folder}/{number}.parquet")
    names = f"{folder}/*.parquet"
    chdb.query("create database if not exists b engine = Atomic")
    chdb.query(f"create view b.events as select * from file('{names}', Parquet)")

    def run(sql):
        sql = re.sub(r"'(\d{4}-\d\d-\d\d)T([\d:]+)Z'", r"toDateTime64('\1 \2', 6, 'UTC')", sql)
        return str(chdb.query(sql.replace("from events", "from b.events"), "CSV"))

    return run, int


ENGINES = {"duckdb": duckdb_engine, "chdb": chdb_engine}


def measure(name, work):
    run, first = ENGINES[name](work["files"])
    found = {"events": first(run("select count(*) from events")), "ms": {}}
    for title, sql in work["queries"]:
        times = []
        for _ in range(work["runs"] + 1):
            started = time.monotonic()
            run(sql)
            times.append((time.monotonic() - started) * 1e3)
        # The first run opens files.
        found["ms"][title] = round(statistics.median(times[1:]), 2)
    return found


def apart(name):
    """Runs one engine in a process of its own."""
    child = subprocess.run(
        [sys.executable, __file__, sys.argv[1], name], capture_output=True, text=True, check=False
    )
    if child.returncode == 3:
        return {"skipped": f"{name} is not installed"}
    if child.returncode != 0:
        return {"failed": child.stderr[-500:]}
    return json.loads(child.stdout)


if len(sys.argv) == 2:
    print(json.dumps({name: apart(name) for name in ENGINES}))
else:
    try:
        __import__(sys.argv[2])
    except ImportError:
        sys.exit(3)
    with open(sys.argv[1], encoding="utf-8") as file:
        print(json.dumps(measure(sys.argv[2], json.load(file))))
