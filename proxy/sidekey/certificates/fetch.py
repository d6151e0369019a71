"""Fetch certificates from URLs, under the network rules of their integration."""

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
"""Concurrent calls for the certificates of all integrations: at startup there may be a thousand."""


class UrlFetch:
    """Fetches the URLs of one integration's certificate. `slots` bounds the calls of all integrations together."""

    def __init__(
        self, integration: Integration, loader: CertificateLoader, fetcher: Fetcher, slots: asyncio.Semaphore
    ) -> None:
        self._integration = integration
        self._loader = loader
        self._fetcher = fetcher
        self._slots = slots
        self._etags: dict[Keys, str] = {}

    async def fetch(self) -> bool:
        """Fetch all URLs concurrently and pass changed content to the loader. Return True if any content changed.

        Raises SecretUnreadable with the reason for each failed URL, after passing on the content of the other URLs.
        """
        results = await asyncio.gather(*(self._fetch_url(keys, url) for keys, url in self._loader.urls))
        changed: dict[Keys, bytes] = {}
        reasons: list[tuple[Keys, str]] = []
        for (keys, _), result in zip(self._loader.urls, results, strict=True):
            if isinstance(result, str):
                reasons.append((keys, result))
            elif result is not None and result != self._loader.fetched.get(keys):
                changed[keys] = result
        self._loader.fetch_errors = dict(reasons)
        if changed:
            self._loader.add_fetched(changed)
        if reasons:
            raise SecretUnreadable(tuple(reasons))
        return bool(changed)

    async def _fetch_url(self, keys: Keys, url: str) -> bytes | str | None:
        """Return the body, None if it has not changed (RFC 9110 13.1.2), or the reason for a failure."""
        etag = self._etags.get(keys)
        headers = () if etag is None else (("If-None-Match", etag),)
        try:
            async with self._slots:
                reply = await self._fetcher.fetch(
                    Call("the server", "GET", url, headers),
                    self._integration.egress,
                    timeout=TIMEOUT,
                    max_size=MAX_BODY_SIZE,
                )
        except CallError as error:
            return error.reason
        if reply.status == 304 and etag is not None:
            return None
        if reply.status != 200:
            redirect = ": redirects are not followed" if 300 <= reply.status < 400 else ""
            return f"the server returned {reply.status}{redirect}"
        # aiohttp would send other characters as UTF-8, which may not be the bytes of the ETag.
        if (etag := reply.headers.get("etag", "")) and etag.isascii():
            self._etags[keys] = etag
        else:
            self._etags.pop(keys, None)
        return reply.body
