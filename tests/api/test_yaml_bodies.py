"""api/yaml_bodies.py: YAML in requests and responses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from api.conftest import Named
from support.api import Api, ApiResponse, ApiSetup, basic
from support.certificates import issue

AS_YAML = {"Content-Type": "application/yaml"}
WANTS_YAML = {"Accept": "application/yaml"}

TEXT = """\
id: {name}
description: "off"
endpoint_prefix: http://127.0.0.1:{port}/v1
auth:
  type: basic
  username:
    value: svc
  password:
    value: a-canary-of-yaml
"""


def send(api: Api, method: str, path: str, text: str, match: str | None = None) -> ApiResponse:
    return api.request(method, path, text.encode(), match=match, headers=AS_YAML)


def read(api: Api, path: str) -> ApiResponse:
    response = api.request("GET", path, headers=WANTS_YAML)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/yaml")
    assert b"canary" not in response.body
    return response


def test_document_is_created_read_and_replaced_as_yaml(editor: Api, running: ApiSetup, named: Named) -> None:
    """A request that repeats the YAML of a response keeps every secret."""
    name = named("yaml")
    created = send(editor, "POST", "/integrations", TEXT.format(name=name, port=running.upstream))
    assert (created.status, created.json["description"]) == (201, "off")
    path = f"/integrations/{name}"
    current = read(editor, path)
    text = current.body.decode()
    assert text.startswith(f"id: {name}\ndescription: 'off'\nendpoint_prefix: http://127.0.0.1:{running.upstream}/v1\n")
    assert re.search("  password:\n    set: true\n    id: s_[0-9a-f]{16}\n    set_at: '20", text)
    assert set(yaml.safe_load(text)) == {"id", "description", "endpoint_prefix", "auth"}
    assert send(editor, "PUT", path, text, current.etag).json["version"] == 1
    changed = send(editor, "PUT", path, text.replace("'off'", "another"), current.etag)
    assert (changed.status, changed.json["version"]) == (200, 2)
    assert send(editor, "PUT", path, text, current.etag).code == "changed"


def test_pem_is_a_literal_block(editor: Api, named: Named) -> None:
    name, root = named("bank"), issue("Bank", authority=True)
    public = {"type": "mtls", "certificate": {"url": "https://vault.example/crt"}}
    auth = {**public, "private_key": {"url": "https://vault.example/key"}}
    document = {"id": name, "endpoint_prefix": "https://bank.example/v1", "auth": auth, "description": "a\n  b\n"}
    document["trusted_ca"] = {"inline": root.pem.decode()}
    response = editor.request("POST", "/integrations", document)
    assert response.status == 201, response
    text = read(editor, f"/integrations/{name}").body.decode()
    assert "description: |\n  a\n    b\n" in text
    assert yaml.safe_load(text)["description"] == document["description"]


def test_each_error_of_a_preview_has_a_line(editor: Api) -> None:
    preview = send(editor, "POST", "/drafts/integration/preview", "id: No ID\nauth: {type: basic}\ntags: [one,\n  7]\n")
    assert preview.status == 200
    assert {(error["pointer"], error["line"]) for error in preview.json["errors"]} >= {("/tags/1", 4), ("/id", 1)}


def test_secrets_to_enter_again_have_lines(editor: Api, running: ApiSetup, named: Named) -> None:
    name = named("moved")
    send(editor, "POST", "/integrations", TEXT.format(name=name, port=running.upstream))
    text = read(editor, f"/integrations/{name}").body.decode().replace("http://127.0.0.1", "https://elsewhere.example")
    body = send(editor, "POST", "/drafts/integration/preview", text).json
    lines = text.splitlines()
    again = {error["pointer"]: lines[error["line"] - 1] for error in body["reenter"]}
    assert again == {"/auth/password": "  password:", "/auth/username": "  username:"}
    refused = send(editor, "PUT", f"/integrations/{name}", text, '"1"')
    assert refused.code == "reenter"
    assert [(error["pointer"], error["line"]) for error in refused.json["errors"]] == [
        (error["pointer"], error["line"]) for error in body["reenter"]
    ]


def test_error_of_too_many_values_has_a_line(editor: Api) -> None:
    response = send(editor, "POST", "/integrations", "a:\n" + "- 1\n" * 20_001)
    assert (response.status, response.code) == (400, "malformed")
    (error,) = response.json["errors"]
    assert (error["line"], error["column"]) == (20_000, 3)
    assert "must contain at most 20000 values" in error["detail"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: " + "x" * (512 << 10), "too_large"),
        # Each escape has two characters in YAML and six in JSON.
        ('a: "' + "\\e" * (100 << 10) + '"', "too_large"),
        ("a:\n" + "  k: 1\n" + "".join(f"  k{n}: 1\n" for n in range(11_000)), "malformed"),
    ],
)
def test_yaml_has_the_limits_of_json(editor: Api, text: str, code: str) -> None:
    assert send(editor, "POST", "/integrations", text).code == code


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/yaml", "application/yaml"),
        ("Application/YAML;q=0.5, text/html", "application/yaml"),
        ("application/json;q=0.4, application/yaml ; q=0.5", "application/yaml"),
        ("application/yaml, application/json", "application/json"),
        ("application/yaml;q=0", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
def test_accept_chooses_yaml_or_json(editor: Api, accept: str, expected: str) -> None:
    response = editor.request("GET", "/integrations/of-a-file", headers={"Accept": accept})
    assert response.headers["Content-Type"] == expected


def test_yaml_and_json_have_different_etags(editor: Api, running: ApiSetup, named: Named) -> None:
    """A 304 for one format must not confirm the other. A change may name either ETag."""
    name = named("tagged")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    path = f"/integrations/{name}"
    tags = {editor.request("GET", path).etag, read(editor, path).etag}
    assert len(tags) == 2
    for tag in tags:
        statuses = [
            editor.request("GET", path, headers={**accept, "If-None-Match": tag}).status for accept in ({}, WANTS_YAML)
        ]
        assert sorted(statuses) == [200, 304]
        assert send(editor, "PUT", path, read(editor, path).body.decode(), tag).status == 200


def test_viewer_reads_yaml_without_client_ids(editor: Api, viewer: Api, named: Named) -> None:
    name = named("shop")
    auth: dict[str, Any] = {"type": "oauth2", "provider": "commercetools", "region": "europe-west1.gcp"}
    auth |= {"client_id": "the-client", "client_secret": {"value": "canary"}}
    editor.create("/integrations", {"id": name, "auth": auth})
    assert b"the-client" in read(editor, f"/integrations/{name}").body
    assert b"the-client" not in read(viewer, f"/integrations/{name}").body


def test_presets_may_be_yaml(editor: Api, named: Named) -> None:
    name = named("hook")
    url = editor.get("/presets/hook-of-a-file")["url"]
    text = f"id: {name}\nintegration: of-a-file\nurl: {url}\ncontent_type: text/plain\n"
    assert send(editor, "POST", "/presets", text).status == 201
    current = read(editor, f"/presets/{name}")
    assert current.body.decode() == text
    assert send(editor, "PUT", f"/presets/{name}", text + "method: HEAD\n", current.etag).json["errors"][0]["line"] == 5
    assert "integration: of-a-file\n" in read(editor, "/presets/hook-of-a-file").body.decode()
    refused = editor.request("PATCH", f"/presets/{name}", b"method: PUT\n", match=current.etag, headers=AS_YAML)
    assert refused.code == "unsupported"
