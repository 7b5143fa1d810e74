"""connectorx: its three ways to read (COPY in binary, COPY as CSV, cursor), in partitions and as Arrow."""

from urllib.parse import quote

import connectorx as cx
from probes import DATABASE, HOST, PASSWORD, PORT, TLS, USER, Probes, shown

URL = f"postgresql://{USER}:{quote(PASSWORD)}@{HOST}:{PORT}/{DATABASE}?sslmode={TLS}"
QUERIES = {
    "one": "SELECT 1",
    "numbers": "SELECT n, flag, small, whole, large, narrow, wide FROM kinds ORDER BY n",
    "exact numbers": "SELECT n, exact FROM kinds ORDER BY n",
    "texts and ids": "SELECT n, words, id FROM kinds ORDER BY n",
    "bytes": "SELECT n, raw FROM kinds WHERE raw IS NOT NULL ORDER BY n",
    "days and times": "SELECT n, at, day, plain FROM kinds ORDER BY n",
    "documents": "SELECT n, document FROM kinds WHERE document IS NOT NULL ORDER BY n",
    "arrays": "SELECT n, numbers FROM kinds WHERE n IN (1, 2, 5) ORDER BY n",
    "texts in arrays": "SELECT n, tags FROM kinds WHERE n IN (1, 5) ORDER BY n",
    "events": "SELECT time, channel, page, added, is_robot, metro_code FROM wikipedia ORDER BY time, page, added LIMIT 200",
    "top channels": "SELECT channel, count(*) AS edits, sum(added)::bigint AS added FROM wikipedia GROUP BY channel ORDER BY edits DESC, channel LIMIT 10",
    "view": "SELECT bucket, edits FROM edits_hour WHERE channel = '#en.wikipedia' ORDER BY bucket, edits LIMIT 100",
    "no rows": "SELECT n, words FROM kinds WHERE n > 100",
    "no such table": "SELECT * FROM nowhere",
}
probes = Probes()


def framed(found):
    return {"columns": found.column_names, "types": [str(t) for t in found.schema.types], "rows": [[shown(v) for v in row.values()] for row in found.to_pylist()]}


def read(query, protocol, **how):
    return framed(cx.read_sql(URL, query, protocol=protocol, return_type="arrow", **how))


def partitioned(protocol):
    found = cx.read_sql(URL, "SELECT added, delta FROM wikipedia", protocol=protocol, partition_on="added", partition_num=4, return_type="arrow")
    return [found.num_rows, sum(found.column("added").to_pylist())]


for protocol in ("binary", "csv", "cursor"):
    for name, query in QUERIES.items():
        probes.run(f"{name}, {protocol}", lambda: read(query, protocol))
    probes.run(f"partitions, {protocol}", lambda: partitioned(protocol))
    probes.run(f"100,000 rows, {protocol}", lambda: cx.read_sql(URL, "SELECT n, n::text AS t FROM generate_series(1, 100000) AS g(n)", protocol=protocol, return_type="arrow").num_rows)
probes.run("pandas", lambda: shown(cx.read_sql(URL, "SELECT channel, added FROM wikipedia ORDER BY added DESC, channel LIMIT 5").values.tolist()))
