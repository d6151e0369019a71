"""The upstream of the throughput rows: one nginx responding 200 bytes, over http and, with temporary CAs, over TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from benchmarks.clients import ClientCa, ClientPair
from benchmarks.load import LARGE_BYTES, RESPONSE_BODY
from benchmarks.machine import find_program, free_port
from benchmarks.probe import AUTHORIZATION, CHECK, TLS, await_response
from benchmarks.processes import MeasureFailed, Program

HOST = "upstream.example"
_PIECE = 4_000

# nginx responds 400 to a second Authorization header (since 1.23.0), so an exact echo means exactly one.
_NGINX = """
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {open_files};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  default_type text/plain;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {http}
}}
"""
_SERVER = """
  server {{
    listen 127.0.0.1:{port} {ssl} backlog=4096;
    {options}
    location = /api/{check} {{ return 200 $http_authorization; }}
    {tls_page}
    {responding}
  }}
"""
_SMALL = """location /api/ {{ return 200 "{body}"; }}"""
# `return` responds before the body has come, and a proxy may then close its caller's connection. ngx_http_mirror_module
# reads the whole body first. Then ngx_http_empty_gif_module refuses POST, and its 405 becomes the response. One
# parameter holds at most 4 KiB (NGX_CONF_BUFFER), so a large response is put together from pieces.
_LARGE = """
    location /api/ {{
      client_body_buffer_size 1m;
      mirror /mirror;
      empty_gif;
      error_page 405 =200 @large;
    }}
    location = /mirror {{ internal; return 204; }}
    location @large {{ set $piece "{piece}"; return 200 "{pieces}"; }}
"""
_TLS_PAGE = """location = /api/{path} {{ return 200 "$ssl_protocol $ssl_curve"; }}"""
_TLS = """
    ssl_protocols TLSv1.3;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    ssl_session_cache shared:bench:4m;
"""
_ASKING = """
    ssl_client_certificate {bundle};
    ssl_verify_client on;
"""
_ONCE = """
    keepalive_timeout 0;
"""


@dataclass(frozen=True, slots=True)
class _Side:
    """One server block: over TLS, `asking` for a client certificate, `once`: one request a connection.

    A `large` one responds with LARGE_BYTES.
    """

    tls: bool = True
    asking: bool = False
    once: bool = False
    large: bool = False


_SIDES = {
    "http": _Side(tls=False),
    "http, large": _Side(tls=False, large=True),
    "https": _Side(),
    "mtls": _Side(asking=True),
    "https, once": _Side(once=True),
    "mtls, once": _Side(asking=True, once=True),
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the proxies send requests to: 127.0.0.1 under the name HOST.

    `ca` is given for https only, and `client` where that certificate must be presented. `own` is its own certificate
    and key, for proxies that present it to callers.
    """

    port: int
    ca: Path | None = None
    client: ClientPair | None = None
    own: tuple[Path, Path] | None = None

    @property
    def scheme(self) -> str:
        """Scheme of the URL."""
        return "http" if self.ca is None else "https"

    @property
    def authority(self) -> str:
        """Value of Host."""
        return f"{HOST}:{self.port}"


def nginx_config(folder: Path, http: str, open_files: int) -> str:
    """Build an nginx config of one worker that writes only below `folder`. Root stays root to read it."""
    return _NGINX.format(
        folder=folder,
        http=http,
        user="user root;" if os.geteuid() == 0 else "",
        open_files=open_files,
        connections=open_files - 100,
    )


@contextmanager
def nginx_upstream(folder: Path, core: int, open_files: int, clients: ClientCa) -> Iterator[dict[str, Upstream]]:
    """Run the upstream, and return its sides by name. Those of `mtls` trust `clients`. Raises MeasureFailed."""
    nginx = find_program("nginx")
    if nginx is None:
        raise MeasureFailed("nginx, the upstream, is not installed")
    folder.mkdir()
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST, f"*.{HOST}")
    own_pair = folder / "server.pem", folder / "server.key"
    certificate.private_key_pem.write_to_path(own_pair[1])
    own_pair[0].write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    ports = {name: free_port() for name in _SIDES}
    servers = "".join(_server(side, ports[name], folder, clients.bundle) for name, side in _SIDES.items())
    config = folder / "nginx.conf"
    config.write_text(nginx_config(folder, servers, open_files), encoding="utf-8")
    ca, client = folder / "ca.pem", clients.issue("bench")
    with Program([nginx, "-e", f"{folder}/error.log", "-c", str(config)], folder / "output.log", core) as program:
        await_response(program, ports["http"], f"/api/{CHECK}", {"Authorization": AUTHORIZATION})
        yield {
            name: Upstream(
                ports[name], ca if side.tls else None, client if side.asking else None, own_pair if side.tls else None
            )
            for name, side in _SIDES.items()
        }


def _server(side: _Side, port: int, folder: Path, bundle: Path) -> str:
    options = (
        _TLS.format(folder=folder) if side.tls else "",
        _ASKING.format(bundle=bundle) if side.asking else "",
        _ONCE if side.once else "",
    )
    return _SERVER.format(
        port=port,
        ssl="ssl" if side.tls else "",
        options="".join(options),
        check=CHECK,
        tls_page=_TLS_PAGE.format(path=TLS) if side.tls else "",
        responding=_LARGE.format(piece="y" * _PIECE, pieces="$piece" * (LARGE_BYTES // _PIECE))
        if side.large
        else _SMALL.format(body=RESPONSE_BODY.decode()),
    )
