"""aiohttp with its defaults, which does not read the environment."""

import asyncio

import aiohttp

from cases import BASE


async def main() -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{BASE}/small") as response:
        print("get", await response.text())


asyncio.run(main())
