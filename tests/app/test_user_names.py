"""User names of stored integrations are secrets, and only editors see client IDs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.api import TOKENS, Api, managed
from support.http_get import get, wait_until
from support.keys import private_key
from support.sidekey_process import SidekeyProcess, run_cli

USER = "canary-of-a-user-name"
PASSWORD = "canary-of-a-password"
PEM = private_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
CALLER = {"Sidekey-Token": "of-a-caller"}
CALLERS = 'callers: {all: {token: {insecure_value: of-a-caller}, integrations: "*"}}\nintegrations: {}'
PAIR = {"username": {"value": USER}, "password": {"value": PASSWORD}}


def basic(port: int, **auth: Any) -> dict[str, Any]:
    return {"endpoint_prefix": f"http://127.0.0.1:{port}/v1", "auth": {"type": "basic", **(auth or PAIR)}}


DOCUMENTS = {
    "basic": basic(1),
    "responsys": {"auth": {"type": "responsys", "login_endpoint": "https://login2.responsys.net", **PAIR}},
    "owner": {
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://auth.example.com/token",
            "client_id": "id",
            "grant": {"type": "password", **PAIR},
        }
    },
    "login": {
        "endpoint_prefix": "https://api.example.com",
        "auth": {
            "type": "session",
            "login": {"url": "https://api.example.com/login", "auth": {"type": "basic", **PAIR}},
            "token": {"from": "t"},
        },
    },
    "profile": {
        "auth": {
            "type": "basic",
            "provider": "twilio-api-key",
            "sid": {"value": USER},
            "secret": {"value": PASSWORD},
        }
    },
}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    with managed(tmp_path_factory.mktemp("names"), more=CALLERS) as process:
        yield process


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_user_name_of_a_stored_integration_is_never_shown(kind: str, child: SidekeyProcess) -> None:
    """The test checks documents, audit, preview, explanation, export, list and log."""
    api = Api(child.admin_port)
    path = f"/integrations/{kind}"
    document = api.create("/integrations", {"id": kind, **DOCUMENTS[kind]})
    outputs = [document, api.get(path), api.get("/audit"), api.get(f"/integrations?q={kind}")]
    outputs += [api.request("POST", "/drafts/integration/preview", item).json for item in (document, DOCUMENTS[kind])]
    outputs.append(api.request("POST", f"{path}/explain", {"url": "/x"}).json)
    outputs.append(api.request("PUT", path, {**document, "description": "kept"}, match='"1"').json)
    assert outputs[-1]["version"] == 2
    moved = api.request("PATCH", path, {"trusted_ca": "system"}, match='"2"')
    assert len(moved.pointers) == 2
    arguments = ("--config", str(child.config))
    outputs += [run_cli(*item, *arguments).stdout for item in (["export"], ["list", "--json"], ["env", kind])]
    assert f"secrets/{kind}.auth" in outputs[-3]
    outputs += child.lines
    text = json.dumps(outputs)
    assert '"set": true' in text
    assert USER not in text
    assert PASSWORD not in text


def test_stored_user_name_is_sent_with_its_password(echo_port: int, tmp_path: Path) -> None:
    """The password may be empty. A user name in a file may be plain text."""
    more = CALLERS.replace(
        "integrations: {}",
        f"integrations: {{of-a-file: {{endpoint_prefix: 'http://127.0.0.1:{echo_port}/v1', "
        "auth: {type: basic, username: svc, password: {insecure_value: plain-password}}}}",
    )
    with managed(tmp_path, more=more) as child:
        api = Api(child.admin_port)
        api.create("/integrations", {"id": "pair", **basic(echo_port)})
        api.create("/integrations", {"id": "key", **basic(echo_port, username={"value": USER})})

        def sent(name: str) -> str:
            body = get(child.proxy_port, f"/i/{name}/x", CALLER).body
            return next(line for line in body.splitlines() if line.lower().startswith("authorization:"))

        assert sent("of-a-file") == "authorization: Basic c3ZjOnBsYWluLXBhc3N3b3Jk"
        assert sent("pair").endswith("Y2FuYXJ5LW9mLWEtdXNlci1uYW1lOmNhbmFyeS1vZi1hLXBhc3N3b3Jk")
        assert sent("key").endswith("Y2FuYXJ5LW9mLWEtdXNlci1uYW1lOg==")
        other = tmp_path / "other.yaml"
        auth = "{type: basic, username: plain-user, password: {insecure_value: p}}"
        other.write_text(f"version: 1\nintegrations: {{imported: {{endpoint_prefix: https://a.test, auth: {auth}}}}}\n")
        result = run_cli("import", str(other), "--config", str(child.config))
        assert (result.returncode, result.stderr) == (0, "")
        wait_until(lambda: api.request("GET", "/integrations/imported").status == 200)
        imported = api.get("/integrations/imported")["auth"]
        assert imported["username"]["set"] is imported["password"]["set"] is True


def test_plain_user_name_is_refused_in_the_store(child: SidekeyProcess) -> None:
    """The error has a remedy and does not repeat the user name."""
    api = Api(child.admin_port)
    for auth in ({"username": USER}, {"provider": "twilio-api-key", "sid": USER, "secret": {"value": "s"}}):
        response = api.request(
            "POST", "/integrations", {"id": "it", **basic(1, **{"password": {"value": "p"}, **auth})}
        )
        assert response.status == 422
        assert "send {value: SECRET}" in response.body.decode()
        assert USER not in response.body.decode()


@pytest.mark.parametrize(
    ("auth", "client"),
    [
        ({"type": "oauth2", "token_endpoint": "https://a.test/t", "client_secret": {"value": "s"}}, "client_id"),
        (
            {
                "type": "oauth2",
                "provider": "google-service-account",
                "scope": "https://www.googleapis.com/auth/cloud-platform",
                "api": "storage",
            },
            "service_account",
        ),
    ],
)
def test_viewers_do_not_see_the_client_id(auth: dict[str, Any], client: str, child: SidekeyProcess) -> None:
    """Editors and admins see it."""
    identity = "canary@project.iam.gserviceaccount.com"
    auth = {**auth, client: identity}
    if "provider" in auth:
        auth["grant"] = {"type": "jwt_bearer", "private_key": {"value": PEM}}
    visible = {}
    api = Api(child.admin_port)
    name = client.replace("_", "-")
    api.create("/integrations", {"id": name, "auth": auth})
    for role in ("viewer", "editor", "admin"):
        by = api.by(TOKENS[role])
        document = by.get(f"/integrations/{name}")
        assert document["auth"]["type"] == "oauth2"
        explained = by.request("POST", f"/integrations/{name}/explain", {"url": "https://a.test/x"})
        assert explained.status == 200
        visible[role] = {
            "document": identity in json.dumps(document),
            "explanation": identity in explained.body.decode(),
        }
    filled = "provider" in auth
    everything = {"document": True, "explanation": filled}
    assert visible == {"viewer": dict.fromkeys(everything, False), "editor": everything, "admin": everything}
