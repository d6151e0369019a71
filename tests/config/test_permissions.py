"""`sidekey check` and `sidekey run` check who can change or read the files of a config."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support import programs
from support.caller_certificates import CallerCa
from support.certificates import issue
from support.configmap_mount import ConfigMapMount
from support.sidekey_process import SidekeyProcess, run_cli, run_process

CONFIG = """\
version: 1
ca: {trust_folder: trust}
callers: {app: {token: {file: files/token}, integrations: "*"}}
store: {path: store.db, keys: [{id: k1, key: {file: files/store-key}}]}
integrations:
  basic:
    endpoint_prefix: https://api.example.com
    auth: {type: basic, username: {file: files/username}, password: {file: files/password}}
  bank:
    endpoint_prefix: https://bank.example.com
    trusted_ca: {file: files/bank-ca.pem}
    auth: {type: mtls, allow_private_ca: true, certificate: {file: files/tls.crt}, private_key: {file: files/tls.key}}
"""
SECRETS = ("password", "store-key", "tls.key", "token", "username")
PUBLIC = ("bank-ca.pem", "tls.crt")
KEYS = {
    "token": "callers.app.token",
    "store-key": "store.keys[0].key",
    "username": "integrations.basic.auth.username",
    "password": "integrations.basic.auth.password",
    "bank-ca.pem": "integrations.bank.trusted_ca",
    "tls.crt": "integrations.bank.auth.certificate",
    "tls.key": "integrations.bank.auth.private_key",
}


def place(name: str) -> str:
    """Return line, column and key of the reference to a file."""
    reference = f"{{file: files/{name}}}"
    lines = CONFIG.splitlines()
    number, line = next((number, line) for number, line in enumerate(lines, 1) if reference in line)
    return f"{number}:{line.index(reference) + 1}: {KEYS[name]}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Write a config whose files only their owner can read, in a folder that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix="sidekey-test-"))
    path.chmod(0o755)
    (path / "files").mkdir(0o755)
    (path / "sidekey.yaml").write_text(CONFIG)
    issued = issue(start=datetime.now(UTC) - timedelta(days=1))
    contents = {
        **dict.fromkeys(("username", "password"), b"svc"),
        "token": b"token-of-the-app",
        "store-key": b64encode(bytes(range(32))),
        "bank-ca.pem": issued.pem,
        "tls.crt": issued.pem,
        "tls.key": issued.key_pem,
    }
    for name, content in contents.items():
        (path / "files" / name).write_bytes(content)
        (path / "files" / name).chmod(0o600)
    (path / "trust").mkdir(0o755)
    yield path
    shutil.rmtree(path)


def check(folder: Path, *, status: int) -> list[str]:
    """Return the messages of `sidekey check` about permissions, without the name of the config file."""
    result = run_cli("check", "--config", str(folder / "sidekey.yaml"))
    lines = [line.replace(f"{folder}/sidekey.yaml:", "", 1) for line in result.stdout.splitlines()]
    messages = [line for line in lines if "chmod" in line]
    assert (result.returncode, len(messages) + (status == 0)) == (status, len(messages) + (lines[-1][:3] == "ok:")), (
        lines
    )
    return messages


def test_private_files_have_no_error(folder: Path) -> None:
    """Others may read the config itself, which only refers to secrets."""
    assert check(folder, status=0) == []


@pytest.mark.parametrize("name", [*SECRETS, *PUBLIC])
def test_world_writable_file_is_an_error_at_its_key(name: str, folder: Path) -> None:
    """Secrets, keys of the store, certificates and CAs."""
    path = folder / "files" / name
    path.chmod(0o602)
    assert check(folder, status=1) == [
        f"{place(name)}: {path} can be changed by every user (mode 0602): run chmod o-w {path}"
    ]


def test_world_writable_config_is_an_error_at_its_first_line(folder: Path) -> None:
    """In a folder too."""
    path = folder / "sidekey.yaml"
    path.chmod(0o666)
    expected = f"1:1: (file): {path} can be changed by every user (mode 0666): run chmod o-w {path}"
    assert check(folder, status=1) == [expected]
    result = run_cli("check", "--config", str(folder))
    assert f"{path}:{expected}\n" in result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other groups")
def test_group_writable_file_is_an_error_unless_the_group_is_root_s_or_the_process_s(folder: Path) -> None:
    """Root runs this test, so both groups are the same."""
    path = folder / "files" / "password"
    path.chmod(0o660)
    assert check(folder, status=0) == []
    os.chown(path, -1, 12345)
    assert check(folder, status=1) == [
        f"{place('password')}: {path} can be changed by the group 12345 (mode 0660): run chmod g-w {path}"
    ]
    path.chmod(0o662)
    assert check(folder, status=1)[0].endswith(f"by every user (mode 0662): run chmod go-w {path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes other groups")
def test_unnamed_supplementary_group_is_allowed(folder: Path) -> None:
    """The kubelet adds fsGroup to a process without a name. A named group has other members."""
    setpriv = programs.require("setpriv")
    path = folder / "files" / "password"
    path.chmod(0o660)
    for group, status in ((12345, 0), (1, 1)):
        os.chown(path, -1, group)
        command = [sys.executable, "-m", "sidekey", "check", "--config", str(folder / "sidekey.yaml")]
        run = subprocess.run([setpriv, f"--groups={group}", *command], capture_output=True, text=True, check=False)
        assert run.returncode == status, run.stdout
        assert ("can be changed by the group 1 " in run.stdout) is (status == 1)


def test_world_writable_folder_on_a_path_is_one_error(folder: Path) -> None:
    """Others can replace all files in it, unless it has the sticky bit."""
    path = folder / "files"
    path.chmod(0o777)
    assert check(folder, status=1) == [
        f"{place('bank-ca.pem')}: the folder {path} can be changed by every user (mode 0777), who can replace what is "
        f"in it: run chmod o-w {path}, or set its sticky bit"
    ]
    path.chmod(0o1777)
    assert check(folder, status=0) == []


def test_links_are_followed_and_their_folders_checked(folder: Path) -> None:
    real, links = folder / "real", folder / "links"
    for path in (real, links):
        path.mkdir(0o755)
    password = folder / "files" / "password"
    password.rename(real / "password")
    password.symlink_to("../links/password")
    (links / "password").symlink_to(real / "password")
    assert check(folder, status=0) == []
    for path in (real, links):
        path.chmod(0o777)
        (message,) = check(folder, status=1)
        assert message.startswith(f"{place('password')}: the folder {path} can be changed by every user")
        path.chmod(0o755)
    (real / "password").chmod(0o602)
    (message,) = check(folder, status=1)
    assert message.startswith(f"{place('password')}: {real / 'password'} can be changed by every user")


def test_circular_link_is_only_an_error_of_the_secret(folder: Path) -> None:
    password = folder / "files" / "password"
    password.unlink()
    password.symlink_to("password")
    assert check(folder, status=1) == []


@pytest.mark.parametrize("name", ["", "ca.pem"])
def test_world_writable_trust_folder_is_an_error(name: str, folder: Path) -> None:
    """Its files decide which CAs callers trust."""
    (folder / "trust" / "ca.pem").touch()
    path = folder / "trust" / name
    path.chmod(0o777)
    (message,) = check(folder, status=1)
    subject = str(path) if name else f"the folder {path}"
    assert message.startswith(f"2:20: ca.trust_folder: {subject} can be changed by every user (mode 0777)")


def test_readable_secrets_are_one_warning(folder: Path) -> None:
    """Public files do not count, nor do secrets in a folder that others cannot enter."""
    for name in PUBLIC:
        (folder / "files" / name).chmod(0o644)
    assert check(folder, status=0) == []
    for name in SECRETS:
        (folder / "files" / name).chmod(0o644)
    first, second, third, *_ = (folder / "files" / name for name in SECRETS)
    assert check(folder, status=0) == [
        f"warning: {place('password')}: every user of this machine can read secrets: run chmod o-r on {first}, "
        f"{second}, {third} and 2 more, or close a folder above"
    ]
    (folder / "files").chmod(0o750)
    assert check(folder, status=0) == []


def test_public_file_beside_an_error_is_no_secret(folder: Path) -> None:
    CallerCa.create(folder).server()
    tls = "certificate: {file: server.crt}, private_key: {file: server.key}, client_ca: {file: callers.crt}"
    path = folder / "tls.yaml"
    path.write_text(f"version: 1\nlisten: {{tls: {{{tls}, client_auth: maybe}}}}\n")
    for name in ("server.crt", "callers.crt"):
        (folder / name).chmod(0o644)
    (folder / "server.key").chmod(0o600)
    result = run_cli("check", "--config", str(path))
    printed = result.stdout + result.stderr
    assert (result.returncode, "listen.tls.client_auth" in printed, "can read secrets" in printed) == (1, True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_warning_for_another_owner_s_secret_suggests_the_mode_of_the_mount(folder: Path) -> None:
    """Docker mounts a secret with mode 0444, owned by root."""
    setpriv = programs.require("setpriv")
    user = 12345
    for path in (folder, *folder.iterdir(), *(folder / "files").iterdir()):
        os.chown(path, user, user)
    owned, mounted = folder / "files" / "password", folder / "files" / "token"
    owned.chmod(0o644)
    os.chown(mounted, 0, 0)
    mounted.chmod(0o444)
    within = [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    tried = subprocess.run([*within, sys.executable, "-c", "import sidekey"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("another user cannot read this checkout or its Python: a folder above it is closed")
    command = [sys.executable, "-m", "sidekey", "check", "--json", "--config", str(folder / "sidekey.yaml")]
    run = subprocess.run([*within, *command], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert [
        warning["message"] for warning in json.loads(run.stdout)["warnings"] if "every user" in warning["message"]
    ] == [
        f"every user of this machine can read secrets: run chmod o-r on {owned}, "
        f"set `mode` of the mount with {mounted}, owned by another user, or close a folder above"
    ]


@pytest.mark.parametrize("name", ["bank-ca.pem", "password"])
def test_device_is_ignored(name: str, folder: Path) -> None:
    """Every user must be able to write to /dev/null."""
    path = folder / "files" / name
    path.unlink()
    path.symlink_to("/dev/null")
    assert check(folder, status=1) == []


def test_secret_on_a_kubernetes_volume_may_be_readable(folder: Path) -> None:
    """Its root is 1777 and its files are 0644 by default. Only the container can see it."""
    files = {path.name: path.read_text() for path in (folder / "files").iterdir()}
    shutil.rmtree(folder / "files")
    ConfigMapMount(folder / "files", files)
    (folder / "files").chmod(0o1777)
    for path in (folder / "files").iterdir():
        assert path.resolve().is_dir() or path.stat().st_mode & 0o777 == 0o644
    assert check(folder, status=0) == []
    (folder / "files" / "password").chmod(0o666)
    (message,) = check(folder, status=1)
    assert "password can be changed by every user (mode 0666)" in message


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ("mount --bind files files && mount -o remount,bind,ro files", []),
        ("mount -t tmpfs -o mode=0777 none trust", []),
        ("chmod 0777 trust", ["the folder trust can be changed by every user (mode 0777)"]),
    ],
    ids=["read-only mount", "root of a mount, as an emptyDir", "folder"],
)
def test_read_only_mounts_and_roots_of_mounts_are_ignored(commands: str, expected: list[str], folder: Path) -> None:
    unshare = programs.require("unshare")
    if commands.startswith("mount --bind"):
        for path in (folder / "files", *(folder / "files").iterdir()):
            path.chmod(0o777)
    namespace = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    within = [unshare, *namespace, "/bin/sh", "-c", f'{commands} && exec "$@"', "sh"]
    tried = subprocess.run([*within, "true"], cwd=folder, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        programs.missing("unshare", f"no mount namespace can be made here ({tried.stderr.strip()})")
    command = [sys.executable, "-m", "sidekey", "check", "--json", "--config", "sidekey.yaml"]
    run = subprocess.run([*within, *command], cwd=folder, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    messages = [error["message"].replace(f"{folder}/", "") for error in report["faults"]]
    assert [message.partition(",")[0] for message in messages] == expected
    assert not [error for error in report["warnings"] if "chmod" in error["message"]]


def test_run_logs_writable_files_and_strict_does_not_start(folder: Path) -> None:
    """A reload logs them too: a wrong mode must not stop a working service."""
    password = folder / "password"
    password.write_text("svc")
    password.chmod(0o600)
    auth = "auth: {type: basic, username: svc, password: {file: password}}"
    event = "other users can change a file that Sidekey trusts"
    with SidekeyProcess(f"integrations:\n  it: {{endpoint_prefix: 'https://api.test', {auth}}}\n", folder) as child:
        assert not [line for line in child.lines if event in line]
        password.chmod(0o666)
        os.kill(child.process.pid, signal.SIGHUP)
        line = child.wait_for_line(lambda line: event in line)
    assert f"{password} can be changed by every user (mode 0666)" in json.loads(line)["place"]
    result = run_process("run", "--strict", "--config", str(folder / "sidekey.yaml"))
    assert result.returncode == 1
    assert f"{password} can be changed by every user (mode 0666)" in result.stderr
