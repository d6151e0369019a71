"""Fetches what a certificate's URLs lead to, under the network rules of its integration."""

from __future__ import annotations

import asyncio

from sidekey.credentials.base import Call, CallFault
from sidekey.credentials.certificates.ring import CertificateRing
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.network.fetch import Fetcher
from sidekey.settings.snapshot import Integration

TIMEOUT = 10.0
"""Seconds for one call, from the lookup to the answer's last byte."""

LARGEST = 256 << 10
"""Bytes of an answer's body that are read."""

AT_ONCE = 16
"""Calls for certificates at the same time, of all integrations: at the start there may be a thousand of them."""


class Fetching:
    """The URLs of one integration's certificate. `slots` bounds the calls of all integrations together."""

    def __init__(
        self, integration: Integration, ring: CertificateRing, fetcher: Fetcher, slots: asyncio.Semaphore
    ) -> None:
        self._integration = integration
        self._ring = ring
        self._fetcher = fetcher
        self._slots = slots
        self._tags: dict[Keys, str] = {}

    async def fetch(self) -> bool:
        """Call every URL at once, and hand the ring what has changed; whether anything has.

        Raises SecretUnreadable with the reason of each that failed, after what came of the others was handed over.
        """
        answers = await asyncio.gather(*(self._one(place, url) for place, url in self._ring.urls))
        changed: dict[Keys, bytes] = {}
        reasons: list[tuple[Keys, str]] = []
        for (place, _), answer in zip(self._ring.urls, answers, strict=True):
            if isinstance(answer, str):
                reasons.append((place, answer))
            elif answer is not None and answer != self._ring.fetched.get(place):
                changed[place] = answer
        if changed:
            # In one step: a reading under way in a thread sees all of it or nothing.
            self._ring.fetched = {**self._ring.fetched, **changed}
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
                    Call("the server", "GET", url, headers, own_connection=True),
                    trust=self._integration.trust,
                    allow_private=self._integration.allow_private,
                    timeout=TIMEOUT,
                    largest=LARGEST,
                )
        except CallFault as fault:
            return fault.reason
        if reply.status == 304 and tag is not None:
            return None
        if reply.status != 200:
            redirect = ": redirects are not followed" if 300 <= reply.status < 400 else ""
            return f"the server answered {reply.status}{redirect}"
        if "etag" in reply.headers:
            self._tags[place] = reply.headers["etag"]
        else:
            self._tags.pop(place, None)
        return reply.body
