"""A value from a file or variable is a secret wherever the config injects it: no surface shows it."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError, create_model

from sidekey.config.models import Config, ProxySettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Reference
from sidekey.credentials.injection import SECTIONS, AddedSettings
from sidekey.credentials.registry import KINDS
from support.api import Api, ApiResponse
from support.canaries import forms
from support.http_get import get
from support.parent_proxy import ScriptedProxy
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.serving import serving
from support.sidekey_process import run_cli
from support.upstream import RawUpstream
from support.wire import Message

CANARY: Final = "canary-4711-of-this-place"
ISSUED: Final = b'{"access_token": "canary-issued-4711", "token_type": "Bearer"}'
SOURCES: Final = {
    "file": "{file: canary}",
    "env": "{env: CANARY}",
    "prefixed": "{prefix: 'Key ', secret: {file: canary}}",
    "scheme": "{file: credentials}",
}
PUBLIC_KEYS: Final = frozenset(
    {
        "access_key_id",
        "audience",
        "certificate",
        "client_ca",
        "client_id",
        "endpoint_prefix",
        "extra_roots",
        "issuer",
        "key_id",
        "login_endpoint",
        "path_prefix",
        "prefix",
        "proxy.username",
        "region",
        "role_arn",
        "session_name",
        "sts_endpoint",
        "subject",
        "token_endpoint",
        "url",
    }
)
"""Keys whose values are public from any source: identifiers, certificates, URLs, and the prefix of a secret.

The user name of a parent proxy is never sent to an upstream.
"""


async def echo(connection: RawConnection) -> None:
    """Issue a token at /token and /login. Otherwise repeat the request in the body.

    Header fields repeat the target, each field and the last word of each field.
    """
    end = 0
    while True:
        start, message = end, await connection.request()
        end = len(connection.received)
        path = message.target.partition(b"?")[0]
        is_issuer = path in (b"/token", b"/login")
        body = ISSUED if is_issuer else bytes(connection.received[start:end])
        status = b"400 Bad Request" if path == b"/refuse" else b"200 OK"
        values = [value for _, value in message.headers]
        words = [value.rpartition(b" ")[2] for value in values]
        fields = b"".join(b"X-Echo: %b\r\n" % text for text in (message.target, *values, *words))
        await connection.send(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body))


def content(response: Message) -> bytes:
    """Return the fields and the body of a response."""
    return b"\n".join(value for _, value in response.headers) + response.body


def config(port: int, key: str, values: str) -> str:
    """Build an integration that injects the values as its credential (`auth`), or besides one (`add`)."""
    basic = "{type: basic, username: svc, password: {insecure_value: of-no-interest}}"
    keys = f"auth: {{type: headers, {values}}}" if key == "auth" else f"auth: {basic}, add: {{{values}}}"
    return f"  it: {{endpoint_prefix: 'http://127.0.0.1:{port}/v1', redact_response: true, {keys}}}\n"


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("key", ["auth", "add"])
async def test_canary_is_sent_but_never_shown(
    key: str, section: str, source: str, ca: Authority, tmp_path: Path
) -> None:
    """The upstream receives it. Response and log do not contain it, and `redact_response` is not useless."""
    (tmp_path / "canary").write_text(CANARY)
    (tmp_path / "credentials").write_text(f"Bearer {CANARY}")
    async with RawUpstream(echo) as upstream:
        text = config(upstream.port, key, f"{section}: {{X-Key: {SOURCES[source]}}}")
        async with serving(text, tmp_path, ca, environ={"CANARY": CANARY}) as sidekey:
            response = await sidekey.reverse("/a", "Content-Type: application/json", method="POST", body=b"{}")
            assert response.status == 200
            assert CANARY.encode() in upstream.received[0]
            assert CANARY.encode() not in content(response)
            assert b"[redacted]" in response.body
            assert CANARY not in sidekey.log.read_text()
            assert "does nothing" not in sidekey.log.read_text()


PLACES: Final = """\
version: 1
listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}
network:
  allow_private: [127.0.0.1/32]
  trusted_ca: {file: BUNDLE}
  hosts: {up.test: [93.184.215.14], login.test: [93.184.215.14], refused.test: [93.184.215.15]}
  proxy: {url: "http://127.0.0.1:PORT", username: parent, password: <sent>}
store: {path: store.db, keys: [{id: k1, key: {file: store-key}}]}
callers: {billing: {token: <kept>, integrations: "*"}}
admin: {tokens: {ann: {token: <kept>, role: admin}, bob: {token: <kept>, role: admin}}}
log: {level: debug, access: all, path: true, audit: uses}
timeouts: {connect: 45s, request_head: 45s, response: 45s}
presets: {hook: {integration: headers, url: "https://up.test/v1/hook", body: {json: {text: hello}}}}
integrations:
  headers:
    endpoint_prefix: https://up.test/v1
    redact_response: true
    auth: {type: headers, headers: {X-Key: <sent>}, query: {key: <sent>}, body: {field: <sent>}}
  basic:
    endpoint_prefix: https://up.test/v1
    redact_response: true
    auth: {type: basic, username: <sent>, password: <sent>}
    add: {headers: {X-Key: <sent>}, query: {key: <sent>}}
    signature: {scheme: stripe, secret: [<kept>, <kept>]}
    test: {path: /whoami}
  oauth2:
    endpoint_prefix: https://up.test/v1
    redact_response: true
    auth:
      type: oauth2
      token_endpoint: https://up.test/token
      client_id: c
      client_secret: &client_secret <sent>
      token_request: &token_request {body: {key: <sent>}, query: {more: <sent>}, headers: {X-Key: <sent>}}
  refused-token:
    endpoint_prefix: https://up.test/v1
    auth:
      type: oauth2
      token_endpoint: https://up.test/refuse
      client_id: c
      client_secret: *client_secret
      token_request: *token_request
    test: {path: /whoami}
  session:
    endpoint_prefix: https://up.test/v1
    redact_response: true
    auth:
      type: session
      login:
        url: https://up.test/login
        headers: &headers {X-Key: <sent>}
        query: &query {key: <sent>}
        body: &body {user: {name: <sent>, keys: [<sent>, <sent>]}}
        auth: &auth {type: basic, username: <sent>, password: <sent>}
      token: {from: access_token}
  refused-login:
    endpoint_prefix: https://up.test/v1
    auth:
      type: session
      login: {url: https://up.test/refuse, headers: *headers, query: *query, body: *body, auth: *auth}
      token: {from: access_token}
  jwt:
    endpoint_prefix: https://up.test/v1
    redact_response: true
    auth: {type: jwt, algorithm: HS256, secret: <kept>, claims: {deep: [{key: <kept>}], iss: svc}}
  aws:
    endpoint_prefix: https://up.test/v1
    redact_response: true
    auth:
      {type: aws_sigv4, region: eu-west-1, service: s3, access_key_id: AKIAEXAMPLE, secret_access_key: <kept>,
       session_token: <sent>}
  refresh:
    endpoint_prefix: https://up.test/v1
    auth: {type: oauth2, token_endpoint: "https://up.test/refuse", client_id: c,
           grant: {type: refresh_token, refresh_token: <sent>}}
  user:
    endpoint_prefix: https://up.test/v1
    auth: {type: oauth2, token_endpoint: "https://up.test/refuse", client_id: c,
           grant: {type: password, username: <sent>, password: <sent>}}
  exchange:
    endpoint_prefix: https://up.test/v1
    auth: {type: oauth2, token_endpoint: "https://up.test/refuse",
           grant: {type: token_exchange, subject_token: <sent-in-file>}}
  assertion:
    endpoint_prefix: https://up.test/v1
    auth: {type: oauth2, token_endpoint: "https://up.test/refuse", client_id: c,
           client_authentication: {type: assertion, assertion: <sent-in-file>}}
  exchange-before-login:
    endpoint_prefix: https://up.test/v1
    auth:
      type: session
      login:
        url: https://login.test/login
        auth: {type: token_exchange, token_endpoint: "https://login.test/refuse", subject_token: <sent-in-file>,
               parameters: {key: <sent>}}
      token: {from: access_token}
  responsys:
    auth: {type: responsys, login_endpoint: "https://up.test", username: <sent>, password: <sent>}
  refused-proxy:
    endpoint_prefix: https://refused.test
    auth: {type: headers, headers: {X-Key: <kept>}}
  unreadable:
    endpoint_prefix: https://up.test/v1
    auth: {type: headers, headers: {X-Key: {file: unreadable}}}
"""
"""A config with a canary in each place: `<sent>` ones reach a server as they are, and `<kept>` ones do not."""

NAMES: Final = tuple(yaml.safe_load(PLACES)["integrations"])


class Canaries:
    """Replaces the places of a text by references to files and variables, in turn."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[str] = []
        self.kept: list[str] = []
        self.environ: dict[str, str] = {}
        self._folder = folder

    def write_into(self, text: str) -> str:
        """Return the text with a reference in each place."""
        return re.sub("<(sent|kept)(-in-file)?>", self._write, text)

    def _write(self, place: re.Match[str]) -> str:
        number = len(self.sent) + len(self.kept)
        canary = f"canary-{place[1]}-{number:02}-of-4711-and-32-bytes"
        (self.sent if place[1] == "sent" else self.kept).append(canary)
        if number % 2 and place[2] is None:
            self.environ[f"CANARY_{number}"] = canary
            return f"{{env: CANARY_{number}}}"
        (self._folder / f"canary-{number}").write_text(canary)
        return f"{{file: canary-{number}}}"


async def reflect(head: bytes, writer: asyncio.StreamWriter) -> bool:
    """Act as a parent proxy that repeats its password, and refuses one of the hosts."""
    field = head[head.index(b"Proxy-Authorization") :].partition(b"\r\n")[0].partition(b": ")[2]
    is_refused = b"93.184.215.15" in head
    status = b"407 Wrong" if is_refused else b"200 Connected"
    writer.write(b"HTTP/1.1 %b %b\r\nX-Echo: %b\r\n\r\n%b" % (status, field, field, head if is_refused else b""))
    return not is_refused


async def collect(text: str, canaries: Canaries, folder: Path, ca: Authority) -> tuple[dict[str, bytes], bytes]:
    """Use each integration and each page of the API. Return the outputs by source, and the bytes that were sent."""
    caller, *tokens = canaries.kept[:3]
    tls = ca.server_context("up.test", "login.test")
    async with RawUpstream(echo, ssl_context=tls) as upstream, ScriptedProxy(upstream.port, reflect) as proxy:
        text = text.replace("PORT", str(proxy.port))
        async with serving(text, folder, ca, environ=canaries.environ, head="", whole=False) as sidekey:
            fields = ("Content-Type: application/json", f"Sidekey-Token: {caller}")
            responses = [await sidekey.reverse("/a", *fields, method="POST", body=b"{}", name=name) for name in NAMES]
            port = sidekey.app.admin_address.port
            api = await asyncio.to_thread(lambda: [*use_api([Api(port, token) for token in tokens])])
            scraped = await asyncio.to_thread(get, port, "/metrics")
            page = await asyncio.to_thread(get, port, "/ui/integrations")
        used = b"".join(upstream.received) + b"".join(proxy.heads)
    assert {response.status for response in responses} == {200, 502}
    assert {response.status for response in api} == {200}
    return {
        "responses": b"".join(map(content, responses)),
        "API": b"".join(response.body + str(response.headers).encode() for response in api),
        "metrics": scraped.body.encode(),
        "console": page.body.encode(),
        "log": sidekey.log.read_bytes(),
    }, used


def use_api(operators: list[Api]) -> Iterator[ApiResponse]:
    """Yield the responses of the pages that show integrations and presets of a file, and of the audit."""
    api = operators[0]
    for name in NAMES:
        yield api.request("GET", f"/integrations/{name}", headers={"Accept": "application/yaml"})
        yield api.request("POST", f"/integrations/{name}/explain", {"url": "/a"})
        yield from (api.request("GET", f"/integrations/{name}{page}") for page in ("", "/usage", "/failures"))
    # An operator may run one test a second.
    for operator, name in zip(operators, ("basic", "refused-token"), strict=True):
        yield operator.request("POST", f"/integrations/{name}/test")
    yield api.request("POST", "/presets/hook/preview", {"parameters": {}})
    part = {"parameters": {}, "batch": {"id": "b" * 32, "rows": 1}}
    yield api.request("POST", "/presets/hook/sends", part, headers={"Idempotency-Key": f"{'b' * 32}-1"})
    for page in ("integrations", "presets", "callers", "tokens", "whoami", "sends", "audit"):
        yield api.request("GET", f"/{page}")


def test_no_surface_shows_a_value_from_outside(ca: Authority, tmp_path: Path) -> None:
    """Each place of a config file has a canary. No response, page, metric, log line or command shows one."""
    canaries = Canaries(tmp_path)
    text = canaries.write_into(PLACES).replace("BUNDLE", str(ca.bundle))
    store_key = b64encode(bytes(range(32)))
    (tmp_path / "store-key").write_bytes(store_key)
    (tmp_path / "unreadable").write_text("canary-unreadable-4711\x01")
    outputs, used = asyncio.run(collect(text, canaries, tmp_path, ca))
    unsent = [canary for canary in canaries.sent if not any(form in used for form in forms(canary.encode()))]
    assert unsent == []
    commands = [["check"], ["list"], ["list", "--json"], ["export"]]
    commands += [[command, name, *url] for name in NAMES for command, *url in (["explain", "/a"], ["env"])]
    for command in commands:
        result = run_cli(
            *command, "--config", str(tmp_path / "sidekey.yaml"), environment=canaries.environ, folder=tmp_path
        )
        outputs[" ".join(command)] = (result.stdout + result.stderr).encode()
    secrets = {*canaries.sent, *canaries.kept, "canary-unreadable-4711", "canary-issued-4711", store_key.decode()}
    for source, output in outputs.items():
        assert output, source
        shown = {secret for secret in secrets if any(form in output for form in forms(secret.encode()))}
        assert shown == set(), source


def keys_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield each key below a model, with a model of the key alone."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        label = "proxy.username" if (model, name) == (ProxySettings, "username") else field.alias or name
        yield label, create_model("Key", key=(annotation, ...))
        for inner in models_in(field.annotation):
            yield from keys_of(inner, seen)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type contains."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def shapes(reference: dict[str, str]) -> Iterator[Any]:
    """Yield the values of a config that contain the reference: itself, a list, a mapping and a document."""
    yield from (reference, [reference], {"name": reference}, {"name": [{"deep": reference}]})


def references_in(value: object) -> Iterator[Reference]:
    """Yield the references in the value of a key."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, BaseModel):
        yield from references_in(dict(value))
    elif isinstance(value, Mapping):
        yield from references_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references_in(item)


def test_every_reference_is_a_secret_unless_its_key_is_public() -> None:
    """For every key of the models: a new one with public values must be listed here."""
    seen: set[type[BaseModel]] = set()
    found: dict[str, set[bool]] = {}
    models: tuple[type[BaseModel], ...] = (Config, AddedSettings, *KINDS.values())
    keys = [key for model in models for key in keys_of(model, seen)]
    for (key, holder), reference in product(keys, ({"file": "x"}, {"env": "X"})):
        for raw in shapes(reference):
            try:
                parsed = holder.model_validate({"key": raw}, context=Context("file"))
            except ValidationError:
                continue
            external = (item for item in references_in(parsed) if item.source in reference)
            found.setdefault(key, set()).update(item.is_secret for item in external)
    assert {key for key, results in found.items() if False in results} == PUBLIC_KEYS
    secret_keys = {key for key, results in found.items() if True in results}
    assert {"password", "secret", "text", "token", "private_key", "client_secret"} <= secret_keys
    assert {"body", "claims", "headers", "parameters", "query"} <= secret_keys
    # Private keys and URLs are secrets of `tests/app/test_canaries.py`. The short form of `text` has no key.
    elsewhere = {"key_passphrase", "pem", "private_key", "text", "url"}
    assert {key for key in secret_keys if not re.search(rf"\b{key}: [^,}}\n]*<", PLACES)} == elsewhere
