"""`sidekey healthcheck`: asks a running Sidekey whether it is ready, for a container's health check.

It runs every few seconds, so it reads nothing of the config but where the listeners are: no secret, no integration.
"""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sidekey.credentials.fields import mapping
from sidekey.runtime.snapshot import Address
from sidekey.settings.models import ListenSettings
from sidekey.settings.source import NAME_ONE, Joined, read_config

TIMEOUT = 3.0
"""Seconds to wait for a response."""


class NotReady(Exception):
    """Sidekey is not ready, or does not respond; the message says which."""


def ask(config: str) -> None:
    """GET /readyz on the admin listener, or on the metrics one where only its address is fixed. Raises NotReady."""
    joined = read_config(Path(config), way_out=NAME_ONE)
    where, tls = _address(joined)
    address = where.reachable()
    connection = HTTPConnection("localhost", timeout=TIMEOUT)
    try:
        with _connect(address, tls=tls) as sock:
            connection.sock = sock
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            reason = response.read(200).decode("ascii", "replace").strip()
    except (OSError, HTTPException):
        raise NotReady(f"no response from {address}: Sidekey is not running there, or it is stuck") from None
    if response.status != 200:
        raise NotReady(f"not ready: {reason}")


def _address(joined: Joined) -> tuple[Address, bool]:
    """Where to ask, and whether by TLS."""
    if joined.errors:
        raise NotReady("\n".join(map(str, joined.errors)))
    listen: dict[str, Any] = joined.globals.get("listen") or {}
    try:
        settings = ListenSettings.model_validate(listen)
    except ValidationError:
        raise NotReady("the config has errors under listen: run `sidekey check`") from None
    admin = mapping(joined.globals.get("admin"))
    secured = joined.globals.get("store") is not None and admin.get("tls") is not None
    for address, tls in ((settings.admin, secured), (settings.metrics, False)):
        if address is not None and address.path is not None:
            return Address(path=str(joined.folder / address.path)), tls
        if address is not None and address.port != 0:
            return address, tls
    raise NotReady("listen.admin: port 0 is chosen at start: write another port")


def _connect(address: Address, *, tls: bool) -> socket.socket:
    sock = _connected(address)
    if not tls:
        return sock
    # Nothing is told to whoever responds, and its response is one bit: what the certificate is for does not matter.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def _connected(address: Address) -> socket.socket:
    if address.path is None:
        return socket.create_connection((address.host, address.port), timeout=TIMEOUT)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT)
    try:
        sock.connect(address.path)
    except OSError:
        sock.close()
        raise
    return sock
