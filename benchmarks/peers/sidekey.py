"""Sidekey with its defaults: policy, metrics, and an access log of errors; compiled or pure, by its interpreter."""

from __future__ import annotations

import os
import shutil
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import yaml

from benchmarks.clients import ClientPair
from benchmarks.issuer import HOST as TOKEN_HOST
from benchmarks.issuer import SECRET, TokenEndpoint
from benchmarks.machine import find_program
from benchmarks.peers.base import Job
from benchmarks.probe import PASSWORD, SENDER_TOKEN, TOKEN, TOKEN_FIELD, USER
from benchmarks.stored import KEY, KEY_ID, Filled
from benchmarks.upstream import HOST, Upstream

CA_FOLDER = "ca"
"""Below a job's folder; what callers must trust is in `trust/ca.pem` below that."""

_DATABASE = "store.db"
_SENDER = "sender"
_URL = "store-url"

_WEBHOOK_SECRET = f"whsec_{b64encode(bytes(range(32))).decode()}"

_TOKEN_FILE = {"token": {"file": "token"}}

GRANTED = 100
"""Presets of the sender."""

GROUP = 10
"""Hosts of one integration: few, since each is a prefix that is looked at; what is done once counts little for each."""


def compiled_interpreter() -> str:
    """Return the interpreter of the environment with the compiled wheel, which the variable COMPILED names.

    Without it, the one that runs the benchmarks.
    """
    named = os.environ.get("COMPILED")
    # Not resolved: an environment's interpreter is a link, and known by its place.
    return str(Path(named).absolute()) if named else sys.executable


@dataclass(frozen=True, slots=True)
class Sidekey:
    """The installed Sidekey of `interpreter`, with the integration `bench`.

    There are `tenants` further integrations, t0 and on, each with a prefix of its own; an `oauth2` integration for each
    client of `tokens`, under the client's name; and an `mtls` integration, m0 and on, for each of `certificates`.
    `tunnel_hosts`, where it is not None, gives it a local CA of its own, and so many hosts more, h0 and on under HOST,
    of integrations g0 and on, each with GROUP of them. `store` gives it a store, of which `bench` is where
    that is filled, and one caller and one operator, whose token is TOKEN; and a sender with SENDER_TOKEN, where the
    store has presets. `callers` gives it that caller without a store. With `only_tls`, its callers use TLS, with the
    certificate of the https upstream. With `signed`, requests of `bench` are signed as
    Standard Webhooks says.
    """

    name: ClassVar[str] = "sidekey"
    pages: ClassVar[tuple[str, ...]] = ("/readyz", "/metrics")
    interpreter: str = field(default_factory=compiled_interpreter)
    access: str = "errors"
    tenants: int = 0
    request_body: str = "100MiB"
    tokens: TokenEndpoint | None = None
    certificates: tuple[ClientPair, ...] = ()
    tunnel_hosts: int | None = None
    store: Filled | None = None
    callers: bool = False
    signed: bool = False
    only_tls: bool = False

    @property
    def fields(self) -> dict[str, str]:
        """Return the header fields that a caller must send."""
        return {TOKEN_FIELD: TOKEN} if self._has_callers else {}

    def program(self) -> str | None:
        """The interpreter."""
        return find_program(self.interpreter)

    def version(self) -> list[str]:
        """The command that prints its version."""
        return [self.interpreter, "-m", "sidekey", "--version"]

    def command(self, job: Job) -> list[str]:
        """Write sidekey.yaml and the secrets' files, and run it."""
        config = config_file(job)
        config.parent.mkdir()
        secrets = {"password": PASSWORD, "client_secret": SECRET, "webhook_secret": _WEBHOOK_SECRET}
        if self.store is not None:
            secrets[KEY_ID] = b64encode(KEY).decode()
            if isinstance(self.store.database, str):
                secrets[_URL] = self.store.database
            elif not self.store.shared:
                shutil.copyfile(self.store.database, job.folder / _DATABASE)
        if self._has_callers:
            secrets["token"] = TOKEN
            secrets[_SENDER] = SENDER_TOKEN
        for name, value in secrets.items():
            secret = config.parent / name
            secret.write_text(value, encoding="utf-8")
            secret.chmod(0o600)
        with config.open("w", encoding="utf-8") as file:
            yaml.dump(self._config(job), file, Dumper=yaml.CSafeDumper, sort_keys=False)
        return [self.interpreter, "-m", "sidekey", "run", "--config", str(config)]

    def path(self, rest: str) -> str:
        """Return the path at the reverse proxy for the integration `bench`."""
        return f"/i/bench/{rest}"

    @property
    def _has_callers(self) -> bool:
        return self.callers or self.store is not None

    def _ca_folder(self, job: Job) -> Path:
        """Return a new folder for tunnels, else one for all starts of a build, as an installed Sidekey has.

        Builds have roots of their own, which they would write to it again and again for one another.
        """
        if self.tunnel_hosts is not None:
            return job.folder / CA_FOLDER
        return job.folder.parent / f"state-{quote(self.interpreter, safe='')}"

    def _config(self, job: Job) -> dict[str, Any]:
        base = base_of(job.upstream)
        bench = _integration(base) | _client_certificate(job.upstream.client)
        if self.signed:
            bench["signature"] = {"scheme": "standard-webhooks", "secret": {"file": "webhook_secret"}}
        more = [f"h{number}.{HOST}" for number in range(self.tunnel_hosts or 0)]
        groups = [more[start : start + GROUP] for start in range(0, len(more), GROUP)]
        hosts = {name: ["127.0.0.1"] for name in (HOST, TOKEN_HOST, *more)}
        network: dict[str, Any] = {"hosts": hosts, "allow_private": ["127.0.0.0/8"]}
        ca = job.upstream.ca if self.tokens is None else self.tokens.ca
        if ca is not None:
            network["trusted_ca"] = {"file": str(ca)}
        return {
            "version": 1,
            "listen": {
                "proxy": f"127.0.0.1:{job.port}",
                "admin": f"127.0.0.1:{job.admin_port}",
                **(_server_certificate(job.upstream) if self.only_tls else {}),
            },
            "network": network,
            "limits": {"request_body": self.request_body},
            "log": {"access": self.access},
            "ca": {"folder": str(self._ca_folder(job))},
            **({} if self.store is None else _store(self.store, job.folder)),
            **({"callers": {"bench": {**_TOKEN_FILE, "integrations": "*"}}} if self._has_callers else {}),
            "integrations": {
                **({} if self.store is not None and self.store.count else {"bench": bench}),
                **{f"t{number}": _integration(f"{base}/t{number}") for number in range(self.tenants)},
                **{
                    f"g{number}": _integration([base.replace(HOST, host) for host in group])
                    for number, group in enumerate(groups)
                },
                **{
                    f"m{number}": {"endpoint_prefix": f"{base}/m{number}", "auth": {"type": "mtls", **_pair(pair)}}
                    for number, pair in enumerate(self.certificates)
                },
                **(_clients(self.tokens, job.upstream) if self.tokens is not None else {}),
            },
        }


def config_file(job: Job) -> Path:
    """Return the path of the config of a job."""
    return job.folder / "config" / "sidekey.yaml"


def base_of(upstream: Upstream) -> str:
    """Return the endpoint prefix of `bench`, which contains those of all others."""
    return f"{upstream.scheme}://{upstream.authority}/api"


def _store(store: Filled, folder: Path) -> dict[str, Any]:
    if isinstance(store.database, str):
        place: dict[str, Any] = {"url": {"file": _URL}}
    else:
        place = {"path": str(store.database if store.shared else folder / _DATABASE)}
    keys = [{"id": KEY_ID, "key": {"file": KEY_ID}}]
    return {
        "store": {**place, "keys": keys, "allow_private": ["127.0.0.0/8"]},
        "admin": {"tokens": {"bench": {**_TOKEN_FILE, "role": "admin"}, **_sender(store)}},
    }


def _sender(store: Filled) -> dict[str, Any]:
    if not store.presets:
        return {}
    granted = [f"p{number}" for number in range(GRANTED)]
    return {"sender": {"token": {"file": _SENDER}, "role": "sender", "presets": granted, "per_minute": 600}}


def _integration(prefix: str | list[str]) -> dict[str, Any]:
    auth = {"type": "basic", "username": USER, "password": {"file": "password"}}
    return {"endpoint_prefix": prefix, "auth": auth}


def _server_certificate(upstream: Upstream) -> dict[str, Any]:
    if upstream.own is None:
        return {}
    return {
        "tls": {
            key: {"file": str(path)} for key, path in zip(("certificate", "private_key"), upstream.own, strict=True)
        }
    }


def _client_certificate(client: ClientPair | None) -> dict[str, Any]:
    return {} if client is None else {"client_certificate": _pair(client)}


def _pair(pair: ClientPair) -> dict[str, Any]:
    files = {"certificate": {"file": str(pair.certificate)}, "private_key": {"file": str(pair.key)}}
    return files | {"allow_private_ca": True}


def _clients(tokens: TokenEndpoint, upstream: Upstream) -> dict[str, Any]:
    """Build an integration for each client. It allows the upstream's domain, to which tokens do not go by default."""
    return {
        client: {
            "endpoint_prefix": f"{base_of(upstream)}/{client}",
            "allow_other_domains": True,
            "allowed_domains": [f"{upstream.scheme}://{upstream.authority}"],
            "auth": {
                "type": "oauth2",
                "token_endpoint": tokens.url,
                "client_id": client,
                "client_secret": {"file": "client_secret"},
                "client_authentication": "body",
            },
        }
        for client in tokens.clients
    }
