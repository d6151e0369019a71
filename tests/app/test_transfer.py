"""Export a store, fill in its files, serve them, and import them into another store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sidekey.credentials.registry import KINDS
from support.api import Api, managed
from support.every_kind import documents_of_every_kind
from support.http_get import get, post
from support.sidekey_process import SidekeyProcess, run_cli

PRESET = {"integration": "basic", "parameters": {"user": {"type": "text"}}, "body": {"json": {"text": "Hi {{user}}"}}}


def fill(exported: Any, document: Any, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the files that an exported document names. Yield replacements of placeholder URLs."""
    if isinstance(document, dict) and document.keys() == {"value"}:
        path = folder / exported["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document["value"])
    elif isinstance(document, dict) and document.keys() == {"url"}:
        yield exported["url"], document["url"]
    elif isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from fill(exported[key], value, folder)


def serve_all(child: SidekeyProcess, names: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Send a request to each integration, and the preset. Return statuses and bodies."""
    caller = {"Sidekey-Token": token}
    responses = {name: get(child.proxy_port, f"/i/{name}/x", caller) for name in names}
    statuses: dict[str, Any] = {name: response.status for name, response in responses.items()}
    sent = post(child.proxy_port, "/p/hook", {**caller, "Content-Type": "application/json"}, b'{"user": "Ann"}')
    fixed = {name: responses[name].body for name in ("basic", "headers", "query", "added", "mtls")}
    return {
        **statuses,
        **{f"body of {name}": body for name, body in fixed.items()},
        "preset": (sent.status, sent.body),
    }


def read_documents(api: Api, names: Mapping[str, Any]) -> dict[str, Any]:
    """Read each document as YAML, without time, author and ID of its secrets."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {"set": True} if value.get("set") is True else {key: plain(item) for key, item in value.items()}
        return [*map(plain, value)] if isinstance(value, list) else value

    paths = {name: f"/integrations/{name}" for name in names} | {"hook": "/presets/hook"}
    responses = {name: api.request("GET", path, headers={"Accept": "application/yaml"}) for name, path in paths.items()}
    return {name: plain(yaml.safe_load(response.body)) for name, response in responses.items()}


def command(*arguments: str) -> str:
    """Run a command that must succeed, and return its output."""
    result = run_cli(*arguments)
    assert result.returncode == 0, result
    return result.stdout + result.stderr


def test_export_can_be_run_and_imported_without_loss(tmp_path: Path, echo_port: int) -> None:
    first, out, second = (tmp_path / name for name in ("first", "out", "second"))
    first.mkdir()
    second.mkdir()
    documents = documents_of_every_kind(echo_port, tmp_path)
    assert {document["auth"]["type"] for document in documents.values()} == KINDS.keys()
    hook = {**PRESET, "url": f"http://127.0.0.1:{echo_port}/v1/hook"}
    with managed(first) as child:
        api = Api(child.admin_port)
        for name, document in documents.items():
            api.create("/integrations", {"id": name, **document})
        api.create("/presets", {"id": "hook", **hook})
        token = api.create("/callers", {"name": "billing", "integrations": "*", "presets": ["hook"]})["token"]
        expected = serve_all(child, documents, token)
        stored = read_documents(api, documents)
        output = command("export", "--output", str(out), "--config", str(child.config))
        assert child.stop() == 0
    assert {name for name in documents if expected[name] == 200} >= {"aws", "basic", "headers", "jwt", "signature"}
    assert "canary" not in output + "".join(path.read_text() for path in out.iterdir() if "url" not in path.name)
    for name, document in documents.items():
        path = out / f"integration-{name}.yaml"
        text = path.read_text()
        for placeholder, url in fill(yaml.safe_load(text)["integrations"][name], document, out):
            text = text.replace(placeholder, url)
        path.write_text(text)
    callers = yaml.safe_load((out / "callers.yaml").read_text())["callers"]
    [*fill(callers["billing"]["token"], {"value": token}, out)]
    with SidekeyProcess("", out, arguments=("--config", str(out))) as child:
        checked = run_cli("check", "--config", str(out))
        # The certificate at a URL cannot be fetched here.
        errors = [line for line in checked.stdout.splitlines() if not line.startswith("warning")]
        assert [line.split(": ")[1] for line in errors] == [
            "integrations.urls.auth.certificate",
            "integrations.urls.auth.private_key",
        ]
        assert serve_all(child, documents, token) == expected
        assert child.stop() == 0
    child.config.unlink()
    child = managed(second)
    command("import", str(out), "--config", str(child.config))
    with child:
        api = Api(child.admin_port)
        assert read_documents(api, documents) == stored
        assert serve_all(child, documents, token) == expected
        assert child.stop() == 0
    outcomes = command("import", str(out), "--config", str(first / "sidekey.yaml")).splitlines()
    assert {line.split()[0] for line in outcomes if not line.startswith("warning")} == {"kept"}
