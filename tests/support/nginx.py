"""A real nginx as an upstream: http and https on free loopback ports, with an access log."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from support import ports, programs
from support.private_ca import Leaf
from support.raw_connection import DEADLINE

# Started by root, workers of another user could not write below pytest's private folder; for others nginx ignores it.
_CONFIG = """
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format echo escape=json '{{"scheme":"$scheme","method":"$request_method","target":"$request_uri",'
        '"host":"$http_host","authorization":"$http_authorization","via":"$http_via",'
        '"integration":"$http_x_integration_id","connection":"$connection","status":"$status",'
        '"protocol":"$ssl_protocol","resumed":"$ssl_session_reused","verified":"$ssl_client_verify","certificate":"$ssl_client_fingerprint"}}';
    access_log {folder}/access.log echo;
    server {{
        listen 127.0.0.1:{port};
        {tls}
        {snippet}
    }}
}}
"""

_TLS = """
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {leaf.certificate};
        ssl_certificate_key {leaf.key};
"""

ECHO = """
        location / {
            default_type text/plain;
            return 200 "$request_method $request_uri\\nauthorization: $http_authorization\\n";
        }
"""
"""A server block's content that answers with the request line and the Authorization header it received."""


class Nginx:
    """`with Nginx(tmp_path, leaf=...) as nginx`: http on `port`, and https on `tls_port` if there is a leaf.

    `snippet` is the content of the server block. nginx inherits listening sockets, as when it replaces its own binary,
    so that no other program can take the port and no test waits for the start.
    """

    def __init__(self, folder: Path, snippet: str = ECHO, *, leaf: Leaf | None = None) -> None:
        self._binary = programs.require("nginx")
        self._folder = folder
        self._snippet = snippet
        self._leaf = leaf
        self._process: subprocess.Popen[bytes]
        self.port = 0
        self.tls_port = 0

    def __enter__(self) -> Self:
        sockets = [ports.listening_socket() for _ in range(1 if self._leaf is None else 2)]
        self.port = sockets[0].getsockname()[1]
        self.tls_port = sockets[-1].getsockname()[1] if self._leaf is not None else 0
        config = self._folder / "nginx.conf"
        tls = "" if self._leaf is None else _TLS.format(port=self.tls_port, leaf=self._leaf)
        config.write_text(_CONFIG.format(folder=self._folder, port=self.port, tls=tls, snippet=self._snippet))
        descriptors = [sock.fileno() for sock in sockets]
        command = [self._binary, "-e", "stderr", "-p", str(self._folder), "-c", str(config)]
        environment = os.environ | {"NGINX": "".join(f"{descriptor};" for descriptor in descriptors)}
        try:
            check = subprocess.run(
                [*command, "-t", "-q"],
                env=environment,
                pass_fds=descriptors,
                capture_output=True,
                text=True,
                check=False,
            )
            if check.returncode != 0:
                raise ValueError(f"nginx refuses its configuration: {check.stderr}")
            self._process = subprocess.Popen(
                command, env=environment, pass_fds=descriptors, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
            )
        finally:
            for sock in sockets:
                sock.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=DEADLINE)

    def requests(self, count: int) -> list[dict[str, str]]:
        """Return the access log once it has `count` lines: nginx writes a line after it has sent the response.

        Keys: scheme, method, target, host, authorization, via, integration, connection, status; for TLS protocol,
        resumed (`r` or `.`), verified (SUCCESS, NONE, FAILED:reason) and certificate, the SHA-1 of the client's. nginx
        joins repeated headers with a comma.
        """
        log = self._folder / "access.log"
        deadline = time.monotonic() + DEADLINE
        while True:
            complete, _, _ = log.read_text().rpartition("\n") if log.exists() else ("", "", "")
            lines = complete.splitlines()
            if len(lines) >= count:
                return [json.loads(line) for line in lines]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(lines)} of {count} requests reached nginx")
            time.sleep(0.01)
