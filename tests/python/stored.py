"""The live files of a dataset, wherever it lies."""

import json
import os


def files(listing, endpoint):
    """The entries that `otus inspect --files --format json` printed into `listing`, each with the path of the
    file as `local`. `endpoint` is that of the S3 store, which the files are fetched from; empty for a folder.
    """
    with open(listing, encoding="utf-8") as file:
        entries = json.load(file)
    if not endpoint:
        for entry in entries:
            entry["local"] = entry["url"].removeprefix("file://")
        return entries
    import boto3

    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    folder = listing + ".d"
    os.makedirs(folder, exist_ok=True)
    for number, entry in enumerate(entries):
        bucket, key = entry["url"].removeprefix("s3://").split("/", 1)
        entry["local"] = os.path.join(folder, f"{number}.parquet")
        s3.download_file(bucket, key, entry["local"])
    return entries
