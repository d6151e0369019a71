"""Requests outside of the measurement: the first one, which checks the credential, and pages of the admin port."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from benchmarks.processes import MeasureFailed, Program

USER, PASSWORD = "bench", "not-a-secret"
AUTHORIZATION = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CHECK = "check"
"""The path, below the base, at which every upstream responds with the Authorization that it received."""

TLS = "tls"
"""The path, below the base, at which the nginx upstream responds with TLS version and group of its connection."""

TOKEN = "of-an-operator-and-a-caller-not-a-secret"
SENDER_TOKEN = "of-a-sender-of-presets-not-a-secret"
TOKEN_FIELD = "Sidekey-Token"

_GROUPS = {"0x11ec": "X25519MLKEM768"}
"""TLS groups that nginx prints as numbers (IANA registry "TLS Supported Groups"), by that number."""

_TIMEOUT = 5.0


def await_response(
    program: Program, port: int, path: str, headers: Mapping[str, str], limit: float = 30.0, *, tls: bool = False
) -> None:
    """Request the check path, over TLS or not, until the upstream has received exactly the one credential.

    Raises MeasureFailed where the program ends, where it sends another credential, and after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    seen = "it does not listen"
    while time.monotonic() < deadline:
        program.check_alive()
        try:
            status, text = _request("POST", port, path, headers, tls=tls)
        except (OSError, HTTPException):
            time.sleep(0.001)
            continue
        if status == 200:
            if text != AUTHORIZATION:
                raise MeasureFailed("the upstream did not receive exactly one Authorization header with the credential")
            return
        # A proxy may listen before its upstream is known to it.
        seen = f"it responds {status}: {text[:300]}"
        time.sleep(0.001)
    raise MeasureFailed(f"no response of the upstream within {limit:g} s: {seen}")


def read_page(port: int, path: str) -> str:
    """GET a page from 127.0.0.1. Raises MeasureFailed unless its status is 200."""
    try:
        status, text = _request("GET", port, path, {})
    except (OSError, HTTPException) as error:
        raise MeasureFailed(f"GET {path} failed: {error!r}") from error
    if status != 200:
        raise MeasureFailed(f"GET {path} responded {status}: {text[:300]}")
    return text


def negotiated_tls(port: int, path: str, headers: Mapping[str, str], *, tls: bool = False) -> str:
    """Return TLS version and group of a proxy's connection to the nginx upstream. Raises MeasureFailed."""
    try:
        status, text = _request("POST", port, path, headers, tls=tls)
    except (OSError, HTTPException) as error:
        raise MeasureFailed(f"POST {path} failed: {error!r}") from error
    version, _, group = text.partition(" ")
    if status != 200 or not group:
        raise MeasureFailed(f"POST {path} responded {status}: {text[:300]}")
    return f"{version} {_GROUPS.get(group, group)}"


def _request(method: str, port: int, path: str, headers: Mapping[str, str], *, tls: bool = False) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    if tls:
        # The certificate has another name.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT, context=context)
    try:
        connection.request(method, path, b"{}" if method == "POST" else None, dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode("latin-1")
    finally:
        connection.close()
