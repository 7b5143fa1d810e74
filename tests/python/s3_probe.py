"""Creates the bucket and refuses an S3 server that lets an object be created twice."""

import json
import sys

import boto3
from botocore.exceptions import ClientError

endpoint, bucket = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id="test",
    aws_secret_access_key="test",
    region_name="us-east-1",
)
s3.create_bucket(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="probe", Body=b"first", IfNoneMatch="*")
try:
    s3.put_object(Bucket=bucket, Key="probe", Body=b"second", IfNoneMatch="*")
    sys.exit("this S3 server created one object twice")
except ClientError as error:
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 412, error
assert s3.get_object(Bucket=bucket, Key="probe")["Body"].read() == b"first"
print(json.dumps({"put_if_absent": True}))
