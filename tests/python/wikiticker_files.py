"""Sums over the live Parquet files of the wikiticker table, by pyarrow (types) and DuckDB (values).

Arguments: the JSON that `otus inspect --files --format json` printed, and the S3 endpoint (or nothing for a
local folder).
"""

import collections
import json
import os
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

listing, endpoint = sys.argv[1:]
with open(listing, encoding="utf-8") as file:
    files = json.load(file)

if endpoint:
    import boto3

    folder = listing + ".d"
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    for number, entry in enumerate(files):
        bucket, key = entry["url"].removeprefix("s3://").split("/", 1)
        os.makedirs(folder, exist_ok=True)
        entry["local"] = os.path.join(folder, f"{number}.parquet")
        s3.download_file(bucket, key, entry["local"])
else:
    for entry in files:
        entry["local"] = entry["url"].removeprefix("file://")


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
    elif entry["kind"] == "rollup":
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
