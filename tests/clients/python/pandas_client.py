"""pandas over SQLAlchemy: frames, their types, chunks, tables by name."""

import pandas as pd
import sqlalchemy as sa
from probes import DATABASE, HOST, PASSWORD, PORT, USER, Probes, statements, shown

engine = sa.create_engine(sa.URL.create("postgresql+psycopg2", USER, PASSWORD or None, HOST, PORT, DATABASE))
probes = Probes()


def cell(found):
    if isinstance(found, (list, dict)):
        return shown(found)
    if pd.isna(found):
        return None
    return shown(found.to_pydatetime() if isinstance(found, pd.Timestamp) else found.item() if hasattr(found, "item") else found)


def framed(frame):
    return {"columns": [str(c) for c in frame.columns], "types": [str(t) for t in frame.dtypes], "rows": [[cell(v) for v in row] for row in frame.itertuples(index=False)]}


def chunks():
    total, sizes = 0, []
    with engine.connect().execution_options(stream_results=True) as connection:
        for part in pd.read_sql(sa.text("SELECT n, n % 7 AS seven FROM generate_series(1, 100000) AS g(n)"), connection, chunksize=30_000):
            sizes.append(len(part))
            total += int(part["n"].sum())
    return [sizes, total]


def grouped():
    frame = pd.read_sql("SELECT time, channel, added FROM wikipedia", engine)
    frame["hour"] = frame["time"].dt.floor("h")
    found = frame.groupby("hour").agg(edits=("channel", "size"), added=("added", "sum")).reset_index()
    return framed(found)


def parsed():
    frame = pd.read_sql_query("SELECT n, day, at FROM kinds ORDER BY n", engine, index_col="n", parse_dates=["day"])
    return framed(frame.reset_index())


def written():
    frame = pd.DataFrame({"at": pd.to_datetime(["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"]), "client": "pandas", "n": [1, 2], "words": ["a", None]})
    with engine.begin() as connection:
        connection.execute(sa.text("SET otus.insert_wait = 'visible'"))
        count = frame.to_sql("notes", connection, if_exists="append", index=False)
    return [count, framed(pd.read_sql("SELECT n, words FROM notes WHERE client = 'pandas' ORDER BY n", engine))["rows"]]


for each in statements():
    if "params" not in each:
        probes.run(each["probe"], lambda: framed(pd.read_sql(sa.text(each["sql"].replace(":", "\\:")), engine)))
probes.run("parameters", lambda: framed(pd.read_sql(sa.text("SELECT n, words FROM kinds WHERE n = ANY(:list) AND at > :since ORDER BY n"), engine, params={"list": [1, 2], "since": pd.Timestamp("2024-03-01", tz="UTC").to_pydatetime()})))
probes.run("table", lambda: framed(pd.read_sql_table("kinds", engine).sort_values("n")))
probes.run("columns of a table", lambda: framed(pd.read_sql_table("wikipedia", engine, columns=["time", "page", "added"]).sort_values(["time", "page", "added"]).head(20)))
probes.run("view as a table", lambda: framed(pd.read_sql_table("edits_day", engine, columns=["channel", "edits", "added"]).groupby("channel", as_index=False).sum().sort_values("channel").head(10)))
probes.run("table of no name", lambda: framed(pd.read_sql_table("nowhere", engine)))
probes.run("chunks", chunks)
probes.run("grouped by pandas", grouped)
probes.run("dates", parsed)
probes.run("Arrow types", lambda: framed(pd.read_sql("SELECT n, words, exact, day FROM kinds ORDER BY n", engine, dtype_backend="pyarrow")))
probes.run("append", written)
