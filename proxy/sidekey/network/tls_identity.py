"""A certificate and its key into a TLS context, without the key ever being on a disk.

The ssl module takes keys from files only. On Linux the file is a memfd, which no other process of another user can
open and which is gone with its descriptor; elsewhere it is a temporary file of mode 0600 that is removed at once.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError


def present(context: ssl.SSLContext, identity: ClientIdentity) -> None:
    """Let a context present this certificate, in handshakes and when it is asked later (RFC 8446 4.6.2).

    Raises ProblemError credential_unavailable, with nothing of the library's text.
    """
    context.post_handshake_auth = True
    try:
        # A line's end between the two, whatever the first one ends with.
        load_chain(context, b"\n".join((identity.chain, identity.key)))
    except (OSError, ValueError):
        raise ProblemError(
            Problem(
                "credential_unavailable",
                "the client certificate and its private key cannot be used for TLS",
                error="proxy_configuration_error",
            )
        ) from None


def load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate with its chain and its key, which has no passphrase. Raises OSError or ValueError."""
    with _in_memory(pem) or _removed_at_once(pem) as path:
        # A passphrase, if only an empty one: without any, OpenSSL asks for it at the terminal.
        context.load_cert_chain(path, password=b"")


def _in_memory(pem: bytes) -> AbstractContextManager[str] | None:
    """A memfd; None where this system has none, forbids it, or has no /proc to name it by."""
    try:
        descriptor = os.memfd_create("sidekey", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        return None
    if not os.path.exists(f"/proc/self/fd/{descriptor}"):  # noqa: PTH110 - no path of a user's
        os.close(descriptor)
        return None
    return _written(descriptor, pem)


@contextmanager
def _written(descriptor: int, pem: bytes) -> Iterator[str]:
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(pem)
        yield f"/proc/self/fd/{descriptor}"


@contextmanager
def _removed_at_once(pem: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(pem)
        yield file.name
