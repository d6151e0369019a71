"""aiohttp, which reads the environment only with `trust_env`."""

import asyncio

import aiohttp

from cases import BASE, CASES, LARGE, SMALL, digest


async def main() -> None:
    async with aiohttp.ClientSession(trust_env=True) as session:
        for case in CASES:
            await globals()[case](session)


async def get(session: aiohttp.ClientSession) -> None:
    async with session.get(f"{BASE}/small") as response:
        print("get", await response.text())


async def post(session: aiohttp.ClientSession) -> None:
    async with session.post(f"{BASE}/small", data=SMALL) as response:
        print("post", await response.text())


async def download(session: aiohttp.ClientSession) -> None:
    async with session.get(f"{BASE}/large") as response:
        print("download", digest([await response.read()]))


async def upload(session: aiohttp.ClientSession) -> None:
    with LARGE.open("rb") as file:
        async with session.post(f"{BASE}/large", data=file) as response:
            print("upload", await response.text())


async def events(session: aiohttp.ClientSession) -> None:
    async with session.get(f"{BASE}/events") as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                print("events", line[6:].decode().strip(), flush=True)


asyncio.run(main())
