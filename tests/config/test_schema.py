import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest

from sidekey.config.models import LimitSettings, ListenSettings, TimeoutSettings
from sidekey.config.schema import schema, written_defaults
from sidekey.config.yaml_reader import parse
from support import programs
from support.sidekey_process import run_cli

CONFIG = Path(__file__).parents[2] / "config"
SCHEMA = schema()

TYPES: dict[str, type | UnionType] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": int | float,
    "object": dict,
    "string": str,
}


def _is_type(names: str | list[str], value: Any) -> bool:
    if isinstance(names, list):
        return any(_is_type(name, value) for name in names)
    return isinstance(value, TYPES[names]) and not (isinstance(value, bool) and names in ("integer", "number"))


SIMPLE: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_type,
    "const": lambda expected, value: bool(value == expected),
    "enum": lambda expected, value: value in expected,
    "minimum": lambda least, value: not _is_type("integer", value) or value >= least,
    "maximum": lambda most, value: not _is_type("integer", value) or value <= most,
    "pattern": lambda pattern, value: not isinstance(value, str) or re.search(pattern, value) is not None,
    "minLength": lambda least, value: not isinstance(value, str) or len(value) >= least,
    "minItems": lambda least, value: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda most, value: not isinstance(value, list) or len(value) <= most,
    "minProperties": lambda least, value: not isinstance(value, dict) or len(value) >= least,
    "maxProperties": lambda most, value: not isinstance(value, dict) or len(value) <= most,
    "anyOf": lambda options, value: any(not list(problems(option, value)) for option in options),
    "oneOf": lambda options, value: [list(problems(option, value)) for option in options].count([]) == 1,
    "not": lambda node, value: any(problems(node, value)),
    "required": lambda keys, value: not isinstance(value, dict) or set(keys) <= set(value),
}
"""Words that accept a value or not."""

NESTED = {"$ref", "items", "properties", "patternProperties", "additionalProperties"}
ANNOTATIONS = {"$defs", "$id", "$schema", "default", "description", "discriminator", "title"}


def problems(node: dict[str, Any], value: Any, at: str = "") -> Iterator[str]:
    """Yield the errors of `value` by JSON Schema (2020-12). Raise for keywords that our schema does not use."""
    assert set(node) <= {*SIMPLE, *NESTED, *ANNOTATIONS}
    yield from (f"{at}: {word}" for word, accepts in SIMPLE.items() if word in node and not accepts(node[word], value))
    if "$ref" in node:
        yield from problems(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]], value, at)
    if "items" in node and isinstance(value, list):
        for index, entry in enumerate(value):
            yield from problems(node["items"], entry, f"{at}[{index}]")
    for key, entry in value.items() if isinstance(value, dict) else ():
        inner = _schema_of(node, key)
        if inner is False:
            yield f"{at}.{key}: unknown"
        else:
            yield from problems(inner, entry, f"{at}.{key}")


def _schema_of(node: dict[str, Any], key: str) -> Any:
    if key in node.get("properties", {}):
        return node["properties"][key]
    matches = [inner for pattern, inner in node.get("patternProperties", {}).items() if re.search(pattern, key)]
    return matches[0] if matches else node.get("additionalProperties", {})


EXAMPLES = [*sorted(CONFIG.glob("*.yaml")), *sorted((CONFIG.parent / "examples").glob("*/sidekey.yaml"))]


def test_schema_id_is_not_a_url() -> None:
    """Tools cache schemas by `$id`, and this one is not published."""
    assert SCHEMA["$id"] == "urn:sidekey:config:1"


def test_check_jsonschema_accepts_every_example_and_locates_a_misspelt_key(tmp_path: Path) -> None:
    wrong = tmp_path / "sidekey.yaml"
    wrong.write_text(EXAMPLES[0].read_text("utf-8").replace("allowed_domains", "allowed_domain", 1))
    how = ["--output-format", "json", "--schemafile", str(CONFIG / "schema.json")]
    command = [programs.require("check-jsonschema"), *how]
    result = subprocess.run([*command, *map(str, [*EXAMPLES, wrong])], capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    assert [(error["filename"], error["path"]) for error in report["errors"]] == [(str(wrong), "$.integrations.ads")]
    assert "'allowed_domain' was unexpected" in report["errors"][0]["message"]
    assert report["parse_errors"] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(CONFIG.parent)))
def test_every_example_names_its_schema_for_editors(path: Path) -> None:
    """In the first line, for yaml-language-server."""
    line = path.read_text("utf-8").partition("\n")[0]
    named = line.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == (CONFIG / "schema.json").resolve()


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_schema_accepts_every_example(path: Path) -> None:
    assert list(problems(SCHEMA, parse(path.name, path.read_bytes())[0])) == []


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_every_integration_of_an_example_allows_requests(path: Path) -> None:
    result = run_cli("check", "--config", str(path))
    assert "no request passes" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("via: true", [": required"]),
        ("version: 2", [".version: const"]),
        ("version: 1\ntimeout: {}", [".timeout: unknown"]),
        ("version: 1\ntimeouts: {connect: 5}", [".timeouts.connect: type"]),
        ("version: 1\ntimeouts: {connect: 5 s}", [".timeouts.connect: pattern"]),
        ("version: 1\nlimits: {headers: 0}", [".limits.headers: minimum"]),
        ("version: 1\nlisten: {mode: 0660, metrics: 1}", [".listen.metrics: anyOf"]),
        ("version: 1\ncallers: {a: {token: x}}", [".callers.a.token: anyOf"]),
        ("version: 1\ncallers: {a: {token: {env: A, file: b}}}", [".callers.a.token: anyOf"]),
        ("version: 1\nintegrations: {A: {}}", [".integrations.A: unknown"]),
        ("version: 1\nintegrations: {a: {auth: {type: oauth2}}}", [".integrations.a.auth: oneOf"]),
        (
            "version: 1\nintegrations: {a: {auth: {type: headers, headers: {A: {secret: b}}}}}",
            [".integrations.a.auth: oneOf"],
        ),
    ],
)
def test_schema_refuses_configs_that_do_not_load(text: str, result: list[str]) -> None:
    assert list(problems(SCHEMA, parse("c.yaml", text.encode())[0])) == result


CLIENT = "client_id: id, client_secret: {env: SECRET}"
ENDPOINT = "token_endpoint: 'https://auth.example.com/token'"
KEY = "grant: {type: jwt_bearer, private_key: {env: KEY}}"


@pytest.mark.parametrize(
    ("keys", "accepted"),
    [
        (f"{ENDPOINT}, {CLIENT}", True),
        (f"provider: criteo, {CLIENT}", True),
        (f"provider: commercetools, region: europe-west1.gcp, {CLIENT}", True),
        (f"provider: salesforce-marketing-cloud, subdomain: mc-acme, account_id: 5, {CLIENT}", True),
        (f"provider: google-service-account, {KEY}", True),
        (f"{ENDPOINT}, {CLIENT}, token_request: {{body: {{a: 1, b: 2.5, c: true, d: x, e: {{env: E}}}}}}", True),
        (f"{ENDPOINT}, {CLIENT}, token_placement: {{in: header, scheme: ''}}", True),
        (f"{ENDPOINT}, {CLIENT}, client_authentication: body, grant: client_credentials", True),
        (f"{ENDPOINT}, {CLIENT}, client_authentication: {{type: header, form_encoded: false}}", True),
        (
            f"{ENDPOINT}, client_id: id, client_authentication: {{type: private_key_jwt, private_key: {{env: KEY}}}}",
            True,
        ),
        (f"{ENDPOINT}, {CLIENT}, grant: {{type: password, username: svc, password: {{env: PASSWORD}}}}", True),
        (f"{ENDPOINT}, {CLIENT}, grant: {{type: custom, grant_type: openapi_2lo}}", True),
        (f"{ENDPOINT}, {CLIENT}, grant: password", False),
        (f"{ENDPOINT}, {CLIENT}, grant: {{type: password, username: svc}}", False),
        (f"{ENDPOINT}, {CLIENT}, grant: {{type: client_credentials, rotates: true}}", False),
        (f"{ENDPOINT}, {CLIENT}, client_authentication: {{type: body, form_encoded: false}}", False),
        (CLIENT, False),
        (ENDPOINT, False),
        ("provider: criteo", False),
        (f"provider: acme, {CLIENT}", False),
        (f"provider: contentsquare, scope: metrics, project_id: true, {CLIENT}", False),
        (f"{ENDPOINT}, {CLIENT}, token_request: {{body: {{a: [1]}}}}", False),
        (f"{ENDPOINT}, {CLIENT}, token_placement: cookie", False),
        (f"{ENDPOINT}, {CLIENT}, token_placement: {{in: header, prefix: 'Token '}}", True),
        (f"{ENDPOINT}, {CLIENT}, token_placement: {{in: header, scheme: Token, prefix: 'Token '}}", False),
    ],
)
def test_provider_replaces_only_the_required_keys_that_it_fills_in(keys: str, accepted: bool) -> None:
    table, errors = parse("c.yaml", f"version: 1\nintegrations: {{a: {{auth: {{type: oauth2, {keys}}}}}}}\n".encode())
    assert errors == []
    assert list(problems(SCHEMA, table)) == ([] if accepted else [".integrations.a.auth: oneOf"])


def test_defaults_have_the_format_of_the_file() -> None:
    assert written_defaults(TimeoutSettings)["drain"] == "25s"
    assert written_defaults(LimitSettings)["request_body"] == "100MiB"
    assert written_defaults(ListenSettings) == {
        "proxy": "127.0.0.1:8080",
        "admin": "127.0.0.1:9090",
        "metrics": None,
        "tls": None,
        "names": [],
        "mode": "0600",
    }


def test_every_default_is_valid() -> None:
    for definition in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, node in definition.get("properties", {}).items():
            if "default" in node and node["default"] not in ([], None):
                assert list(problems(node, node["default"], key)) == []


def test_body_schema_allows_secrets_at_any_depth() -> None:
    value = {"$ref": "#/$defs/DocumentValue"}
    ways = schema()["$defs"]["DocumentValue"]["anyOf"]
    assert {"$ref": "#/$defs/secret"} in ways
    assert ways[-2]["items"] == ways[-1]["additionalProperties"] == value
