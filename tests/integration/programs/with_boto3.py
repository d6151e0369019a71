"""A service that uses AWS by boto3 and knows nothing of Sidekey: it says what came of each call, as JSON.

What it is run with, proxies and a bundle of CAs among it, is the environment's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

KEY = "reports 2026/a+b@c=d/\u00e9~'!*().txt"
BODY = b"0123456789abcdef" * 4096


def result_of(call: Callable[[], Any]) -> Any:
    """Return the result of a call, or the code and status of its error."""
    try:
        return call()
    except ClientError as error:
        return [error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]]
    except BotoCoreError as error:
        return type(error).__name__


def with_s3() -> dict[str, Any]:
    """An object with a name that is hard to spell, and copies of it."""
    s3 = boto3.client("s3")
    where = {"LocationConstraint": "eu-west-1"}
    return {
        "create": result_of(lambda: bool(s3.create_bucket(Bucket="mine", CreateBucketConfiguration=where))),
        "put": result_of(
            lambda: bool(s3.put_object(Bucket="mine", Key=KEY, Body=BODY, Metadata={"a": "b  c"})["ETag"])
        ),
        "get": result_of(lambda: s3.get_object(Bucket="mine", Key=KEY)["Body"].read() == BODY),
        "list": result_of(lambda: [item["Key"] == KEY for item in s3.list_objects_v2(Bucket="mine")["Contents"]]),
        "copy": result_of(
            lambda: bool(s3.copy_object(Bucket="mine", Key="copy", CopySource={"Bucket": "mine", "Key": KEY}))
        ),
        "copied": result_of(lambda: s3.get_object(Bucket="mine", Key="copy")["Body"].read() == BODY),
        "copy from another": result_of(lambda: s3.copy_object(Bucket="mine", Key="stolen", CopySource="other/secret")),
        "another": result_of(lambda: s3.get_object(Bucket="other", Key="secret")),
    }


def with_sqs() -> dict[str, Any]:
    """A message that is sent and received."""
    sqs = boto3.client("sqs")
    url = result_of(lambda: sqs.create_queue(QueueName="jobs")["QueueUrl"])
    if not isinstance(url, str):
        return {"create": url}
    return {
        "create": True,
        "send": result_of(lambda: bool(sqs.send_message(QueueUrl=url, MessageBody="work")["MessageId"])),
        "receive": result_of(lambda: [item["Body"] for item in sqs.receive_message(QueueUrl=url)["Messages"]]),
    }


def with_dynamodb() -> dict[str, Any]:
    """An item that is put and found."""
    table = {
        "TableName": "things",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    dynamodb = boto3.client("dynamodb")
    return {
        "create": result_of(lambda: dynamodb.create_table(**table)["TableDescription"]["TableStatus"]),
        "put": result_of(lambda: bool(dynamodb.put_item(TableName="things", Item={"id": {"S": "\u00e9"}}))),
        "scan": result_of(lambda: dynamodb.scan(TableName="things")["Items"]),
    }


CALLS = {"s3": with_s3, "sqs": with_sqs, "dynamodb": with_dynamodb}

if __name__ == "__main__":
    json.dump({name: CALLS[name]() for name in sys.argv[1:]}, sys.stdout)
