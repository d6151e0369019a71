"""Every fenced block of the documents runs, loads or parses here, or `ELSEWHERE` says where, or why it cannot run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import yaml

from sidekey.config.load import load
from support import programs
from support.caller_certificates import CallerCa, dns
from support.ports import free_port
from support.sidekey_process import SIDEKEY, clean_environment

ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    """A fenced block of a document."""

    page: str
    language: str
    text: str

    @property
    def id(self) -> str:
        """The page and the first line."""
        return f"{self.page}: {self.text.partition(chr(10))[0].strip()}"


def _blocks(page: Path) -> Iterator[Block]:
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return (Block(str(page.relative_to(ROOT)), fence[1], fence[2]) for fence in fences)


PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "helm").rglob("README.md"),
    ROOT / "prometheus" / "README.md",
]
BLOCKS = [block for page in sorted(PAGES) for block in _blocks(page)]

LANGUAGES = {
    "go": "tests/clients runs the same calls",
    "java": "tests/clients runs the same calls",
    "js": "tests/clients runs the same calls",
    "promql": "tests/monitoring parses each expression",
    "sql": "tests/app/test_store_privileges.py runs them",
    "text": "drawings, output (tests/cli/test_demo.py) and files of other programs",
}
"""Languages whose blocks do not run here, and why."""

ELSEWHERE = {
    "CONTRIBUTING.md: make help": "each target exists: test_docs.py; they run the tests themselves",
    "CONTRIBUTING.md: gh attestation verify": "needs a published release",
    "docs/image.md: make image": "needs docker: tests/container",
    "docs/image.md: docker run": "needs docker: tests/container",
    "docs/image.md: docker network create": "needs docker: tests/container",
    "docs/image.md: install -d -o 65532": "needs docker and root: tests/container",
    "docs/install.md: pip install .": "changes the active environment, from a package index",
    "docs/install.md: make wheel": "compiles for minutes: tests/project/test_compiled_build.py",
    "docs/install.md: make image": "needs docker: tests/container",
    "docs/install.md: CRM_PASSWORD_FILE": "needs docker: tests/project/test_examples.py checks the files",
    "docs/install.md: helm package": "needs helm: tests/helm renders the chart",
    "docs/logs.md: jq": "tests/project/test_logs.py runs them on lines of each kind",
    "helm/examples/gateway-https/README.md: kubectl": "needs a cluster: tests/cluster, tests/helm",
    "helm/examples/gateway-store/README.md: sidekey store": "needs a cluster: tests/helm/test_store_example.py",
    "helm/examples/gateway-store/README.md: kubectl": "needs a cluster: tests/helm/test_store_example.py",
    "helm/examples/webhook-sender/README.md: kubectl": "needs a cluster: tests/cluster",
    "helm/sidekey/README.md: kubectl": "needs a cluster: tests/cluster",
    **{
        f"helm/sidekey/README.md: {begin}": "values and templates: tests/helm/test_readme.py renders them"
        for begin in (
            *("# Chart.yaml", "# values.yaml", "# templates/deployment.yaml", "image:", "callers:", "configSources:"),
            *("replicaCount:", "console:", "httpsProxy:"),
        )
    },
    "prometheus/README.md: prometheus": "runs until it is stopped: tests/monitoring",
}
"""Blocks that do not run here, by page and begin of the first line, and why."""

CRM = """\
version: 1
forward: {match_by_host: true}
integrations:
  crm:
    endpoint_prefix: https://api.example.com/v1
    auth: {type: basic, username: svc, password: {insecure_value: secret-of-crm}}
"""
CALLERS = 'callers: {billing: {token: {file: /run/secrets/billing}, integrations: "*"}}\n'
"""The config of a page without its own, or that shows only some sections."""


def _elsewhere(block: Block) -> str | None:
    return next((begin for begin in ELSEWHERE if block.id.startswith(begin)), None)


def _of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and _elsewhere(block) is None]


SHELL = _of("sh", "console")


def test_every_block_runs_or_is_listed() -> None:
    assert {block.language for block in BLOCKS} == {"yaml", "json", "python", "sh", "console", *LANGUAGES}
    assert {_elsewhere(block) for block in BLOCKS} - {None} == set(ELSEWHERE)
    fences = [
        line for page in PAGES for line in page.read_text("utf-8").splitlines() if line.lstrip().startswith("```")
    ]
    assert len(fences) == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", _of("yaml"), ids=lambda block: block.id)
def test_config_loads(block: Block, tmp_path: Path) -> None:
    """Its secrets need not exist, except the key of a store and the certificates of a listener."""
    path = tmp_path / "sidekey.yaml"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "k1").write_text(b64encode(bytes(32)).decode())
    # A page may show only the sections of its subject.
    others = {} if block.text.startswith("version:") else yaml.safe_load(CRM + CALLERS)
    path.write_text(yaml.safe_dump(others | yaml.safe_load(block.text)) if others else block.text)
    ca = CallerCa.create(tmp_path, "ca")
    ca.server("tls")
    assert [str(error) for error in load(path, {}).errors] == []


@pytest.mark.parametrize("block", _of("json", "python"), ids=lambda block: block.id)
def test_block_parses(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    else:
        compile(block.text, block.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


class _Upstream(BaseHTTPRequestHandler):
    """Responds 200 to requests with a credential."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Read the body, and respond."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if "Authorization" in self.headers else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815  the name that http.server looks up

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def upstream() -> Iterator[int]:
    """Run the upstream of all example hosts, and return its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Upstream) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


START = """\
start() {
  if [ -n "${running-}" ]; then kill "$running"; wait "$running" || true; fi
  "$@" & running=$!
  curl --retry 100 --retry-delay 1 http://127.0.0.1:9090/readyz
}
"""
"""Shell function that starts Sidekey in place of the last one, and waits until it is ready."""


class Session:
    """A user who enters the commands of a page, in a folder with the files that the page presupposes."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.folder = folder
        self._upstream = upstream
        self._ports = {port: str(free_port()) for port in ("8000", "8080", "9090")}
        self._ports["8443"] = self._ports["8080"]
        (folder / "bin").mkdir()
        for name, command in {
            "sidekey": f'{" ".join(SIDEKEY)} "$@"',
            "node": f"curl http://api.example.com:{upstream}/v1/whoami",
        }.items():
            program = folder / "bin" / name
            program.write_text(f"#!/bin/sh\nexec {command}\n")
            program.chmod(0o755)
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nretry = 3\nretry-connrefused\n")
        (folder / "key").write_text(b64encode(bytes(32)).decode())

    def adapt(self, text: str) -> str:
        """Replace addresses and folders of an example by those of the session."""
        text = re.sub(r"\b(8000|8080|8443|9090)\b", lambda match: self._ports[match[0]], text)
        text = re.sub(r"https?://(api|secure)\.example\.com", rf"http://\1.example.com:{self._upstream}", text)
        text = text.replace("sidekey.example.com", "localhost").replace("/PATH", "/whoami")
        text = text.replace("/tmp/", f"{self.folder}/").replace("/etc/service", str(self.folder))
        for name in re.findall(r"/run/secrets/([\w-]+)", text):
            (self.folder / name).write_text(f"secret-of-{name}-0001")
        return text.replace("/run/secrets", str(self.folder)).replace("Token: ...", "Token: secret-of-billing-0001")

    def write_config(self, text: str, name: str = "sidekey.yaml") -> None:
        """Write a config with the ports, the upstream and the permissions of the session."""
        config = yaml.safe_load(self.adapt(text))
        addresses = {"proxy": f"127.0.0.1:{self._ports['8080']}", "admin": f"127.0.0.1:{self._ports['9090']}"}
        config["listen"] = config.get("listen", {}) | addresses
        hosts = {f"{host}.example.com": ["127.0.0.1"] for host in ("api", "secure")}
        config["network"] = {"allow_private": ["127.0.0.0/8"], "hosts": hosts}
        if "store" in config:
            config["store"]["allow_private"] = ["127.0.0.0/8"]
        (self.folder / name).write_text(yaml.safe_dump(config))

    def run(self, script: str) -> str:
        """Run commands to the end of the last one, and return their output. Those in the background end then."""
        script = re.sub(r"^sidekey run\b([^&#\n]*).*$", r"start sidekey run\1", self.adapt(START + script), flags=re.M)
        folders = [self.folder / "bin", *(Path(path).parent for path in (sys.executable, programs.require("curl")))]
        path = ":".join([*map(str, folders), os.defpath])
        variables = {"HOME": str(self.folder), "PATH": path, "SIDEKEY_CONFIG": str(self.folder / "sidekey.yaml")}
        environment = clean_environment(variables)
        output = self.folder / "output"
        with output.open("wb") as stream:
            shell = subprocess.Popen(
                ["bash", "-euxo", "pipefail", "-c", script],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
            try:
                status = shell.wait(60)
            finally:
                os.killpg(shell.pid, signal.SIGKILL)
        text = output.read_text("utf-8", errors="replace")
        assert status == 0, text
        return text


def _prepare_readme(session: Session) -> str:
    (session.folder / "config").mkdir()
    example = session.adapt((ROOT / "config" / "example.yaml").read_text("utf-8"))
    (session.folder / "config" / "example.yaml").write_text(example)
    (session.folder / ".venv").mkdir()
    shutil.copytree(session.folder / "bin", session.folder / ".venv" / "bin")
    (session.folder / ".venv" / "bin" / "activate").touch()
    return ""


def _prepare_store(session: Session) -> str:
    """Use the file of docs/presets.md in the same config, under other names than those of the store."""
    store, presets = (
        next(block.text for block in _of("yaml") if block.page == page) for page in ("docs/store.md", "docs/presets.md")
    )
    files = presets.replace("crm", "file-crm").replace("billing:", "file-billing:")
    session.write_config(files + store.removeprefix("version: 1\n"))
    session.write_config(CRM.replace("crm:", "legacy:"), "legacy.yaml")
    return ""


def _prepare_callers(session: Session) -> str:
    ca = CallerCa.create(session.folder, "ca")
    ca.server("tls")
    ca.client("web", dns("web.example.org"))
    session.write_config(CRM + next(block.text for block in _of("yaml") if "client_ca" in block.text))
    return "sidekey run\n"


def _prepare_crm(session: Session) -> str:
    auth = "{type: basic, username: svc, password: {insecure_value: secret-of-lan}}"
    session.write_config(f"{CRM}  lan: {{endpoint_prefix: https://10.1.2.3, auth: {auth}}}\n")
    (session.folder / ".config" / "fish" / "completions").mkdir(parents=True)
    return "sidekey run\n"


SESSIONS: dict[tuple[str, ...], Callable[[Session], str]] = {
    ("README.md",): _prepare_readme,
    ("docs/callers.md",): _prepare_callers,
    ("docs/store.md", "docs/api.md", "docs/presets.md"): _prepare_store,
}
"""Pages whose commands follow each other, and what writes their files and returns the commands that come before."""
for _page in sorted({block.page for block in SHELL}.difference(*SESSIONS)):
    SESSIONS[_page,] = _prepare_crm


def _commands(block: Block) -> str:
    """Return the commands of a block. In a console block, one whose output is a 4xx has to fail."""
    if block.language == "sh":
        return block.text
    lines = block.text.splitlines()
    refused = [index for index, line in enumerate(lines) if line.startswith("< HTTP/1.1 4")]
    commands = [("! " if index + 1 in refused else "") + line[2:] for index, line in enumerate(lines) if line[0] == "$"]
    return "\n".join(commands) + "\n"


def _comparable(text: str) -> str:
    """Replace hashes, numbers and times."""
    return re.sub(r"\b[0-9a-f]{12}[0-9a-f.]*|\d[\dT:-]*Z", "#", text)


@pytest.mark.parametrize("pages", SESSIONS, ids=" ".join)
def test_commands_of_the_pages_succeed(pages: tuple[str, ...], tmp_path: Path, upstream: int) -> None:
    """The output that a page shows is in the output."""
    programs.require("openssl")
    session = Session(tmp_path, upstream)
    prelude = SESSIONS[pages](session)
    blocks = [block for page in pages for block in SHELL if block.page == page]
    output = _comparable(session.run(prelude + "".join(map(_commands, blocks))))
    shown = [line for block in blocks if block.language == "console" for line in block.text.splitlines()]
    assert [line for line in shown if line[0] != "$" and _comparable(line) not in output] == []
