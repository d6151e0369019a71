"""Processes with a store, on both databases: changes through the API take effect in every process."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

import sidekey
from sidekey.store.store import POLL_INTERVAL
from support.api import PREFIX, TOKENS, Api, basic, config, managed
from support.console_browser import ConsoleBrowser
from support.files import replace
from support.http_get import get, wait_until
from support.nginx import Nginx
from support.postgres import Postgres
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.scraping import value_of
from support.sidekey_process import HEAD, SidekeyProcess, run_cli


def send_as_caller(port: int, integration: str, token: str) -> tuple[int, str]:
    """Send a caller's request, and return the status and the request that the upstream received."""
    response = get(port, f"/i/{integration}/x", {"Sidekey-Token": token})
    return response.status, response.body


def test_operator_configures_everything_through_the_api(tmp_path: Path, store_settings: str, echo_port: int) -> None:
    """The CLI creates the first token. The changes survive a restart."""
    with managed(tmp_path, store_settings) as child:
        token_command = run_cli(
            "token", "create", "ann", "--role", "admin", "--expires", "1h", "--config", str(child.config)
        )
        assert (token_command.returncode, token_command.stderr) == (0, "")
        api = Api(child.admin_port, token_command.stdout.strip())
        # The new token works at once.
        assert api.request("GET", "/whoami").status == 200
        assert send_as_caller(child.proxy_port, "crm", "nobody")[0] == 401
        api.create("/integrations", {"id": "crm", **basic(echo_port)})
        token = api.create("/callers", {"name": "billing", "integrations": ["crm"]})["token"]
        assert send_as_caller(child.proxy_port, "crm", token) == (
            200,
            f"GET /v1/x\nauthorization: {credential('a-canary-of-basic')}\n",
        )
        assert api.request("POST", "/integrations/crm/test").json["ok"] is True
        edit = {"auth": {"password": {"value": "another"}}}
        assert api.request("PATCH", "/integrations/crm", edit, match='"1"').status == 200
        assert credential("another") in send_as_caller(child.proxy_port, "crm", token)[1]
        assert (
            'sidekey_caller_requests_total{caller="billing",outcome="2xx"} 2.0\n'
            in get(child.admin_port, "/metrics").body
        )
        assert child.stop() == 0
    with managed(tmp_path, store_settings) as child:
        api = Api(child.admin_port, token_command.stdout.strip())
        assert credential("another") in send_as_caller(child.proxy_port, "crm", token)[1]
        assert api.get("/integrations/crm")["version"] == 2
        assert (
            'sidekey_caller_requests_total{caller="billing",outcome="2xx"} 1.0\n'
            in get(child.admin_port, "/metrics").body
        )
        assert api.request("DELETE", "/callers/billing", match='"1"').status == 204
        assert "sidekey_caller_requests_total{" not in get(child.admin_port, "/metrics").body
        # Without any caller, Sidekey still requires a caller's token.
        assert send_as_caller(child.proxy_port, "crm", token)[0] == 401
        listed = json.loads(run_cli("token", "list", "--json", "--config", str(child.config)).stdout)
        assert [(item["name"], item["role"]) for item in listed] == [("ann", "admin")]
        assert run_cli("token", "revoke", "ann", "--config", str(child.config)).returncode == 0
        wait_until(lambda: api.request("GET", "/whoami").status == 401)


def credential(secret: str) -> str:
    """Return the Authorization header of kind basic for a secret."""
    return f"Basic {b64encode(f'svc:{secret}'.encode()).decode()}"


def test_allow_unauthenticated_does_not_open_the_api(tmp_path: Path, echo_port: int) -> None:
    """With a store, callers need a token despite `allow_unauthenticated`."""
    with managed(tmp_path, more="allow_unauthenticated: true\nintegrations: {}") as child:
        nobody = Api(child.admin_port, "")
        for path in ("/integrations", "/whoami", "/openapi.json"):
            assert nobody.request("GET", path).code == "unauthenticated"
        Api(child.admin_port).create("/integrations", {"id": "crm", **basic(echo_port)})
        assert send_as_caller(child.proxy_port, "crm", "nobody")[0] == 401


def test_last_use_of_a_token_is_written_once_a_minute(tmp_path: Path) -> None:
    with managed(tmp_path) as child:
        admin = Api(child.admin_port)
        token = admin.create("/tokens", {"name": "ann", "role": "viewer", "own_token": admin.token})["token"]
        for _ in range(5):
            assert admin.by(token).request("GET", "/whoami").status == 200
        wait_until(lambda: admin.get("/tokens/ann")["last_used_at"] is not None)
        with closing(sqlite3.connect(tmp_path / "store.db")) as database:
            database.execute("UPDATE sidekey_uses SET at = 7")
            database.commit()
        for _ in range(5):
            assert admin.by(token).request("GET", "/whoami").status == 200
        assert admin.get("/tokens/ann")["last_used_at"] == "1970-01-01T00:00:07Z"


def test_each_change_reaches_three_processes(tmp_path: Path, in_postgres: str, echo_port: int) -> None:
    """Any process may receive the change. Of several writers with the same ETag, only the first succeeds."""
    # Sidekey promises two seconds. The machine may be slow, so the test checks only the poll interval.
    assert POLL_INTERVAL <= 1
    with ExitStack() as stack:
        children = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            children.append(stack.enter_context(managed(folder, in_postgres)))
        apis = [Api(child.admin_port) for child in children]
        apis[0].create("/integrations", {"id": "crm", **basic(echo_port)})
        token = apis[1].create("/callers", {"name": "billing", "integrations": ["crm"]})["token"]

        def soon(condition: Callable[[SidekeyProcess], bool]) -> None:
            wait_until(lambda: all(map(condition, children)))

        soon(lambda child: send_as_caller(child.proxy_port, "crm", token)[0] == 200)
        for number, api in enumerate(apis):
            secret = f"secret-{number}"
            edit = {"auth": {"password": {"value": secret}}}
            assert api.request("PATCH", "/integrations/crm", edit, match=f'"{number + 1}"').status == 200
            expected = credential(secret)
            soon(lambda child, expected=expected: expected in send_as_caller(child.proxy_port, "crm", token)[1])  # type: ignore[misc]
        outcomes = [api.request("PATCH", "/integrations/crm", {"description": "x"}, match='"4"').status for api in apis]
        assert outcomes == [200, 412, 412]
        assert apis[2].request("DELETE", "/callers/billing", match='"1"').status == 204
        soon(lambda child: send_as_caller(child.proxy_port, "crm", token)[0] == 401)


def test_reads_work_and_writes_fail_while_the_store_is_unreachable(
    tmp_path: Path, postgres: Postgres, in_postgres: str, echo_port: int
) -> None:
    """Operators stay known, although Sidekey cannot record the use of their tokens."""
    with managed(tmp_path, in_postgres) as child:
        api = Api(child.admin_port)
        api.create("/integrations", {"id": "crm", **basic(echo_port)})
        token = api.create("/tokens", {"name": "ann", "role": "viewer", "own_token": api.token})["token"]
        postgres.stop()
        try:
            assert api.by(token).get("/integrations/crm")["status"] == "ok"
            for method, path, body in (
                ("POST", "/integrations", {"id": "sms", **basic(echo_port)}),
                ("PATCH", "/integrations/crm", {"description": "x"}),
                ("DELETE", "/integrations/crm", None),
                ("GET", "/audit", None),
                ("GET", "/tokens", None),
            ):
                response = api.request(method, path, body, match='"1"' if method in ("PATCH", "DELETE") else None)
                assert (response.status, response.code) == (503, "store_unavailable"), (method, path)
                assert response.headers["Retry-After"] == "5"
            child.wait_for_line(lambda line: "the store cannot be used: what is loaded stays in use" in line)
            assert value_of(get(child.admin_port, "/metrics").body, "sidekey_store_up") == 0
            assert get(child.admin_port, "/readyz").status == 200
        finally:
            postgres.start()
        child.wait_for_line(lambda line: '"the store is in use"' in line)
        wait_until(lambda: value_of(get(child.admin_port, "/metrics").body, "sidekey_store_up") == 1)
        wait_until(lambda: api.request("PATCH", "/integrations/crm", {"description": "x"}, match='"1"').status == 200)
        assert child.stop() == 0
    output = "\n".join(child.lines)
    assert "defect" not in output
    assert str(postgres.folder) not in output


def test_altered_callers_and_tokens_are_refused_and_can_be_deleted(tmp_path: Path, echo_port: int) -> None:
    """The API lists altered rows as unusable."""
    with managed(tmp_path) as child:
        api = Api(child.admin_port)
        api.create("/integrations", {"id": "crm", **basic(echo_port)})
        caller = api.create("/callers", {"name": "billing", "integrations": []})["token"]
        token = api.create("/tokens", {"name": "bob", "role": "viewer", "own_token": api.token})["token"]
        assert child.stop() == 0
    edits = {"billing": ('"integrations":[]', '"integrations":"*"'), "bob": ("viewer", "admin")}
    with closing(sqlite3.connect(tmp_path / "store.db")) as database, database:
        for name, edit in edits.items():
            database.execute("UPDATE sidekey_rows SET body = replace(body, ?, ?) WHERE id = ?", (*edit, name))
    with managed(tmp_path) as child:
        api = Api(child.admin_port)
        assert send_as_caller(child.proxy_port, "crm", caller)[0] == 401
        assert api.by(token).request("GET", "/whoami").status == 401
        for path in ("/callers/billing", "/tokens/bob"):
            assert api.get(path)["status"] == "unusable"
        assert api.get("/callers/billing")["integrations"] == []
        assert [item["status"] for item in api.get("/tokens")["items"] if item["name"] == "bob"] == ["unusable"]
        assert api.request("PATCH", "/callers/billing", {"integrations": []}, match='"1"').code == "read_only"
        for path in ("/callers/billing", "/tokens/bob"):
            assert api.request("DELETE", path, match='"1"').status == 204
            assert api.request("GET", path).code == "not_found"


def test_overlapping_integrations_of_a_caller_are_refused(tmp_path: Path) -> None:
    """Integrations overlap if one caller lists both and `match_by_host` is true."""
    more = "forward: {match_by_host: true}\nca: {folder: ca, hosts: [example.com]}\nintegrations: {}"
    with managed(tmp_path, more=more) as child:
        api = Api(child.admin_port)

        def document(name: str, path: str) -> dict[str, Any]:
            return {**basic(1), "id": name, "endpoint_prefix": f"https://api.example.com{path}"}

        api.create("/integrations", document("first", "/v1"))
        api.create("/callers", {"name": "billing", "integrations": ["first", "second"]})
        response = api.request("POST", "/integrations", document("second", "/v1/users"))
        assert (response.status, response.code) == (409, "overlaps")
        assert "integration first covers https://api.example.com/v1/users as well" in response.json["detail"]
        api.create("/integrations", document("second", "/v2"))
        again = {"username": {"value": "svc"}, "password": {"value": "x"}}
        moved = {"endpoint_prefix": "https://api.example.com/v1/users", "auth": again}
        assert api.request("PATCH", "/integrations/second", moved, match='"1"').code == "overlaps"
        api.create("/integrations", document("third", "/v1/users"))
        grants = {"integrations": ["first", "third"]}
        assert api.request("POST", "/callers", {"name": "shipping", **grants}).code == "overlaps"
        assert api.request("PUT", "/callers/billing", grants, match='"1"').code == "overlaps"


PINNED: Final = '''
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    FixedCredential,
    Grant,
    InjectionPoints,
    KindSettings,
    SecretInput,
)
from sidekey.credentials.fields import Keys, Secret


class PinnedSettings(KindSettings):
    """A pin, sent as `Authorization: Pin`."""

    title: ClassVar[str] = "Pinned"
    summary: ClassVar[str] = "A pin"

    type: Literal["pinned"] = Field(description="The kind: a pin.")
    pin: Secret = Field(description="The pin, as a reference.")
    place: str = Field(default="front", description="Where it is.")

    def traits(self) -> CredentialTraits:
        return CredentialTraits(InjectionPoints(headers=("Authorization",)))

    def inputs(self) -> Iterator[SecretInput]:
        yield SecretInput(("pin",), self.pin)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        pin = values["pin",]
        return FixedCredential(Grant(headers=(("Authorization", f"Pin {pin}"),), secrets=(pin.encode(),)))
'''


def test_new_kind_needs_one_file_and_two_lines(tmp_path: Path) -> None:
    package = tmp_path / "code" / "sidekey"
    shutil.copytree(Path(sidekey.__file__).parent, package)
    (package / "credentials" / "pinned.py").write_text(PINNED)
    registry = package / "credentials" / "registry.py"
    text = registry.read_text()
    imported = "from sidekey.credentials.responsys "
    text = text.replace(imported, f"from sidekey.credentials.pinned import PinnedSettings\n{imported}")
    registry.write_text(text.replace('    "responsys":', '    "pinned": PinnedSettings,\n    "responsys":'))
    assert registry.read_text().count("PinnedSettings") == 2
    more = "integrations: {}"
    environment = {"PYTHONPATH": str(package.parent)}
    with (
        Nginx(tmp_path) as nginx,
        SidekeyProcess(config(tmp_path, more=more), tmp_path, environment=environment) as child,
    ):
        api = Api(child.admin_port)
        assert "pinned" in [item["kind"] for item in api.get("/kinds")["items"]]
        schemas = api.get("/openapi.json")["components"]["schemas"]
        assert schemas["PinnedSettings"]["properties"]["pin"]["$ref"] == "#/components/schemas/Secret"
        base = f"http://127.0.0.1:{nginx.port}"
        auth = {"type": "pinned", "pin": {"value": "canary-of-a-pin"}}
        document = {"id": "pins", "endpoint_prefix": base, "auth": auth, "test": {"path": "/x"}}
        Draft202012Validator({"components": {"schemas": schemas}, **schemas["NewIntegration"]}).validate(document)
        created = api.create("/integrations", document)
        assert (created["kind"], created["status"], created["auth"]["pin"]["set"]) == ("pinned", "ok", True)
        assert [item["id"] for item in api.get("/integrations?kind=pinned")["items"]] == ["pins"]
        response = api.request("PATCH", "/integrations/pins", {"auth": {"place": "back"}}, match='"1"')
        assert (response.code, response.pointers) == ("reenter", {"/auth/pin"})
        assert api.request("POST", "/integrations", {**document, "id": "no", "auth": {"type": "pinned"}}).pointers == {
            "/auth/pin"
        }
        assert api.request("POST", "/integrations/pins/test").json["ok"] is True
        explained = api.request("POST", "/integrations/pins/explain", {"url": "/x"}).json
        assert explained["credential"]["headers"] == ["Authorization"]
        token = api.create("/callers", {"name": "billing", "integrations": ["pins"]})["token"]
        assert send_as_caller(child.proxy_port, "pins", token) == (200, "GET /x\nauthorization: Pin canary-of-a-pin\n")
        assert not [line for line in child.lines if "canary" in line or "defect" in line]


def test_public_admin_listener_uses_tls_and_shows_metrics_to_viewers(tmp_path: Path, ca: Authority) -> None:
    """Sidekey reloads the certificate, and accepts only the host names in the config."""
    leaf, other = ca.leaf("sidekey.example.com"), ca.leaf("sidekey.example.com", "second.example.com")
    for name, path in (("tls.crt", leaf.certificate), ("tls.key", leaf.key)):
        (tmp_path / name).write_bytes(path.read_bytes())
    tls = "tls: {certificate: {file: tls.crt}, private_key: {file: tls.key}}, names: [sidekey.example.com], tokens:"
    head = HEAD.replace('admin: "127.0.0.1:{admin}"', 'admin: "0.0.0.0:{admin}", metrics: "127.0.0.1:{metrics}"')
    child = managed(tmp_path, head=head.replace("{metrics}", "0"))
    child.rewrite(child.config.read_text().replace("tokens:", tls, 1))
    child.start()
    try:
        line = child.wait_for_line(lambda line: '"listening"' in line)
        assert '"level":"info"' in line
        context = ca.client_context()

        def send(path: str, token: str = "", host: str = "sidekey.example.com") -> tuple[int, str, Any]:
            with closing(
                HTTPSConnection("127.0.0.1", child.admin_port, context=context, timeout=DEADLINE)
            ) as connection:
                connection.sock = context.wrap_socket(
                    socket_to(child.admin_port), server_hostname="sidekey.example.com"
                )
                certificate = connection.sock.getpeercert()
                headers = {"Host": host, **({"Authorization": f"Bearer {token}"} if token else {})}
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                return response.status, response.read().decode(), certificate

        assert send("/healthz")[0] == send("/readyz")[0] == 200
        assert send("/metrics")[0] == 401
        assert send("/metrics", TOKENS["viewer"])[0] == 200
        assert send("/metrics", TOKENS["sender"])[0] == 403
        browser = ConsoleBrowser(child.admin_port, host="sidekey.example.com", trusted=context)
        cookie = browser.log_in(TOKENS["viewer"]).headers["Set-Cookie"]
        assert re.fullmatch("__Host-sidekey-ui=[^;]+; Path=/; HttpOnly; SameSite=Strict; Secure", cookie)
        assert browser.request("GET", "/whoami").status == 200
        assert send(f"{PREFIX}/whoami", TOKENS["viewer"])[0] == 200
        assert send("/healthz", host="other.example.com")[0] == 421
        with (
            pytest.raises((ConnectionError, OSError)),
            closing(HTTPConnection("127.0.0.1", child.admin_port, timeout=DEADLINE)) as plain,
        ):
            plain.request("GET", "/healthz")
            plain.getresponse()
        assert run_cli("healthcheck", "--config", str(child.config)).stdout == "ok\n"
        first = send("/healthz")[2]
        replace(tmp_path / "tls.key", other.key.read_bytes())
        replace(tmp_path / "tls.crt", other.certificate.read_bytes())
        wait_until(lambda: send("/healthz")[2] != first)
        assert child.stop() == 0
    finally:
        if child.process.poll() is None:
            child.stop(9)


def socket_to(port: int) -> socket.socket:
    """Connect to a port of 127.0.0.1."""
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
