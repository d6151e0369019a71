"""A real Caddy as an https upstream that requires a client certificate, and names it in its responses."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import ports, programs
from support.private_ca import Leaf
from support.raw_connection import DEADLINE

_SEEN = {
    "X-Client-Certificate": ["{http.request.tls.client.fingerprint}"],
    "X-Client-Subject": ["{http.request.tls.client.subject}"],
    "X-Tls-Version": ["{http.request.tls.version}"],
}
_BODY = "{http.request.method} {http.request.uri}\nauthorization: {http.request.header.Authorization}\n"


class Caddy:
    """`with Caddy(tmp_path, leaf, clients=bundle) as caddy`: https on `caddy.port` of 127.0.0.1, for HTTP/1.1.

    Clients need a certificate issued by `clients`. Responses have its SHA-256 in X-Client-Certificate, X-Client-Subject
    and X-Tls-Version, and the received request in the body. `version` is the only TLS version, `tls1.2` or `tls1.3`.
    Caddy inherits a listening socket.
    """

    def __init__(self, folder: Path, leaf: Leaf, *, clients: Path, version: str = "tls1.3") -> None:
        self._binary = programs.require("caddy")
        self._folder = folder
        self._leaf = leaf
        self._clients = clients
        self._version = version
        self._process: subprocess.Popen[bytes]
        self.port = 0

    def __enter__(self) -> Self:
        config = self._folder / "caddy.json"
        # Caddy keeps what it makes below these, else in the user's home.
        folders = {"XDG_DATA_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        with ports.listening_socket() as sock, (self._folder / "caddy.log").open("wb") as log:
            self.port = sock.getsockname()[1]
            config.write_text(json.dumps(self._config(sock.fileno())))
            self._process = subprocess.Popen(
                [self._binary, "run", "--config", str(config)],
                env=os.environ | folders,
                pass_fds=[sock.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=DEADLINE)

    def refusals(self, count: int = 0) -> list[str]:
        """Return Caddy's log lines of failed handshakes, once there are `count`: Caddy logs them after the alert."""
        deadline = time.monotonic() + DEADLINE
        while True:
            lines = (self._folder / "caddy.log").read_text().splitlines()
            refusals = [line for line in lines if "TLS handshake error" in line]
            if len(refusals) >= count:
                return refusals
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(refusals)} of {count} handshakes failed")
            time.sleep(0.01)

    def _config(self, descriptor: int) -> dict[str, Any]:
        policy = {
            "protocol_min": self._version,
            "protocol_max": self._version,
            "client_authentication": {
                "ca": {"provider": "file", "pem_files": [str(self._clients)]},
                "mode": "require_and_verify",
            },
        }
        server = {
            "listen": [f"fd/{descriptor}"],
            "protocols": ["h1"],
            "automatic_https": {"disable": True},
            # With client authentication Caddy wants SNI to equal Host; an address is never sent as SNI (RFC 6066 3).
            "strict_sni_host": False,
            "tls_connection_policies": [policy],
            "routes": [{"handle": [{"handler": "static_response", "headers": _SEEN, "body": _BODY}]}],
        }
        pair = {"certificate": str(self._leaf.certificate), "key": str(self._leaf.key)}
        return {
            "admin": {"disabled": True, "config": {"persist": False}},
            "logging": {"logs": {"default": {"level": "DEBUG"}}},
            "apps": {
                "http": {"grace_period": "1s", "servers": {"upstream": server}},
                "tls": {"certificates": {"load_files": [pair]}, "disable_ocsp_stapling": True},
            },
        }
