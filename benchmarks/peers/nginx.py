"""nginx: one worker, kept upstream connections, no access log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from benchmarks.peers.base import Installed, Job
from benchmarks.probe import AUTHORIZATION
from benchmarks.upstream import HOST, nginx_config

_SERVER = """
  upstream service {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_max_body_size 0;
    {streaming}
    location / {{
      proxy_pass {scheme}://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host {authority};
      proxy_set_header Authorization "{authorization}";
      {tls}
      {certificate}
    }}
  }}
"""
_TLS = """
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {ca};
      proxy_ssl_server_name on;
      proxy_ssl_name {host};
"""
_CERTIFICATE = "proxy_ssl_certificate {client.certificate}; proxy_ssl_certificate_key {client.key};"
# Buffering, which costs small requests nothing, would write a big body to a file before it passes it on.
_STREAMING = "proxy_request_buffering off; proxy_max_temp_file_size 0;"


@dataclass(frozen=True, slots=True)
class Nginx(Installed):
    """nginx. `streaming` passes large bodies on as they arrive."""

    name: ClassVar[str] = "nginx"
    streaming: bool = False

    def command(self, job: Job) -> list[str]:
        """Write nginx.conf and run it in the foreground."""
        upstream = job.upstream
        server = _SERVER.format(
            upstream_port=upstream.port,
            port=job.port,
            streaming=_STREAMING if self.streaming else "",
            scheme=upstream.scheme,
            authority=upstream.authority,
            authorization=AUTHORIZATION,
            tls="" if upstream.ca is None else _TLS.format(ca=upstream.ca, host=HOST),
            certificate="" if upstream.client is None else _CERTIFICATE.format(client=upstream.client),
        )
        config = job.folder / "nginx.conf"
        config.write_text(nginx_config(job.folder, server, job.open_files), encoding="utf-8")
        return [self.program() or self.name, "-e", f"{job.folder}/error.log", "-c", str(config)]
