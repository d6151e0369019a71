"""Fetches what a certificate's URLs lead to, under the network rules of its integration."""

from __future__ import annotations

import asyncio

from sidekey.credentials.base import Call, CallError
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.fetch import Fetcher
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.snapshot import Integration

TIMEOUT = 10.0
"""Seconds for one call, from the lookup to the response's last byte."""

MAX_BODY_SIZE = 256 << 10
"""Bytes of a response's body that are read."""

MAX_PARALLEL = 16
"""Calls for certificates at the same time, of all integrations: at the start there may be a thousand of them."""


class UrlFetch:
    """The URLs of one integration's certificate. `slots` bounds the calls of all integrations together."""

    def __init__(
        self, integration: Integration, loader: CertificateLoader, fetcher: Fetcher, slots: asyncio.Semaphore
    ) -> None:
        self._integration = integration
        self._loader = loader
        self._fetcher = fetcher
        self._slots = slots
        self._tags: dict[Keys, str] = {}

    async def fetch(self) -> bool:
        """Call every URL at once, and pass what has changed to the loader; whether anything has.

        Raises SecretUnreadable with the reason of each that failed, after what the others brought was passed on.
        """
        responses = await asyncio.gather(*(self._one(place, url) for place, url in self._loader.urls))
        changed: dict[Keys, bytes] = {}
        reasons: list[tuple[Keys, str]] = []
        for (place, _), response in zip(self._loader.urls, responses, strict=True):
            if isinstance(response, str):
                reasons.append((place, response))
            elif response is not None and response != self._loader.fetched.get(place):
                changed[place] = response
        self._loader.fetch_errors = dict(reasons)
        if changed:
            self._loader.receive(changed)
        if reasons:
            raise SecretUnreadable(tuple(reasons))
        return bool(changed)

    async def _one(self, place: Keys, url: str) -> bytes | str | None:
        """The body; None where it is the one that is there (RFC 9110 13.1.2), a reason where it failed."""
        tag = self._tags.get(place)
        headers = () if tag is None else (("If-None-Match", tag),)
        try:
            async with self._slots:
                reply = await self._fetcher.fetch(
                    Call("the server", "GET", url, headers),
                    trust=self._integration.trust,
                    allow_private=self._integration.allow_private,
                    source_address=self._integration.source_address,
                    timeout=TIMEOUT,
                    largest=MAX_BODY_SIZE,
                )
        except CallError as error:
            return error.reason
        if reply.status == 304 and tag is not None:
            return None
        if reply.status != 200:
            redirect = ": redirects are not followed" if 300 <= reply.status < 400 else ""
            return f"the server returned {reply.status}{redirect}"
        # aiohttp sends text as UTF-8, which another tag need not be.
        if (tag := reply.headers.get("etag", "")) and tag.isascii():
            self._tags[place] = tag
        else:
            self._tags.pop(place, None)
        return reply.body
