"""Mistakes in documents: each case in `errors` has a request, and the errors of its response."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidekey.config.errors import MAX_ERRORS
from support.api import Api, ApiResponse, managed

ERRORS = Path(__file__).parent / "errors"
NAMES = sorted(path.stem for path in ERRORS.glob("*.txt"))

CONFIG = """\
ca: {hosts: [crm.example.com]}
forward: {match_by_host: true}
limits: {in_flight: 1000}
callers:
  shop: {token: {insecure_value: the-token-of-shop}, integrations: [crm, crm-again]}
presets:
  order: {integration: crm, url: https://crm.example.com/v1/orders, content_type: text/plain}
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/v1
    methods: [GET, POST]
    auth: {type: headers, headers: {X-Key: {secret: {insecure_value: a-secret-of-a-file}}}}
  mail:
    endpoint_prefix: https://mail.example.com
    auth: {type: headers, headers: {X-Tenant: acme}}
  unread:
    endpoint_prefix: https://unread.example.com
    auth: {type: headers, headers: {X-Key: {secret: {file: gone}}}}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Run a Sidekey for these documents, and return its API."""
    with managed(tmp_path_factory.mktemp("errors"), more=CONFIG) as child:
        yield Api(child.admin_port)


def body_of(name: str) -> tuple[bytes, str]:
    """Return a body and its media type."""
    path = ERRORS / f"{name}.json"
    if path.exists():
        return path.read_bytes(), "application/json"
    return (ERRORS / f"{name}.yaml").read_bytes(), "application/yaml"


def with_ids(api: Api, name: str, body: bytes) -> bytes:
    """Create the stored resources of a case, and put the IDs of their secrets into the body."""
    before = ERRORS / f"{name}.before.yaml"
    if not before.exists():
        return body
    created = api.request("POST", "/integrations", before.read_bytes(), headers={"Content-Type": "application/yaml"})
    assert created.status == 201, created

    def id_of(match: re.Match[bytes]) -> bytes:
        value = created.json
        for key in match[1].decode().split("."):
            value = value[int(key) if key.isdecimal() else key]
        return str(value["id"]).encode()

    return re.sub(rb"<([a-z0-9_.]+)>", id_of, body)


def send(api: Api, name: str, body: bytes, media_type: str) -> ApiResponse:
    """Send the request of a case, with the version that `NAME.before.yaml` created."""
    method, path = (ERRORS / f"{name}.txt").read_text().partition("\n")[0].split(" ")
    return api.request(
        method, path, body, match='"1"' if method == "PUT" else None, headers={"Content-Type": media_type}
    )


def lines_of(response: ApiResponse) -> list[str]:
    """Format a problem as in the files of the cases."""
    lines = [f"{response.status} {response.code}: {response.json['detail']}"]
    for error in response.json.get("errors", ()):
        location = f"{error['line']}:{error['column']} " if "line" in error else ""
        lines.append(f"{location}{error['pointer'] or '(document)'}: {error['detail']}")
    return lines


@pytest.mark.parametrize("name", NAMES)
def test_each_mistake_has_an_error_with_location_and_remedy(api: Api, name: str) -> None:
    """JSON has the same errors without lines. No response repeats a secret."""
    body, media_type = body_of(name)
    body = with_ids(api, name, body)
    response = send(api, name, body, media_type)
    expected = (ERRORS / f"{name}.txt").read_text().splitlines()[1:]
    assert lines_of(response) == expected
    assert b"hunter2" not in response.body
    assert len(expected) <= MAX_ERRORS
    if media_type == "application/yaml" and response.code != "malformed":
        as_json = send(api, name, json.dumps(yaml.safe_load(body)).encode(), "application/json")
        assert sorted(lines_of(as_json)) == sorted([expected[0], *(line.partition(" ")[2] for line in expected[1:])])
