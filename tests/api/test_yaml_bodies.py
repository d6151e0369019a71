"""api/yaml_bodies.py: documents as YAML, in requests and in responses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from api.conftest import Named
from support.api import Api, Running, Said, basic
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


def send(api: Api, method: str, path: str, text: str, match: str | None = None) -> Said:
    return api.ask(method, path, text.encode(), match=match, headers=AS_YAML)


def read(api: Api, path: str) -> Said:
    said = api.ask("GET", path, headers=WANTS_YAML)
    assert (said.status, said.headers["Content-Type"]) == (200, "application/yaml")
    assert b"canary" not in said.body
    return said


def test_a_document_is_made_read_changed_and_kept_as_yaml(editor: Api, running: Running, named: Named) -> None:
    """The text that was read can be sent back: it keeps every secret."""
    name = named("made")
    made = send(editor, "POST", "/integrations", TEXT.format(name=name, port=running.upstream))
    assert (made.status, made.json["description"]) == (201, "off")
    path = f"/integrations/{name}"
    found = read(editor, path)
    text = found.body.decode()
    assert text.startswith(f"id: {name}\ndescription: 'off'\nendpoint_prefix: http://127.0.0.1:{running.upstream}/v1\n")
    assert re.search("  password:\n    set: true\n    id: s_[0-9a-f]{16}\n    set_at: '20", text)
    assert set(yaml.safe_load(text)) == {"id", "description", "endpoint_prefix", "auth"}
    assert send(editor, "PUT", path, text, found.etag).json["version"] == 1
    changed = send(editor, "PUT", path, text.replace("'off'", "another"), found.etag)
    assert (changed.status, changed.json["version"]) == (200, 2)
    assert send(editor, "PUT", path, text, found.etag).code == "changed"


def test_a_pem_is_a_literal_block(editor: Api, named: Named) -> None:
    name, root = named("bank"), issue("Bank", authority=True)
    public = {"type": "mtls", "certificate": {"url": "https://vault.example/crt"}}
    auth = {**public, "private_key": {"url": "https://vault.example/key"}}
    document = {"id": name, "endpoint_prefix": "https://bank.example/v1", "auth": auth, "description": "a\n  b\n"}
    document["trusted_ca"] = {"inline": root.pem.decode()}
    said = editor.ask("POST", "/integrations", document)
    assert said.status == 201, said
    text = read(editor, f"/integrations/{name}").body.decode()
    assert "description: |\n  a\n    b\n" in text
    assert yaml.safe_load(text)["description"] == document["description"]


def test_each_error_of_a_preview_has_its_line(editor: Api) -> None:
    preview = send(editor, "POST", "/drafts/integration/preview", "id: No ID\nauth: {type: basic}\ntags: [one,\n  7]\n")
    assert preview.status == 200
    assert {(each["pointer"], each["line"]) for each in preview.json["errors"]} >= {("/tags/1", 4), ("/id", 1)}


def test_a_preview_has_the_lines_of_secrets_to_enter_again(editor: Api, running: Running, named: Named) -> None:
    name = named("moved")
    send(editor, "POST", "/integrations", TEXT.format(name=name, port=running.upstream))
    text = read(editor, f"/integrations/{name}").body.decode().replace("http://127.0.0.1", "https://elsewhere.example")
    found = send(editor, "POST", "/drafts/integration/preview", text).json
    lines = text.splitlines()
    again = {each["pointer"]: lines[each["line"] - 1] for each in found["reenter"]}
    assert again == {"/auth/password": "  password:", "/auth/username": "  username:"}
    refused = send(editor, "PUT", f"/integrations/{name}", text, '"1"')
    assert refused.code == "reenter"
    assert [(each["pointer"], each["line"]) for each in refused.json["errors"]] == [
        (each["pointer"], each["line"]) for each in found["reenter"]
    ]


def test_too_many_values_say_where(editor: Api) -> None:
    said = send(editor, "POST", "/integrations", "a:\n" + "- 1\n" * 20_001)
    assert (said.status, said.code) == (400, "malformed")
    (error,) = said.json["errors"]
    assert (error["line"], error["column"]) == (20_000, 3)
    assert "must contain at most 20000 values" in error["detail"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: " + "x" * (512 << 10), "too_large"),
        # Each escape of two characters has six in JSON.
        ('a: "' + "\\e" * (100 << 10) + '"', "too_large"),
        ("a:\n" + "  k: 1\n" + "".join(f"  k{n}: 1\n" for n in range(11_000)), "malformed"),
    ],
)
def test_the_limits_are_those_of_json(editor: Api, text: str, code: str) -> None:
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
def test_the_client_chooses(editor: Api, accept: str, expected: str) -> None:
    said = editor.ask("GET", "/integrations/of-a-file", headers={"Accept": accept})
    assert said.headers["Content-Type"] == expected


def test_each_representation_has_its_own_tag(editor: Api, running: Running, named: Named) -> None:
    """304 must not confirm one by the other; a change may name either."""
    name = named("tagged")
    editor.make("/integrations", {"id": name, **basic(running.upstream)})
    path = f"/integrations/{name}"
    tags = {editor.ask("GET", path).etag, read(editor, path).etag}
    assert len(tags) == 2
    for tag in tags:
        statuses = [
            editor.ask("GET", path, headers={**accept, "If-None-Match": tag}).status for accept in ({}, WANTS_YAML)
        ]
        assert sorted(statuses) == [200, 304]
        assert send(editor, "PUT", path, read(editor, path).body.decode(), tag).status == 200


def test_a_viewer_reads_yaml_without_client_ids(editor: Api, viewer: Api, named: Named) -> None:
    name = named("shop")
    auth: dict[str, Any] = {"type": "oauth2", "provider": "commercetools", "region": "europe-west1.gcp"}
    auth |= {"client_id": "the-client", "client_secret": {"value": "canary"}}
    editor.make("/integrations", {"id": name, "auth": auth})
    assert b"the-client" in read(editor, f"/integrations/{name}").body
    assert b"the-client" not in read(viewer, f"/integrations/{name}").body


def test_presets_are_taken_and_given_as_well(editor: Api, named: Named) -> None:
    """Also one of a file, which is read alone."""
    name = named("hook")
    url = editor.get("/presets/hook-of-a-file")["url"]
    text = f"id: {name}\nintegration: of-a-file\nurl: {url}\ncontent_type: text/plain\n"
    assert send(editor, "POST", "/presets", text).status == 201
    found = read(editor, f"/presets/{name}")
    assert found.body.decode() == text
    assert send(editor, "PUT", f"/presets/{name}", text + "method: HEAD\n", found.etag).json["errors"][0]["line"] == 5
    assert "integration: of-a-file\n" in read(editor, "/presets/hook-of-a-file").body.decode()
    refused = editor.ask("PATCH", f"/presets/{name}", b"method: PUT\n", match=found.etag, headers=AS_YAML)
    assert refused.code == "unsupported"
