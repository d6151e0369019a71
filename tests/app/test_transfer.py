"""A store is exported, its files filled in and run, and imported into another store: nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidekey.credentials.registry import KINDS
from support.api import Api, managed
from support.child import Child, run_cli
from support.every_kind import documents_of_every_kind
from support.http_get import get, post
from support.nginx import Nginx

PRESET = {"integration": "basic", "parameters": {"user": {"type": "text"}}, "body": {"json": {"text": "Hi {{user}}"}}}


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[int]:
    """The port of an upstream that echoes."""
    with Nginx(tmp_path) as nginx:
        yield nginx.port


def fill(exported: Any, document: Any, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the files that an exported document names, with the secrets of the original at the same places.

    Yield what must be written in place of placeholders of URLs.
    """
    if isinstance(document, dict) and document.keys() == {"value"}:
        path = folder / exported["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document["value"])
    elif isinstance(document, dict) and document.keys() == {"url"}:
        yield exported["url"], document["url"]
    elif isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from fill(exported[key], value, folder)


def served(child: Child, names: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Send a request to each integration, and by the preset."""
    caller = {"Sidekey-Token": token}
    answers = {name: get(child.proxy_port, f"/i/{name}/x", caller) for name in names}
    found: dict[str, Any] = {name: answer.status for name, answer in answers.items()}
    sent = post(child.proxy_port, "/p/hook", {**caller, "Content-Type": "application/json"}, b'{"user": "Ann"}')
    fixed = {name: answers[name].body for name in ("basic", "headers", "query", "added", "mtls")}
    return {**found, **{f"what {name} sent": body for name, body in fixed.items()}, "preset": (sent.status, sent.body)}


def shown(api: Api, names: Mapping[str, Any]) -> dict[str, Any]:
    """Read each document as YAML, without when, by whom and under which ID a secret was stored."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {"set": True} if value.get("set") is True else {key: plain(each) for key, each in value.items()}
        return [*map(plain, value)] if isinstance(value, list) else value

    wanted = {name: f"/integrations/{name}" for name in names} | {"hook": "/presets/hook"}
    answers = {name: api.ask("GET", path, headers={"Accept": "application/yaml"}) for name, path in wanted.items()}
    return {name: plain(yaml.safe_load(answer.body)) for name, answer in answers.items()}


def command(*arguments: str) -> str:
    """Run a command that succeeds; what it prints."""
    done = run_cli(*arguments)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def test_an_export_runs_and_is_imported_as_what_it_was(tmp_path: Path, upstream: int) -> None:
    first, out, second = (tmp_path / name for name in ("first", "out", "second"))
    first.mkdir()
    second.mkdir()
    documents = documents_of_every_kind(upstream, tmp_path)
    assert {document["auth"]["type"] for document in documents.values()} == KINDS.keys()
    hook = {**PRESET, "url": f"http://127.0.0.1:{upstream}/v1/hook"}
    with managed(first) as child:
        api = Api(child.admin_port)
        for name, document in documents.items():
            api.make("/integrations", {"id": name, **document})
        api.make("/presets", {"id": "hook", **hook})
        token = api.make("/callers", {"name": "billing", "integrations": "*", "presets": ["hook"]})["token"]
        expected = served(child, documents, token)
        stored = shown(api, documents)
        said = command("export", "--output", str(out), "--config", str(child.config))
        assert child.stop() == 0
    assert {name for name in documents if expected[name] == 200} >= {"aws", "basic", "headers", "jwt", "signature"}
    assert "canary" not in said + "".join(path.read_text() for path in out.iterdir() if "url" not in path.name)
    for name, document in documents.items():
        path = out / f"integration-{name}.yaml"
        text = path.read_text()
        for unknown, url in fill(yaml.safe_load(text)["integrations"][name], document, out):
            text = text.replace(unknown, url)
        path.write_text(text)
    callers = yaml.safe_load((out / "callers.yaml").read_text())["callers"]
    [*fill(callers["billing"]["token"], {"value": token}, out)]
    with Child("", out, arguments=("--config", str(out))) as child:
        checked = run_cli("check", "--config", str(out))
        # Nobody has the certificate that is fetched.
        errors = [line for line in checked.stdout.splitlines() if not line.startswith("warning")]
        assert [line.split(": ")[1] for line in errors] == [
            "integrations.urls.auth.certificate",
            "integrations.urls.auth.private_key",
        ]
        assert served(child, documents, token) == expected
        assert child.stop() == 0
    child.config.unlink()
    child = managed(second)
    command("import", str(out), "--config", str(child.config))
    with child:
        api = Api(child.admin_port)
        assert shown(api, documents) == stored
        assert served(child, documents, token) == expected
        assert child.stop() == 0
    outcomes = command("import", str(out), "--config", str(first / "sidekey.yaml")).splitlines()
    assert {line.split()[0] for line in outcomes if not line.startswith("warning")} == {"kept"}
