"""`sidekey explain`: arguments, samples and exit status. tests/diagnostics/test_explain.py tests the explanations."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sidekey.cli.explain import parse_sample
from sidekey.cli.look_up import look_up
from sidekey.diagnostics.explain import Sample
from sidekey.errors import DENIAL_REASONS
from sidekey.snapshot.snapshot import Snapshot
from support.commands import GOOD, TOKENS, write_config
from support.sidekey_process import run_cli


@pytest.mark.parametrize(("path", "status"), [("/send", 0), ("/../admin", 1)])
def test_exit_status_is_0_only_for_an_allowed_target(path: str, status: int, tmp_path: Path) -> None:
    result = run_cli("explain", "crm", path, "--config", write_config(tmp_path))
    assert result.returncode == status
    assert f"as sent      /i/crm{path}" in result.stdout
    as_json = run_cli("explain", "crm", path, "--json", "--config", write_config(tmp_path))
    assert (as_json.returncode, json.loads(as_json.stdout)["allowed"]) == (status, status == 0)


@pytest.mark.parametrize(
    ("name", "url", "status"),
    [
        ("shop", "/carts", 0),
        ("shop", "http://auth.europe-west1.gcp.commercetools.com/x", 0),
        ("shop", "http://auth.europe-west1.gcp.commercetools.com/oauth/token", 1),
        ("shop", "http://api.us-central1.gcp.commercetools.com/", 1),
        ("campaigns", "/lists", 0),
        ("campaigns", "/auth/token", 1),
    ],
)
def test_explain_needs_no_token(name: str, url: str, status: int, tmp_path: Path) -> None:
    """The command needs no secret either: the config alone determines the policy."""
    result = run_cli("explain", name, url, "--json", "--config", write_config(tmp_path, TOKENS))
    explanation = json.loads(result.stdout)
    assert (result.returncode, explanation["allowed"], explanation["usable"]) == (
        status,
        status == 0,
        name == "campaigns",
    )
    if status == 0 and name == "shop":
        assert explanation["credential"]["query"] == ["access_token"]
    assert ("auth.token_endpoint" in explanation["profile"]) is (name == "shop")


MIXED = """version: 1
integrations:
  it:
    endpoint_prefix: [https://api.example.com:8443/v1, http://legacy.example.com/v1]
    auth: {type: headers, headers: {X-Tenant: acme}}
"""


def test_denial_shows_the_rules_of_the_integration(tmp_path: Path) -> None:
    result = run_cli("explain", "it", "https://other.example.com/", "--config", write_config(tmp_path, MIXED))
    rule = "the target must be under https://api.example.com:8443/v1 or http://legacy.example.com/v1"
    assert [line for line in result.stdout.splitlines() if line.startswith("rule")] == [f"rule         {rule}"]
    assert "its scheme" not in result.stdout


@pytest.mark.parametrize(
    ("url", "remark"),
    [
        ("http://api.example.com:8443/v1/x", "its scheme is http, and https://api.example.com:8443/v1 needs https"),
        ("https://legacy.example.com/v1/x", "its scheme is https, and http://legacy.example.com/v1 needs http"),
        ("https://legacy.example.com/v2/x", None),
    ],
)
def test_denial_explains_a_wrong_scheme(url: str, remark: str | None, tmp_path: Path) -> None:
    path = write_config(tmp_path, MIXED)
    reason = "the target is not under any endpoint prefix" + ("" if remark is None else f": {remark}")
    text = run_cli("explain", "it", url, "--config", path).stdout
    assert f"denied       target_denied: {reason}\n" in text
    assert f"what to do   {DENIAL_REASONS['outside_prefix'].remedy}\n" in text
    assert json.loads(run_cli("explain", "it", url, "--json", "--config", path).stdout)["reason"] == reason


SIGNED = """version: 1
integrations:
  hooks:
    endpoint_prefix: https://hooks.example.com
    auth: {type: signature, scheme: github, secret: {insecure_value: canary-of-a-signing-key}}
"""


def test_explain_shows_the_signed_bytes_of_a_body(tmp_path: Path) -> None:
    """The output has neither the key nor a signature."""
    path, body = tmp_path / "signed.yaml", tmp_path / "body"
    path.write_text(SIGNED)
    body.write_bytes(b"caf\xc3\xa9\n")
    arguments = ("explain", "hooks", "/x", "--config", str(path), "--method", "POST", "--header", "X-Own: 1")
    result = run_cli(*arguments, "--body", str(body), "--at", "2026-01-31T23:59:59Z")
    assert result.returncode == 0
    assert r"signed       caf\xc3\xa9\n" in result.stdout
    assert "canary" not in result.stdout
    assert "sha256=" not in result.stdout
    wrong = run_cli(*arguments, "--at", "then")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("--at must be a time with its offset, such as ")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"at": "yesterday"}, "--at must be a time"),
        ({"method": "GE T"}, "--method must be a known method"),
        ({"method": "trace"}, "--method must not be TRACE or CONNECT, which are never forwarded"),
        ({"at": "9" * 20}, "--at must be a time"),
        ({"at": "9" * 500}, "--at must be a time"),
        ({"at": "2026-01-31T23:59:59"}, "--at must be a time with its offset"),
        ({"headers": ("X-Own",)}, "--header must be a name and a value"),
        ({"headers": (":",)}, "--header must be a name and a value"),
        ({"headers": ("X Own: 1",)}, "--header must be a name and a value"),
        ({"headers": ("X-Own: \x07",)}, "--header must be a name and a value"),
        ({"headers": ("Host: a",)}, "--header must be one that goes on to the upstream: Host does not"),
        ({"headers": ("Proxy-Foo: a",)}, "--header must be one that goes on"),
    ],
)
def test_invalid_sample_is_refused(option: dict[str, Any], message: str) -> None:
    """The message has a remedy."""
    options: dict[str, Any] = {"at": None, "method": "", "headers": (), "body": b"", **option}
    with pytest.raises(ValueError, match=message):
        parse_sample(**options, now=0)


def test_sample_has_the_current_time_by_default() -> None:
    """Its method is in upper case."""
    assert parse_sample(None, "post", ("X-Own: a",), b"x", now=5.5) == Sample(5.5, "POST", (("X-Own", "a"),), b"x")
    sample = parse_sample("2023-11-14T23:13:20+01:00", "", ("X-Own:  a:b ",), b"", now=0)
    assert sample == Sample(1_700_000_000.0, "", (("X-Own", "a:b"),))


def test_explain_names_the_key_that_would_allow_an_address(tmp_path: Path) -> None:
    """No key can allow a metadata address."""
    prefixes = "[https://crm.example.com/api, http://inside.example/x, http://169.254.169.254/]"
    text = GOOD.replace("https://crm.example.com/api", prefixes) + 'network: {hosts: {inside.example: ["10.1.2.3"]}}\n'
    path = write_config(tmp_path, text)
    inside = run_cli("explain", "crm", "http://inside.example/x/1", "--config", path)
    assert inside.returncode == 1
    assert (
        "denied       destination_denied: inside.example is 10.1.2.3, which is not a global address "
        "(private): add 10.1.2.3/32 to allow_private of the integration, or to network.allow_private\n"
    ) in inside.stdout
    metadata = run_cli("explain", "crm", "http://169.254.169.254/", "--json", "--config", path)
    explanation = json.loads(metadata.stdout)
    assert (metadata.returncode, explanation["allowed"], explanation["code"]) == (1, False, "destination_denied")
    assert explanation["reason"].endswith(
        "is never dialled (cloud metadata), even with allow_private: use another address"
    )
    allowed = text.replace("    auth: {type: basic", "    allow_private: [10.0.0.0/8]\n    auth: {type: basic")
    assert (
        run_cli("explain", "crm", "http://inside.example/x/1", "--config", write_config(tmp_path, allowed)).returncode
        == 0
    )


def test_host_is_looked_up_as_in_a_running_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is absolute. Without DNS, the explanation omits addresses."""
    lookups: list[object] = []

    def getaddrinfo(name: bytes, *_: object, **__: object) -> list[tuple[object, ...]]:
        lookups.append(name)
        if name.startswith(b"absent"):
            raise socket.gaierror
        return [(0, 0, 0, "", ("10.1.2.3", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert look_up(Snapshot({}), "crm.inside.test") == (ip_address("10.1.2.3"),)
    assert look_up(Snapshot({}), "absent.test") == ()
    assert lookups == [b"crm.inside.test.", b"absent.test."]
