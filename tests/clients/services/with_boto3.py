"""boto3, for services that speak S3 and Lambda, with any keys: Sidekey replaces the signature."""

from collections.abc import Iterable

import boto3

from cases import BASE, LARGE, SMALL, digest, events, run

session = boto3.Session("any", "words", region_name="eu-central-1")
s3 = session.client("s3", endpoint_url=BASE)
functions = session.client("lambda", endpoint_url=BASE)


def invoke(payload: bytes) -> str:
    return functions.invoke(FunctionName="small", Payload=payload)["Payload"].read().decode()


def stream() -> Iterable[str]:
    yield from events(s3.get_object(Bucket="bucket", Key="events")["Body"].iter_lines(chunk_size=1))


def upload() -> str:
    with LARGE.open("rb") as file:
        s3.put_object(Bucket="bucket", Key="large", Body=file)
    return "put"


run(
    get=lambda: s3.get_object(Bucket="bucket", Key="small")["Body"].read().decode(),
    post=lambda: invoke(SMALL),
    download=lambda: digest(s3.get_object(Bucket="bucket", Key="large")["Body"].iter_chunks()),
    upload=upload,
    events=stream,
)
