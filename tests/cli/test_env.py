"""`sidekey env`: formats, placeholders and containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.caller_certificates import CallerCa
from support.commands import CALLERS, GOOD, SECRET, write_config
from support.sidekey_process import run_cli


def test_env_prints_lines_for_a_shell(tmp_path: Path) -> None:
    """The command creates the trust folder."""
    path = write_config(tmp_path, GOOD + "ca: {folder: state}\n")
    lines = run_cli("env", "crm", "--config", path).stdout.splitlines()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        assert f"export {name}=http://crm:x@127.0.0.1:8080" in lines
    assert f"export SSL_CERT_FILE={tmp_path}/state/trust/bundle.pem" in lines
    assert "PRIVATE" not in (tmp_path / "state" / "trust" / "bundle.pem").read_text()
    as_json = run_cli("env", "crm", "--json", "--config", write_config(tmp_path))
    assert json.loads(as_json.stdout)["http_proxy"] == "http://crm:x@127.0.0.1:8080"


def test_env_prints_https_for_a_listener_with_tls(tmp_path: Path) -> None:
    """Java cannot use such a proxy, which is a warning."""
    CallerCa.create(tmp_path).server()
    listen = "listen: {tls: {certificate: {file: server.crt}, private_key: {file: server.key}}}\n"
    path = write_config(tmp_path, GOOD + listen)
    result = run_cli("env", "crm", "--java", "--config", path)
    assert "export HTTPS_PROXY=https://crm:x@127.0.0.1:8080" in result.stdout.splitlines()
    assert "Java cannot use a proxy over TLS" in result.stderr
    named = run_cli("env", "crm", "--proxy", "https://sidekey.example.com:8443", "--config", path)
    assert "export HTTPS_PROXY=https://crm:x@sidekey.example.com:8443" in named.stdout.splitlines()


def test_env_warns_if_the_certificate_does_not_name_the_listener(tmp_path: Path) -> None:
    """Clients would refuse the printed URL. `--proxy` names the host."""
    CallerCa.create(tmp_path).server()
    files = "certificate: {file: server.crt}, private_key: {file: server.key}"
    listen = f'listen: {{proxy: "127.0.0.2:8443", tls: {{{files}}}}}\n'
    path = write_config(tmp_path, f"{GOOD}ca: {{folder: state}}\n{listen}")
    result = run_cli("env", "crm", "--config", path)
    assert "export HTTPS_PROXY=https://crm:x@127.0.0.2:8443" in result.stdout.splitlines()
    assert result.stderr == (
        "warning: the certificate of listen.tls does not name 127.0.0.2, so clients refuse this proxy: use --proxy "
        "https://localhost:8443 with a name of the certificate that resolves to Sidekey\n"
    )
    named = run_cli("env", "crm", "--proxy", "https://localhost:8443", "--config", path)
    assert (named.returncode, named.stderr) == (0, "")


def test_env_leaves_the_password_empty_if_all_callers_have_certificates(tmp_path: Path) -> None:
    CallerCa.create(tmp_path).server()
    tls = "{certificate: {file: server.crt}, private_key: {file: server.key}, client_ca: {file: callers.crt}}"
    callers = 'web: {certificate: {san: "dns:web.example.org"}, integrations: [crm]}'
    path = write_config(tmp_path, f"{GOOD}ca: {{folder: state}}\nlisten: {{tls: {tls}}}\ncallers: {{{callers}}}\n")
    result = run_cli("env", "crm", "--config", path)
    assert "export HTTPS_PROXY=https://crm:@127.0.0.1:8080" in result.stdout.splitlines()
    assert result.stderr == ""
    both = callers.replace("integrations", "token: {insecure_value: token-of-web}, integrations")
    path = write_config(tmp_path, f"{GOOD}ca: {{folder: state}}\nlisten: {{tls: {tls}}}\ncallers: {{{both}}}\n")
    result = run_cli("env", "crm", "--config", path)
    assert "export HTTPS_PROXY=https://crm:PUT-THE-CALLERS-TOKEN-HERE@127.0.0.1:8080" in result.stdout.splitlines()
    assert result.stderr == "warning: with a client certificate, remove PUT-THE-CALLERS-TOKEN-HERE from the URLs\n"


def test_env_without_a_tcp_listener_is_an_error(tmp_path: Path) -> None:
    """HTTP_PROXY cannot name a unix socket."""
    text = f"{GOOD}listen: {{proxy: 'unix:{tmp_path}/s'}}\n"
    result = run_cli("env", "crm", "--config", write_config(tmp_path, text))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("listen.proxy: ")


@pytest.mark.parametrize("shell", ["sh", "fish", "powershell", "docker", "k8s"])
def test_env_prints_a_placeholder_for_the_token_in_every_format(shell: str, tmp_path: Path) -> None:
    """The output never has a token, even if the environment has one."""
    path = write_config(tmp_path, CALLERS)
    environment = {"SIDEKEY_TOKEN": SECRET}
    result = run_cli("env", "crm", "--shell", shell, "--config", path, environment=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert "http://crm:PUT-THE-CALLERS-TOKEN-HERE@127.0.0.1:8080" in result.stdout
    assert SECRET not in result.stdout
    folder = run_cli("ca", "path", "--config", path).stdout.strip().removesuffix("/ca.pem")
    options = ["--proxy", "http://127.0.0.1:8080", "--trust", folder, "--config", "/nowhere"]
    assert run_cli("env", "crm", "--shell", shell, *options).stdout == result.stdout


def test_env_for_a_container_ignores_this_environment(tmp_path: Path) -> None:
    """The command does not check the trust folder, which exists only in the container."""
    options = ["--proxy", "http://sidekey:8080", "--trust", "/run/trust"]
    environment = {"NO_PROXY": "here.test", "SSL_CERT_FILE": "/here.pem"}
    result = run_cli("env", "--by-host", *options, "--shell", "docker", environment=environment)
    assert "SSL_CERT_FILE=/run/trust/bundle.pem\n" in result.stdout
    assert "here" not in result.stdout.lower().replace("put-the-callers-token-here", "")
    shell = run_cli("env", "--by-host", *options, environment=environment)
    assert shell.returncode == 1
    assert "/run/trust/ca.pem does not exist" in shell.stderr
