"""HAProxy: one thread, kept and shared upstream connections, no log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from benchmarks.peers.base import Installed, Job
from benchmarks.probe import AUTHORIZATION
from benchmarks.upstream import HOST

_CONFIG = """
global
    nbthread 1
    maxconn {connections}
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
    http-reuse always
frontend callers
    bind 127.0.0.1:{port} backlog 4096
    default_backend service
backend service
    http-request set-header Host {authority}
    http-request set-header Authorization "{authorization}"
    server one 127.0.0.1:{upstream_port} {tls} {certificate}
"""
_TLS = "ssl verify required ca-file {ca} sni str({host}) verifyhost {host}"


@dataclass(frozen=True, slots=True)
class Haproxy(Installed):
    """Header rewriting as in nginx."""

    name: ClassVar[str] = "haproxy"

    def command(self, job: Job) -> list[str]:
        """Write haproxy.cfg and run it in the foreground. A connection takes two files."""
        upstream = job.upstream
        config = job.folder / "haproxy.cfg"
        text = _CONFIG.format(
            connections=job.open_files // 2 - 100,
            port=job.port,
            authority=upstream.authority,
            authorization=AUTHORIZATION.replace(" ", "\\ "),
            upstream_port=upstream.port,
            tls="" if upstream.ca is None else _TLS.format(ca=upstream.ca, host=HOST),
            certificate="" if upstream.client is None else f"crt {upstream.client.joined}",
        )
        config.write_text(text, encoding="utf-8")
        return [self.program() or self.name, "-db", "-f", str(config)]
