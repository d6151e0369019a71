"""POST by aiohttp, which reads the proxy from the environment with `trust_env`. Arguments: URL [ID]."""

import asyncio
import sys

import aiohttp


async def main() -> None:
    headers = {"X-Integration-Id": sys.argv[2]} if len(sys.argv) > 2 else {}
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.post(sys.argv[1], json={"n": 1}, headers=headers) as response,
    ):
        print(await response.text(), response.status)


asyncio.run(main())
