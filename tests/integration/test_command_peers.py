"""Real programs that write secrets, with the commands of docs/secrets.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import boto3
import pytest

from support import programs
from support.http_get import get
from support.moto import REGION, Moto
from support.nginx import Nginx
from support.ports import free_port
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess

PASSWORD = "correct-horse"


def run(*command: str, environment: Mapping[str, str] | None = None, text: str = "") -> str:
    """Run a program of the operator, and return its output. `pass` finds GnuPG by the PATH."""
    environ = {**os.environ, "PATH": os.defpath, **(environment or {})}
    return subprocess.run(command, env=environ, input=text, capture_output=True, text=True, check=True).stdout


def assert_sends_the_password(folder: Path, *command: str, environment: Mapping[str, str] | None = None) -> None:
    """Assert that the upstream gets the password that the command writes. It gets these variables only."""
    variables = dict(environment or {})
    options = f"timeout: 30s, env: [{', '.join(variables)}]"
    with Nginx(folder) as nginx:
        config = f"""\
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{nginx.port}
    auth: {{type: basic, username: svc, password: {{command: {list(command)}, {options}}}}}
"""
        arguments = (f"--allow-commands={command[0]}",)
        with SidekeyProcess(config, folder, arguments=arguments, environment=variables) as child:
            response = get(child.proxy_port, "/i/crm/x")
            assert response.status == 200, (response.body, child.lines)
            assert b64encode(f"svc:{PASSWORD}".encode()).decode() in response.body
            assert child.stop() == 0


def test_age(tmp_path: Path) -> None:
    age = programs.require("age")
    identity, encrypted = tmp_path / "age.key", tmp_path / "crm.age"
    keygen = programs.require("age-keygen")
    run(keygen, "-o", str(identity))
    recipient = run(keygen, "-y", str(identity)).strip()
    run(age, "--recipient", recipient, "--output", str(encrypted), text=f"{PASSWORD}\n")
    assert_sends_the_password(tmp_path, age, "--decrypt", "--identity", str(identity), str(encrypted))


@pytest.fixture
def gnupg() -> Iterator[Path]:
    """A folder of GnuPG. Its path is short, because the agent's socket is in it."""
    gpgconf = programs.require("gpgconf")
    folder = Path(tempfile.mkdtemp(prefix="gpg"))
    yield folder
    run(gpgconf, "--homedir", str(folder), "--kill", "all")
    shutil.rmtree(folder, ignore_errors=True)


def test_pass(tmp_path: Path, gnupg: Path) -> None:
    path, gpg = programs.require("pass"), programs.require("gpg")
    environment = {"GNUPGHOME": str(gnupg), "PASSWORD_STORE_DIR": str(tmp_path / "store")}
    run(
        *(gpg, "--batch", "--passphrase", "", "--quick-generate-key", "sidekey@test", "default", "default", "never"),
        environment=environment,
    )
    run(path, "init", "sidekey@test", environment=environment)
    run(path, "insert", "--multiline", "crm/password", environment=environment, text=f"{PASSWORD}\n")
    assert_sends_the_password(tmp_path, path, "show", "crm/password", environment=environment)


def test_aws(tmp_path: Path) -> None:
    aws = programs.require("aws")
    with Moto(tmp_path) as moto:
        moto.begin()
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{moto.port}",
            "AWS_ACCESS_KEY_ID": moto.key_id,
            "AWS_SECRET_ACCESS_KEY": moto.secret,
            "AWS_REGION": REGION,
        }
        client = boto3.client(
            "secretsmanager",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name=REGION,
            aws_access_key_id=moto.key_id,
            aws_secret_access_key=moto.secret,
        )
        client.create_secret(Name="crm", SecretString=PASSWORD)
        assert_sends_the_password(
            tmp_path,
            *(aws, "secretsmanager", "get-secret-value", "--secret-id", "crm"),
            *("--query", "SecretString", "--output", "text"),
            environment=environment,
        )


@contextmanager
def openbao(bao: str, folder: Path) -> Iterator[dict[str, str]]:
    """Run an OpenBao server that keeps its secrets in memory, and yield the variables of its clients."""
    port = free_port()
    environment = {"BAO_ADDR": f"http://127.0.0.1:{port}", "BAO_TOKEN": "root-of-tests"}
    with (folder / "bao.log").open("w") as log:
        server = subprocess.Popen(
            [
                *(bao, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root-of-tests"),
                f"-dev-listen-address=127.0.0.1:{port}",
            ],
            env={**os.environ, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + DEADLINE
        while not _is_ready(port):
            assert server.poll() is None, (folder / "bao.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield environment
    finally:
        server.kill()
        server.wait(timeout=DEADLINE)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/v1/sys/health")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def test_openbao(tmp_path: Path) -> None:
    bao = programs.require("bao")
    with openbao(bao, tmp_path) as environment:
        run(bao, "kv", "put", "-mount=secret", "crm", f"password={PASSWORD}", environment=environment)
        command = (bao, "kv", "get", "-mount=secret", "-field=password", "crm")
        assert_sends_the_password(tmp_path, *command, environment=environment)


def test_openbao_agent_writes_a_file_with_several_secrets(tmp_path: Path) -> None:
    """The better choice: no command."""
    bao = programs.require("bao")
    rendered, token = tmp_path / "apis.json", tmp_path / "token"
    with openbao(bao, tmp_path) as environment, Nginx(tmp_path) as nginx:
        run(bao, "kv", "put", "-mount=secret", "crm", f"password={PASSWORD}", "user=svc", environment=environment)
        token.write_text(environment["BAO_TOKEN"])
        (tmp_path / "agent.hcl").write_text(f"""\
vault {{ address = "{environment["BAO_ADDR"]}" }}
auto_auth {{ method "token_file" {{ config = {{ token_file_path = "{token}" }} }} }}
template {{
  contents = "{{{{ with secret \\"secret/data/crm\\" }}}}{{{{ .Data.data | toJSON }}}}{{{{ end }}}}"
  destination = "{rendered}"
}}
exit_after_auth = true
""")
        run(bao, "agent", f"-config={tmp_path / 'agent.hcl'}", environment={"HOME": str(tmp_path)})
        rendered.chmod(0o600)
        entry = f"{{file: {rendered}, format: json, key: %s}}"
        config = f"""\
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{nginx.port}
    auth: {{type: basic, username: {entry % "user"}, password: {entry % "password"}}}
"""
        with SidekeyProcess(config, tmp_path) as child:
            assert b64encode(f"svc:{PASSWORD}".encode()).decode() in get(child.proxy_port, "/i/crm/x").body
            assert child.stop() == 0
