"""Sidekey with its defaults: policy, metrics, and an access log of errors."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from benchmarks.machine import free_port
from benchmarks.peers.base import Job
from benchmarks.probe import PASSWORD, USER
from benchmarks.upstream import HOST


@dataclass(frozen=True, slots=True)
class Sidekey:
    """`tenants` further integrations, t0 and on, stand beside `bench`, each with a prefix of its own."""

    name: ClassVar[str] = "sidekey"
    access: str = "errors"
    tenants: int = 0
    request_body: str = "100MiB"

    def program(self) -> str | None:
        """The interpreter, where the package is installed in it."""
        spec = importlib.util.find_spec("sidekey")
        return sys.executable if spec is not None and importlib.util.find_spec("sidekey.cli") is not None else None

    def version(self) -> list[str]:
        """The command that prints its version."""
        return [sys.executable, "-m", "sidekey", "--version"]

    def command(self, job: Job) -> list[str]:
        """Write sidekey.yaml and the secret's file, and run it."""
        secret = job.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o600)
        config = job.folder / "sidekey.yaml"
        with config.open("w", encoding="utf-8") as file:
            yaml.dump(self._config(job), file, Dumper=yaml.CSafeDumper, sort_keys=False)
        return [sys.executable, "-m", "sidekey", "run", "--config", str(config)]

    def path(self, rest: str) -> str:
        """The reverse door of the integration `bench`."""
        return f"/i/bench/{rest}"

    def _config(self, job: Job) -> dict[str, Any]:
        base = f"{job.upstream.scheme}://{job.upstream.authority}/api"
        network: dict[str, Any] = {"hosts": {HOST: ["127.0.0.1"]}, "allow_private": ["127.0.0.0/8"]}
        if job.upstream.ca is not None:
            network["trusted_ca"] = {"file": str(job.upstream.ca)}
        return {
            "version": 1,
            "listen": {"proxy": f"127.0.0.1:{job.port}", "admin": f"127.0.0.1:{free_port()}"},
            "network": network,
            "limits": {"request_body": self.request_body},
            "log": {"access": self.access},
            "integrations": {
                "bench": _integration(base),
                **{f"t{number}": _integration(f"{base}/t{number}") for number in range(self.tenants)},
            },
        }


def _integration(prefix: str) -> dict[str, Any]:
    auth = {"type": "basic", "username": USER, "password": {"file": "password"}}
    return {"endpoint_prefix": prefix, "auth": auth}
