"""Send requests and count the lost ones: those without a response 200 that has the ID of the request.

Usage: load.py URL SECONDS SENDERS PAUSE keep|new [NAME=VALUE ...]; prints `sending` after the first response, and at
the end one line of JSON. It ends early when the file STOP exists. The proxy is that of HTTPS_PROXY; with a proxy,
`keep` keeps the tunnel.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp

STOP: Final = Path("/tmp/stop")


class Load:
    """The counts of a run."""

    def __init__(self, url: str, pause: float, headers: dict[str, str]) -> None:
        self._url = url
        self._pause = pause
        self._headers = headers
        self.total = 0
        self.lost: list[str] = []

    async def send(self, session: aiohttp.ClientSession, sender: int, end: float) -> None:
        """Send requests one after another until `end`."""
        number = 0
        while time.time() < end and not STOP.exists():
            number += 1
            self.total += 1
            name = f"{sender}-{number}"
            try:
                headers = {**self._headers, "X-Id": name}
                async with session.post(self._url, data=b"x" * 1000, headers=headers) as response:
                    text = await response.text()
                if name == "0-1":
                    print("sending", flush=True)
                if response.status != 200 or json.loads(text)["id"] != name:
                    self.lost.append(f"{time.strftime('%X')} {response.status} {text[:200]}")
            except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
                self.lost.append(f"{time.strftime('%X')} {type(error).__name__} {error}"[:200])
            await asyncio.sleep(self._pause)


async def main() -> None:
    """Run the load and print the counts."""
    url, seconds, senders, pause, connections, *fields = sys.argv[1:]
    load = Load(url, float(pause), dict(field.split("=", 1) for field in fields))
    connector = aiohttp.TCPConnector(limit=0, force_close=connections == "new")
    timeout = aiohttp.ClientTimeout(total=40)
    # With `trust_env`, aiohttp would ignore the URL of an https proxy.
    proxy = os.environ.get("HTTPS_PROXY")
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, proxy=proxy) as session:
        end = time.time() + float(seconds)
        await asyncio.gather(*(load.send(session, sender, end) for sender in range(int(senders))))
    print(json.dumps({"total": load.total, "lost": len(load.lost), "first": load.lost[:5]}))


if __name__ == "__main__":
    asyncio.run(main())
