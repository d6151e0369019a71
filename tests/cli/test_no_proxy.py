"""`sidekey exec` and `sidekey env` warn if NO_PROXY excludes a host of an integration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import write_config
from support.sidekey_process import run_cli, run_process


def warnings(folder: Path, environment: dict[str, str], *prefixes: str, more: str = "") -> list[str]:
    """Return the warnings of `sidekey env` for an integration with these prefixes."""
    text = f"endpoint_prefix: {json.dumps(prefixes)}, " if prefixes else ""
    auth = "auth: {type: headers, headers: {X-Tenant: acme}}"
    path = write_config(folder, f"version: 1\nintegrations:\n  it: {{{text}{more}{auth}}}\n")
    result = run_cli("env", "it", "--config", path, environment=environment)
    assert (result.returncode, "warning" in result.stdout) == (0, False)
    assert all(line.startswith("warning: ") for line in result.stderr.splitlines())
    return [line.removeprefix("warning: ") for line in result.stderr.splitlines()]


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    "entry",
    [
        "api.example.com",
        "API.example.com",
        "example.com",
        ".example.com",
        "*.example.com",
        "com",
        "api.example.com.",
        "api.example.com:443",
    ],
)
def test_excluded_host_is_named_with_its_variable(entry: str, variable: str, tmp_path: Path) -> None:
    """Common clients accept all these spellings."""
    lines = warnings(tmp_path, {variable: f"db.internal, {entry}"}, "https://api.example.com/v1")
    by_entry = "" if entry == "api.example.com" else f" by its entry {entry}"
    assert lines == [
        f"{variable} excludes api.example.com{by_entry}: requests to it bypass Sidekey, without a credential; remove "
        "the entry, or use the reverse proxy"
    ]


@pytest.mark.parametrize(
    "entries", ["pi.example.com", "v1.api.example.com", "api.example.com:8443", "10.0.0.0/8", "example", ",:", "[::1]"]
)
def test_entry_for_another_host_is_no_warning(entries: str, tmp_path: Path) -> None:
    assert warnings(tmp_path, {"NO_PROXY": entries}, "https://api.example.com/v1") == []


@pytest.mark.parametrize(
    ("prefix", "entry", "host"),
    [
        ("https://93.184.216.34", "93.184.0.0/16", "93.184.216.34"),
        ("https://93.184.216.34", "93.184.216.34:443", "93.184.216.34"),
        ("https://[2606:2800::1]", "2606:2800::1", "2606:2800::1"),
        ("https://[2606:2800::1]", "[2606:2800:0::1]:443", "2606:2800::1"),
    ],
)
def test_address_is_compared_as_an_address(prefix: str, entry: str, host: str, tmp_path: Path) -> None:
    """Sidekey compares addresses and networks, not their spelling."""
    (warning,) = warnings(tmp_path, {"NO_PROXY": entry}, prefix)
    assert warning.startswith(f"NO_PROXY excludes {host}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("environ", [{}, {"NO_PROXY": "localhost,127.0.0.1"}])
def test_loopback_that_sidekey_adds_is_named(host: str, environ: dict[str, str], tmp_path: Path) -> None:
    """The user cannot remove this entry."""
    private = "allow_private: ['127.0.0.0/8'], "
    assert warnings(tmp_path, environ, f"http://{host}:9000", more=private) == [
        f"NO_PROXY, to which Sidekey adds loopback, excludes {host}: requests to it bypass Sidekey, without a "
        "credential; use the reverse proxy for it"
    ]


def test_each_excluded_host_is_named_once(tmp_path: Path) -> None:
    prefixes = ("https://a.example.com/v1", "https://a.example.com/v2", "https://b.test", "https://c.example.com")
    lines = warnings(tmp_path, {"NO_PROXY": "example.com"}, *prefixes)
    assert [line.split()[2] for line in lines] == ["a.example.com", "c.example.com"]


def test_exclusion_of_everything_is_one_warning(tmp_path: Path) -> None:
    lines = warnings(tmp_path, {"NO_PROXY": "*"}, "https://a.example.com", "https://b.test")
    assert lines == ["NO_PROXY is *: all requests bypass Sidekey"]


@pytest.mark.parametrize("entry", ["a.example.com", "example.com"])
def test_exec_names_a_wildcard_domain_with_an_excluded_host(entry: str, tmp_path: Path) -> None:
    """An OAuth2 integration without a prefix may send to every host of the domain."""
    auth = "auth: {type: oauth2, token_endpoint: 'https://auth.test/t', client_id: id, client_secret: {env: HOME}}"
    domains = "allow_other_domains: true, allowed_domains: ['https://*.example.com']"
    path = write_config(tmp_path, f"version: 1\nintegrations:\n  it: {{{domains}, {auth}}}\n")
    result = run_process("exec", "it", "--config", path, "--", "true", environment={"NO_PROXY": entry})
    assert f"NO_PROXY excludes *.example.com by its entry {entry}: " in result.stderr


def test_by_host_checks_every_integration(tmp_path: Path) -> None:
    """The warning goes to standard error, because a shell evaluates the output of `env`."""
    auth = "auth: {type: headers, headers: {X-Tenant: acme}}"
    integrations = "".join(f"  {name}: {{endpoint_prefix: 'https://{name}.test', {auth}}}\n" for name in ("a", "b"))
    path = write_config(tmp_path, f"version: 1\nforward: {{match_by_host: true}}\nintegrations:\n{integrations}")
    result = run_cli("env", "--by-host", "--config", path, environment={"NO_PROXY": "b.test"})
    assert result.stderr.startswith("warning: NO_PROXY excludes b.test: ")
    assert "warning" not in result.stdout
