"""Sums over the live Parquet files of the wikiticker table, by pyarrow (types) and DuckDB (values).

Arguments: the JSON that `otus inspect --files --format json` printed, and the S3 endpoint (or nothing for a
local folder).
"""

import collections
import json
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import stored

listing, endpoint = sys.argv[1:]
files = stored.files(listing, endpoint)


def legal(path):
    """UTC microseconds, no unsigned integers, no dictionary or view types."""
    for field in pq.ParquetFile(path).schema_arrow:
        kind = field.type
        if pa.types.is_dictionary(kind) or pa.types.is_unsigned_integer(kind):
            return False
        if pa.types.is_timestamp(kind) and kind.unit != "us":
            return False
        if kind in (pa.string_view(), pa.binary_view()):
            return False
    return True


groups = collections.defaultdict(list)
for entry in files:
    if entry["kind"] == "raw":
        groups["raw"].append(entry["local"])
    # The rollup of the whole day has no sums.
    elif entry["kind"] == "rollup" and entry["granularity"] != "month":
        groups["rollup_" + entry["granularity"]].append(entry["local"])

answer = {"legal": all(legal(e["local"]) for e in files), "files": len(files)}
for name, paths in sorted(groups.items()):
    live = duckdb.read_parquet(paths)
    if name == "raw":
        measures = "count(*), sum(added), sum(deleted), sum(delta)"
    else:
        # States carry the name of their aggregate call: <call>__<state>.
        measures = "sum(count__count), sum(sum_added__sum), sum(sum_deleted__sum), sum(sum_delta__sum)"
    row = duckdb.sql(f"select count(*), {measures} from live").fetchall()[0]
    answer[name] = dict(zip(["rows", "edits", "added", "deleted", "delta"], map(int, row)))
print(json.dumps(answer))
