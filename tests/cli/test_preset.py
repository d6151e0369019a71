"""`sidekey preset`: list, preview and test."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sidekey.cli.preset import PresetCommandError, read_data
from sidekey.config.load import load
from sidekey.diagnostics.preview import preview
from support.loading import loaded_snapshot
from support.presets import preset
from support.sidekey_process import run_cli, run_process
from support.upstream import RawUpstream, respond_with

SECRET = "not-to-be-seen-4711"
AUTHORIZATION = b"Basic " + b64encode(f"svc:{SECRET}".encode())
KEYS = "method: PUT, headers: {X-Source: sidekey}, parameters: {user: {type: text}}"
BODY = 'body: {json: {text: "Hello {{user}}"}}'


def config(folder: Path, base: str = "http://up.test:1", prefix: str = "/api") -> str:
    """Write a config with presets that take parameters or a payload, and one that its integration does not allow."""
    (folder / "password").write_text(SECRET)
    path = folder / "sidekey.yaml"
    path.write_text(f"""\
version: 1
network: {{hosts: {{up.test: ["127.0.0.1"]}}, allow_private: ["127.0.0.0/8"]}}
integrations:
  crm:
    endpoint_prefix: {base}{prefix}
    auth: {{type: basic, username: svc, password: {{file: password}}}}
presets:
  welcome: {{integration: crm, url: "{base}/api/u/{{{{user}}}}", {KEYS}, {BODY}}}
  event: {{integration: crm, url: {base}/api/event, content_type: text/plain, description: An event, tags: [a]}}
  outside: {{integration: crm, url: {base}/other, content_type: text/plain}}
""")
    return str(path)


async def run(command: str, *arguments: str) -> CompletedProcess[str]:
    """Run the command while the upstream of this loop responds."""
    return await asyncio.to_thread(run_process, "preset", command, *arguments)


def test_presets_are_listed_with_their_problems(tmp_path: Path) -> None:
    """A preset that its integration does not allow has a reason."""
    path = config(tmp_path)
    result = run_cli("preset", "list", "--config", path)
    assert (result.returncode, "note: status `unknown`: " in result.stderr) == (0, True)
    reason = "must be allowed by integration crm: the target is not under any endpoint prefix"
    assert result.stdout.splitlines() == [
        "event    crm  POST http://up.test:1/api/event      An event",
        f"outside  crm  POST http://up.test:1/other          unusable: {reason}",
        "welcome  crm  PUT http://up.test:1/api/u/{{user}}",
    ]
    presets = json.loads(run_cli("preset", "list", "--config", path, "--json").stdout)
    assert "Sidekey is not running there" in presets[0].pop("problem")
    assert presets[0] == {
        "id": "event",
        "source": "file",
        "integration": "crm",
        "method": "POST",
        "url": "http://up.test:1/api/event",
        "content_type": "text/plain",
        "description": "An event",
        "tags": ["a"],
        "status": "unknown",
    }
    assert (presets[1]["status"], presets[1]["problem"]) == ("unusable", reason)


def test_check_and_strict_run_fail_with_an_unusable_preset(tmp_path: Path) -> None:
    path = config(tmp_path)
    for result in (run_cli("check", "--config", path), run_process("run", "--strict", "--config", path)):
        assert result.returncode == 1
        assert f"{path}:10:" in result.stdout + result.stderr
        assert "presets.outside.url: must be allowed by integration crm" in result.stdout + result.stderr


def test_preview_names_the_credential_and_sends_nothing(tmp_path: Path) -> None:
    path = config(tmp_path)
    result = run_cli("preset", "preview", "welcome", "--config", path, "--data", '{"user": "a b"}')
    assert result.returncode == 0
    assert result.stdout == (
        "PUT http://up.test:1/api/u/a%20b\nAuthorization: [credential]\nX-Source: sidekey\n"
        'Content-Type: application/json\n\n{"text":"Hello a b"}\n\ncredential: headers: Authorization\n'
    )
    assert SECRET not in result.stdout
    document = json.loads(
        run_cli("preset", "preview", "event", "--config", path, "--data", "some text", "--json").stdout
    )
    assert document == {
        "preset": "event",
        "integration": "crm",
        "request": {
            "method": "POST",
            "url": "http://up.test:1/api/event",
            "headers": [["Authorization", "[credential]"], ["Content-Type", "text/plain"]],
            "body": "some text",
        },
        "credential": {"headers": ["Authorization"]},
    }


def test_preview_escapes_control_characters(tmp_path: Path) -> None:
    """Another operator may have written the body. JSON has the original text."""
    body = "one\n\x1b[2Jgone \u202eevil"
    path = config(tmp_path)
    result = run_cli("preset", "preview", "event", "--config", path, "--data", body)
    assert result.stdout.splitlines()[-4:-2] == ["one", r"\x1b[2Jgone \u202eevil"]
    document = json.loads(run_cli("preset", "preview", "event", "--config", path, "--data", body, "--json").stdout)
    assert document["request"]["body"] == body


def test_preview_reports_invalid_parameters(tmp_path: Path) -> None:
    """The output has their names but not their values."""
    path = config(tmp_path)
    result = run_cli("preset", "preview", "welcome", "--config", path, "--data", '{"user": "hunter/2", "x": 1}')
    assert result.returncode == 1
    first, *others = result.stdout.splitlines()
    assert first == "parameters_invalid: the parameters are not valid for the preset"
    assert [other.partition(":")[0] for other in others] == ["/x", "/user"]
    assert "hunter" not in result.stdout
    result = run_cli("preset", "preview", "welcome", "--config", path, "--data", "[", "--json")
    assert json.loads(result.stdout)["errors"] == [
        {"pointer": "", "detail": "the parameters must be valid JSON in UTF-8"}
    ]
    result = run_cli("preset", "preview", "outside", "--config", path)
    assert result.returncode == 1
    assert result.stdout.startswith("credential_unavailable: must be allowed by integration crm")


def test_preview_reports_a_target_that_the_policy_denies(tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text("""\
version: 1
integrations:
  shop:
    auth: {type: oauth2, token_endpoint: "https://shop.example.com/token", client_id: a, client_secret: {env: NOTHING}}
presets:
  any:
    integration: shop
    url: https://shop.example.com/{{a}}
    parameters: {a: {type: text}}
    body: {json: x}
""")
    snapshot = loaded_snapshot(load(path, {}))
    result = preview(snapshot, snapshot.presets["any"], b'{"a": "token"}')
    assert result.problem is not None
    assert result.problem.code == "target_denied"
    assert preview(snapshot, snapshot.presets["any"], b'{"a": "orders"}').problem is None


async def test_test_sends_a_real_request(tmp_path: Path) -> None:
    accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 6\r\n\r\ncanary"
    async with RawUpstream(respond_with(accepted)) as upstream:
        path = config(tmp_path, f"http://up.test:{upstream.port}")
        result = await run("test", "welcome", "--config", path, "--data", '{"user": "x"}')
        (request,) = upstream.requests
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        "ok: POST /p/welcome: 202 Accepted, from the upstream\n"
        "note: this was a real request: the upstream may have acted on it\n"
    )
    assert (request.method, request.target, request.body) == (b"PUT", b"/api/u/x", b'{"text":"Hello x"}')
    assert request.values(b"authorization") == [AUTHORIZATION]
    assert request.values(b"x-source") == [b"sidekey"]


async def test_payload_is_read_from_a_file(tmp_path: Path) -> None:
    """The option has the syntax of curl."""
    (tmp_path / "payload").write_bytes(b"\xff\x00\n")
    refused = b"HTTP/1.1 400 canary\r\nContent-Length: 0\r\n\r\n"
    async with RawUpstream(respond_with(refused)) as upstream:
        path = config(tmp_path, f"http://up.test:{upstream.port}")
        result = await run("test", "event", "--config", path, "--data", f"@{tmp_path / 'payload'}", "--json")
        (request,) = upstream.requests
    assert result.returncode == 1
    assert request.body == b"\xff\x00\n"
    report = json.loads(result.stdout)
    assert (report["ok"], report["status"], report["reason"]) == (False, 400, "Bad Request, from the upstream")
    assert report["note"] == "this was a real request: the upstream may have acted on it"


def test_unsent_request_is_reported_as_unsent(tmp_path: Path) -> None:
    result = run_process("preset", "test", "welcome", "--config", config(tmp_path))
    assert result.returncode == 1
    reason = "the parameters are not valid for the preset; /user: is required"
    assert result.stdout == f"failed: POST /p/welcome: 422 parameters_invalid: {reason}\n"


@pytest.mark.parametrize("command", ["preview", "test"])
def test_unknown_preset_is_a_usage_error(command: str, tmp_path: Path) -> None:
    result = run_cli("preset", command, "nothing", "--config", config(tmp_path))
    assert result.returncode == 2
    assert "no preset has this ID: `sidekey preset list` lists the IDs" in result.stderr.replace("\n", " ")


def test_unreadable_data_file_is_named(tmp_path: Path) -> None:
    result = run_cli("preset", "test", "event", "--config", config(tmp_path), "--data", f"@{tmp_path / 'none'}")
    assert (result.returncode, result.stderr) == (1, f"{tmp_path / 'none'} cannot be read: No such file or directory\n")


def test_default_data_is_empty(tmp_path: Path) -> None:
    with_parameters = preset(parameters={"a": {"type": "text", "default": "x"}}, body={"json": "{{a}}"})
    assert read_data(None, with_parameters) == b"{}"
    assert read_data(None, preset()) == b""
    assert read_data("é", preset()) == "é".encode()
    with pytest.raises(PresetCommandError, match="cannot be read"):
        read_data(f"@{tmp_path}", preset())
