"""A value from a file or variable is a secret wherever the config injects it: no surface shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError, create_model

from sidekey.config.models import Config, ProxySettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Reference
from sidekey.credentials.injection import SECTIONS, AddedSettings
from sidekey.credentials.registry import KINDS
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.serving import serving
from support.upstream import RawUpstream

CANARY: Final = "canary-4711-of-this-place"
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
    """Repeat the request in the body, and the target, each field and the last word of each field in fields."""
    while True:
        before = len(connection.received)
        message = await connection.request()
        body = bytes(connection.received[before:])
        values = [value for _, value in message.headers]
        words = [value.rpartition(b" ")[2] for value in values]
        fields = b"".join(b"X-Echo: %b\r\n" % text for text in (message.target, *values, *words))
        await connection.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(body), body))


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
            assert CANARY.encode() not in b"\n".join(value for _, value in response.headers) + response.body
            assert b"[redacted]" in response.body
            assert CANARY not in sidekey.log.read_text()
            assert "does nothing" not in sidekey.log.read_text()


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
