"""Load a certificate and its key into a TLS context.

The ssl module loads keys from files only. On Linux that file is a memfd: it is never on a disk, other users cannot open
it, and it ends with its descriptor. Elsewhere it is a temporary file of mode 0600, removed at once.
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
    """Make a context present the client certificate, in the handshake or later (RFC 8446 4.6.2).

    Raises ProblemError (credential_unavailable) without the library's text.
    """
    context.post_handshake_auth = True
    try:
        # The chain may end without a newline.
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
    """Load a certificate with its chain and its key (without passphrase). Raises OSError or ValueError."""
    with _memory_file(pem) or _temporary_file(pem) as path:
        # The password is empty, not absent: without one, OpenSSL would ask at the terminal.
        context.load_cert_chain(path, password=b"")


def _memory_file(pem: bytes) -> AbstractContextManager[str] | None:
    """Return a memfd, or None if the system has none, forbids it, or has no /proc to name it."""
    try:
        descriptor = os.memfd_create("sidekey", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        return None
    if not os.path.exists(f"/proc/self/fd/{descriptor}"):  # noqa: PTH110 - not a path of a user
        os.close(descriptor)
        return None
    return _write_memory_file(descriptor, pem)


@contextmanager
def _write_memory_file(descriptor: int, pem: bytes) -> Iterator[str]:
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(pem)
        yield f"/proc/self/fd/{descriptor}"


@contextmanager
def _temporary_file(pem: bytes) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(pem)
        yield file.name
