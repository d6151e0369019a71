"""The contexts by which TLS of callers ends in Sidekey: one for each host, with a certificate for it."""

from __future__ import annotations

import ssl
from functools import partial

from sidekey.network.tls_identity import load_chain


def server_context(host: str, pem: bytes) -> ssl.SSLContext:
    """A context that presents a certificate for this host; `pem` is that with its chain and its key.

    A handshake for another server name ends with the alert unrecognized_name (RFC 6066 3). Raises OSError or ValueError
    where the certificate or its key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    # As in network/tls.py: a bare end of TCP is not close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])
    load_chain(context, pem)
    context.sni_callback = partial(_judge_name, host)
    return context


def _judge_name(host: str, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int | None:
    """The alert for a server name that is not the host; names differ in case alone (RFC 6066 3)."""
    return None if name is None or name.lower() == host else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
