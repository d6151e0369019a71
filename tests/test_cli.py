"""The command line, as a process: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sidekey
from sidekey.cli import main
from sidekey.core.build import build
from sidekey.settings.schema import schema
from support.child import Child, run_cli
from support.ports import listening_socket

SECRET = "not-to-be-seen-4711"

GOOD = f"""\
version: 1
integrations:
  crm:
    description: CRM send API
    tags: [crm, eu]
    endpoint_prefix: https://crm.example.com/api
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
  sms:
    endpoint_prefix: https://sms.example.com
    auth: {{type: headers, headers: {{X-Key: {{secret: {{file: sms-key}}}}}}}}
"""

TOKENS = f"""\
version: 1
integrations:
  shop:
    auth:
      type: oauth2
      provider: commercetools
      region: europe-west1.gcp
      client_id: id
      client_secret: {{file: shop-secret}}
      token_placement: query
  campaigns:
    description: Triggered messages
    auth:
      type: responsys
      login_endpoint: https://login2.responsys.net
      username: api
      password: {{insecure_value: {SECRET}}}
"""

INVALID = f"""\
version: 1
listen: {{proxy: nowhere, admin: "127.0.0.1:0"}}
surprise: true
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/api?x=1
    auth: {{type: basic, username: svc, password: {SECRET}}}
  Sms:
    endpoint_prefix: https://sms.example.com
    auth: {{type: nothing}}
"""
INVALID_PLACES = [
    "2:17: listen.proxy: ",
    "3:1: surprise: ",
    "6:22: integrations.crm.endpoint_prefix: ",
    "7:",
    "8:3: integrations.Sms: ",
    "10:",
]


def config(folder: Path, text: str = GOOD, *, sms_key: str | None = SECRET) -> str:
    """The path of a config file with this text, and of the secret it names where there is one."""
    path = folder / "sidekey.yaml"
    path.write_text(text)
    if sms_key is not None:
        (folder / "sms-key").write_text(sms_key)
    return str(path)


def imported_by(*arguments: str) -> set[str]:
    """The top-level packages that a command loads; Python names each module it imports in the last column."""
    command = [sys.executable, "-X", "importtime", "-m", "sidekey", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_help_names_every_command() -> None:
    """Whoever starts finds what there is."""
    result = run_cli("--help")
    assert result.returncode == 0
    for command in main.commands:
        assert f"\n  {command} " in result.stdout


def test_no_help_is_cut() -> None:
    """In the lists of commands each says all of its first paragraph."""
    for arguments in ([], *([name] for name in main.commands)):
        text = run_cli(*arguments, "--help").stdout
        assert "..." not in text.replace("COMMAND...", "").replace("[ARGS]...", ""), arguments


def test_the_version_is_the_packages() -> None:
    """The name, the version and the build, for scripts to split."""
    assert run_cli("--version").stdout == f"sidekey {sidekey.__version__} ({build()})\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["check", "--nonsense"],
        ["env"],
        ["env", "crm", "--by-host"],
        ["exec"],
        ["exec", "crm"],
        ["exec", "--by-host"],
        ["explain", "crm"],
        ["test"],
        ["run", "a", "b"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_on_stderr(arguments: list[str]) -> None:
    """An error of the command line, not of the config."""
    result = run_cli(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: sidekey" in result.stderr


@pytest.mark.parametrize(
    "command",
    [["test", "nope"], ["env", "nope"], ["exec", "nope", "true"], ["explain", "nope", "/x"]],
    ids=" ".join,
)
def test_an_id_that_is_not_in_the_config_is_wrong_usage(command: list[str], tmp_path: Path) -> None:
    """The message says how to see the IDs."""
    result = run_cli(*command, "--config", config(tmp_path))
    assert result.returncode == 2
    assert "sidekey list" in result.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_loads_none_of_the_heavy_parts(argument: str) -> None:
    """aiohttp, pydantic and YAML cost ten times what help itself costs."""
    assert imported_by(argument) & {"aiohttp", "pydantic", "yaml", "structlog", "httptools", "uvloop"} == set()


def test_a_health_check_loads_no_server(tmp_path: Path) -> None:
    """It runs every few seconds beside the real process."""
    loaded = imported_by("healthcheck", "--config", config(tmp_path))
    assert "sidekey" in loaded
    assert loaded & {"aiohttp", "structlog", "httptools", "uvloop", "cryptography"} == set()


def test_check_of_a_good_config_says_how_many_integrations(tmp_path: Path) -> None:
    """Exit 0; warnings do not change that."""
    result = run_cli("check", "--config", config(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    *warnings, last = result.stdout.splitlines()
    assert last == "ok: 2 integrations"
    assert [line.partition(": ")[0] for line in warnings] == ["warning"]


def test_check_names_every_error_at_once_with_its_place(tmp_path: Path) -> None:
    """Each line begins with file:line:column and the path of the key."""
    path = config(tmp_path, INVALID)
    result = run_cli("check", "--config", path)
    assert result.returncode == 1
    places = [line.removeprefix(f"{path}:") for line in result.stdout.splitlines() if not line.startswith("warning")]
    assert len(places) >= len(INVALID_PLACES)
    for expected in INVALID_PLACES:
        assert any(place.startswith(expected) for place in places), (expected, places)


def test_check_names_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    """What `run` would go on without is an error here."""
    result = run_cli("check", "--config", config(tmp_path, sms_key=None))
    assert result.returncode == 1
    assert "integrations.sms.auth.headers.X-Key.secret: the file does not exist" in result.stdout
    assert "ok:" not in result.stdout


def test_check_speaks_json(tmp_path: Path) -> None:
    """Errors as objects, for editors and pipelines."""
    path = config(tmp_path, INVALID)
    result = run_cli("check", "--json", "--config", path)
    found = json.loads(result.stdout)
    assert (result.returncode, found["ok"], found["integrations"]) == (1, False, 0)
    assert {"file", "line", "column", "path", "message"} == set(found["faults"][0])
    assert {error["file"] for error in found["faults"]} == {path}
    good = json.loads(run_cli("check", "--json", "--config", config(tmp_path)).stdout)
    assert (good["ok"], good["integrations"], good["faults"]) == (True, 2, [])


@pytest.mark.parametrize("text", [GOOD, INVALID], ids=["good", "invalid"])
@pytest.mark.parametrize(
    "command",
    [["check"], ["check", "--json"], ["list", "--json"], ["env", "crm"], ["explain", "crm", "/x"], ["test", "crm"]],
    ids=" ".join,
)
def test_no_command_prints_a_secret(command: list[str], text: str, tmp_path: Path) -> None:
    """Not even one that stands in the config where a reference belongs."""
    result = run_cli(*command, "--config", config(tmp_path, text))
    assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "command",
    [["check"], ["check", "--json"], ["list", "--json"], ["explain", "shop", "/x"], ["explain", "campaigns", "/x"]],
    ids=" ".join,
)
def test_no_command_prints_a_secret_of_a_kind_that_calls(command: list[str], tmp_path: Path) -> None:
    """And none of these calls anyone for a token."""
    (tmp_path / "shop-secret").write_text(SECRET)
    result = run_cli(*command, "--config", config(tmp_path, TOKENS))
    assert (result.returncode, result.stderr) == (0, "")
    assert SECRET not in result.stdout


def test_check_warns_of_a_token_in_the_query(tmp_path: Path) -> None:
    """It loads, and its owner should know."""
    (tmp_path / "shop-secret").write_text(SECRET)
    path = config(tmp_path, TOKENS)
    result = run_cli("check", "--config", path)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        f"warning: {path}:10:24: integrations.shop.auth.token_placement: "
        "a token in the query appears in the logs of servers (RFC 6750 2.3)",
        f"warning: {path}:17:34: integrations.campaigns.auth.password.insecure_value: "
        "a secret is written in the config file: use this for trials only",
        "ok: 2 integrations",
    ]


def test_check_names_the_secret_of_a_client_that_cannot_be_read(tmp_path: Path) -> None:
    """No token could be asked for."""
    result = run_cli("check", "--config", config(tmp_path, TOKENS))
    assert result.returncode == 1
    assert ":9:22: integrations.shop.auth.client_secret: the file does not exist" in result.stdout


@pytest.mark.parametrize("command", [["list"], ["env", "crm"], ["explain", "crm", "/x"], ["test", "crm"]], ids=" ".join)
def test_every_command_names_all_errors_of_a_config(command: list[str], tmp_path: Path) -> None:
    """On stderr, where they do not mix with what the command answers."""
    result = run_cli(*command, "--config", config(tmp_path, INVALID))
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) >= len(INVALID_PLACES)


def test_the_config_is_found_by_the_environment(tmp_path: Path) -> None:
    """Without --config, $SIDEKEY_CONFIG says where it is."""
    result = run_cli("list", environment={"SIDEKEY_CONFIG": config(tmp_path)})
    assert result.returncode == 0
    assert result.stdout.startswith("crm ")


def test_a_config_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """The message names the file that was looked for."""
    result = run_cli("check", "--config", str(tmp_path / "missing.yaml"))
    assert result.returncode == 1
    assert f"{tmp_path}/missing.yaml:1:1: (file): {tmp_path}/missing.yaml does not exist" in result.stdout


def test_run_does_not_start_with_an_invalid_config(tmp_path: Path) -> None:
    """All errors are named before anything listens, exit 1."""
    result = run_cli("run", "--config", config(tmp_path, INVALID))
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) >= len(INVALID_PLACES)
    assert "listening" not in result.stderr


def test_run_strict_does_not_start_without_a_secret(tmp_path: Path) -> None:
    """--strict makes an unreadable secret an error."""
    result = run_cli("run", "--strict", "--config", config(tmp_path, sms_key=None))
    assert result.returncode == 1
    assert "integrations.sms.auth.headers.X-Key.secret: the file does not exist" in result.stderr
    assert "listening" not in result.stderr


@pytest.mark.parametrize("key", ["proxy", "admin", "metrics"])
def test_an_address_in_use_names_its_key(key: str, tmp_path: Path) -> None:
    """Exit 1 with one line that says which address and the way out."""
    with listening_socket() as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listeners = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"} | {key: address}
        path = config(tmp_path, f"{GOOD}listen: {json.dumps(listeners)}\n")
        result = run_cli("run", "--config", path)
    assert result.returncode == 1
    assert f"listen.{key}: {address} is in use; stop what listens there" in result.stderr
    assert "Traceback" not in result.stderr


def test_list_shows_each_integration_in_one_line(tmp_path: Path) -> None:
    """ID, kind, base URL, tags and description, in columns."""
    result = run_cli("list", "--config", config(tmp_path))
    assert result.stdout.splitlines() == [
        "crm  basic    https://crm.example.com/api  [crm, eu] CRM send API",
        "sms  headers  https://sms.example.com",
    ]


def test_list_usable_leaves_out_what_has_no_secret(tmp_path: Path) -> None:
    """An integration whose secret cannot be read would answer credential_unavailable."""
    path = config(tmp_path, sms_key=None)
    assert [line.split()[0] for line in run_cli("list", "--config", path).stdout.splitlines()] == ["crm", "sms"]
    usable = run_cli("list", "--usable", "--json", "--config", path)
    assert json.loads(usable.stdout) == [
        {
            "id": "crm",
            "kind": "basic",
            "source": "file",
            "status": "ok",
            "reason": None,
            "base": "https://crm.example.com/api",
            "description": "CRM send API",
            "tags": ["crm", "eu"],
            "usable": True,
            "expires_at": None,
        }
    ]


def test_list_shows_kinds_that_call_and_where_their_reverse_door_leads(tmp_path: Path) -> None:
    """An integration is usable as soon as its secrets can be read: listing calls nobody for a token."""
    path = config(tmp_path, TOKENS)
    campaigns = "campaigns  responsys  https://login2.responsys.net/rest/api/v1.3  Triggered messages"
    assert run_cli("list", "--usable", "--config", path).stdout.splitlines() == [campaigns]
    (tmp_path / "shop-secret").write_text(SECRET)
    usable = json.loads(run_cli("list", "--usable", "--json", "--config", path).stdout)
    assert [(each["id"], each["kind"], each["base"]) for each in usable] == [
        ("campaigns", "responsys", "https://login2.responsys.net/rest/api/v1.3"),
        ("shop", "oauth2", "https://api.europe-west1.gcp.commercetools.com"),
    ]


def test_env_prints_lines_for_a_shell(tmp_path: Path) -> None:
    """The proxy in both cases, with the ID as its user, and what callers must trust: made where it is missing."""
    path = config(tmp_path, GOOD + "ca: {folder: state}\n")
    lines = run_cli("env", "crm", "--config", path).stdout.splitlines()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        assert f"export {name}=http://crm:x@127.0.0.1:8080" in lines
    assert f"export SSL_CERT_FILE={tmp_path}/state/trust/bundle.pem" in lines
    assert "PRIVATE" not in (tmp_path / "state" / "trust" / "bundle.pem").read_text()
    as_json = run_cli("env", "crm", "--json", "--config", config(tmp_path))
    assert json.loads(as_json.stdout)["http_proxy"] == "http://crm:x@127.0.0.1:8080"


def test_env_without_a_tcp_listener_says_why(tmp_path: Path) -> None:
    """HTTP_PROXY cannot name a unix socket; the message names the key."""
    text = f"{GOOD}listen: {{proxy: 'unix:{tmp_path}/s'}}\n"
    result = run_cli("env", "crm", "--config", config(tmp_path, text))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("listen.proxy: ")


@pytest.mark.parametrize(("path", "status"), [("/send", 0), ("/../admin", 1)])
def test_explain_says_by_its_status_whether_the_target_is_allowed(path: str, status: int, tmp_path: Path) -> None:
    """Scripts can ask, too."""
    result = run_cli("explain", "crm", path, "--config", config(tmp_path))
    assert result.returncode == status
    assert f"as sent      /i/crm{path}" in result.stdout
    as_json = run_cli("explain", "crm", path, "--json", "--config", config(tmp_path))
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
    """Nor any secret: the policy and the place of the token are known before."""
    result = run_cli("explain", name, url, "--json", "--config", config(tmp_path, TOKENS))
    found = json.loads(result.stdout)
    assert (result.returncode, found["allowed"], found["usable"]) == (status, status == 0, name == "campaigns")
    if status == 0 and name == "shop":
        assert found["credential"]["query"] == ["access_token"]
    assert ("auth.token_endpoint" in found["profile"]) is (name == "shop")


SIGNED = """version: 1
integrations:
  hooks:
    endpoint_prefix: https://hooks.example.com
    auth: {type: signature, scheme: github, secret: {insecure_value: canary-of-a-signing-key}}
"""


def test_explain_shows_what_is_signed_of_a_body(tmp_path: Path) -> None:
    """Of a file or of standard input; never the key, nor a signature."""
    path, body = tmp_path / "signed.yaml", tmp_path / "body"
    path.write_text(SIGNED)
    body.write_bytes(b"caf\xc3\xa9\n")
    asked = ("explain", "hooks", "/x", "--config", str(path), "--method", "POST", "--header", "X-Own: 1")
    found = run_cli(*asked, "--body", str(body), "--at", "2026-01-31T23:59:59Z")
    assert found.returncode == 0
    assert r"signed       caf\xc3\xa9\n" in found.stdout
    assert "canary" not in found.stdout
    assert "sha256=" not in found.stdout
    wrong = run_cli(*asked, "--at", "then")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("--at must be a time with its offset, such as ")


def test_test_without_a_test_request_names_the_missing_key(tmp_path: Path) -> None:
    """What to write is in the message."""
    result = run_cli("test", "crm", "--config", config(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("integrations.crm.test: this key is missing: write test: {method: GET, path: ")


def test_schema_prints_the_schema_of_the_config() -> None:
    """JSON, and nothing else."""
    result = run_cli("schema")
    assert result.returncode == 0
    assert json.loads(result.stdout) == schema()


def test_healthcheck_says_whether_a_running_sidekey_is_ready(tmp_path: Path) -> None:
    """Exit 0 while it serves, 1 once it has ended."""
    with Child("integrations: {}\n", tmp_path) as child:
        result = run_cli("healthcheck", "--config", str(child.config))
        assert (result.returncode, result.stdout) == (0, "ok\n")
        assert child.stop() == 0
    gone = run_cli("healthcheck", "--config", str(child.config))
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "127.0.0.1" in gone.stderr


CALLERS = GOOD + f"callers: {{billing: {{token: {{insecure_value: {SECRET}}}, integrations: [crm]}}}}\n"


@pytest.mark.parametrize("shell", ["sh", "fish", "powershell", "docker", "k8s"])
def test_env_prints_a_place_for_the_token_in_every_form(shell: str, tmp_path: Path) -> None:
    """Also where no config says whether there are callers; never a token, even if one is at hand."""
    path = config(tmp_path, CALLERS)
    environment = {"SIDEKEY_TOKEN": SECRET}
    result = run_cli("env", "crm", "--shell", shell, "--config", path, environment=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert "http://crm:PUT-THE-CALLERS-TOKEN-HERE@127.0.0.1:8080" in result.stdout
    assert SECRET not in result.stdout
    folder = run_cli("ca", "path", "--config", path).stdout.strip().removesuffix("/ca.pem")
    way = ["--proxy", "http://127.0.0.1:8080", "--trust", folder, "--config", "/nowhere"]
    assert run_cli("env", "crm", "--shell", shell, *way).stdout == result.stdout


def test_env_for_a_container_does_not_look_at_this_environment(tmp_path: Path) -> None:
    """Nor for a trust folder, which is mounted there."""
    way = ["--proxy", "http://sidekey:8080", "--trust", "/run/trust"]
    environment = {"NO_PROXY": "here.test", "SSL_CERT_FILE": "/here.pem"}
    result = run_cli("env", "--by-host", *way, "--shell", "docker", environment=environment)
    assert "SSL_CERT_FILE=/run/trust/bundle.pem\n" in result.stdout
    assert "here" not in result.stdout.lower().replace("put-the-callers-token-here", "")
    here = run_cli("env", "--by-host", *way, environment=environment)
    assert here.returncode == 1
    assert "/run/trust/ca.pem does not exist" in here.stderr


def test_exec_needs_a_token_where_there_are_callers(tmp_path: Path) -> None:
    """Before the command runs, rather than a 407 at its first request."""
    result = run_cli("exec", "--config", config(tmp_path, CALLERS), "crm", "--", "echo", "ran")
    assert (result.returncode, result.stdout) == (1, "")
    assert "SIDEKEY_TOKEN" in result.stderr
    result = run_cli(
        "exec", "--config", config(tmp_path, CALLERS), "crm", "--token-file", "/nowhere", "--", "echo", "ran"
    )
    assert (result.returncode, result.stdout) == (1, "")


@pytest.mark.parametrize("command", [["env", "--by-host"], ["exec", "--by-host", "--", "echo", "ran"]], ids=" ".join)
def test_by_host_needs_a_config_that_matches_by_host(command: list[str], tmp_path: Path) -> None:
    """Each request would be 407 otherwise."""
    where = {"SIDEKEY_CONFIG": config(tmp_path)}
    refused = run_cli(*command, environment=where)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "forward.match_by_host: must be true" in refused.stderr
    where = {"SIDEKEY_CONFIG": config(tmp_path, GOOD + "forward: {match_by_host: true}\n")}
    assert run_cli(*command, environment=where).returncode == 0


@pytest.mark.parametrize("proxy", ["https://h:1", f"http://crm:{SECRET}@h:1"])
def test_a_proxy_url_on_the_command_line_holds_no_token(proxy: str, tmp_path: Path) -> None:
    """Others see it there."""
    result = run_cli("exec", "crm", "--proxy", proxy, "--trust", str(tmp_path), "--", "true")
    assert result.returncode == 2
    assert SECRET not in result.stdout + result.stderr
    assert run_cli("env", "CRM", "--proxy", "http://h:1", "--trust", str(tmp_path)).returncode == 2


def test_the_trust_folder_of_another_users_sidekey_is_used(tmp_path: Path) -> None:
    """Who may not enter the folder of the CA needs no more than what is for callers."""
    text = GOOD + "ca: {folder: state, trust_folder: trust}\n"
    path = config(tmp_path, text)
    assert run_cli("ca", "show", "--config", path).returncode == 0
    (tmp_path / "state" / "ca" / "authorities.json").write_text("not to be read")
    assert f"SSL_CERT_FILE={tmp_path}/trust/bundle.pem" in run_cli("env", "crm", "--config", path).stdout.replace(
        "'", ""
    )
    (tmp_path / "trust" / "ca.pem").unlink()
    result = run_cli("env", "crm", "--config", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "authorities.json" in result.stderr


def completed(folder: Path, *words: str) -> list[str]:
    """What bash would offer for the last of these words, as the script of `completion` asks for it."""
    asked = {"_SIDEKEY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("sidekey", *words))}
    result = run_cli(environment={**asked, "COMP_CWORD": str(len(words))}, folder=folder)
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_ids_are_completed_from_the_config_that_is_named(tmp_path: Path) -> None:
    """Wherever a command takes one; an invalid config offers none, and says nothing."""
    path = config(tmp_path)
    for command in ("test", "explain", "env", "exec"):
        assert completed(tmp_path, command, "--config", path, "c") == ["crm"]
    assert completed(tmp_path, "exec", "--config", path, "crm", "c") == []
    (tmp_path / "wrong.yaml").write_text("version: 2\n")
    assert completed(tmp_path, "test", "--config", "wrong.yaml", "c") == []


def test_ids_of_presets_are_completed(tmp_path: Path) -> None:
    """As those of integrations."""
    preset = "{integration: crm, url: 'https://api.example.com/v1/x', content_type: text/plain}"
    path = config(tmp_path, f"{GOOD}presets:\n  welcome: {preset}\n")
    assert completed(tmp_path, "preset", "preview", "--config", path, "w") == ["welcome"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_a_shell_reads(shell: str) -> None:
    """It asks this program."""
    result = run_cli("completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"_SIDEKEY_COMPLETE={shell}_complete" in result.stdout
    assert run_cli("completion", "tcsh").returncode == 2


def test_a_real_bash_completes_commands(tmp_path: Path) -> None:
    """With the script as a user's `.bashrc` has it."""
    (tmp_path / "sidekey").write_text(f'#!/bin/sh\nexec {sys.executable} -m sidekey "$@"\n')
    (tmp_path / "sidekey").chmod(0o755)
    script = (
        'eval "$(sidekey completion bash)"; COMP_WORDS=(sidekey expl); COMP_CWORD=1; '
        '_sidekey_completion sidekey; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("explain\n", "")


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["list"], ["explain", "crm", "/x"], ["test", "crm"], ["healthcheck"]]
)
@pytest.mark.parametrize("variable", [None, "/no/such/config.yaml"])
def test_without_a_config_it_says_where_it_looked_and_how_to_name_one(command: list[str], variable: str | None) -> None:
    """By the option, by the variable, or at the default place."""
    looked = variable or "/etc/sidekey"
    if variable is None and Path(looked).exists():
        pytest.skip("this machine has a config at the default place")
    result = run_cli(*command, environment={"SIDEKEY_CONFIG": variable or ""})
    assert result.returncode == 1
    assert (result.stdout + result.stderr).strip() == (
        f"{looked}:1:1: (file): {looked} does not exist: name a config file or folder with --config, or in "
        "SIDEKEY_CONFIG; the default is /etc/sidekey"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("integrations:\n\tcrm: {}\n", "3:1: (file): indentation must be spaces: there is a tab on this line"),
        (
            "log: {level: info\n",
            "2:6: (file): this { is not closed: } must follow the last entry, and a comma each one before",
        ),
        ('via: "yes\n', '2:6: (file): this quote is not closed: " must also end the text'),
        ("log: level: info\n", "2:11: (file): a text with a colon and a space in it must be in quotes"),
        ("log: {}\nlog: {}\n", "3:1: log: this key is given twice: remove one; the first is in line 2"),
        ("netwrok: {}\n", "2:1: netwrok: unknown key; did you mean network?"),
    ],
)
def test_check_says_in_words_what_is_wrong_with_a_file(text: str, line: str, tmp_path: Path) -> None:
    """Where it was written."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(f"version: 1\n{text}")
    result = run_cli("check", "--config", str(path))
    assert (result.returncode, result.stdout.splitlines()[0]) == (1, f"{path}:{line}")


def test_check_says_what_a_kind_key_or_provider_was_meant_to_be(tmp_path: Path) -> None:
    """One line for each, and a warning where a variable is not expanded."""
    path = tmp_path / "sidekey.yaml"
    path.write_text(
        "version: 1\nintegrations:\n"
        "  a: {endpoint_prefix: https://a.example.com, auth: {type: bearer}}\n"
        "  b: {endpoint_prefix: https://a.example.com, auth: {type: apikey}}\n"
        "  c: {endpoint_prefix: https://a.example.com, auth: {type: header}}\n"
        "  d: {auth: {type: oauth}}\n"
        "  e: {endpoint_prefx: https://a.example.com, auth: {type: headers, headers: {X-Key: '${KEY}'}}}\n"
        "  f: {auth: {type: oauth2, provider: comercetools, region: europe-west1.gcp, client_id: x, "
        "client_secret: {env: NONE_SUCH}}}\n"
    )
    said = run_cli("check", "--config", str(path)).stdout
    for place, meant in (
        ("a.auth.type", "headers"),
        ("b.auth.type", "headers"),
        ("c.auth.type", "headers"),
        ("d.auth.type", "oauth2"),
        ("e.endpoint_prefx", "endpoint_prefix"),
        ("f.auth.provider", "commercetools"),
    ):
        (line,) = [each for each in said.splitlines() if f" integrations.{place}: " in each]
        assert line.endswith(f"did you mean {meant}?")
    assert "integrations.f.auth.client_secret: environment variable NONE_SUCH is not set" in said
    assert "integrations.e.auth.headers.X-Key: nothing is expanded: write {env: NAME}" in said
