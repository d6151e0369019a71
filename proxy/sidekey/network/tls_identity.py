"""A client certificate and its key into a TLS context, without the key ever being on a disk.

The ssl module takes keys from files only. On Linux the file is a memfd, which no other process of another user can
open and which is gone with its descriptor; elsewhere it is a temporary file of mode 0600 that is removed at once.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sidekey.credentials.identity import ClientIdentity
from sidekey.errors import Problem


def present(context: ssl.SSLContext, identity: ClientIdentity) -> None:
    """Let a context present this certificate, in handshakes and when it is asked later (RFC 8446 4.6.2).

    Raises Problem credential_unavailable, with nothing of the library's text.
    """
    context.post_handshake_auth = True
    # A line's end between the two, whatever the first one ends with.
    pem = b"\n".join((identity.chain, identity.key))
    try:
        try:
            with _in_memory(pem) as path:
                _load(context, path)
        except (AttributeError, FileNotFoundError):
            # No memfd on this system, or no /proc to name it by.
            with _removed_at_once(pem) as path:
                _load(context, path)
    except (OSError, ValueError):
        raise Problem(
            "credential_unavailable",
            "the client certificate and its private key cannot be used for TLS",
            error="proxy_configuration_error",
        ) from None


def _load(context: ssl.SSLContext, path: str) -> None:
    # A passphrase, if only an empty one: without any, OpenSSL asks for it at the terminal.
    context.load_cert_chain(path, password=b"")


@contextmanager
def _in_memory(pem: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("sidekey", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(pem)
        yield f"/proc/self/fd/{descriptor}"


@contextmanager
def _removed_at_once(pem: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(pem)
        yield file.name
