"""The interface through which a tunnel obtains a TLS context with a certificate for its host."""

from __future__ import annotations

import ssl
from typing import Protocol


class LeafSource(Protocol):
    """Issues and caches leaves: certificates of the local CA for one host, each in a server-side TLS context.

    A `host` is written as in an `Origin`: lower case, an IPv6 address compressed and without brackets. A context
    requires TLS 1.2 or newer and offers the ALPN protocol http/1.1, which clients may omit. It ends a handshake for
    another server name (SNI) with the alert unrecognized_name, and ssl.SSLError has the reason CALLBACK_FAILED. All
    tunnels to a host share its context: do not change it.
    """

    def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return the cached context if its leaf is fresh, or None: then call `obtain`."""
        ...

    async def obtain(self, host: str) -> ssl.SSLContext:
        """Return the context after issuing the leaf in a thread, once for all callers of a host.

        Raises ProblemError: ca_unavailable (502) if no valid CA may sign for the host, overloaded (503, with
        Retry-After) if too many leaves are waiting to be issued.
        """
        ...
