"""Where a tunnel gets the TLS context from that presents a certificate for its host."""

from __future__ import annotations

import ssl
from typing import Protocol


class LeafSource(Protocol):
    """Makes and keeps leaves: certificates of the local CA, each for one host, ready in a context of a TLS server.

    A `host` is spelled as in an `Origin`: lower case, an IPv6 address compressed and without brackets. A context
    allows TLS 1.2 or newer with the ALPN protocol http/1.1, and goes on without ALPN. It ends a handshake whose server
    name (SNI) is not its host with the alert unrecognized_name; ssl.SSLError then has the reason CALLBACK_FAILED. It is
    shared by every tunnel to its host: nothing may be set on it.
    """

    def context_for(self, host: str) -> ssl.SSLContext | None:
        """The context of a leaf that is there and fresh; None where there is none, and `obtain` must be asked."""
        ...

    async def obtain(self, host: str) -> ssl.SSLContext:
        """The context, once its leaf is there: it is made in a thread, one at a time for a host.

        Raises ProblemError: ca_unavailable (502) where no valid CA may sign for the host, overloaded (503, with
        Retry-After) where too many leaves wait to be made.
        """
        ...
