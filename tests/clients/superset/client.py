"""Apache Superset by its REST API: a database, datasets, what charts ask, a dashboard, SQL Lab.

Run with the Python of Superset's own environment. The first argument is a folder with the metadata database that
`prepare.py` made; a copy of it is used.
"""

import json
import logging
import os
import shutil
import sys
from pathlib import Path

HERE = Path.cwd()
shutil.copy(Path(sys.argv[1]) / "superset.db", HERE / "superset.db")
os.environ["SUPERSET_HOME"] = str(HERE)
os.environ["SUPERSET_CONFIG_PATH"] = str(Path(__file__).resolve().parent / "superset_config.py")
logging.disable(logging.WARNING)

from superset.app import create_app  # noqa: E402

URI = "postgresql+psycopg2://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
app = create_app()
client = app.test_client()
headers = {}


def put(name, **fields):
    print(json.dumps({"probe": name, **fields}, ensure_ascii=False, default=str), flush=True)


def call(method, path, body=None):
    answer = getattr(client, method)(f"/api/v1/{path}", json=body, headers=headers)
    found = answer.get_json(silent=True)
    if answer.status_code >= 400:
        raise RuntimeError(f"{answer.status_code} {json.dumps(found)}")
    return found


def run(name, work):
    try:
        put(name, value=work())
    except Exception as error:
        put(name, error={"sqlstate": None, "client": str(error)[:4]}, words=str(error))


headers["Authorization"] = "Bearer " + call("post", "security/login", {"username": "admin", "password": "admin", "provider": "db"})["access_token"]


def connection():
    return call("post", "database/test_connection", {"sqlalchemy_uri": URI, "database_name": "tested", "impersonate_user": False})


def database():
    body = {"database_name": "events", "sqlalchemy_uri": URI, "expose_in_sqllab": True, "allow_run_async": False}
    return call("post", "database/", body)["id"]


def dataset(table, sql=None):
    body = {"database": ids["database"], "schema": "public", "table_name": table}
    made = call("post", "dataset/", {**body, "sql": sql} if sql else body)
    ids[table] = made["id"]
    columns = call("get", f"dataset/{made['id']}")["result"]["columns"]
    return sorted([c["column_name"], c["type"], c["type_generic"], c["is_dttm"], c["groupby"], c["filterable"]] for c in columns)


def metadata(table):
    found = call("get", f"database/{ids['database']}/table_metadata/?name={table}&schema=public")
    columns = [[c["name"], c["type"], c["longType"], c["keys"], c["comment"]] for c in found["columns"]]
    return [columns, found["indexes"], found["primaryKey"], found["foreignKeys"], found["comment"], found["selectStar"]]


def sum_of(column, aggregate="SUM"):
    return {"expressionType": "SIMPLE", "column": {"column_name": column}, "aggregate": aggregate, "label": f"{aggregate}({column})"}


def sql(text, label):
    return {"expressionType": "SQL", "sqlExpression": text, "label": label}


EDITS = sql("COUNT(*)", "edits")
DAY = "2015-09-12T00:00:00 : 2015-09-13T00:00:00"


def asked(table, form_data=None, **query):
    query = {"filters": [], "extras": {}, "row_limit": 1000, "metrics": [EDITS], "columns": [], **query}
    return {"datasource": {"id": ids[table], "type": "table"}, "force": True, "queries": [query], "result_format": "json", "result_type": "full", "form_data": form_data or {}}


def chart(table, **query):
    found = call("post", "chart/data", asked(table, **query))["result"][0]
    return [found["status"], found["colnames"], found["coltypes"], found["rowcount"], found["data"]]


def times(grain, column="time"):
    return {"columns": [{"timeGrain": grain, "columnType": "BASE_AXIS", "sqlExpression": column, "label": column, "expressionType": "SQL"}], "time_range": DAY, "granularity": column, "extras": {"time_grain_sqla": grain}, "orderby": []}


def filtered(column, operator, value):
    return {"col": column, "op": operator, "val": value}


CHARTS = {
    "big number": {"time_range": DAY, "granularity": "time"},
    "table": {"columns": ["channel"], "metrics": [EDITS, sum_of("added"), sum_of("delta", "AVG"), sum_of("editor", "COUNT_DISTINCT")], "orderby": [[EDITS, False], ["channel", True]], "row_limit": 10},
    "raw rows": {"metrics": None, "columns": ["time", "channel", "page", "added", "is_robot"], "orderby": [["time", True], ["page", True], ["added", True]], "row_limit": 20},
    "in a list": {"columns": ["channel"], "filters": [filtered("channel", "IN", ["#de.wikipedia", "#fr.wikipedia"])], "orderby": [["channel", True]]},
    "like": {"filters": [filtered("page", "ILIKE", "%berlin%")]},
    "a number and a truth": {"filters": [filtered("added", ">", 1000), filtered("is_robot", "IS FALSE", None)]},
    "null": {"filters": [filtered("city_name", "IS NOT NULL", None)], "columns": ["country_name"], "orderby": [[EDITS, False], ["country_name", True]], "row_limit": 5},
    "own SQL in a filter": {"extras": {"where": "(length(page) > 40)", "having": "(COUNT(*) > 100)"}, "columns": ["namespace"], "orderby": [["namespace", True]]},
    "own SQL as a dimension": {"columns": [sql("CASE WHEN is_robot THEN 'robot' ELSE 'person' END", "who")], "metrics": [EDITS, sql("SUM(added) FILTER (WHERE is_new)", "added to new pages")], "orderby": [["who", True]]},
    "quantiles": {"metrics": [sql("percentile_cont(0.5) WITHIN GROUP (ORDER BY added)", "median"), sum_of("added", "MAX"), sum_of("added", "MIN")]},
    "no rows": {"filters": [filtered("channel", "==", "#none")], "columns": ["channel"]},
    "error": {"metrics": [sql("SUM(nothing)", "nothing")]},
}
GRAINS = ["PT1S", "PT5S", "PT1M", "PT5M", "PT10M", "PT15M", "PT30M", "PT1H", "P1D", "P1W", "P1M", "P3M", "P1Y", "1969-12-28T00:00:00Z/P1W", "P1W/1970-01-03T00:00:00Z"]


def grained(grain):
    status, names, kinds, count, rows = chart("wikipedia", **{**times(grain), "row_limit": 50_000, "filters": [filtered("channel", "==", "#de.wikipedia")]})
    rows = sorted(rows, key=json.dumps)
    return [status, names, kinds, count, rows[:60]]


def many_series():
    query = {**times("PT1H"), "series_columns": ["namespace"], "series_limit": 3, "series_limit_metric": EDITS}
    query["columns"] = [*query["columns"], "namespace"]
    found = chart("wikipedia", **query)
    return [found[0], sorted(found[1]), found[3], sorted(found[4], key=json.dumps)]


def processed():
    """A chart of lines, with pandas behind it: pivot, rolling mean, comparison with an earlier time."""
    query = {**times("PT1H"), "post_processing": [{"operation": "pivot", "options": {"index": ["time"], "columns": [], "aggregates": {"edits": {"operator": "mean"}}}}, {"operation": "flatten"}]}
    found = chart("wikipedia", **query)
    return found[:4] + [found[4][:5]]


def values(column):
    return sorted(call("get", f"datasource/table/{ids['wikipedia']}/column/{column}/values/")["result"], key=str)[:30]


def laboratory(text, limit=100):
    found = call("post", "sqllab/execute/", {"database_id": ids["database"], "sql": text, "schema": "public", "runAsync": False, "queryLimit": limit, "client_id": os.urandom(5).hex()})
    return [found["status"], [[c["column_name"], c["type"], c["is_dttm"]] for c in found["columns"]], found["data"]]


def dashboard():
    params = {"viz_type": "table", "datasource": f"{ids['wikipedia']}__table", "groupby": ["channel"], "metrics": [EDITS], "row_limit": 5}
    context = asked("wikipedia", form_data=params, columns=["channel"], orderby=[[EDITS, False], ["channel", True]], row_limit=5)
    body = {"slice_name": "Channels", "viz_type": "table", "datasource_id": ids["wikipedia"], "datasource_type": "table", "params": json.dumps(params), "query_context": json.dumps(context)}
    one = call("post", "chart/", body)["id"]
    layout = {"ROOT_ID": {"type": "ROOT", "id": "ROOT_ID", "children": ["GRID_ID"]}, "GRID_ID": {"type": "GRID", "id": "GRID_ID", "children": ["CHART-1"], "parents": ["ROOT_ID"]}, "CHART-1": {"type": "CHART", "id": "CHART-1", "children": [], "parents": ["ROOT_ID", "GRID_ID"], "meta": {"chartId": one, "width": 4, "height": 50}}}
    board = call("post", "dashboard/", {"dashboard_title": "Edits", "published": True, "json_metadata": json.dumps({"positions": layout})})["id"]
    call("put", f"chart/{one}", {"dashboards": [board]})
    charts = call("get", f"dashboard/{board}/charts")["result"]
    datasets = call("get", f"dashboard/{board}/datasets")["result"]
    shown = call("get", f"chart/{one}/data/?force=true")["result"][0]
    return [[c["slice_name"] for c in charts], [d["table_name"] for d in datasets], shown["colnames"], shown["data"]]


def as_csv():
    body = asked("wikipedia", columns=["channel"], orderby=[[EDITS, False], ["channel", True]], row_limit=5)
    answer = client.post("/api/v1/chart/data", json={**body, "result_format": "csv"}, headers=headers)
    return [answer.status_code, answer.get_data(as_text=True)]


ids = {}
run("test connection", connection)
ids["database"] = database()
run("schemas", lambda: "public" in call("get", f"database/{ids['database']}/schemas/")["result"])
run("catalogs", lambda: "otus" in call("get", f"database/{ids['database']}/catalogs/")["result"])
run("tables", lambda: sorted([t["value"], t["type"]] for t in call("get", f"database/{ids['database']}/tables/?q=(schema_name:public)")["result"]))
for name in ("wikipedia", "kinds", "edits_hour"):
    run(f"metadata of {name}", lambda: metadata(name))
    run(f"dataset of {name}", lambda: dataset(name))
run("virtual dataset", lambda: dataset("by_namespace", "SELECT namespace, time, count(*) AS n FROM wikipedia GROUP BY namespace, time"))
run("dataset refreshed", lambda: call("put", f"dataset/{ids['wikipedia']}/refresh")["message"])
for name, query in CHARTS.items():
    run(f"chart: {name}", lambda: chart("wikipedia", **query))
run("chart: several series", many_series)
for grain in GRAINS:
    run(f"chart by {grain}", lambda: grained(grain))
run("chart: after processing", processed)
run("chart of a rollup's view", lambda: sorted(chart("edits_hour", **{**times("PT1H", "bucket"), "metrics": [sum_of("edits"), sum_of("added")]})[4], key=json.dumps))
run("chart of a virtual dataset", lambda: chart("by_namespace", columns=["namespace"], metrics=[sum_of("n")], orderby=[["namespace", True]], time_range=DAY, granularity="time"))
run("chart of every type", lambda: chart("kinds", metrics=None, columns=["n", "flag", "small", "exact", "words", "id", "day", "plain", "document", "tags"], orderby=[["n", True]]))
run("chart as CSV", as_csv)
for column in ("namespace", "country_name", "is_robot"):
    run(f"values of {column}", lambda: values(column))
run("dashboard", dashboard)
run("SQL Lab", lambda: laboratory("SELECT channel, count(*) AS edits, max(time) AS latest FROM wikipedia GROUP BY channel ORDER BY edits DESC, channel", 5))
run("SQL Lab, every type", lambda: laboratory("SELECT n, at, flag, exact, id, day, tags FROM kinds ORDER BY n"))
run("SQL Lab, several statements", lambda: laboratory("SELECT 1 AS a; SELECT words FROM kinds ORDER BY n LIMIT 2"))
run("SQL Lab, error", lambda: laboratory("SELECT nothing FROM kinds"))
run("SQL Lab, explain", lambda: laboratory("EXPLAIN SELECT count(*) FROM kinds")[0])
run("names of functions", lambda: call("get", f"database/{ids['database']}/function_names/")["function_names"] is not None)
