"""The variables that `sidekey env` prints and `sidekey exec` sets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.ca.maintain import ensure_authorities
from sidekey.cli.environment import (
    NoProxyUrl,
    Proxy,
    ProxyLocation,
    Variables,
    build_variables,
    parse_proxy,
    proxy_address,
)
from sidekey.cli.trust_variables import ADDING_VARIABLES, REPLACING_VARIABLES, TrustError
from sidekey.snapshot.snapshot import Address
from support import programs
from support.commands import GOOD, SECRET, write_config
from support.local_cas import NOW, rules_in
from support.sidekey_process import run_cli, run_process

PROXY_ADDRESS = Address("127.0.0.1", 8080)
TRUST = Path("/run/sidekey/trust")


def variables(
    environ: Mapping[str, str] | None = None, proxy: Proxy | None = None, trust: Path = TRUST, *, java: bool = False
) -> Variables:
    """Build the variables for an environment, which is empty by default."""
    return build_variables(proxy or Proxy.of(PROXY_ADDRESS, "crm", None), trust, environ or {}, java=java)


def test_all_variables_are_set() -> None:
    """Proxy variables are set in both cases, because curl reads only http_proxy."""
    proxy = "http://crm:x@127.0.0.1:8080"
    excluded = "localhost,127.0.0.1,::1"
    result = variables()
    assert result.notes == ()
    assert result.values == {
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "NO_PROXY": excluded,
        "no_proxy": excluded,
        "NODE_USE_ENV_PROXY": "1",
        "SSL_CERT_FILE": "/run/sidekey/trust/bundle.pem",
        "REQUESTS_CA_BUNDLE": "/run/sidekey/trust/bundle.pem",
        "CURL_CA_BUNDLE": "/run/sidekey/trust/bundle.pem",
        "GIT_SSL_CAINFO": "/run/sidekey/trust/bundle.pem",
        "PIP_CERT": "/run/sidekey/trust/bundle.pem",
        "npm_config_cafile": "/run/sidekey/trust/bundle.pem",
        "AWS_CA_BUNDLE": "/run/sidekey/trust/bundle.pem",
        "CARGO_HTTP_CAINFO": "/run/sidekey/trust/bundle.pem",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": "/run/sidekey/trust/bundle.pem",
        "HTTPLIB2_CA_CERTS": "/run/sidekey/trust/bundle.pem",
        "NODE_EXTRA_CA_CERTS": "/run/sidekey/trust/ca.pem",
        "DENO_CERT": "/run/sidekey/trust/ca.pem",
        "WGETRC": "/run/sidekey/trust/wgetrc",
    }


@pytest.mark.parametrize(
    ("integration", "token", "expected"),
    [
        ("crm", None, "http://crm:x@127.0.0.1:8080"),
        ("crm", "t", "http://crm:t@127.0.0.1:8080"),
        (None, "t", "http://-:t@127.0.0.1:8080"),
        (None, None, "http://127.0.0.1:8080"),
    ],
)
def test_proxy_user_is_the_integration_or_the_placeholder(
    integration: str | None, token: str | None, expected: str
) -> None:
    assert Proxy.of(PROXY_ADDRESS, integration, token).url == expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_every_token_survives_the_proxy_url(token: str) -> None:
    """No repr contains the token."""
    proxy = Proxy.of(Address("::1", 8080), "crm", token)
    parts = urlsplit(proxy.url)
    assert (parts.username, unquote(parts.password or ""), parts.hostname, parts.port) == ("crm", token, "::1", 8080)
    assert proxy.url.isascii()
    assert repr(proxy) == repr(Proxy.of(Address("::1", 8080), "crm", "other"))


def test_existing_no_proxy_entries_are_kept() -> None:
    """Entries of both variables follow loopback."""
    result = variables({"NO_PROXY": "10.0.0.0/8, .svc,,localhost", "no_proxy": ".svc,db.test"}).values
    assert result["NO_PROXY"] == result["no_proxy"] == "localhost,127.0.0.1,::1,10.0.0.0/8,.svc,db.test"
    second = variables(result).values
    assert second["NO_PROXY"] == result["NO_PROXY"]


def test_no_proxy_for_all_hosts_is_a_warning() -> None:
    result = variables({"no_proxy": "*"})
    assert result.values["NO_PROXY"].endswith(",*")
    assert result.notes == ("NO_PROXY is *: all requests bypass Sidekey",)


def test_java_gets_properties() -> None:
    """Existing options stay. A second run changes nothing. Java cannot exclude networks."""
    by_host = Proxy.of(Address("::1", 8080), None, None)
    environ = {"JAVA_TOOL_OPTIONS": "-Xmx1g", "NO_PROXY": "10.0.0.0/8,.svc,db.test"}
    result = variables(environ, by_host, java=True)
    assert result.values["JAVA_TOOL_OPTIONS"].split(" ") == [
        "-Xmx1g",
        "-Dhttp.proxyHost=::1",
        "-Dhttp.proxyPort=8080",
        "-Dhttps.proxyHost=::1",
        "-Dhttps.proxyPort=8080",
        "-Dhttp.nonProxyHosts=127.*|localhost|*.localhost|127.0.0.1|[::1]|svc|*.svc|db.test|*.db.test",
        "-Djdk.http.auth.tunneling.disabledSchemes=",
        "-Djavax.net.ssl.trustStore=/run/sidekey/trust/truststore.p12",
        "-Djavax.net.ssl.trustStoreType=PKCS12",
    ]
    assert result.notes == ()
    assert variables(result.values, by_host, java=True) == result


def test_limits_of_java_are_warnings() -> None:
    """Java does not send the user, and cannot combine trust stores."""
    result = variables({"JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/etc/corp.jks"}, java=True)
    assert "truststore.p12" not in result.values["JAVA_TOOL_OPTIONS"]
    user, store = result.notes
    assert "--by-host" in user
    assert "import /run/sidekey/trust/ca.pem into it with keytool" in store


@pytest.mark.parametrize("name", ["a b", "it's", 'a"b', "a'\"b c", "$(id)`|"])
def test_jvm_reads_quoted_options(name: str, tmp_path: Path) -> None:
    """The JVM splits JAVA_TOOL_OPTIONS at spaces, and removes quotes of both kinds."""
    java = programs.require("java")
    trust = tmp_path / name
    result = variables({}, Proxy.of(PROXY_ADDRESS, None, None), trust, java=True)
    output = subprocess.run(
        [java, "-XshowSettings:properties", "-version"],
        env={"JAVA_TOOL_OPTIONS": result.values["JAVA_TOOL_OPTIONS"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"javax.net.ssl.trustStore = {trust}/truststore.p12\n" in output.stderr


def test_variable_with_a_file_keeps_its_certificates(tmp_path: Path) -> None:
    """The combined file has the certificates of both files."""
    sidekey_certificate = (
        ensure_authorities(rules_in(tmp_path / "sidekey", "https://a.test"), NOW).authorities.members[0].certificate
    )
    client_certificate = (
        ensure_authorities(rules_in(tmp_path / "client", "https://b.test"), NOW).authorities.members[0].certificate
    )
    (tmp_path / "corp.pem").write_text(client_certificate)
    trust = tmp_path / "sidekey" / "trust"
    for name in (*REPLACING_VARIABLES, *ADDING_VARIABLES):
        environ = {name: str(tmp_path / "corp.pem"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        result = variables(environ, trust=trust).values
        pem = Path(result[name]).read_text()
        assert sidekey_certificate in pem
        assert client_certificate in pem
        others = {result[other] for other in (*REPLACING_VARIABLES, *ADDING_VARIABLES) if other != name}
        assert others == {str(trust / "bundle.pem"), str(trust / "ca.pem")} - {result[name]}
        assert variables({**environ, **result}, trust=trust).values == result


def test_missing_trust_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"ca\.pem does not exist: name Sidekey's trust folder"):
        ProxyLocation(PROXY_ADDRESS, tmp_path).check_trust()
    ensure_authorities(rules_in(tmp_path, "https://a.test"), NOW)
    ProxyLocation(PROXY_ADDRESS, tmp_path / "trust").check_trust()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "127.0.0.1:8080"), ("::", "[::1]:8080"), ("::1", "[::1]:8080"), ("192.0.2.7", "192.0.2.7:8080")],
)
def test_a_listener_on_all_addresses_is_reached_by_loopback(host: str, expected: str) -> None:
    """Clients cannot connect to the unspecified address (RFC 1122 3.2.1.3)."""
    assert str(proxy_address(Address(host, 8080))) == expected


@pytest.mark.parametrize(
    ("address", "reason"),
    [(Address(path="/run/sidekey.sock"), "unix socket"), (Address("127.0.0.1", 0), "with port 0")],
)
def test_address_without_a_proxy_url_is_an_error_of_its_key(address: Address, reason: str) -> None:
    with pytest.raises(NoProxyUrl, match=rf"listen\.proxy: .*{reason}"):
        proxy_address(address)


def test_unix_socket_is_reached_at_its_path() -> None:
    address = Address(path="/run/sidekey.sock")
    assert address.reachable() is address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("HTTP://Sidekey.Sidekey:8080/", "sidekey.sidekey:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://sidekey", "sidekey:80"),
    ],
)
def test_proxy_url_is_parsed(url: str, expected: str) -> None:
    scheme, address = parse_proxy(url)
    assert (scheme, str(address)) == (url.partition(":")[0].lower(), expected)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://h:1",
        "h:1",
        "http://",
        "http://h:0",
        "http://h:1/x",
        "http://h h",
        "http://u:s3cret@h:1",
        "http://h?s3cret",
    ],
)
def test_invalid_proxy_url_is_refused_without_repeating_it(url: str) -> None:
    """The URL may contain a token."""
    with pytest.raises(NoProxyUrl) as error:
        parse_proxy(url)
    assert "s3cret" not in json.dumps(str(error.value))


@pytest.mark.parametrize("command", [["env", "--by-host"], ["exec", "--by-host", "--", "echo", "ran"]], ids=" ".join)
def test_by_host_needs_a_config_that_matches_by_host(command: list[str], tmp_path: Path) -> None:
    """Otherwise Sidekey would deny each request with 407."""
    environ = {"SIDEKEY_CONFIG": write_config(tmp_path)}
    refused = run_cli(*command, environment=environ)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "forward.match_by_host: must be true" in refused.stderr
    environ = {"SIDEKEY_CONFIG": write_config(tmp_path, GOOD + "forward: {match_by_host: true}\n")}
    assert run_process(*command, environment=environ).returncode == 0


@pytest.mark.parametrize("proxy", ["ftp://h:1", f"https://crm:{SECRET}@h:1"])
def test_proxy_url_on_the_command_line_must_not_contain_a_token(proxy: str, tmp_path: Path) -> None:
    """Other users can read the command line."""
    result = run_cli("exec", "crm", "--proxy", proxy, "--trust", str(tmp_path), "--", "true")
    assert result.returncode == 2
    assert SECRET not in result.stdout + result.stderr
    assert run_cli("env", "CRM", "--proxy", "http://h:1", "--trust", str(tmp_path)).returncode == 2


def test_env_needs_only_the_trust_folder_of_another_users_sidekey(tmp_path: Path) -> None:
    """The user may not be able to enter the folder of the CA."""
    text = GOOD + "ca: {folder: state, trust_folder: trust}\n"
    path = write_config(tmp_path, text)
    assert run_cli("ca", "show", "--config", path).returncode == 0
    (tmp_path / "state" / "ca" / "authorities.json").write_text("not to be read")
    assert f"SSL_CERT_FILE={tmp_path}/trust/bundle.pem" in run_cli("env", "crm", "--config", path).stdout.replace(
        "'", ""
    )
    (tmp_path / "trust" / "ca.pem").unlink()
    result = run_cli("env", "crm", "--config", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "authorities.json" in result.stderr
